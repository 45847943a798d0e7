# shellcheck shell=bash disable=SC2154
# Source it after once.sh: options that cannot work are named. Functions take the names of options, not their values.

expect_number() {
    local name
    for name in "$@"; do
        [[ ${!name} =~ ^[0-9]+$ ]] || fail "--${name} ${!name}: expected a number"
    done
}

expect_positive() {
    local name
    for name in "$@"; do
        [[ ${!name} =~ ^[1-9][0-9]*$ ]] || fail "--${name} ${!name}: expected a number from 1"
    done
}

expect_numbers() {
    local name
    for name in "$@"; do
        [[ ${!name} =~ ^[0-9\ ]*$ ]] || fail "--${name} '${!name}': expected numbers with blanks between them"
    done
}

expect_given() {
    local name
    for name in "$@"; do
        [[ -n ${!name} ]] || fail "--${name} is not set"
    done
}

# A blank in some would come apart in the lists that are separated by blanks.
expect_no_blanks() {
    local name
    for name in "$@"; do
        [[ ${!name} != *[[:space:]]* ]] || fail "--${name} '${!name}' must not contain blanks"
    done
}

# expect_stages: --stage and --stop_stage leave some of STAGES to run.
expect_stages() {
    expect_number stage stop_stage
    expect_numbers skip_stages
    ((stage <= stop_stage)) || fail "--stage ${stage} --stop_stage ${stop_stage}: no stage is left to run"
    ((stage < ${#STAGES[@]})) || fail "--stage ${stage}: the last one is $((${#STAGES[@]} - 1))"
}
