#!/usr/bin/env bats
# utils/parse_options.sh against what Kaldi's users know of it, and against hostile values.

setup() {
    root=$(cd "${BATS_TEST_DIRNAME}/../.." && pwd)
    script=${BATS_TEST_TMPDIR}/demo.sh
    cat >"${script}" <<SCRIPT
#!/usr/bin/env bash
# Shows its options.
set -euo pipefail
stage=1      # first stage
tag=""       # any word
use_it=false  # a switch
. "${root}/utils/parse_options.sh"
late=1
printf '%s|%s|%s|%s|%s' "\${stage}" "\${tag}" "\${use_it}" "\${late}" "\$*"
SCRIPT
}

@test "values reach their variables, what is left are positional arguments" {
    run bash "${script}" --stage 3 --tag "two words" --use_it true one two
    [ "${status}" -eq 0 ]
    [ "${output}" = "3|two words|true|1|one two" ]
}

@test "dashes in a name are underscores" {
    run bash "${script}" --use-it true
    [ "${output}" = "1||true|1|" ]
}

@test "-- ends the options" {
    run bash "${script}" --stage 2 -- --tag x
    [ "${output}" = "2||false|1|--tag x" ]
}

@test "an empty value is a value" {
    run bash "${script}" --stage ""
    [ "${output}" = "||false|1|" ]
}

@test "a boolean takes true and false only" {
    run bash "${script}" --use_it yes
    [ "${status}" -eq 1 ]
    [ "${output}" = 'demo.sh: expected "true" or "false": --use_it yes' ]
}

@test "an unknown option is refused" {
    run bash "${script}" --foo 1
    [ "${status}" -eq 1 ]
    [ "${output}" = "demo.sh: invalid option --foo" ]
}

@test "variables that are not options cannot be set: environment, later ones, those of the reader" {
    for name in PATH HOME late _options_block BASH_ENV; do
        run bash "${script}" "--${name}" x
        [ "${status}" -eq 1 ]
        [ "${output}" = "demo.sh: invalid option --${name}" ]
    done
}

@test "--name=value is refused with the right form" {
    run bash "${script}" --stage=3
    [ "${status}" -eq 1 ]
    [ "${output}" = "demo.sh: options to scripts must be of the form --name value, got '--stage=3'" ]
}

@test "a missing value is named" {
    run bash "${script}" --stage
    [ "${status}" -eq 1 ]
    [ "${output}" = "demo.sh: option --stage needs a value" ]
}

@test "no value is evaluated" {
    cd "${BATS_TEST_TMPDIR}"
    for value in '$(touch hit)' '`touch hit`' '"; touch hit; "' "'; touch hit; '" '\$(touch hit)'; do
        run bash "${script}" --tag "${value}"
        [ "${status}" -eq 0 ]
        [ "${output}" = "1|${value}|false|1|" ]
        [ ! -e hit ]
    done
}

@test "no name is evaluated" {
    cd "${BATS_TEST_TMPDIR}"
    for name in 'tag[$(touch hit)]' 'x;touch hit' '$(touch hit)'; do
        run bash "${script}" "--${name}" 1
        [ "${status}" -eq 1 ]
        [ ! -e hit ]
    done
}

@test "--help is made from the option block" {
    run bash "${script}" --help
    [ "${status}" -eq 0 ]
    [ "${lines[0]}" = "Shows its options." ]
    [[ "${output}" =~ --stage\ +1\ +first\ stage ]]
    [[ "${output}" =~ --use_it\ +false\ +a\ switch ]]
    [[ "${output}" != *late* ]]
}

@test "--help shows what was set in front of it, in quotes where a shell needs them" {
    run bash "${script}" --stage "3 or even 4" --use_it true --help
    [[ "${output}" == *'--stage                  "3 or even 4"'* ]]
    [[ "${output}" =~ --use_it\ +true ]]
}

@test "the option that was meant is named, where one is near" {
    run bash "${script}" --stagge 2
    [ "${status}" -eq 1 ]
    [[ "${output}" == *"invalid option --stagge, did you mean --stage?" ]]
    run bash "${script}" --usf_it true
    [[ "${output}" == *"did you mean --use_it?" ]]
    run bash "${script}" --wholly_other 2
    [[ "${output}" == *"invalid option --wholly_other" ]]
}

@test "an option in place of a value is named" {
    run bash "${script}" --stage --use_it true
    [ "${status}" -eq 1 ]
    [[ "${output}" == *"option --stage needs a value, and --use_it is the next option" ]]
}

@test "a help_message of the script's own comes first" {
    sed -i 's/^set -euo pipefail$/help_message="Ask me."/' "${script}"
    run bash "${script}" --help
    [ "${output}" = "Ask me." ]
}
