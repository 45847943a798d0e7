#!/usr/bin/env bash
# Runs an intent recipe, from a corpus to a table of results. Called in a recipe's directory, by its run.sh.
# Usage: slu.sh [--option value]...
#
#   1 data      local/data.sh writes data/<set>            6 text      a text encoder learns the intents: upper bound, teacher
#   2 feats     formatted audio, token list                7 train     every classifier, with and without the teacher
#   3 stats     shapes and feature statistics              8 classify  all test sets, clean and noisy
#   4 acoustic  a recogniser, whose encoder is the ears    9 score     accuracies, McNemar's test, RESULTS.md
#   5 frames    what it hears, in quiet and in noise      10 pack      one zip per classifier
#  11 upload    with --hf_repo: these zips to the Hugging Face hub

# Stages are called by names put together from their number, which shellcheck cannot see.
# shellcheck disable=SC2317
set -euo pipefail

stage=1                   # first stage to run
stop_stage=10000          # last stage to run
skip_stages=""            # stages to leave out, e.g. "4 5"
dry_run=false             # print the commands instead of running them
nj=32                     # parallel jobs in data preparation and statistics
ngpu=1                    # GPUs for training; where there is none, the CPU is used
num_nodes=1               # machines of one training, each with ngpu GPUs (Slurm)
force_resume=false        # go on with a training although its config or its inputs have changed
num_threads=0             # CPU threads of a training; 0: one, or its share of the cores where there is no GPU
dumpdir=dump              # where formatted audio and frames go
expdir=exp                # where models and results go
local_data_opts=""        # more options for local/data.sh
synthetic=false           # let local/data.sh make up a tiny corpus of the same layout, to try the recipe out
speed_perturb_factors=""  # copies of the training set at these speeds, e.g. "0.9 1.0 1.1"
min_wav_duration=0.1      # shorter training utterances are dropped (seconds)
max_wav_duration=20       # longer ones too
ref_channel=""            # which channel of files with several: a number from 0, or mix for their mean
skip_bad_audio=0          # leave out up to so many bad recordings of a set, with a report, instead of failing
allow_pipes=false         # run the commands that wav.scp has in place of files, while audio is formatted
token_type=char           # of the recogniser: bpe, char or word
nbpe=30                   # size of its BPE vocabulary
train_set=""              # name of the training set
valid_set=""              # name of the validation set
test_sets=""              # names of the test sets
unlabelled_set=""         # name of a set with words and without intents, for classifiers with unlabelled_ratio
acoustic_config=conf/train_acoustic.yaml  # how the recogniser is trained
acoustic_exp=""           # take this one instead: an experiment, or a pack
acoustic_model=valid.loss.ave.pth  # its checkpoint
acoustic_args=""          # more options for its training, e.g. "--max_epoch 3"
slow_rate=4               # how many of its frames make one of the classifier's
noises="white babble esc10"  # in which the test sets are heard too: white, name=folder of recordings, or a folder noise_<name> in $KD_DATA
snrs="15 10 5 0"          # how loud: signal-to-noise ratios in dB
train_noises=""           # conditions that the classifiers are trained in beside quiet, e.g. "babble_10db babble_0db"
text_model=""             # text encoder to fine-tune: a folder or a name on the hub
text_config=conf/train_text.yaml  # how
text_data=""              # more sentences for it: a table with columns text and label
spoken_text=true          # whether text is what was said, so that words can be aligned
intent_configs=""         # how each classifier is trained; the first is what the others are compared with
seeds="1"                 # every classifier is trained once per seed
intent_args=""            # more options for every classifier's training, e.g. "--max_epoch 3"
intent_model=valid.acc.ave.pth  # which checkpoint classifies: the best epochs on the validation set, keep_nbest_models of them
report=RESULTS.md         # name of the report
lang=noinfo               # language of the corpus, as en or zh, for the cards of packed models
license=""                # under which packed models are given away, as cc-by-4.0, for their cards
hf_repo=""                # upload the packed classifiers to the Hugging Face hub: user/name, if there are several each as user/name-<system>
score_opts=""             # more options for the report, e.g. "--title Coffee"

COMMAND_LINE=("$@")
# shellcheck source=../kd1/path.sh
. "$(dirname "${BASH_SOURCE[0]}")/../kd1/path.sh"
. "${KD_ROOT}/utils/parse_options.sh"
. "${KD_ROOT}/utils/log.sh"
. "${KD_ROOT}/utils/once.sh"
. "${KD_ROOT}/utils/prepare_exp.sh"
. "${KD_ROOT}/utils/with_bases.sh"
. "${KD_ROOT}/utils/expect.sh"
TEMPLATE=${KD_ROOT}/egs2/TEMPLATE
# shellcheck source=../kd1/run_stages.sh
. "${TEMPLATE}/kd1/run_stages.sh"
# shellcheck source=../kd1/noises.sh
. "${TEMPLATE}/kd1/noises.sh"
# shellcheck source=../kd1/train_all.sh
. "${TEMPLATE}/kd1/train_all.sh"
# shellcheck source=../slu1/check_options.sh
. "${TEMPLATE}/slu1/check_options.sh"
CMD_SH=./cmd.sh
[[ -f ${CMD_SH} ]] || CMD_SH=${TEMPLATE}/kd1/cmd.sh
# shellcheck source=../kd1/cmd.sh
. "${CMD_SH}"

ENV_STAGES="1 2 3 4"  # the others need no other programs
STAGES=("" data feats stats acoustic frames text train classify score pack)
[[ -z ${hf_repo} ]] || STAGES+=(upload)

read -ra intent_config_list <<<"${intent_configs}"
read -ra test_set_list <<<"${test_sets}"
read -ra unlabelled_list <<<"${unlabelled_set}"
noise_list=()  # see find_noises
read -ra noise_names <<<"${noises}"
read -ra snr_list <<<"${snrs}"
read -ra train_noise_list <<<"${train_noises}"
read -ra seed_list <<<"${seeds}"
read -ra intent_arg_list <<<"${intent_args}"
read -ra score_opt_list <<<"${score_opts}"
cuda_command=() decode_command=()
set_commands

acoustic_stem=${acoustic_config##*/}
ears=${acoustic_exp:-${expdir}/asr_${acoustic_stem%.yaml}_seed1}
text_stem=${text_config##*/}
text_exp=${expdir}/text_${text_stem%.yaml}_seed1
class_list=data/token_list/label/tokens.txt
frames_dir=${dumpdir}/frames
tag=classify_${intent_model%.pth}
teacher_config="" teacher_seed=""  # for train_all: the teachers here read, and there is one of them

exp_of() {
    local stem=${1##*/}
    printf '%s/intent_%s_seed%s' "${expdir}" "${stem%.yaml}" "$2"
}

all_exps() {
    local config seed
    for config in "${intent_config_list[@]}"; do
        for seed in "${seed_list[@]}"; do
            printf '%s\n' "$(exp_of "${config}" "${seed}")"
        done
    done
}

# conditions SET: the test set itself and its names in noise, one per line.
conditions() {
    local noise snr
    printf '%s\n' "$1"
    for noise in "${noise_list[@]}"; do
        for snr in "${snr_list[@]}"; do
            printf '%s_%s_%sdb\n' "$1" "${noise%%=*}" "${snr}"
        done
    done
}

all_tests() {
    local dset
    for dset in "${test_set_list[@]}"; do
        conditions "${dset}"
    done
}

# recognise STAGE [OPTION...]: one of the first stages, which are those of a recogniser.
recognise() {
    local config=${acoustic_config}
    [[ -z ${acoustic_exp} ]] || config=${intent_config_list[0]}  # any file: it is not trained
    "${TEMPLATE}/kd1/kd.sh" --stage "$1" --stop_stage "$1" --dry_run "${dry_run}" --nj "${nj}" --ngpu "${ngpu}" --num_nodes "${num_nodes}" \
        --num_threads "${num_threads}" --force_resume "${force_resume}" --dumpdir "${dumpdir}" --expdir "${expdir}" \
        --local_data_opts "${local_data_opts}" --synthetic "${synthetic}" \
        --speed_perturb_factors "${speed_perturb_factors}" --min_wav_duration "${min_wav_duration}" --max_wav_duration "${max_wav_duration}" \
        --ref_channel "${ref_channel}" --skip_bad_audio "${skip_bad_audio}" --allow_pipes "${allow_pipes}" --noises "${noises}" --token_type "${token_type}" --nbpe "${nbpe}" --max_oov 1 \
        --train_set "${train_set}" --valid_set "${valid_set}" --test_sets "${test_sets}" --unlabelled_set "${unlabelled_set}" --asr_args "${acoustic_args}" \
        --teacher_config "${config}" --distill_configs "${config}" --inference_asr_model "${acoustic_model}" --inference_config "" "${@:2}"
}

stage_1_data() {
    local dset
    recognise 1
    local -a others=("data/${valid_set}")
    for dset in "${test_set_list[@]}"; do
        others+=("data/${dset}")
    done
    once "${class_list%/*}/.done" "${others[@]/%//label}" "data/${train_set}/label" -- \
        python3 -m espnet2_kd.bin.intent_classes --train "data/${train_set}" --others "${others[@]}" --output "${class_list}"
    ! "${dry_run}" || return 0
    [[ -z ${text_data} || -f ${text_data} ]] || fail "--text_data ${text_data}: no such file"
    for dset in "${unlabelled_list[@]}"; do
        [[ -f data/${dset}/text ]] || fail "--unlabelled_set ${dset}: no data/${dset}/text: of these sentences the words must be known"
    done
}

stage_2_feats() {
    recognise 2
}

stage_3_stats() {
    [[ -n ${acoustic_exp} ]] || recognise 3
}

stage_4_acoustic() {
    local -a inputs classifiers=(--intent_configs "${intent_config_list[@]}" --classes "${class_list}" --slow_rate "${slow_rate}")
    [[ -z ${text_model} ]] || classifiers+=(--text_model "${text_model}" --text_config "${text_config}")
    if [[ -z ${acoustic_exp} ]]; then
        recognise 4 --rehearse_opts "${classifiers[*]}"
        return
    fi
    need 1 "${class_list}"
    mapfile -t inputs < <(with_bases "${intent_config_list[@]}" ${text_model:+"${text_config}"})
    once "${expdir}/rehearsal/.done" "${inputs[@]}" "${class_list}" -- \
        "${decode_command[@]}" --follow '^mistake in ' "${expdir}/rehearsal/rehearsal.log" python3 -m espnet2_kd.bin.rehearse \
        --acoustic_exp "${acoustic_exp}" --teacher_file "${acoustic_model}" "${classifiers[@]}"
}

# make_noisy FROM SET CONDITION SPLIT: a copy of a formatted directory in noise of recordings that only SPLIT has.
make_noisy() {
    local from=$1 to=${dumpdir}/noisy/$2_$3 recordings=${dumpdir}/noisy/.${3%_*} source
    local -a options=()
    source=$(noise_source "${3%_*}")
    [[ ${source} == white || ! -f ${source}/$4.tsv ]] || options+=(--noise_split "$4")
    if [[ ${source} != white ]] && ! "${dry_run}"; then
        mkdir -p "${dumpdir}/noisy"
        find -L "${source}" -type f -printf '%P %s %T@\n' | LC_ALL=C sort >"${recordings}"
    fi
    once "${to}/.done" "${from}"/{wav.scp,text,label,audio_sum} "${recordings}" -- \
        python3 -m espnet2_kd.bin.add_noise --snr "$(snr_of "$3")" --noise "${source}" "${options[@]}" --nj "${local_nj}" \
        "${from}" "${to}"
    formatted+=("${to}")
}

# pools_tokens CONFIG...: whether one of them, or of their bases, matches frames with words by when these were spoken.
pools_tokens() {
    local config
    while read -r config; do
        ! grep -qE '^[^#]*token_pool' "${config}" || return 0
    done < <(with_bases "$@")
    return 1
}

# snr_of CONDITION: 10 of babble_10db.
snr_of() {
    local snr=${1##*_}
    printf '%s' "${snr%db}"
}

stage_5_frames() {
    local dset condition
    local -a formatted=() options=() inputs=("${ears}" "${ears}/${acoustic_model}")
    for dset in "${train_set}" "${valid_set}" "${unlabelled_list[@]}" "${test_set_list[@]}"; do
        formatted+=("${dumpdir}/raw/${dset}")
    done
    for dset in "${train_set}" "${valid_set}" "${unlabelled_list[@]}"; do
        for condition in "${train_noise_list[@]}"; do
            make_noisy "${dumpdir}/raw/${dset}" "${dset}" "${condition}" train
        done
    done
    for dset in "${test_set_list[@]}"; do
        for condition in $(conditions "${dset}" | sed 1d); do
            make_noisy "${dumpdir}/raw/${dset}" "${dset}" "${condition#"${dset}_"}" test
        done
    done
    ! "${spoken_text}" || ! pools_tokens "${intent_config_list[@]}" || options+=(--hf_model "${text_model}")
    ((ngpu == 0)) || options+=(--device cuda)
    for dset in "${formatted[@]}"; do
        inputs+=("${dset}"/{wav.scp,text,label,audio_sum})
    done
    once "${frames_dir}/.done" "${inputs[@]}" -- \
        "${decode_command[@]}" --follow '[0-9]+/[0-9]+|frames of' "${frames_dir}/frames.log" \
        python3 -m espnet2_kd.bin.acoustic_frames --exp "${ears}" --model_file "${acoustic_model}" \
        --slow_rate "${slow_rate}" --num_threads "${cores}" "${options[@]}" --data_dir "${formatted[@]}" \
        --output_dir "${formatted[@]/#*\//${frames_dir}/}"
    if ((${#train_noise_list[@]} > 0)); then
        for dset in "${train_set}" "${valid_set}" "${unlabelled_list[@]}"; do
            join_frames "${dset}"
        done
    fi
}

# join_frames SET: the set in quiet and in all noises it is trained in, as SET_matched; utterances are named by theirs.
join_frames() {
    local from=${frames_dir}/$1 to=${frames_dir}/$1_matched part
    local -a inputs=()
    for part in "${from}" "${train_noise_list[@]/#/${from}_}"; do
        inputs+=("${part}"/{{frames,spans}.{scp,sha256},label,text,utt2spk})
    done
    once "${to}/.done" "${inputs[@]}" -- joined_tables "$1" "${to}"
}

joined_tables() {
    local table condition
    for table in {frames,spans}.{scp,sha256} frames_shape label text utt2spk; do
        rm -f "$2/${table}"
        [[ -f ${frames_dir}/$1/${table} ]] || continue
        for condition in "" "${train_noise_list[@]}"; do
            awk -v suffix="${condition:+-${condition}}" '{ $1 = $1 suffix; print }' \
                "${frames_dir}/$1${condition:+_${condition}}/${table}"
        done | sort >"$2/${table}"
    done
}

stage_6_text() {
    [[ -n ${text_model} ]] || return 0
    local dset
    local -a inputs=("${dumpdir}/raw/${train_set}"/{text,label} "${dumpdir}/raw/${valid_set}"/{text,label} "${class_list}")
    local -a device=()
    ((ngpu == 0)) || device=(--device cuda)
    mapfile -t -O "${#inputs[@]}" inputs < <(with_bases "${text_config}")
    once "${text_exp}/.done" "${inputs[@]}" ${text_data:+"${text_data}"} -- \
        "${cuda_command[@]}" --gpu "${ngpu}" --follow 'epoch' "${text_exp}/train.log" \
        python3 -m espnet2_kd.bin.train_text_intents --config "${text_config}" --model "${text_model}" --seed 1 \
        --train_dir "${dumpdir}/raw/${train_set}" --valid_dir "${dumpdir}/raw/${valid_set}" \
        ${text_data:+--sentences "${text_data}"} --token_list "${class_list}" "${device[@]}" --output_dir "${text_exp}"
    for dset in "${test_set_list[@]}"; do
        once "${text_exp}/${tag}/${dset}/.done" "${text_exp}/.done" "${dumpdir}/raw/${dset}/text" -- \
            python3 -m espnet2_kd.bin.classify_text --model "${text_exp}" --data_dir "${dumpdir}/raw/${dset}" \
            --output_dir "${text_exp}/${tag}/${dset}"
    done
}

# train CONFIG SEED TEACHER: trains one classifier, or goes on with it. TEACHER is not used: this one reads.
train() {
    local config=$1 seed=$2 exp part dir matched="" name
    exp=$(exp_of "${config}" "${seed}")
    ((${#train_noise_list[@]} == 0)) || matched=_matched
    local -a inputs options=() extra=() machines launcher processes
    mapfile -t inputs < <(with_bases "${config}")
    if [[ -n $(value_of teacher "${config}") ]]; then
        teacher_has model "${config}" || options+=(--teacher_conf "model=${text_exp}")
        inputs+=("${text_exp}"/{model,intent}.safetensors)
        extra=("text,text,text")
        ! pools_tokens "${config}" || extra+=("spans.scp,spans,kaldi_ark")
    fi
    for part in train valid unlabelled; do
        [[ ${part} != unlabelled || -n $(value_of unlabelled_ratio "${config}") ]] || continue
        name=${part}_set
        dir=${frames_dir}/${!name}${matched}
        [[ ${extra[*]} != *spans.scp* || -f ${dir}/spans.scp ]] || "${dry_run}" ||
            fail "${config}: ${dir} does not say when each word was spoken: run stage 5 with this config in --intent_configs"
        inputs+=("${dir}"/frames.{scp,sha256})
        [[ ${extra[*]} != *spans.scp* ]] || inputs+=("${dir}"/spans.{scp,sha256})
        [[ ${part} == unlabelled ]] || inputs+=("${dir}/label")
        inputs+=("${class_list}")
        options+=(--"${part}_shape_file" "${dir}/frames_shape")
        for name in frames.scp,speech,kaldi_ark label,label,text "${extra[@]}"; do
            [[ ${part} == unlabelled && ${name} == label,* ]] ||
                options+=(--"${part}_data_path_and_name_and_type" "${dir}/${name}")
        done
    done
    ! "${force_resume}" || options+=(--force_resume true)
    spread_out
    "${dry_run}" || prepare_exp "${exp}" "${intent_args}" \
        "$(printf '%q ' "${TEMPLATE}/slu1/slu.sh" "${COMMAND_LINE[@]}" --stage "${number}")" "${inputs[@]}"
    once "${exp}/.done" "${inputs[@]}" -- \
        "${cuda_command[@]}" --rotate --gpu "${ngpu}" --num-threads "${num_threads}" "${machines[@]}" \
        --follow '[0-9]+/[0-9]+epoch started|epoch results' "${exp}/train.log" \
        "${launcher[@]}" python3 -m espnet2_kd.bin.intent_train --config "${config}" --seed "${seed}" --ngpu "${ngpu}" --resume true \
        --output_dir "${exp}" --token_list "${class_list}" --acoustic_exp "${ears}" --acoustic_file "${acoustic_model}" \
        --model_conf "slow_rate=${slow_rate}" "${options[@]}" "${processes[@]}" "${intent_arg_list[@]}"
}

stage_7_train() {
    train_all "${intent_config_list[@]}"
}

stage_8_classify() {
    local exp dset
    local -a options=()
    ((ngpu == 0)) || options+=(--device cuda)
    local -a dsets frames=()
    mapfile -t dsets < <(all_tests)
    for dset in "${dsets[@]}"; do
        frames+=("${frames_dir}/${dset}"/frames.{scp,sha256})
    done
    for exp in $(all_exps); do
        once "${exp}/${tag}/.done" "${frames[@]}" "${exp}/${intent_model}" -- \
            "${decode_command[@]}" "${exp}/${tag}/classify.log" \
            python3 -m espnet2_kd.bin.classify --exp "${exp}" --model_file "${intent_model}" "${options[@]}" \
            --data_dir "${dsets[@]/#/${frames_dir}/}" --output_dir "${dsets[@]/#/${exp}/${tag}/}"
    done
}

stage_9_score() {
    local exp dset condition page=${report%.md}
    local -a exps dsets outs refs dirs=()
    mapfile -t exps < <(all_exps)
    [[ -z ${text_model} ]] || exps=("${text_exp}" "${exps[@]}")
    for exp in "${exps[@]}"; do
        mapfile -t dsets < <(all_tests)
        [[ ${exp} != "${text_exp}" ]] || dsets=("${test_set_list[@]}")  # text has no noise
        outs=("${dsets[@]/#/${exp}/${tag}/}")
        refs=("${dsets[@]/#/${frames_dir}/}")
        once "${exp}/${tag}/.scored" "${outs[@]/%//label}" "${refs[@]/%//label}" -- \
            python3 -m espnet2_kd.bin.score_intents --ref "${refs[@]/%//label}" --hyp "${outs[@]/%//label}" \
            --output_dir "${outs[@]}"
    done
    for dset in "${test_set_list[@]}"; do
        dirs+=("${dumpdir}/raw/${dset}")
        for condition in $(conditions "${dset}" | sed 1d); do
            dirs+=("${dumpdir}/noisy/${condition}")
        done
    done
    local stem=${intent_config_list[0]##*/}
    page=${page#RESULTS}
    closing+=$(run python3 -m espnet2_kd.bin.report_intents --exp_dirs "${exps[*]}" --tag "${tag}" \
        --test_sets "$(all_tests | paste -sd ' ')" --baseline "intent_${stem%.yaml}" --output "${report}" \
        --json "${expdir}/report/${report%.md}.json" --page "${expdir}/report/index${page,,}.html" \
        --data_dirs "${dirs[*]}" --synthetic "$(is_spoken)" "${score_opt_list[@]}")$'\n'
}

stage_10_pack() {
    local exp results=${expdir}/report/${report%.md}.json
    for exp in $(all_exps); do
        once "${exp}/.packed" "${exp}/${intent_model}" "${exp}/config.yaml" "${results}" -- \
            "${decode_command[@]}" "${exp}/pack.log" python3 -m espnet2_kd.bin.pack --kind intent --exp "${exp}" \
            --model_file "${intent_model}" --results "${results}" \
            --lang "${lang}" ${license:+--license "${license}"} --synthetic "$(is_spoken)" --outpath "${exp}/${exp##*/}.zip"
    done
}

stage_11_upload() {
    local exp repo
    local -a exps
    mapfile -t exps < <(all_exps)
    for exp in "${exps[@]}"; do
        repo=${hf_repo}
        ((${#exps[@]} == 1)) || repo+=-${exp##*/intent_}
        run python3 -m espnet2_kd.bin.upload_model --pack "${exp}/${exp##*/}.zip" --repo "${repo}"
    done
}

main() {
    local cores closing="" inference_nj=1
    run_stages
}

refuse_words "$@"
check_options
main; exit  # in one line: bash reads on only now, and the file may have been edited while it ran
