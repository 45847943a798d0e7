# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by kd.sh: what some students need of their teacher before they are trained.

# name_teacher CONFIG EXP: adds to `options` which experiment teaches and, unless it is what teachers take by themselves, which
# of its checkpoints: the one that the recipe decodes.
name_teacher() {
    [[ $(value_of teacher "$1") == espnet ]] || return 0
    options+=(--teacher_conf "exp=$2")
    [[ ${inference_asr_model} == valid.loss_transducer.ave.pth ]] || teacher_has checkpoint "$1" ||
        options+=(--teacher_conf "checkpoint=${inference_asr_model}")
}

# cache_features CONFIG EXP OPTION...: keeps what the teacher of a student says of its speech, or of its text.
cache_features() {
    local device=cpu
    ((ngpu == 0)) || device=cuda
    "${cuda_command[@]}" --gpu "$((ngpu > 0))" --follow '[0-9]+/[0-9]+|made again' "$2/cache.log" \
        python3 -m espnet2_kd.bin.cache_teacher --config "$1" "${@:3}" --fs "${fs}" --device "${device}" \
        --num_threads "${num_threads}" --cache_dir "${expdir}/teacher_cache" --token_dir "${token_dir}" \
        --data_dir "${train_dir}" "${valid_dir}" "${unlabelled_list[@]/#/${dumpdir}/raw/}"
}

# add_pseudo_labels EXP TEACHER CONFIDENCE: lets the teacher transcribe the unlabelled set. Joins the training
# set and what it was so sure of (probability per token) in EXP/data, and points train_dir and train_shapes there.
add_pseudo_labels() {
    local exp=$1 teacher=$2 confidence=$3 device=cpu heard=$2/pseudo_labels/${unlabelled_set}
    [[ -n ${teacher} ]] || fail "pseudo_labels come from the recipe's teacher; leave \"exp\" out of teacher_conf"
    ((ngpu == 0)) || device=cuda
    once "${heard}/.done" "${unlabelled_dir}/wav.scp" "${inference_list[0]}" "${teacher}/${inference_asr_model}" -- \
        "${cuda_command[@]}" --gpu "$((ngpu > 0))" --follow '[0-9]+/[0-9]+' "${heard}/label.log" \
        python3 -m espnet2_kd.bin.pseudo_label --exp "${teacher}" --model_file "${inference_asr_model}" \
        --config "${inference_list[0]}" --device "${device}" --num_threads "${num_threads}" \
        --data_dir "${unlabelled_dir}" --output_dir "${heard}"
    once "${exp}/data/.done" "${train_dir}"/{wav.scp,text} "${heard}"/{text,utt2confidence} "${token_dir}/tokens.txt" -- \
        join_heard "${heard}" "${confidence}" "${train_dir}" "${exp}/data"
    train_dir=${exp}/data
    train_shapes=${exp}/data
}

# join_heard HEARD CONFIDENCE TRAIN OUT
join_heard() {
    mkdir -p "$4"
    awk -v least="$2" '$2 >= least { print $1 }' "$1/utt2confidence" >"$4/sure"
    [[ -s $4/sure ]] || fail "$1: no utterance of confidence $2 or more; lower pseudo_labels"
    python3 -m espnet2_kd.bin.data_dir subset --utt_list "$4/sure" "$1" "$4/heard"
    python3 -m espnet2_kd.bin.data_dir combine "$4" "$3" "$4/heard"
    python3 -m espnet2_kd.bin.check_labels --data_dir "$4" --token_dir "${token_dir}" --drop --shapes
}
