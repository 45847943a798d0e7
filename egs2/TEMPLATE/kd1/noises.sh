# shellcheck shell=bash disable=SC2154
# Sourced by the recipes' scripts: noise that a training hears beside speech, as `noise_scp: <folder>/wav.scp` in its config asks for.

# find_noises: fills noise_list with `white` and name=folder; names without a folder are looked for beside the other data.
find_noises() {
    local name folder
    for name in "${noise_names[@]}"; do
        if [[ ${name} == white || ${name} == *=* ]]; then
            [[ ${name} == white || -d ${name#*=} ]] || fail "--noises ${name}: no such folder"
            noise_list+=("${name}")
            continue
        fi
        for folder in ${KD_DATA:+"${KD_DATA}"} "${KD_ROOT}/../shared/data"; do
            [[ -d ${folder}/noise_${name} ]] || continue
            noise_list+=("${name}=${folder}/noise_${name}")
            continue 2
        done
        log "No recordings of ${name}: no folder noise_${name} in \$KD_DATA; left out"
    done
}

# hears_noise CONFIG: whether it wants a list of noise that is not there, or was made here: the lock is from its first run.
hears_noise() {
    local list
    list=$(value_of noise_scp "$1")
    [[ -n ${list} && (! -f ${list} || -f ${list%/*}/.done.lock) ]]
}

# check_noises CONFIG...: what the configs hear can be found.
check_noises() {
    local config list
    for config in "$@"; do
        hears_noise "${config}" || continue
        ((${#noise_list[@]} > 0)) || find_noises
        list=$(value_of noise_scp "${config}")
        ((${#noise_list[@]} > 0)) || fail "${config}: hears noise; say which: --noises white"
        [[ ${list} == */wav.scp ]] || fail "${config}: noise_scp: no such file: ${list}; <folder>/wav.scp is made by stage 2"
    done
}

# list_noises CONFIG...: makes the lists that they hear, unless they are somebody's own.
list_noises() {
    local config source list made=""
    local -a inputs=()
    for source in "${noise_list[@]}"; do
        inputs+=("${source#*=}/train.tsv")
    done
    for config in "$@"; do
        list=$(value_of noise_scp "${config}")
        hears_noise "${config}" || continue
        [[ ${made} != *" ${list} "* ]] || continue
        made+=" ${list} "
        once "${list%/*}/.done" "${inputs[@]}" -- python3 -m espnet2_kd.bin.noise_list --output "${list%/*}" "${noise_list[@]}"
    done
}
