# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# Sourced by kd.sh: decoding and scoring, the stages 6 and 7.

NUM_STREAM_UTTS=50  # per test set, decoded as if live; one after the other, so that the timing is honest

# tag_of CONFIG: the folder of what an inference config decodes.
tag_of() {
    printf 'decode_%s_%s' "$(basename "$1" .yaml)" "${inference_asr_model%.pth}"
}

# test_dir SET: a test set's data directory; of the validation set the one whose utterances were not filtered by length.
test_dir() {
    local org=""
    [[ $1 != "${valid_set}" ]] || org=org/
    printf '%s/raw/%s%s' "${dumpdir}" "${org}" "$1"
}

# decode_set EXP CONFIG SET ALIGNER: decodes a test set, a part of it also as if live, with delays from the times that
# experiment ALIGNER tells.
decode_set() {
    local exp=$1 config=$2 aligner=$4 from out jobs lm
    local -a model=(--exp "${exp}" --model_file "${inference_asr_model}" --config "${config}")
    from=$(test_dir "$3")
    need 2 "${from}/wav.scp"
    need "4 or 5" "${exp}/${inference_asr_model}"
    out=${exp}/$(tag_of "${config}")/$3
    jobs=$(num_jobs "${inference_nj}" "${from}/wav.scp")
    lm=$(value_of lm "${config}")/valid.loss.ave.pth
    once "${from}/split${jobs}utt/.done" "${from}"/{wav.scp,text,audio_sum} -- \
        python3 -m espnet2_kd.bin.data_dir split --num "${jobs}" "${from}"
    once "${out}/logdir/.done" "${from}"/{wav.scp,text,audio_sum} "${config}" "${lm}" "${exp}/${inference_asr_model}" -- \
        "${decode_command[@]}" --pick failed,incomplete "JOB=1:${jobs}" "${out}/logdir/decode.JOB.log" \
        python3 -m espnet2_kd.bin.decode --force "${model[@]}" \
        --data_dir "${from}/split${jobs}utt/JOB" --output_dir "${out}/logdir/output.JOB"
    once "${out}/.decoded" "${out}/logdir/.done" -- join_parts "${jobs}" "${out}" text token score
    once "${out}/.streamed" "${from}"/{wav.scp,text,audio_sum} "${config}" "${lm}" {"${exp}","${aligner}"}/"${inference_asr_model}" -- \
        "${decode_command[@]}" --follow '[0-9]+/[0-9]+' "${out}/stream.log" \
        python3 -m espnet2_kd.bin.stream --force "${model[@]}" --data_dir "${from}" --max_utts "${NUM_STREAM_UTTS}" \
        --num_threads 1 --align_exp "${aligner}" --output_dir "${out}"
}

stage_6_decode() {
    local exp config dset aligner
    read -r aligner < <(all_exps)
    for exp in $(all_exps); do
        for config in "${inference_list[@]}"; do
            for dset in "${test_set_list[@]}"; do
                decode_set "${exp}" "${config}" "${dset}" "${aligner}"
            done
        done
    done
}

# keep_search CONFIG EXP: from_pretrained, stream and demo are to search as the report did.
keep_search() {
    cmp -s "$1" "$2/decode.yaml" || "${dry_run}" || { cat "$1" >"$2/.decode.yaml" && mv "$2/.decode.yaml" "$2/decode.yaml"; }
}

stage_7_score() {
    local exp config dset from out page name=${report%.md}
    local -a dirs=()
    for dset in "${test_set_list[@]}"; do
        dirs+=("$(test_dir "${dset}")")
    done
    for config in "${inference_list[@]}"; do
        for exp in $(all_exps); do
            for dset in "${test_set_list[@]}"; do
                from=$(test_dir "${dset}")
                out=${exp}/$(tag_of "${config}")/${dset}
                need 6 "${out}/text"
                once "${out}/.scored" "${out}/text" "${from}"/{text,utt2spk} -- \
                    python3 -m espnet2_kd.bin.score --ref "${from}/text" --hyp "${out}/text" \
                    --utt2spk "${from}/utt2spk" --token_dir "${token_dir}" --output_dir "${out}"
            done
            [[ ${config} != "${inference_list[0]}" ]] || keep_search "${config}" "${exp}"
        done
        [[ ${config} == "${inference_list[0]}" ]] || name=${report%.md}_$(basename "${config}" .yaml)
        page=${name#RESULTS}
        closing+=$(run python3 -m espnet2_kd.bin.report --exp_dirs "$(all_exps | paste -sd ' ')" \
            --inference_tag "$(tag_of "${config}")" --test_sets "${test_sets}" --output "${name}.md" \
            --json "${expdir}/report/${name,,}.json" --page "${expdir}/report/index${page,,}.html" \
            --data_dirs "${dirs[*]}" --synthetic "$(is_spoken)" "${score_opt_list[@]}")$'\n'
    done
}
