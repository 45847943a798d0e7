# shellcheck shell=bash
# Source it after log.sh: running the commands of a recipe's stages. With dry_run=true they are only printed.

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

run() {
    if "${dry_run:-false}"; then
        printf '  %s\n' "$(printf '%q ' "$@")"
    else
        "$@"
    fi
}

# once STAMP INPUT... -- COMMAND...: runs the command unless STAMP tells that it has succeeded before, as it stands here
# and on inputs of this content. The logs of an array (x.3.log) stay for the job driver's --pick as long as nothing but
# failure or interruption is the reason to run again.
once() {
    local stamp=$1 here=${1%/*} key
    local -a inputs=(/dev/null)
    shift
    while [[ $1 != -- ]]; do
        [[ ! -f $1 ]] || inputs+=("$1")
        shift
    done
    shift
    if "${dry_run:-false}"; then
        run "$@"
        return
    fi
    key=$({ printf '%q ' "$@"; sha256sum -- "${inputs[@]}"; } | sha256sum)
    if [[ -f ${stamp} && $(<"${stamp}") == "${key}" ]]; then
        log "Done before: ${here}"
        return
    fi
    mkdir -p "${here}"
    if [[ ! -f ${stamp}.started || $(<"${stamp}.started") != "${key}" ]]; then
        find "${here}" -maxdepth 1 -name '*.[0-9]*.log' -delete
    fi
    rm -f "${stamp}"
    printf '%s\n' "${key}" >"${stamp}.started"
    "$@"
    mv "${stamp}.started" "${stamp}"
}

# num_jobs NJ FILE: NJ, or the number of lines of FILE where that is smaller.
num_jobs() {
    local num_lines=$1
    [[ ! -f $2 ]] || num_lines=$(wc -l <"$2")
    printf '%s' "$((num_lines < $1 ? num_lines : $1))"
}
