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

first_line() {
    [[ ! -f $1 ]] || head -n 1 "$1"
}

# hashes FILE...: as sha256sum, of configs without comments and blank lines, which change nothing.
hashes() {
    local file
    local -a others=()
    for file in "$@"; do
        if [[ ${file} == *.yaml ]]; then
            printf '%s %s\n' "$(sed -E 's/(^|[[:space:]])#.*//; s/[[:space:]]+$//; /^$/d' "${file}" | sha256sum)" "${file}"
        else
            others+=("${file}")
        fi
    done
    ((${#others[@]} == 0)) || sha256sum -- "${others[@]}"
}

# once STAMP INPUT... -- COMMAND...: runs the command unless STAMP tells that it has succeeded before, as it stands here
# and on inputs of this content; where it runs, and how many processes, threads and GPUs share the work, does not count.
# The logs of an array (x.3.log) stay for the job driver's --pick as long as failure or interruption is the only reason
# to run again. Of two runs, and of a run and what a killed one has left behind, the later one waits.
# A stamp's first line is for that, its second says what the command took: the report shows it.
once() {
    local stamp=$1 here=${1%/*} key word lock began previous=""
    local where="backend|driver|mem|time|max-jobs-run|num-nodes|save-seconds|device"
    local -a inputs=(/dev/null) words=()
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
    for word in "$@"; do
        [[ ${word} =~ ^--(${where})$ || ${previous} =~ ^--(nj|ngpu|gpu|num-threads|${where})$ ]] || words+=("${word}")
        previous=${word}
    done
    mkdir -p "${here}"
    exec {lock}>>"${stamp}.lock"
    if ! flock --nonblock "${lock}"; then
        log_depth=2 log "Waiting for another run: ${here}"
        flock "${lock}"
    fi
    # For espnet2_kd.bin.status: whose it is.
    printf 'stage=%s host=%s pid=%s\n' "${number:-}" "$(uname -n)" "${BASHPID}" >"${stamp}.lock"
    key=$({ printf '%q ' "${words[@]}"; hashes "${inputs[@]}"; } | sha256sum)
    if [[ $(first_line "${stamp}") == "${key}" ]]; then
        log_depth=2 log "Done before: ${here}"
        exec {lock}>&-
        return
    fi
    if [[ $(first_line "${stamp}.started") != "${key}" ]]; then
        find "${here}" -maxdepth 1 -name '*.[0-9]*.log' -delete
    fi
    rm -f "${stamp}"
    printf '%s\n' "${key}" >"${stamp}.started"
    began=${SECONDS}
    "$@"
    printf 'stage=%s seconds=%s\n' "${number:+${STAGES[number]:-}}" "$((SECONDS - began))" >>"${stamp}.started"
    mv "${stamp}.started" "${stamp}"
    exec {lock}>&-
}
