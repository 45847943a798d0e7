# shellcheck shell=bash
# Source it: the log line that ESPnet2 users know, e.g. "2026-11-20T10:00:00 (kd.sh:434:main) Stage 3: ...".
# With log_depth=2 the line names the caller's caller.

log() {
    local depth=${log_depth:-1}
    printf '%(%Y-%m-%dT%H:%M:%S)T (%s:%s:%s) %s\n' -1 \
        "${BASH_SOURCE[depth]##*/}" "${BASH_LINENO[depth - 1]}" "${FUNCNAME[depth]}" "$*"
}
