# shellcheck shell=bash
# Source it after once.sh: the directory of an experiment.

# prepare_exp EXP SETTINGS COMMAND INPUT...: keeps the command that makes EXP, and refuses to go on in a directory made of
# other inputs or settings.
prepare_exp() {
    local exp=$1 settings=$2 command=$3
    shift 3
    mkdir -p "${exp}"
    sha256sum -- "$@" >"${exp}/.inputs"
    printf '%s  asr_args\n' "${settings}" >>"${exp}/.inputs"
    if [[ -f ${exp}/checkpoint.pth && -f ${exp}/inputs.sha256 ]]; then
        diff "${exp}/inputs.sha256" "${exp}/.inputs" >&2 ||
            fail "${exp}: trained from the inputs marked < above, now those marked >: move it away or restore them"
    fi
    mv "${exp}/.inputs" "${exp}/inputs.sha256"
    printf '#!/usr/bin/env bash\n# Goes on with this training.\ncd %q && %s "$@"\n' "${PWD}" "${command}" >"${exp}/run.sh"
    chmod +x "${exp}/run.sh"
}
