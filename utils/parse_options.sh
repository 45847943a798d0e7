# shellcheck shell=bash
# Source it after a script's option block: reads --name value (or --na-me value) into the variables of that block.
#
# The options are the lower-case variables assigned at the start of a line above the line that sources this file, so
# nothing else of the shell can be set from outside, and no value is ever evaluated. What follows "  # " on an option's
# line is its help text. `--help` prints $help_message or, without one, the script's opening comment and its options.
# A variable that holds true or false takes nothing else. What is left in "$@" are the positional arguments.

_options_script=${BASH_SOURCE[1]}
_options_block=$(head -n "${BASH_LINENO[0]}" "${_options_script}" | grep -E '^[a-z][a-z0-9_]*=' || true)

print_options_help() {
    if [[ -n ${help_message:-} ]]; then
        printf '%s\n' "${help_message}"
        return
    fi
    awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "${_options_script}"
    printf '\nOptions (name, default, meaning):\n'
    local line value
    while IFS= read -r line; do
        value=${line#*=}
        printf '  --%-22s %-12s %s\n' "${line%%=*}" "$(sed -E 's/ *  #.*//' <<<"${value}")" "$(sed -nE 's/.*  # //p' <<<"${value}")"
    done <<<"${_options_block}"
}

_options_fail() {
    printf '%s: %s\n' "${_options_script##*/}" "$*" >&2
    exit 1
}

while [[ ${1:-} == -* ]]; do
    case $1 in
        --help | -h) print_options_help; exit 0 ;;
        --) shift; break ;;
        --*=*) _options_fail "options to scripts must be of the form --name value, got '$1'" ;;
        --*) ;;
        *) _options_fail "invalid option $1" ;;
    esac
    _options_name=${1#--}
    _options_name=${_options_name//-/_}
    # The name comes from the command line: it must be one of the block's before printf -v may write to it.
    grep -qxF -- "${_options_name}" <(cut -d= -f1 <<<"${_options_block}") || _options_fail "invalid option $1"
    [[ $# -ge 2 ]] || _options_fail "option $1 needs a value"
    if [[ ${!_options_name:-} == true || ${!_options_name:-} == false ]] && [[ $2 != true && $2 != false ]]; then
        _options_fail "expected \"true\" or \"false\": $1 $2"
    fi
    printf -v "${_options_name}" '%s' "$2"
    shift 2
done
unset _options_name
