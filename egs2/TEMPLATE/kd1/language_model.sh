# shellcheck shell=bash disable=SC2154
# Sourced by kd.sh: a language model over the recognisers' tokens, for inference configs that name it.

# train_lm: trains lm_config into exp/lm_<config> on the transcripts, or on the sentences of lm_train_text.
train_lm() {
    local exp part threads=${num_threads}
    local -a text=(--text "${train_dir}/text") argv inputs
    exp=${expdir}/lm_$(basename "${lm_config}" .yaml)
    [[ -z ${lm_train_text} ]] || text=(--text "${lm_train_text}" --no_ids)
    ((threads > 0)) || threads=$((ngpu > 0 ? 1 : cores))
    once "${exp}/train/.done" "${text[1]}" "${token_dir}/tokens.txt" -- \
        python3 -m espnet2_kd.bin.lm_text "${text[@]}" --token_dir "${token_dir}" --output_dir "${exp}/train"
    once "${exp}/valid/.done" "${valid_dir}/text" "${token_dir}/tokens.txt" -- \
        python3 -m espnet2_kd.bin.lm_text --text "${valid_dir}/text" --token_dir "${token_dir}" --output_dir "${exp}/valid"
    # The text is cut already, so tokens are its words.
    argv=(python3 -m espnet2_kd.bin.lm_train --config "${lm_config}" --output_dir "${exp}" --ngpu "${ngpu}" --resume true
        --token_type word --token_list "${token_dir}/tokens.txt" --bpemodel none)
    for part in train valid; do
        argv+=(--"${part}_data_path_and_name_and_type" "${exp}/${part}/text,text,text"
            --"${part}_shape_file" "${exp}/${part}/text_shape.word")
    done
    ! "${force_resume}" || argv+=(--force_resume true)
    mapfile -t inputs < <(with_bases "${lm_config}")
    once "${exp}/.done" "${inputs[@]}" "${exp}"/{train,valid}/text -- \
        "${cuda_command[@]}" --rotate --gpu "${ngpu}" --num-threads "${threads}" \
        --follow '[0-9]+/[0-9]+epoch started|epoch results' "${exp}/train.log" "${argv[@]}"
}
