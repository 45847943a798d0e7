# shellcheck shell=bash
# Source it: configs that are written on top of others.

# with_bases CONFIG...: every config, and after it the one that it names as `base: FILE`, and so on; one per line.
with_bases() {
    local config base
    for config in "$@"; do
        printf '%s\n' "${config}"
        base=$(sed -nE 's/^base: *([^ #]+).*/\1/p' "${config}" 2>/dev/null) || continue
        [[ -z ${base} ]] || with_bases "$(dirname "${config}")/${base}"
    done
}

# teacher_of CONFIG: the kind of teacher that the config, or the nearest of its bases, names; nothing without one.
teacher_of() {
    local config
    with_bases "$1" | while read -r config; do
        sed -nE 's/^teacher: *([^ #]+).*/\1/p' "${config}"
    done | head -n 1
}
