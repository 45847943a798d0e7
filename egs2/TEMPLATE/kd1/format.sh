# shellcheck shell=bash disable=SC2154
# Sourced by kd.sh: audio in one format and one sampling rate.

# format_set SET OUT OPTION...: writes the audio of data/SET into OUT in one format and one sampling rate.
format_set() {
    local from=data/$1 to=$2
    local -a inputs=("${from}"/{wav.scp,segments,text,utt2spk,label,transcript,utt2lang,spk2gender} "${to}/.source")
    local -a options=(--fs "${fs}" --audio_format "${audio_format}" --nj "${nj}" "${@:3}")
    [[ -z ${ref_channel} ]] || options+=(--ref_channel "${ref_channel}")
    ! "${allow_pipes}" || options+=(--allow_pipes true)
    ((skip_bad_audio == 0)) || options+=(--skip_bad_audio "${skip_bad_audio}")
    "${dry_run}" || { mkdir -p "${to}" && python3 -m espnet2_kd.bin.data_dir state "${from}" >"${to}/.source"; }
    if "${dry_run}" && is_local "${train_cmd}"; then
        format_parts "${from}" "${to}" "${options[@]}"
    else
        once "${to}/.done" "${inputs[@]}" -- format_parts "${from}" "${to}" "${options[@]}"
    fi
}

# format_parts FROM TO OPTION...: here, or on a cluster in an array of jobs whose parts are then put together.
format_parts() {
    local from=$1 to=$2 jobs part
    local -a parts=()
    if is_local "${train_cmd}"; then
        run python3 -m espnet2_kd.bin.format_audio "${@:3}" "${from}" "${to}"
        return
    fi
    jobs=$(num_jobs "${nj}" "${from}/utt2spk")
    for ((part = 1; part <= jobs; part++)); do
        parts+=("${to}/parts${jobs}/${part}")
    done
    python3 -m espnet2_kd.bin.data_dir split --num "${jobs}" "${from}" "${to}/split${jobs}"
    "${train_command[@]}" --pick failed,incomplete "JOB=1:${jobs}" "${to}/format.JOB.log" \
        python3 -m espnet2_kd.bin.format_audio "${@:3}" --nj 1 "${to}/split${jobs}/JOB" "${to}/parts${jobs}/JOB"
    python3 -m espnet2_kd.bin.data_dir combine "${to}" "${parts[@]}"
}
