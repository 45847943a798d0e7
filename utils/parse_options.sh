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
    printf '\nOptions (name, value unless you give another, meaning):\n'
    local _options_line _options_name _options_value  # names that no option has
    while IFS= read -r _options_line; do
        _options_name=${_options_line%%=*}
        # As a recipe has set it in front of --help; in quotes where the shell would need them.
        _options_value=${!_options_name-}
        [[ ${_options_value} =~ ^[^[:space:]]+$ ]] || _options_value="\"${_options_value}\""
        printf '  --%-22s %-12s' "${_options_name}" "${_options_value}"
        ((${#_options_value} <= 12)) || printf '\n%39s' ""
        printf ' %s\n' "$(sed -nE 's/.*  # //p' <<<"${_options_line}")"
    done <<<"${_options_block}"
}

# refuse_words WORD...: for scripts that take options alone.
refuse_words() {
    [[ $# -gt 0 ]] || return 0
    printf "%s: '%s' is no option: they are written --name value, and --help lists them\n" "${_options_script##*/}" "$1" >&2
    exit 2
}

# _options_near NAME: ", did you mean --other?" for the option that is the fewest edits away, if they are few; or whose it is.
_options_near() {
    if grep -qsE -- "^(# Usage: .*\[--$1 |$1=)" local/data.sh && grep -qxF local_data_opts <(cut -d= -f1 <<<"${_options_block}"); then
        printf ', it is one of local/data.sh: --local_data_opts "--%s ..."' "$1"
        return
    fi
    cut -d= -f1 <<<"${_options_block}" | awk -v given="$1" '
        function edits(a, b,    i, j, row, last, above) {
            for (j = 0; j <= length(b); j++) row[j] = j
            for (i = 1; i <= length(a); i++) {
                above = row[0]; row[0] = i
                for (j = 1; j <= length(b); j++) {
                    last = row[j]
                    row[j] = above + (substr(a, i, 1) != substr(b, j, 1))
                    if (last + 1 < row[j]) row[j] = last + 1
                    if (row[j - 1] + 1 < row[j]) row[j] = row[j - 1] + 1
                    above = last
                }
            }
            return row[length(b)]
        }
        { n = edits(given, $0); if (!best || n < least) { best = $0; least = n } }
        END { if (least * 3 <= length(given)) printf ", did you mean --%s?", best }'
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
    grep -qxF -- "${_options_name}" <(cut -d= -f1 <<<"${_options_block}") ||
        _options_fail "invalid option $1$(_options_near "${_options_name}")"
    [[ $# -ge 2 ]] || _options_fail "option $1 needs a value"
    [[ $2 != --* ]] || ! grep -qxF -- "${2#--}" <(cut -d= -f1 <<<"${_options_block}") ||
        _options_fail "option $1 needs a value, and $2 is the next option"
    if [[ ${!_options_name:-} == true || ${!_options_name:-} == false ]] && [[ $2 != true && $2 != false ]]; then
        _options_fail "expected \"true\" or \"false\": $1 $2"
    fi
    printf -v "${_options_name}" '%s' "$2"
    shift 2
done
unset _options_name
