#!/usr/bin/env bash
# Runs a distillation recipe, from a corpus to a table of results. Called in a recipe's directory, by its run.sh.
# Usage: kd.sh [--option value]...
#
#   1 data     local/data.sh writes data/<set>           5 distill  every student, with and without a teacher
#   2 feats    formatted audio in dump/raw, token list   6 decode   all test sets, offline and as if live
#   3 stats    shapes and feature statistics             7 score    sclite, significance, RESULTS.md
#   4 teacher  rehearsal of all configs, then teachers   8 pack     one zip per system
#   9 upload   with --hf_repo: the students' zips to the Hugging Face hub

# Stages are called by names put together from their number, which shellcheck cannot see.
# shellcheck disable=SC2317
set -euo pipefail

stage=1                   # first stage to run
stop_stage=10000          # last stage to run
skip_stages=""            # stages to leave out, e.g. "4 5"
skip_data_prep=false      # leave out stages 1 and 2
skip_train=false          # leave out stages 3, 4 and 5
skip_eval=false           # leave out stages 6 and 7
skip_packing=false        # leave out stage 8
dry_run=false             # print the commands instead of running them
nj=32                     # parallel jobs in data preparation and statistics
inference_nj=32           # parallel jobs in decoding
ngpu=1                    # GPUs for training; where there is none, the CPU is used
force_resume=false        # go on with a training although its config or its inputs have changed
num_threads=0             # CPU threads of a training; 0: one, or its share of the cores where there is no GPU
num_nodes=1               # machines of one training, each with ngpu GPUs (Slurm)
dumpdir=dump              # where formatted audio goes
expdir=exp                # where models and results go
local_data_opts=""        # more options for local/data.sh
synthetic=false           # let local/data.sh make up a tiny corpus of the same layout, to try the recipe out
speed_perturb_factors=""  # copies of the training set at these speeds, e.g. "0.9 1.0 1.1"
audio_format=flac         # flac, wav or ark
fs=16k                    # sampling rate of the formatted audio
ref_channel=""            # which channel of files with several: a number from 0, or mix for their mean
skip_bad_audio=0          # leave out up to so many bad recordings of a set, with a report, instead of failing
allow_pipes=false         # run the commands that wav.scp has in place of files, while audio is formatted
noises="white babble esc10"  # what configs with noise_scp hear beside speech: white, name=folder of recordings, or a folder noise_<name> in $KD_DATA
min_wav_duration=0.1      # shorter training utterances are dropped (seconds)
max_wav_duration=20       # longer training utterances are dropped (seconds)
token_type=bpe            # bpe, char or word
hf_model=""               # take the word pieces of this Hugging Face tokenizer instead: a folder or a name on the hub
nbpe=30                   # size of the BPE vocabulary
bpemode=unigram           # unigram or bpe
max_oov=0.1               # highest rate of unknown tokens in the text of validation and test sets
train_set=""              # name of the training set
unlabelled_set=""         # name of a set without transcripts, for students with unlabelled_ratio or pseudo_labels
valid_set=""              # name of the validation set
test_sets=""              # names of the test sets
teacher_config=conf/train_teacher.yaml  # how the teacher is trained; "" where students need none, or bring their own
cache_teacher=false       # run teachers over the speech once and keep what they say, instead of with every student
distill_configs=""        # how each student is trained; where kd_terms are given, it learns from the teacher
seeds="1"                 # every system is trained once per seed
teacher_seed=""           # one teacher, of this seed, for the students of all seeds, instead of one for each
lm_config=""              # how a language model is trained (exp/lm_<config>), for inference configs that name it
lm_train_text=""          # its text, a sentence a line, instead of the transcripts
asr_args=""               # more options for every training, e.g. "--max_epoch 3"
inference_config=conf/decode.yaml  # how to search; several configs: each gets a report of its own
inference_asr_model=valid.loss_transducer.ave.pth  # which checkpoint is decoded and teaches
report=RESULTS.md         # name of the report; of a second inference config it is RESULTS_<config>.md
lang=noinfo               # language of the corpus, as en or zh, for the cards of packed models
license=""                # under which packed models are given away, as cc-by-4.0, for their cards
hf_repo=""                # upload the packed students to the Hugging Face hub: user/name, if there are several each as user/name-<system>
score_opts=""             # more options for the report, e.g. "--title Digits"
rehearse_opts=""          # more for espnet2_kd.bin.rehearse: what is to be trained on top of these models

COMMAND_LINE=("$@")
# shellcheck source=path.sh
. "$(dirname "${BASH_SOURCE[0]}")/path.sh"
. "${KD_ROOT}/utils/parse_options.sh"
. "${KD_ROOT}/utils/log.sh"
. "${KD_ROOT}/utils/once.sh"
. "${KD_ROOT}/utils/parts.sh"
. "${KD_ROOT}/utils/prepare_exp.sh"
. "${KD_ROOT}/utils/with_bases.sh"
. "${KD_ROOT}/utils/expect.sh"
TEMPLATE=${KD_ROOT}/egs2/TEMPLATE/kd1
# shellcheck source=check_options.sh
. "${TEMPLATE}/check_options.sh"
# shellcheck source=evaluate.sh
. "${TEMPLATE}/evaluate.sh"
# shellcheck source=format.sh
. "${TEMPLATE}/format.sh"
# shellcheck source=noises.sh
. "${TEMPLATE}/noises.sh"
# shellcheck source=language_model.sh
. "${TEMPLATE}/language_model.sh"
# shellcheck source=student_data.sh
. "${TEMPLATE}/student_data.sh"
# shellcheck source=rehearse.sh
. "${TEMPLATE}/rehearse.sh"
# shellcheck source=run_stages.sh
. "${TEMPLATE}/run_stages.sh"
# shellcheck source=train_all.sh
. "${TEMPLATE}/train_all.sh"
CMD_SH=./cmd.sh
[[ -f ${CMD_SH} ]] || CMD_SH=${TEMPLATE}/cmd.sh
# shellcheck source=cmd.sh
. "${CMD_SH}"

STAGES=("" data feats stats teacher distill decode score pack)
[[ -z ${hf_repo} ]] || STAGES+=(upload)

read -ra distill_config_list <<<"${distill_configs}"
config_list=(${teacher_config:+"${teacher_config}"} "${distill_config_list[@]}")
read -ra test_set_list <<<"${test_sets}"
read -ra inference_list <<<"${inference_config}"
read -ra unlabelled_list <<<"${unlabelled_set}"
noise_list=()  # see find_noises
read -ra noise_names <<<"${noises}"
read -ra seed_list <<<"${seeds}"
read -ra asr_arg_list <<<"${asr_args}"
read -ra score_opt_list <<<"${score_opts}"
read -ra data_opt_list <<<"${local_data_opts}"
! "${synthetic}" || data_opt_list+=(--synthetic true)
train_command=() cuda_command=() decode_command=()
set_commands

[[ -z ${hf_model} ]] || token_type=hugging_face
token_name=${token_type}${hf_model:+_$(basename "${hf_model}")}
[[ ${token_type} != bpe ]] || token_name=bpe_${bpemode}${nbpe}
token_dir=data/token_list/${token_name}
stats_dir=${expdir}/asr_stats_raw_${token_name}
normalisation=()
train_dir=${dumpdir}/raw/${train_set}
valid_dir=${dumpdir}/raw/${valid_set}
unlabelled_dir=${dumpdir}/raw/${unlabelled_set}
audio_type=sound
[[ ${audio_format} != ark ]] || audio_type=kaldi_ark

# exp_of CONFIG SEED: the experiment directory.
exp_of() {
    local stem=${1##*/}
    printf '%s/asr_%s_seed%s' "${expdir}" "${stem%.yaml}" "$2"
}

# all_exps: the experiment directories of all systems, teachers first, one per line.
all_exps() {
    local config seed
    for config in "${config_list[@]}"; do
        for seed in $(seeds_of "${config}"); do
            printf '%s\n' "$(exp_of "${config}" "${seed}")"
        done
    done
}

stage_1_data() {
    local dset source
    local -a pipes=() sources=()
    ! "${allow_pipes}" || pipes=(--allow_pipes true)
    [[ ! -f data/.sources ]] || mapfile -t sources <data/.sources
    for source in "${sources[@]}"; do  # tables that local/data.sh has imported
        [[ ! ${source} -nt data/.done ]] || "${dry_run}" || rm -f data/.done
    done
    for dset in "${train_set}" "${valid_set}" "${unlabelled_list[@]}" "${test_set_list[@]}"; do
        [[ -f data/${dset}/wav.scp ]] || "${dry_run}" || rm -f data/.done
    done
    once data/.done local/* -- ./local/data.sh "${data_opt_list[@]}"
    run python3 -m espnet2_kd.bin.data_dir validate "${pipes[@]}" data/{"${train_set}","${valid_set}"} "${test_set_list[@]/#/data/}"
    [[ -z ${unlabelled_set} ]] || run python3 -m espnet2_kd.bin.data_dir validate --no_text "${pipes[@]}" "data/${unlabelled_set}"
}

stage_2_feats() {
    local dset org=${dumpdir}/raw/org
    local -a speeds=()
    [[ -z ${speed_perturb_factors} ]] || speeds=(--speed_perturb_factors "${speed_perturb_factors}")
    format_set "${train_set}" "${org}/${train_set}" "${speeds[@]}"
    for dset in "${valid_set}" "${unlabelled_list[@]}"; do
        format_set "${dset}" "${org}/${dset}"
    done
    for dset in "${test_set_list[@]}"; do
        [[ ${dset} == "${valid_set}" ]] || format_set "${dset}" "${dumpdir}/raw/${dset}"
    done
    for dset in "${train_set}" "${valid_set}" "${unlabelled_list[@]}"; do
        # For each kind of tokens anew, as check_labels leaves out what has too many of them.
        once "${dumpdir}/raw/${dset}/.filtered" "${org}/${dset}"/{wav.scp,text,utt2num_samples,audio_sum,utt2spk,label,transcript} -- \
            env TOKENS="${token_name}" python3 -m espnet2_kd.bin.data_dir filter --fs "${fs}" \
            --min_wav_duration "${min_wav_duration}" --max_wav_duration "${max_wav_duration}" \
            "${org}/${dset}" "${dumpdir}/raw/${dset}"
    done
    local -a check_texts=()
    for dset in "${valid_set}" "${test_set_list[@]}"; do
        check_texts+=("${dumpdir}/raw/${dset}/text")
    done
    once "data/token_list/.${token_name}.done" {"${train_dir}","${valid_dir}"}/.filtered "${check_texts[@]}" -- \
        python3 -m espnet2_kd.bin.make_tokens --token_type "${token_type}" --nbpe "${nbpe}" --bpemode "${bpemode}" \
        ${hf_model:+--hf_model "${hf_model}" --hf_vocabulary seen} \
        --text "${train_dir}/text" --check_text "${check_texts[@]}" --max_oov "${max_oov}" --output_dir "${token_dir}"
    for dset in "${train_set}" "${valid_set}"; do
        once "${dumpdir}/raw/${dset}/.labels_checked" "${dumpdir}/raw/${dset}/.filtered" "${token_dir}/tokens.txt" -- \
            python3 -m espnet2_kd.bin.check_labels --data_dir "${dumpdir}/raw/${dset}" --token_dir "${token_dir}" \
            --drop
    done
    list_noises "${config_list[@]}"
}

# asr_train OUT OPTION...: sets train_argv to the training program with the options that statistics and training share.
asr_train() {
    local part dir bpemodel=${hf_model:-none}
    [[ ${token_type} != bpe ]] || bpemodel=${token_dir}/bpe.model
    train_argv=(python3 -m espnet2_kd.bin.asr_train --output_dir "$1" --use_preprocessor true
        --token_type "${token_type}" --token_list "${token_dir}/tokens.txt" --bpemodel "${bpemodel}")
    for part in train valid; do
        dir=${part}_dir
        train_argv+=(--"${part}_data_path_and_name_and_type" "${!dir}/wav.scp,speech,${audio_type}"
            --"${part}_data_path_and_name_and_type" "${!dir}/text,text,text")
    done
    train_argv+=("${@:2}" "${asr_arg_list[@]}")
}

stage_3_stats() {
    local jobs logdir=${stats_dir}/logdir
    local -a train_argv inputs
    need 2 {"${train_dir}","${valid_dir}"}/wav.scp "${token_dir}/tokens.txt"
    mapfile -t inputs < <(with_bases "${config_list[0]}")
    inputs+=({"${train_dir}","${valid_dir}"}/{wav.scp,text,audio_sum} "${token_dir}/tokens.txt")
    jobs=$(num_jobs "${nj}" "${train_dir}/wav.scp" "${valid_dir}/wav.scp")
    asr_train "${logdir}/stats.JOB" --config "${config_list[0]}" --collect_stats true --ngpu 0 \
        --train_shape_file "${logdir}/train.JOB.scp" --valid_shape_file "${logdir}/valid.JOB.scp"
    once "${logdir}/.train" "${train_dir}/wav.scp" -- deal_lines "${jobs}" "${train_dir}/wav.scp" "${logdir}/train"
    once "${logdir}/.valid" "${valid_dir}/wav.scp" -- deal_lines "${jobs}" "${valid_dir}/wav.scp" "${logdir}/valid"
    once "${logdir}/.done" "${inputs[@]}" -- \
        "${train_command[@]}" --pick failed,incomplete "JOB=1:${jobs}" "${logdir}/stats.JOB.log" "${train_argv[@]}"
    once "${stats_dir}/.done" "${logdir}/.done" -- gather_stats "${jobs}" "${stats_dir}" "${token_type}" "${token_dir}/tokens.txt"
}

# train CONFIG SEED TEACHER: trains one system, or goes on with it; TEACHER is empty or an experiment directory.
train() {
    local config=$1 seed=$2 teacher=$3 exp part shapes confidence noise
    # shellcheck disable=SC2034  # read as ${!shapes}
    local train_dir=${train_dir} train_shapes=${stats_dir}/train valid_shapes=${stats_dir}/valid
    exp=$(exp_of "${config}" "${seed}")
    confidence=$(value_of pseudo_labels "${config}")
    [[ -z ${confidence} ]] || add_pseudo_labels "${exp}" "${teacher}" "${confidence}"
    local -a inputs options=() machines launcher processes train_argv
    mapfile -t inputs < <(with_bases "${config}")
    inputs+=("${token_dir}/tokens.txt" "${train_dir}"/{wav.scp,text,audio_sum})
    noise=$(value_of noise_scp "${config}")
    [[ -z ${noise} ]] || inputs+=("${noise}")
    for part in train valid; do
        shapes=${part}_shapes
        inputs+=("${!shapes}"/{speech_shape,text_shape."${token_type}"})
        options+=(--"${part}_shape_file" "${!shapes}/speech_shape"
            --"${part}_shape_file" "${!shapes}/text_shape.${token_type}")
    done
    if [[ -n ${teacher} ]]; then
        inputs+=("${teacher}/${inference_asr_model}")
        name_teacher "${config}" "${teacher}"
    fi
    if [[ -n $(value_of unlabelled_ratio "${config}") ]]; then
        inputs+=("${unlabelled_dir}"/{wav.scp,utt2num_samples,audio_sum})
        options+=(--unlabelled_data_path_and_name_and_type "${unlabelled_dir}/wav.scp,speech,${audio_type}"
            --unlabelled_shape_file "${unlabelled_dir}/utt2num_samples")
    fi
    "${dry_run}" || prepare_exp "${exp}" "${asr_args}" \
        "$(printf '%q ' "${TEMPLATE}/kd.sh" "${COMMAND_LINE[@]}" --stage "${number}")" "${inputs[@]}"
    if "${cache_teacher}" && [[ -n $(value_of teacher "${config}") ]]; then
        options+=(--teacher_cache "${expdir}/teacher_cache")
        # Before a training that is not over its features are looked at again: a disk may have failed since.
        "${dry_run}" || [[ -f ${exp}/.done ]] || rm -f "${exp}/.cached"
        once "${exp}/.cached" "${inputs[@]}" -- cache_features "${config}" "${exp}" \
            ${teacher:+--teacher_exp "${teacher}" --teacher_file "${inference_asr_model}"}
    fi
    spread_out
    asr_train "${exp}" --config "${config}" --seed "${seed}" --ngpu "${ngpu}" --resume true "${normalisation[@]}" \
        --fold_length 80000 --fold_length 150 "${options[@]}" "${processes[@]}"
    ! "${force_resume}" || train_argv+=(--force_resume true)
    once "${exp}/.done" "${inputs[@]}" -- \
        "${cuda_command[@]}" --rotate --gpu "${ngpu}" --num-threads "${num_threads}" "${machines[@]}" \
        --follow '[0-9]+/[0-9]+epoch started|epoch results' "${exp}/train.log" "${launcher[@]}" "${train_argv[@]}"
}

stage_4_teacher() {
    rehearse
    [[ -z ${lm_config} ]] || train_lm
    [[ -z ${teacher_config} ]] || train_all "${teacher_config}"
}

stage_5_distill() {
    rehearse
    train_all "${distill_config_list[@]}"
}

stage_8_pack() {
    local exp results=${report%.md}
    results=${expdir}/report/${results,,}.json
    for exp in $(all_exps); do
        once "${exp}/.packed" "${exp}/${inference_asr_model}" "${exp}/config.yaml" "${results}" "${inference_list[0]}" -- \
            "${decode_command[@]}" "${exp}/pack.log" python3 -m espnet2_kd.bin.pack --exp "${exp}" \
            --model_file "${inference_asr_model}" --results "${results}" --decoding "${inference_list[0]}" \
            --lang "${lang}" ${license:+--license "${license}"} --synthetic "$(is_spoken)" --outpath "${exp}/${exp##*/}.zip"
    done
}

stage_9_upload() {
    local config seed exp repo
    local -a exps=()
    for config in "${distill_config_list[@]}"; do
        for seed in "${seed_list[@]}"; do
            exps+=("$(exp_of "${config}" "${seed}")")
        done
    done
    for exp in "${exps[@]}"; do
        repo=${hf_repo}
        ((${#exps[@]} == 1)) || repo+=-${exp##*/asr_}
        run python3 -m espnet2_kd.bin.upload_model --pack "${exp}/${exp##*/}.zip" --repo "${repo}"
    done
}

main() {
    local cores closing=""
    ! "${skip_data_prep}" || skip_stages+=" 1 2"
    ! "${skip_train}" || skip_stages+=" 3 4 5"
    ! "${skip_eval}" || skip_stages+=" 6 7"
    ! "${skip_packing}" || skip_stages+=" 8"
    # Samples, which some encoders hear, are not normalised: to ESPnet2 they are frames, of which it makes squares.
    [[ $(value_of normalize "${config_list[0]}") == null ]] ||
        normalisation=(--normalize global_mvn --normalize_conf "stats_file=${stats_dir}/train/feats_stats.npz")
    run_stages
}

refuse_words "$@"
check_options
main; exit  # in one line: bash reads on only now, and the file may have been edited while it ran
