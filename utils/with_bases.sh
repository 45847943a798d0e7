# shellcheck shell=bash
# Source it: configs that are written on top of others.

# with_bases CONFIG...: every config, and after it the one that it names as `base: FILE`, and so on; one per line.
with_bases() {
    local config base depth
    for config in "$@"; do
        # As deep as nobody goes: a config that is its own base comes to an end here, and training names it.
        for ((depth = 0; depth < 20; depth++)); do
            printf '%s\n' "${config}"
            base=$(sed -nE 's/^base: *([^ #]+).*/\1/p' "${config}" 2>/dev/null) || break
            [[ -n ${base} ]] || break
            config=$(dirname "${config}")/${base}
        done
    done
}

# require_configs CONFIG...: fails where one of them, or a base, is not there.
require_configs() {
    local config file named_by
    for config in "$@"; do
        named_by=""
        while read -r file; do
            [[ -f ${file} ]] || fail "no such file: ${PWD}/${file}${named_by:+, the base of ${named_by}}"
            named_by=${file}
        done < <(with_bases "${config}")
    done
}

# value_of KEY CONFIG: what the config, or the nearest of its bases, says of a key of the top level; nothing without it.
value_of() {
    local config
    with_bases "$2" | while read -r config; do
        sed -nE "s/^$1: *([^ #]+).*/\1/p" "${config}"
    done | sed -n 1p  # which reads on: head would end what it reads from by a signal
}

# teacher_has KEY CONFIG: whether the config, or one of its bases, gives its teacher_conf a key.
teacher_has() {
    local config own=""
    while read -r config; do
        own+=$(sed -E 's/(^| )#.*//' "${config}" | awk '/^[^ ]/ { inside = /^teacher_conf:/ } inside' | sed -nE "s/.*[{ ]$1: *[^ ,}#]+.*/x/p")
    done < <(with_bases "$2")
    [[ -n ${own} ]]
}

# wants_teacher CONFIG: whether it is taught by an experiment of ESPnet2's kind, through kd_terms or pseudo labels, and
# neither it nor a base names which.
wants_teacher() {
    ! teacher_has exp "$1" && { [[ $(value_of teacher "$1") == espnet ]] || [[ -n $(value_of pseudo_labels "$1") ]]; }
}
