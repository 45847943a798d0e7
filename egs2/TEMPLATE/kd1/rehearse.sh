# shellcheck shell=bash disable=SC2154
# Sourced by kd.sh.

# rehearse: builds every system, and runs students beside their teachers on a second of noise. A tap that is not there, or
# shapes that do not meet, are to be known before the first training, not after it.
rehearse() {
    local -a inputs files=() more train_argv
    local word
    need 2 {"${train_dir}","${valid_dir}"}/wav.scp "${token_dir}/tokens.txt"
    need 3 "${stats_dir}"/{train/feats_stats.npz,{train,valid}/speech_shape}
    read -ra more <<<"${rehearse_opts}"
    for word in "${more[@]}"; do
        [[ ! -f ${word} ]] || files+=("${word}")
    done
    mapfile -t inputs < <(with_bases "${config_list[@]}" "${inference_list[@]}" "${files[@]}")
    asr_train "${expdir}/rehearsal" "${normalisation[@]}"
    once "${expdir}/rehearsal/.done" "${inputs[@]}" "${token_dir}/tokens.txt" "${stats_dir}"/{train/feats_stats.npz,{train,valid}/speech_shape} -- \
        "${decode_command[@]}" --follow '^mistake in ' "${expdir}/rehearsal/rehearsal.log" python3 -m espnet2_kd.bin.rehearse --exp_dir "${expdir}" \
        ${teacher_config:+--teacher_config "${teacher_config}"} --teacher_file "${inference_asr_model}" \
        --inference_configs "${inference_list[@]}" ${unlabelled_set:+--unlabelled_dir "${unlabelled_dir}"} \
        --shape_files "${stats_dir}"/{train,valid}/speech_shape ${unlabelled_set:+"${unlabelled_dir}/utt2num_samples"} --fs "${fs}" "${more[@]}" --configs "${distill_config_list[@]}" -- "${train_argv[@]:3}"
}
