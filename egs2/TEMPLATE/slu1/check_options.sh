# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by slu.sh: noises are found, and options that cannot work are named before anything runs.

check_options() {
    local name noise
    expect_stages
    expect_number ngpu num_nodes num_threads
    expect_positive nj nbpe slow_rate
    expect_numbers seeds
    expect_given train_set valid_set test_sets seeds intent_configs
    expect_no_blanks expdir dumpdir train_set valid_set unlabelled_set acoustic_exp text_model
    require_slurm
    find_noises
    for name in "${snr_list[@]}"; do
        [[ ${name} =~ ^-?[0-9]+(\.[0-9]+)?$ ]] || fail "--snrs ${name}: expected numbers of decibels, as 10"
    done
    for name in "${train_noise_list[@]}"; do
        [[ ${name} =~ ^.+_-?[0-9]+(\.[0-9]+)?db$ ]] || fail "--train_noises ${name}: write <noise>_<SNR>db, as babble_10db"
        noise_source "${name%_*}" >/dev/null
        require_splits "${name%_*}"
        [[ " ${test_sets} " != *" ${valid_set} "* ]] ||
            fail "--train_noises ${name}: ${valid_set} cannot be in noise of training and in noise of tests; take it out of --test_sets"
    done
    require_configs "${intent_config_list[@]}" ${text_model:+"${text_config}"}
    if [[ -z ${acoustic_exp} ]]; then
        require_configs "${acoustic_config}"
        check_noises "${acoustic_config}"
        if hears_noise "${acoustic_config}"; then
            for noise in "${noise_list[@]}"; do
                require_splits "${noise%%=*}"
            done
        fi
    fi
    if [[ -n ${acoustic_exp} ]] && ! "${dry_run}"; then
        name=${acoustic_exp}
        [[ ! -f ${name}/config.yaml ]] || name+=/${acoustic_model}
        # A name of two words may also be one on the hub.
        [[ -e ${name} || (${name} =~ ^[^/]+/[^/]+$ && ! -d ${name%/*}) ]] ||
            fail "--acoustic_exp: no such file: ${name}: train that recogniser, or give another"
    fi
    for name in "${intent_config_list[@]}"; do
        [[ -n ${text_model} || -z $(value_of teacher "${name}") ]] || fail "${name}: needs a text encoder: --text_model"
        "${spoken_text}" || ! pools_tokens "${name}" ||
            fail "${name}: pools the frames of words, but --spoken_text false says that nobody knows which were said"
        [[ -n ${unlabelled_set} || -z $(value_of unlabelled_ratio "${name}") ]] ||
            fail "${name}: learns from sentences without intents; give a set of them: --unlabelled_set"
    done
    [[ ${hf_repo} =~ ^([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)?$ ]] || fail "--hf_repo ${hf_repo}: expected user/name"
    [[ -x local/data.sh ]] || fail "no executable file: ${PWD}/local/data.sh"
}

# require_splits NAME: recordings that training hears are kept apart from those of tests.
require_splits() {
    local source
    source=$(noise_source "$1")
    [[ ${source} == white || (-f ${source}/train.tsv && -f ${source}/test.tsv) ]] ||
        fail "--noises $1=${source}: training hears it too; say which recordings it may hear, and which tests, by" \
            "${source}/train.tsv and test.tsv with columns utt_id and path"
}

# noise_source NAME: white, or the folder that --noises gives to a name.
noise_source() {
    local noise
    for noise in "${noise_list[@]}"; do
        [[ ${noise%%=*} != "$1" ]] || { printf '%s' "${noise#*=}"; return; }
    done
    fail "noise $1 is not among --noises ${noises}"
}
