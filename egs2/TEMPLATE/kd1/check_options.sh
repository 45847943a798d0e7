# shellcheck shell=bash disable=SC2154
# Sourced by kd.sh: options that cannot work are named before anything runs.

check_options() {
    local name
    expect_stages
    expect_number ngpu num_nodes num_threads skip_bad_audio
    expect_positive nj inference_nj nbpe
    expect_numbers seeds
    expect_given train_set valid_set test_sets seeds distill_configs
    require_slurm
    [[ ${teacher_seed} =~ ^[0-9]*$ ]] || fail "--teacher_seed ${teacher_seed}: expected a number"
    ((stop_stage < 6)) || [[ -n ${inference_config} ]] || fail "--inference_config is not set"
    [[ ${token_type} =~ ^(bpe|char|word)$ || -n ${hf_model} ]] ||
        fail "--token_type ${token_type}: expected bpe, char or word; for word pieces of Hugging Face: --hf_model"
    [[ ${bpemode} =~ ^(unigram|bpe)$ ]] || fail "--bpemode ${bpemode}: expected unigram or bpe"
    [[ ${audio_format} =~ ^(flac|wav|ark)$ ]] || fail "--audio_format ${audio_format}: expected flac, wav or ark"
    expect_no_blanks expdir dumpdir train_set valid_set unlabelled_set hf_model
    require_configs "${config_list[@]}" "${inference_list[@]}" ${lm_config:+"${lm_config}"}
    check_noises "${config_list[@]}"
    for name in "${distill_config_list[@]}"; do
        [[ -n ${teacher_config} ]] || ! wants_teacher "${name}" || fail "${name}: needs a teacher: --teacher_config"
        [[ -n ${unlabelled_set} || -z $(value_of unlabelled_ratio "${name}")$(value_of pseudo_labels "${name}") ]] ||
            fail "${name}: learns from speech without transcripts; give a set of it: --unlabelled_set"
    done
    [[ ${hf_repo} =~ ^([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)?$ ]] || fail "--hf_repo ${hf_repo}: expected user/name"
    [[ -x local/data.sh ]] || fail "no executable file: ${PWD}/local/data.sh"
}
