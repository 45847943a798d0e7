#!/usr/bin/env bats
# slu.sh as a user meets it; nothing is run but the driver itself.

setup() {
    root=$(cd "${BATS_TEST_DIRNAME}/../.." && pwd)
    slu=${root}/egs2/TEMPLATE/slu1/slu.sh
    recipe=${BATS_TEST_TMPDIR}/recipe
    mkdir -p "${recipe}/conf" "${recipe}/local" "${recipe}/babble" "${BATS_TEST_TMPDIR}/venv/bin"
    cd "${recipe}"
    touch conf/train_acoustic.yaml conf/train_text.yaml conf/train_none.yaml
    printf 'base: train_none.yaml\nteacher: hf_sentence\nkd_terms: [{match: pad_text}]\n' >conf/train_std.yaml
    printf 'base: train_std.yaml\nkd_terms: [{match: token_pool}]\n' >conf/train_pool.yaml
    printf '#!/usr/bin/env bash\n' >local/data.sh
    chmod +x local/data.sh
    touch babble/{all,train,test}.tsv
    sets=(--train_set train --valid_set valid --test_sets "test" --noises "white babble=babble" --snrs "10 0"
        --intent_configs "conf/train_none.yaml conf/train_std.yaml conf/train_pool.yaml" --text_model downloads/minilm)
    export KD_VENV=${BATS_TEST_TMPDIR}/venv
}

# A negated command would not fail a test.
refute() {
    if "$@"; then return 1; fi
}

stages_of() {
    sed -nE 's/.*slu\.sh:[0-9]+:main\) Stage ([0-9]+): .*/\1/p' <<<"$1" | paste -sd ' '
}

# fails_with MESSAGE OPTION...: status 1, and nothing is said but this.
fails_with() {
    local expected=$1
    run "${slu}" "${sets[@]}" "${@:2}"
    [ "${status}" -eq 1 ]
    [ "${output}" = "slu.sh: ${expected}" ]
}

@test "--help lists every option with its default and needs no environment" {
    run "${slu}" --help
    [ "${status}" -eq 0 ]
    [[ "${output}" =~ --intent_model\ +valid.acc.ave.pth ]]
    for option in $(sed -nE '/^COMMAND_LINE/q; s/^([a-z_]+)=.*/\1/p' "${slu}"); do
        [[ "${output}" == *"--${option} "* ]]
    done
}

@test "without options, or with words that are none, it says what is wrong" {
    run "${slu}" "${sets[@]}" train
    [ "${status}" -eq 2 ]
    [[ "${output}" == *": 'train' is no option: they are written --name value"* ]]
    run "${slu}"
    [ "${status}" -eq 1 ]
    [ "${output}" = "slu.sh: --train_set is not set" ]
}

@test "an unknown option, a wrong number and a set that is not given are named" {
    fails_with "invalid option --foo" --foo 1
    fails_with "--nj many: expected a number from 1" --nj many
    fails_with "--slow_rate 2.5: expected a number from 1" --slow_rate 2.5
    fails_with "--intent_configs is not set" --intent_configs ""
    fails_with 'expected "true" or "false": --spoken_text no' --spoken_text no
}

@test "a noise that is not there is named" {
    fails_with "--noises cafe=downloads/cafe: no such folder" --noises "white cafe=downloads/cafe"
    fails_with "--train_noises babble: write <noise>_<SNR>db, as babble_10db" --train_noises babble
    fails_with "noise cafe is not among --noises white babble=babble" --train_noises cafe_10db
}

@test "a noise that is only named is looked for beside the other data, or left out" {
    mkdir -p corpora/noise_cafe
    KD_DATA=corpora run "${slu}" "${sets[@]}" --noises "cafe pub" --snrs 5 --dry_run true --stage 5 --stop_stage 5
    [ "${status}" -eq 0 ]
    [[ "${lines[0]}" == *"No recordings of pub: no folder noise_pub in \$KD_DATA; left out" ]]
    [ "$(grep -c add_noise <<<"${output}")" -eq 1 ]
    [[ "${output}" == *"--snr 5 --noise corpora/noise_cafe --nj "*"dump/noisy/test_cafe_5db"* ]]
}

@test "a config that is not there is named, and so is a base" {
    fails_with "no such file: ${recipe}/conf/none.yaml" --intent_configs "conf/none.yaml"
    fails_with "no such file: ${recipe}/conf/none.yaml" --text_config conf/none.yaml
    fails_with "no such file: ${recipe}/conf/none.yaml" --acoustic_config conf/none.yaml
    echo "base: gone.yaml" >conf/train_std.yaml
    fails_with "no such file: ${recipe}/conf/gone.yaml, the base of conf/train_std.yaml"
}

@test "a config with a teacher needs a text encoder, others do not" {
    fails_with "conf/train_std.yaml: needs a text encoder: --text_model" --text_model ""
    run "${slu}" "${sets[@]}" --text_model "" --intent_configs conf/train_none.yaml --dry_run true
    [ "${status}" -eq 0 ]
    refute grep -E 'train_text_intents|classify_text|--hf_model' <<<"${output}"
}

@test "a recogniser that is not there is named before anything runs" {
    fails_with "--acoustic_exp: no such file: ../asr1/exp/ears: train that recogniser, or give another" \
        --acoustic_exp ../asr1/exp/ears
    mkdir ears
    touch ears/config.yaml
    fails_with "--acoustic_exp: no such file: ears/a.pth: train that recogniser, or give another" \
        --acoustic_exp ears --acoustic_model a.pth
    run "${slu}" "${sets[@]}" --acoustic_exp ../asr1/exp/ears --dry_run true
    [ "${status}" -eq 0 ]
}

@test "a recogniser that is given is not trained" {
    run "${slu}" "${sets[@]}" --dry_run true --acoustic_exp ears.zip
    [ "${status}" -eq 0 ]
    [ "$(stages_of "${output}")" = "1 2 3 4 5 6 7 8 9 10" ]
    refute grep -q asr_train <<<"${output}"
    [[ "$(grep acoustic_frames <<<"${output}")" == *"--exp ears.zip "* ]]
    [ "$(grep -c 'intent_train .*--acoustic_exp ears.zip' <<<"${output}")" -eq 3 ]
}

@test "sentences without intents go to the classifiers that ask for them" {
    printf 'base: train_pool.yaml\nunlabelled_ratio: 1.0\n' >conf/train_more.yaml
    more=(--intent_configs "conf/train_std.yaml conf/train_more.yaml" --dry_run true)
    fails_with "conf/train_more.yaml: learns from sentences without intents; give a set of them: --unlabelled_set" "${more[@]}"
    run "${slu}" "${sets[@]}" "${more[@]}" --unlabelled_set more
    [ "${status}" -eq 0 ]
    [[ "$(grep acoustic_frames <<<"${output}")" == *" dump/raw/valid dump/raw/more dump/raw/test "* ]]
    [[ "$(grep 'intent_train .*conf/train_std.yaml' <<<"${output}")" != *unlabelled* ]]
    line=$(grep 'intent_train .*conf/train_more.yaml' <<<"${output}" | tr -d "\\\\")
    for table in frames.scp,speech,kaldi_ark text,text,text spans.scp,spans,kaldi_ark; do
        [[ "${line}" == *"--unlabelled_data_path_and_name_and_type dump/frames/more/${table} "* ]]
    done
    [[ "${line}" == *"--unlabelled_shape_file dump/frames/more/frames_shape "* && "${line}" != *more/label* ]]
    run "${slu}" "${sets[@]}" "${more[@]}" --unlabelled_set more --train_noises babble_0db
    [[ "$(grep 'intent_train .*conf/train_more.yaml' <<<"${output}")" == *"dump/frames/more_matched/frames_shape "* ]]
}

@test "trainings spread over GPUs and machines" {
    run "${slu}" "${sets[@]}" --dry_run true --stage 7 --stop_stage 7
    refute grep -E 'distributed|srun' <<<"${output}"
    cmd_backend=slurm run "${slu}" "${sets[@]}" --dry_run true --stage 7 --stop_stage 7 --ngpu 2
    [ "$(grep -c 'intent_train .*--multiprocessing_distributed true' <<<"${output}")" -eq 3 ]
    cmd_backend=slurm run "${slu}" "${sets[@]}" --dry_run true --num_nodes 2
    [ "$(grep -cE ' --num-nodes 2 --follow .* srun python3 -m espnet2_kd.bin.(asr|intent)_train .*--multiprocessing_distributed true --dist_launcher slurm' <<<"${output}")" -eq 4 ]
    fails_with "--num_nodes 2: trainings on several machines go through Slurm; set cmd_backend=slurm" --num_nodes 2
}

@test "classifiers are rehearsed before the recogniser is trained, or on top of the one that is given" {
    configs="--intent_configs conf/train_none.yaml conf/train_std.yaml conf/train_pool.yaml"
    run "${slu}" "${sets[@]}" --dry_run true --stage 4 --stop_stage 4 --slow_rate 3
    [ "${status}" -eq 0 ]
    [[ "$(grep -m 1 -E 'bin\.(rehearse|asr_train)' <<<"${output}")" == *"bin.rehearse "*"--teacher_config conf/train_acoustic.yaml --teacher_file valid.loss.ave.pth "*"${configs} --classes data/token_list/label/tokens.txt --slow_rate 3 --text_model downloads/minilm --text_config conf/train_text.yaml --configs "* ]]
    run "${slu}" "${sets[@]}" --dry_run true --stage 4 --stop_stage 4 --acoustic_exp ears.zip
    [[ "${output}" == *"bin.rehearse --acoustic_exp ears.zip --teacher_file valid.loss.ave.pth ${configs} "* ]]
}

@test "a dry run lists the commands of all stages and makes nothing" {
    before=$(find . | sort)
    run "${slu}" "${sets[@]}" --dry_run true --seeds "1 2"
    [ "${status}" -eq 0 ]
    [ "$(stages_of "${output}")" = "1 2 3 4 5 6 7 8 9 10" ]
    for command in data.sh intent_classes format_audio asr_train add_noise acoustic_frames train_text_intents intent_train \
        bin.classify score_intents report_intents bin.pack; do
        [[ "${output}" == *"${command}"* ]]
    done
    [ "$(grep -c 'intent_train .*--seed 2' <<<"${output}")" -eq 3 ]
    [ "$(find . | sort)" = "${before}" ]
    run "${slu}" "${sets[@]}" --dry_run true --stage 5 --stop_stage 8 --skip_stages "6 7"
    [ "$(stages_of "${output}")" = "5 8" ]
}

@test "test sets are heard in every noise at every SNR, with recordings kept for tests" {
    run "${slu}" "${sets[@]}" --dry_run true --stage 5 --stop_stage 5
    [ "$(grep -c add_noise <<<"${output}")" -eq 4 ]
    [[ "$(grep 'test_babble_10db $' <<<"${output}")" == *"--snr 10 --noise babble --noise_split test "* ]]
    [[ "$(grep 'test_white_0db $' <<<"${output}")" == *"--snr 0 --noise white --nj "* ]]
    run "${slu}" "${sets[@]}" --dry_run true --stage 9 --stop_stage 9
    [[ "${output}" == *'--test_sets test\ test_white_10db\ test_white_0db\ test_babble_10db\ test_babble_0db'* ]]
}

@test "training in noise takes other recordings, and sets of all conditions" {
    run "${slu}" "${sets[@]}" --dry_run true --stage 5 --stop_stage 7 --train_noises babble_10db
    [[ "$(grep 'dump/noisy/train_babble_10db $' <<<"${output}")" == *"--noise_split train "*" dump/raw/train "* ]]
    [ "$(grep -c 'intent_train .*dump/frames/train_matched/frames.scp.*dump/frames/valid_matched/label' <<<"${output}")" -eq 3 ]
}

@test "a recogniser that hears noise in training gets a list of it, and one that does not gets none" {
    run "${slu}" "${sets[@]}" --dry_run true --stage 2 --stop_stage 2
    refute grep -q noise_list <<<"${output}"
    printf 'noise_scp: data/hum/wav.scp\n' >conf/train_acoustic.yaml
    run "${slu}" "${sets[@]}" --dry_run true --stage 2 --stop_stage 2
    [[ "$(grep noise_list <<<"${output}")" == *" --output data/hum white babble=babble "* ]]
    fails_with "conf/train_acoustic.yaml: hears noise; say which: --noises white" --noises ""
    printf 'noise_scp: noises.txt\n' >conf/train_acoustic.yaml
    fails_with "conf/train_acoustic.yaml: noise_scp: no such file: noises.txt; <folder>/wav.scp is made by stage 2"
    touch noises.txt
    run "${slu}" "${sets[@]}" --dry_run true --stage 2 --stop_stage 2
    [ "${status}" -eq 0 ]
    refute grep -q noise_list <<<"${output}"
}

@test "what recordings need goes to the stages that read them" {
    run "${slu}" "${sets[@]}" --dry_run true --stage 2 --stop_stage 2 --ref_channel 0 --skip_bad_audio 3 --allow_pipes true --max_wav_duration 7
    [ "$(grep -c 'format_audio .* --ref_channel 0 --allow_pipes true --skip_bad_audio 3 ' <<<"${output}")" -eq 3 ]
    [ "$(grep -c 'data_dir filter .* --max_wav_duration 7 ' <<<"${output}")" -eq 2 ]
}

@test "only a teacher gets text, and only pooling the times of words, if text is what was said" {
    run "${slu}" "${sets[@]}" --dry_run true --stage 5 --stop_stage 7
    [[ "$(grep acoustic_frames <<<"${output}")" == *"--hf_model downloads/minilm"* ]]
    line=$(grep 'intent_train .*train_none.yaml' <<<"${output}")
    [[ "${line}" != *teacher_conf* && "${line}" != *text\\,text* ]]
    line=$(grep 'intent_train .*train_std.yaml' <<<"${output}")
    [[ "${line}" == *"--teacher_conf model=exp/text_train_text_seed1"*text\\,text\\,text* && "${line}" != *spans* ]]
    [[ "$(grep 'intent_train .*train_pool.yaml' <<<"${output}")" == *spans.scp\\,spans\\,kaldi_ark* ]]
    run "${slu}" "${sets[@]}" --dry_run true --stage 5 --stop_stage 5 --spoken_text false --intent_configs conf/train_std.yaml
    refute grep -q -- '--hf_model' <<<"${output}"
}

@test "numbers of decibels are checked, and recordings that training hears have splits" {
    fails_with "--snrs 10dB: expected numbers of decibels, as 10" --snrs "15 10dB"
    rm babble/test.tsv
    fails_with "--noises babble=babble: training hears it too; say which recordings it may hear, and which tests, by babble/train.tsv and test.tsv with columns utt_id and path" \
        --train_noises babble_10db
    printf 'noise_scp: data/hum/wav.scp\n' >conf/train_acoustic.yaml
    fails_with "--noises babble=babble: training hears it too; say which recordings it may hear, and which tests, by babble/train.tsv and test.tsv with columns utt_id and path"
    fails_with "--train_noises white_0db: valid cannot be in noise of training and in noise of tests; take it out of --test_sets" \
        --train_noises white_0db --test_sets "valid test"
}

@test "words that nobody knows cannot be pooled" {
    fails_with "conf/train_pool.yaml: pools the frames of words, but --spoken_text false says that nobody knows which were said" \
        --spoken_text false
}

@test "frames that were kept for other configs do not say when words were spoken" {
    run "${slu}" "${sets[@]}" --stage 7 --stop_stage 7 --intent_configs conf/train_pool.yaml
    [ "${status}" -eq 1 ]
    [[ "${lines[-1]}" == "slu.sh: conf/train_pool.yaml: dump/frames/train does not say when each word was spoken: run stage 5 with this config in --intent_configs" ]]
}

@test "no option is evaluated" {
    for option in $(sed -nE '/^COMMAND_LINE/q; s/^([a-z_]+)="?[^tf].*/\1/p' "${slu}"); do
        run "${slu}" "${sets[@]}" --dry_run true "--${option}" '$(touch hit)`touch hit`'
        [ ! -e hit ]
    done
}

@test "every run.sh works from any directory" {
    cd /
    for script in "${root}"/egs2/*/slu1/run.sh; do
        run "${script}" --dry_run true --stage 9 --stop_stage 9
        [ "${status}" -eq 0 ]
        [[ "${output}" == *"espnet2_kd.bin.report_intents"* ]]
    done
}

@test "barista says whose ears are missing" {
    run "${root}/egs2/barista/slu1/run.sh" --acoustic_model nobody.pth --noises white
    [ "${status}" -eq 1 ]
    [[ "${output}" == "slu.sh: --acoustic_exp: no such file: ../../speechocean762/asr1/exp/asr_train_ears_seed1"* ]]
    [ "${#lines[@]}" -eq 1 ]
}
