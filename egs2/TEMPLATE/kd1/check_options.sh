# shellcheck shell=bash disable=SC2154
# Sourced by kd.sh: options that cannot work are named before anything runs.

check_options() {
    local name
    for name in stage stop_stage nj inference_nj ngpu num_nodes num_threads skip_bad_audio; do
        [[ ${!name} =~ ^[0-9]+$ ]] || fail "--${name} ${!name}: expected a number"
    done
    ((num_nodes < 2)) || [[ " ${cuda_cmd} " == *" --backend slurm "* ]] ||
        fail "--num_nodes ${num_nodes}: trainings on several machines go through Slurm; set cmd_backend=slurm"
    [[ ${teacher_seed} =~ ^[0-9]*$ ]] || fail "--teacher_seed ${teacher_seed}: expected a number"
    for name in nj inference_nj nbpe; do
        [[ ${!name} =~ ^[1-9][0-9]*$ ]] || fail "--${name} ${!name}: expected a number from 1"
    done
    for name in seeds skip_stages; do
        [[ ${!name} =~ ^[0-9\ ]*$ ]] || fail "--${name} '${!name}': expected numbers with blanks between them"
    done
    ((stage <= stop_stage)) || fail "--stage ${stage} --stop_stage ${stop_stage}: no stage is left to run"
    ((stage < ${#STAGES[@]})) || fail "--stage ${stage}: the last one is $((${#STAGES[@]} - 1))"
    ((stop_stage < 6)) || [[ -n ${inference_config} ]] || fail "--inference_config is not set"
    for name in train_set valid_set test_sets seeds distill_configs; do
        [[ -n ${!name} ]] || fail "--${name} is not set"
    done
    [[ ${token_type} =~ ^(bpe|char|word)$ || -n ${hf_model} ]] ||
        fail "--token_type ${token_type}: expected bpe, char or word; for word pieces of Hugging Face: --hf_model"
    [[ ${bpemode} =~ ^(unigram|bpe)$ ]] || fail "--bpemode ${bpemode}: expected unigram or bpe"
    [[ ${audio_format} =~ ^(flac|wav|ark)$ ]] || fail "--audio_format ${audio_format}: expected flac, wav or ark"
    # A blank in these would come apart in the lists that are separated by blanks.
    for name in expdir dumpdir train_set valid_set unlabelled_set hf_model; do
        [[ ${!name} != *[[:space:]]* ]] || fail "--${name} '${!name}' must not contain blanks"
    done
    require_configs "${config_list[@]}" "${inference_list[@]}" ${lm_config:+"${lm_config}"}
    for name in "${distill_config_list[@]}"; do
        [[ -n ${teacher_config} ]] || ! wants_teacher "${name}" || fail "${name}: needs a teacher: --teacher_config"
        [[ -n ${unlabelled_set} || -z $(value_of unlabelled_ratio "${name}")$(value_of pseudo_labels "${name}") ]] ||
            fail "${name}: learns from speech without transcripts; give a set of it: --unlabelled_set"
    done
    [[ ${hf_repo} =~ ^([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)?$ ]] || fail "--hf_repo ${hf_repo}: expected user/name"
    [[ -x local/data.sh ]] || fail "no executable file: ${PWD}/local/data.sh"
}
