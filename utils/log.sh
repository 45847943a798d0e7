# shellcheck shell=bash
# Source it: the log line that ESPnet2 users know, e.g. "2026-11-20T10:00:00 (kd.sh:434:main) Stage 3: ...".

log() {
    printf '%(%Y-%m-%dT%H:%M:%S)T (%s:%s:%s) %s\n' -1 \
        "${BASH_SOURCE[1]##*/}" "${BASH_LINENO[0]}" "${FUNCNAME[1]}" "$*"
}
