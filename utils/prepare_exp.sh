# shellcheck shell=bash disable=SC2154
# Source it after once.sh: the directory of an experiment.

# prepare_exp EXP SETTINGS COMMAND INPUT...: keeps the command that makes EXP, and what it was made from: hashes, and
# copies of the configs. Refuses to go on in a directory made of other inputs or settings, unless force_resume=true.
prepare_exp() {
    local exp=$1 settings=$2 command=$3 file
    local -a inputs=()
    for file in "${@:4}"; do
        if [[ -f ${file} ]]; then
            inputs+=("${file}")
        elif [[ ${file} != */audio_sum ]]; then  # which data prepared elsewhere need not have
            fail "${exp}: ${file} is not there: run the stages before this one"
        fi
    done
    set -- "${inputs[@]}"
    mkdir -p "${exp}"
    hashes "$@" >"${exp}/.inputs"
    printf '%s  asr_args\n' "${settings}" >>"${exp}/.inputs"
    if [[ -f ${exp}/checkpoint.pth && -f ${exp}/inputs.sha256 ]] && ! "${force_resume:-false}" &&
        ! diff "${exp}/inputs.sha256" "${exp}/.inputs" >&2; then
        for file in "$@"; do
            [[ ${file} != *.yaml || ! -f $(kept "${exp}" "${file}") ]] ||
                diff -u --label "${file}, then" --label "${file}, now" "$(kept "${exp}" "${file}")" "${file}" >&2 || true
        done
        fail "${exp}: trained from the inputs marked < above, now those marked >: move it away or restore them, or go on all" \
            "the same with --force_resume true"
    fi
    if cmp -s "${exp}/inputs.sha256" "${exp}/.inputs"; then
        rm "${exp}/.inputs"
    else
        mkdir -p "${exp}/inputs"
        for file in "$@"; do
            [[ ${file} != *.yaml ]] || cp -- "${file}" "$(kept "${exp}" "${file}")"
        done
        mv "${exp}/.inputs" "${exp}/inputs.sha256"
    fi
    # What has finished keeps the command that made it.
    if [[ ! -f ${exp}/.done || ! -f ${exp}/run.sh ]]; then
        printf '#!/usr/bin/env bash\n# Goes on with this training.\ncd %q && %s "$@"\n' "${PWD}" "${command}" >"${exp}/run.sh"
        chmod +x "${exp}/run.sh"
    fi
}

# kept EXP FILE: where the copy of a config is.
kept() {
    printf '%s/inputs/%s' "$1" "${2//\//+}"
}
