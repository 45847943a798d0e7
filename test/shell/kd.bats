#!/usr/bin/env bats
# kd.sh as a user meets it. A `python3` that only writes down how it was called stands in for the toolkit.

setup() {
    root=$(cd "${BATS_TEST_DIRNAME}/../.." && pwd)
    kd=${root}/egs2/TEMPLATE/kd1/kd.sh
    recipe=${BATS_TEST_TMPDIR}/recipe
    mkdir -p "${recipe}/conf" "${recipe}/local" "${BATS_TEST_TMPDIR}/venv/bin"
    cd "${recipe}"
    touch conf/train_teacher.yaml conf/train_student.yaml conf/decode.yaml
    printf 'base: train_student.yaml\nteacher: espnet\n' >conf/train_kd.yaml
    printf '#!/usr/bin/env bash\necho "data.sh $*" >>calls\nmkdir -p data/train data/valid data/test
for s in train valid test; do printf "a 1\\nb 2\\n" | tee data/$s/wav.scp >data/$s/text; done\n' >local/data.sh
    chmod +x local/data.sh
    sets=(--train_set train --valid_set valid --test_sets test
        --distill_configs "conf/train_student.yaml conf/train_kd.yaml")
    REAL_PYTHON=$(python3 -c 'import sys; print(sys.executable)')
    export REAL_PYTHON KD_VENV=${BATS_TEST_TMPDIR}/venv
}

# Puts a `python3` in place that keeps its arguments in `calls`, and fails where they match the pattern in FAIL.
pretend_python() {
    cat >"${KD_VENV}/bin/python3" <<'PYTHON'
#!/usr/bin/env bash
case "$*" in
    */utils/run.py*) exec "${REAL_PYTHON}" "$@" ;;
    */check_env.py*) exit 0 ;;
esac
echo "$*" >>calls
[[ -z ${FAIL:-} || "$*" != *${FAIL}* ]]
PYTHON
    chmod +x "${KD_VENV}/bin/python3"
}

# A negated command would not fail a test.
refute() {
    if "$@"; then return 1; fi
}

stages_of() {
    sed -nE 's/.*Stage ([0-9]): .*/\1/p' <<<"$1" | paste -sd ' '
}

@test "--help lists every option with its default and needs no environment" {
    run "${kd}" --help
    [ "${status}" -eq 0 ]
    [[ "${output}" =~ --stop_stage\ +10000 ]]
    [[ "${output}" =~ --inference_asr_model\ +valid.loss_transducer.ave.pth ]]
    for option in $(sed -nE '/^COMMAND_LINE/q; s/^([a-z_]+)=.*/\1/p' "${kd}"); do
        [[ "${output}" == *"--${option} "* ]]
    done
}

@test "it stays a file that one reads in one sitting" {
    [ "$(wc -l <"${kd}")" -le 350 ]
    refute grep -nE '\beval\b' "${kd}" "${root}"/utils/*.sh
}

@test "an unknown option ends with status 1" {
    run "${kd}" "${sets[@]}" --foo 1
    [ "${status}" -eq 1 ]
    [ "${output}" = "kd.sh: invalid option --foo" ]
}

@test "a stage names what an earlier one has not made" {
    call='. "$1/utils/once.sh"; . "$1/egs2/TEMPLATE/kd1/run_stages.sh"; number=6; need "4 or 5" conf/decode.yaml exp/asr_none/x.pth'
    run bash -c "dry_run=false; ${call}" kd.sh "${root}"
    [ "${status}" -eq 1 ]
    [ "${output}" = "kd.sh: stage 6 needs exp/asr_none/x.pth, which is not there: run stage 4 or 5 first" ]
    run bash -c "dry_run=true; ${call}" kd.sh "${root}"
    [ "${status}" -eq 0 ]
}

@test "an option of local/data.sh is told where to go" {
    mkdir -p local && printf 'corpus=""  # where it lies\n' >local/data.sh
    run "${kd}" "${sets[@]}" --corpus here
    [ "${status}" -eq 1 ]
    [ "${output}" = 'kd.sh: invalid option --corpus, it is one of local/data.sh: --local_data_opts "--corpus ..."' ]
}

@test "a word that is no option is named, with status 2" {
    run "${kd}" "${sets[@]}" train
    [ "${status}" -eq 2 ]
    [[ "${output}" == *": 'train' is no option: they are written --name value"* ]]
}

@test "a missing set, a wrong number and a missing config are named" {
    run "${kd}" --train_set train --dry_run true
    [ "${status}" -eq 1 ]
    [ "${output}" = "kd.sh: --valid_set is not set" ]
    run "${kd}" "${sets[@]}" --nj many
    [ "${output}" = "kd.sh: --nj many: expected a number from 1" ]
    for given in "--nj 0|--nj 0: expected a number from 1" "--nbpe many|--nbpe many: expected a number from 1" \
        "--seeds 1,2|--seeds '1,2': expected numbers with blanks between them" \
        "--skip_stages 4,5|--skip_stages '4,5': expected numbers with blanks between them" \
        "--stage 5 --stop_stage 2|--stage 5 --stop_stage 2: no stage is left to run" "--stage 12|--stage 12: the last one is 8"; do
        read -ra wrong <<<"${given%|*}"
        run "${kd}" "${sets[@]}" "${wrong[@]}"
        [ "${status}" -eq 1 ]
        [ "${output}" = "kd.sh: ${given#*|}" ]
    done
    run "${kd}" "${sets[@]}" --teacher_config conf/none.yaml
    [ "${output}" = "kd.sh: no such file: ${recipe}/conf/none.yaml" ]
    echo "base: gone.yaml" >conf/train_kd.yaml
    run "${kd}" "${sets[@]}"
    [ "${output}" = "kd.sh: no such file: ${recipe}/conf/gone.yaml, the base of conf/train_kd.yaml" ]
    echo "base: ../conf/train_kd.yaml" >conf/train_kd.yaml
    run timeout 20 "${kd}" "${sets[@]}" --dry_run true --stage 5 --stop_stage 5
    [ "${status}" -eq 0 ]
}

@test "a dry run lists the commands of all stages and makes nothing" {
    before=$(find . | sort)
    run "${kd}" "${sets[@]}" --dry_run true --seeds "1 2"
    [ "${status}" -eq 0 ]
    [ "$(stages_of "${output}")" = "1 2 3 4 5 6 7 8" ]
    for command in data.sh format_audio make_tokens check_labels asr_train decode stream score report bin.pack; do
        [[ "${output}" == *"${command}"* ]]
    done
    [ "$(grep -c -- '--seed 2' <<<"${output}")" -eq 3 ]
    [ "$(find . | sort)" = "${before}" ]
}

@test "only configs with an ESPnet2 teacher get one, of their own seed" {
    run "${kd}" "${sets[@]}" --dry_run true --seeds "1 2" --stage 5 --stop_stage 5
    [ "$(grep -c 'asr_train_kd_seed. .*--teacher_conf' <<<"${output}")" -eq 2 ]
    [[ "$(grep 'train_kd_seed2' <<<"${output}")" == *"exp=exp/asr_train_teacher_seed2"* ]]
    [[ "$(grep -E 'asr_train.*train_student_seed' <<<"${output}")" != *teacher_conf* ]]
    printf 'base: train_kd.yaml\n' >conf/train_more.yaml
    printf 'base: train_kd.yaml  # as that one\nteacher: dual\n' >conf/train_dual.yaml
    run "${kd}" "${sets[@]}" --dry_run true --stage 5 --stop_stage 5 \
        --distill_configs "conf/train_more.yaml conf/train_dual.yaml"
    [[ "$(grep 'train_more_seed1' <<<"${output}")" == *"exp=exp/asr_train_teacher_seed1"* ]]
    [[ "$(grep 'train_dual_seed1' <<<"${output}")" != *teacher_conf* ]]
    printf 'base: train_kd.yaml\nteacher_conf: {exp: zoo/model, input: same}\n' >conf/train_zoo.yaml
    printf 'teacher: espnet\nteacher_conf:\n  # one of ours\n  exp: /models/big.zip\nkd_terms: []\n' >conf/train_zip.yaml
    printf 'base: train_kd.yaml\nteacher_conf: {input: same}\nencoder_conf: {exp: 1}\n' >conf/train_same.yaml
    run "${kd}" "${sets[@]}" --dry_run true --stage 5 --stop_stage 5 \
        --distill_configs "conf/train_zoo.yaml conf/train_zip.yaml conf/train_same.yaml"
    [[ "$(grep -E 'train_(zoo|zip)_seed1' <<<"${output}")" != *"exp=exp/asr_train_teacher"* ]]
    [[ "$(grep 'train_same_seed1' <<<"${output}")" == *"exp=exp/asr_train_teacher_seed1"* ]]
    refute grep 'checkpoint=' <<<"${output}"
    # What a comment says is not given.
    printf 'base: train_kd.yaml\nteacher_conf:\n  # exp: zoo/model, checkpoint: 3epoch.pth\n  input: same\n' >conf/train_note.yaml
    printf 'base: train_kd.yaml\nteacher_conf: {checkpoint: 3epoch.pth}\n' >conf/train_third.yaml
    run "${kd}" "${sets[@]}" --dry_run true --stage 5 --stop_stage 5 --inference_asr_model valid.acc.ave.pth \
        --distill_configs "conf/train_note.yaml conf/train_third.yaml"
    [[ "$(grep 'train_note_seed1' <<<"${output}")" == *"exp=exp/asr_train_teacher_seed1"*"checkpoint=valid.acc.ave.pth"* ]]
    [[ "$(grep 'train_third_seed1' <<<"${output}")" != *"checkpoint="* ]]
}

@test "all configs are rehearsed before the first training" {
    for first in 4 5; do
        run "${kd}" "${sets[@]}" --dry_run true --stage "${first}" --unlabelled_set wild
        [[ "$(grep -nm 1 bin.rehearse <<<"${output}" | cut -d: -f1)" -lt "$(grep -nm 1 bin.asr_train <<<"${output}" | cut -d: -f1)" ]]
        line=$(grep -m 1 bin.rehearse <<<"${output}")
        [[ "${line}" == *"--teacher_config conf/train_teacher.yaml --teacher_file valid.loss_transducer.ave.pth --inference_configs conf/decode.yaml --unlabelled_dir dump/raw/wild"* ]]
        [[ "${line}" == *"--configs conf/train_student.yaml conf/train_kd.yaml -- --output_dir exp/rehearsal"* ]]
        [[ "${line}" == *"dump/raw/wild/utt2num_samples"*"--normalize global_mvn"* ]]
    done
    run "${kd}" "${sets[@]}" --dry_run true --teacher_config "" --distill_configs conf/train_student.yaml --stage 5 --stop_stage 5
    [[ "$(grep bin.rehearse <<<"${output}")" != *teacher_config* ]]
}

@test "one teacher may teach the students of all seeds" {
    run "${kd}" "${sets[@]}" --dry_run true --seeds "1 2 3" --teacher_seed 2 --stage 4
    [ "$(grep -c 'asr_train .*--output_dir exp/asr_train_teacher_seed2 ' <<<"${output}")" -eq 1 ]
    refute grep -qE 'train_teacher_seed[13]' <<<"${output}"
    [ "$(grep -c 'asr_train_kd_seed. .*exp=exp/asr_train_teacher_seed2' <<<"${output}")" -eq 3 ]
    [[ "${output}" == *"--exp_dirs exp/asr_train_teacher_seed2\ exp/asr_train_student_seed1\ "* ]]
    run "${kd}" "${sets[@]}" --dry_run true --teacher_seed x
    [ "${output}" = "kd.sh: --teacher_seed x: expected a number" ]
}

@test "speech without transcripts goes to the students that ask for it" {
    printf 'base: train_kd.yaml\nunlabelled_ratio: 1.0\n' >conf/train_more.yaml
    more=(--distill_configs "conf/train_kd.yaml conf/train_more.yaml" --audio_format ark)
    run "${kd}" "${sets[@]}" "${more[@]}" --dry_run true
    [ "${status}" -eq 1 ]
    [ "${output}" = "kd.sh: conf/train_more.yaml: learns from speech without transcripts; give a set of it: --unlabelled_set" ]
    run "${kd}" "${sets[@]}" "${more[@]}" --dry_run true --unlabelled_set wild
    [ "${status}" -eq 0 ]
    [[ "${output}" == *"validate --no_text data/wild"* ]]
    [ "$(grep -c 'format_audio .* data/wild dump/raw/org/wild' <<<"${output}")" -eq 1 ]
    [ "$(grep -c 'filter .* dump/raw/org/wild dump/raw/wild' <<<"${output}")" -eq 1 ]
    refute grep -E '(check_labels|make_tokens|decode) .*wild' <<<"${output}"
    refute grep 'train_kd_seed1 .*unlabelled' <<<"${output}"
    line=$(grep 'asr_train_more_seed1 ' <<<"${output}" | grep asr_train)
    [[ "${line}" == *"unlabelled_data_path_and_name_and_type dump/raw/wild/wav.scp\\,speech\\,kaldi_ark"* ]]
    [[ "${line}" == *"--unlabelled_shape_file dump/raw/wild/utt2num_samples"* ]]
}

@test "configs that hear noise get one list of it, and the recipe does not ask for recordings where none does" {
    unset KD_DATA
    run "${kd}" "${sets[@]}" --dry_run true --stage 2 --stop_stage 2 --noises "white cafe"
    refute grep -qE 'noise_list|cafe' <<<"${output}"
    printf 'noise_scp: data/hum/wav.scp\n' >conf/train_student.yaml
    run "${kd}" "${sets[@]}" --dry_run true --stage 2 --stop_stage 2 --noises "white cafe hum=local"
    [[ "${output}" == *"No recordings of cafe: no folder noise_cafe in "* ]]
    [[ "$(grep noise_list <<<"${output}")" == "  python3 -m espnet2_kd.bin.noise_list --output data/hum white hum=local " ]]
    run "${kd}" "${sets[@]}" --noises ""
    [ "${status}" -eq 1 ]
    [ "${output}" = "kd.sh: conf/train_student.yaml: hears noise; say which: --noises white" ]
    mkdir -p data/hum && touch data/hum/wav.scp  # somebody's own
    run "${kd}" "${sets[@]}" --dry_run true --stage 2 --stop_stage 2 --noises ""
    [ "${status}" -eq 0 ]
    refute grep -q noise_list <<<"${output}"
}

@test "features are normalised by their statistics, unless the config says that they are not" {
    run "${kd}" "${sets[@]}" --dry_run true --stage 4 --stop_stage 5
    [ "$(grep -c 'asr_train .*--normalize global_mvn --normalize_conf stats_file=' <<<"${output}")" -eq 3 ]
    printf 'normalize: null  # samples\n' >conf/train_teacher.yaml
    run "${kd}" "${sets[@]}" --dry_run true --stage 4 --stop_stage 5
    refute grep -q -- --normalize <<<"${output}"
}

@test "speech that a program spoke is called so, whatever --score_opts says" {
    run "${kd}" "${sets[@]}" --dry_run true --stage 7 --stop_stage 8
    refute grep -q -- '--synthetic true' <<<"${output}"
    [ "$(grep -c -- '--synthetic false' <<<"${output}")" -eq 4 ]
    mkdir -p data && touch data/synthetic
    run "${kd}" "${sets[@]}" --dry_run true --stage 7 --stop_stage 8 --score_opts "--title mine"
    [ "$(grep -c -- '--synthetic true' <<<"${output}")" -eq 4 ]
    refute grep -q -- '--synthetic false' <<<"${output}"
}

@test "teachers are cached for the students that have one" {
    run "${kd}" "${sets[@]}" --dry_run true --stage 5 --stop_stage 5 --cache_teacher true
    [ "$(grep -c '^  cache_features' <<<"${output}")" -eq 1 ]
    [[ "${output}" == *"cache_features conf/train_kd.yaml exp/asr_train_kd_seed1 --teacher_exp exp/asr_train_teacher_seed1"* ]]
    [[ "$(grep -E 'asr_train .*train_kd_seed1 ' <<<"${output}")" == *"--teacher_cache exp/teacher_cache"* ]]
    [[ "$(grep -E 'asr_train .*train_student_seed1 ' <<<"${output}")" != *teacher_cache* ]]
}

@test "tokens may be the word pieces of a Hugging Face tokenizer" {
    run "${kd}" "${sets[@]}" --dry_run true --hf_model google-bert/bert-base-uncased --stop_stage 4
    [ "${status}" -eq 0 ]
    line=$(grep make_tokens <<<"${output}")
    [[ "${line}" == *"--token_type hugging_face "*"--hf_model google-bert/bert-base-uncased --hf_vocabulary seen"* ]]
    [[ "${line}" == *"--output_dir data/token_list/hugging_face_bert-base-uncased"* ]]
    line=$(grep 'asr_train .*train_teacher_seed1 ' <<<"${output}")
    [[ "${line}" == *"--token_type hugging_face --token_list data/token_list/hugging_face_bert-base-uncased/tokens.txt"* ]]
    [[ "${line}" == *"--bpemodel google-bert/bert-base-uncased"*text_shape.hugging_face* ]]
    run "${kd}" "${sets[@]}" --token_type hugging_face --dry_run true
    [ "${status}" -eq 1 ]
    [[ "${output}" == *"for word pieces of Hugging Face: --hf_model" ]]
}

@test "a language model is trained on the same tokens, and reports come for every inference config" {
    printf 'search: beam\nlm: exp/lm_train_lm\n' >conf/decode_lm.yaml
    printf 'lm: transformer\n' >conf/train_lm.yaml
    run "${kd}" "${sets[@]}" --dry_run true --lm_config conf/train_lm.yaml --report RESULTS_X.md \
        --inference_config "conf/decode.yaml conf/decode_lm.yaml"
    [ "${status}" -eq 0 ]
    [[ "${output}" == *"lm_text --text dump/raw/train/text --token_dir data/token_list/bpe_unigram30 --output_dir exp/lm_train_lm/train"* ]]
    [ "$(grep -c 'espnet2_kd.bin.lm_train --config conf/train_lm.yaml' <<<"${output}")" -eq 1 ]
    [ "$(grep -c 'bin.decode .*--config conf/decode_lm.yaml' <<<"${output}")" -eq 3 ]
    [[ "${output}" == *"--inference_tag decode_decode_lm_valid.loss_transducer.ave "*"--output RESULTS_X_decode_lm.md"*results_x_decode_lm.json* ]]
    [[ "${output}" == *"--output RESULTS_X.md"*results_x.json* ]]
    run "${kd}" "${sets[@]}" --dry_run true --stage 4 --stop_stage 4 --lm_config conf/train_lm.yaml --lm_train_text a.txt
    [[ "${output}" == *"lm_text --text a.txt --no_ids"* ]]
    run "${kd}" "${sets[@]}" --dry_run true --lm_config conf/none.yaml
    [ "${status}" -eq 1 ]
    [[ "${output}" == *"no such file: "*"conf/none.yaml" ]]
}

@test "jobs go where cmd_backend says, or through a driver of the user's own" {
    cmd_backend=slurm run "${kd}" "${sets[@]}" --dry_run true --seeds "1 2"
    [ "${status}" -eq 0 ]
    [ "$(grep -c 'run.py --backend slurm --save-seconds 120 --rotate --gpu 1' <<<"${output}")" -eq 6 ]
    [[ "$(grep -- '--collect_stats' <<<"${output}")" == *"run.py --backend slurm --pick failed\\,incomplete JOB=1:32 "* ]]
    [ "$(grep -c 'format_parts data/' <<<"${output}")" -eq 3 ]
    cmd_backend=slurm run "${kd}" "${sets[@]}" --dry_run true --num_nodes 2 --stage 4 --stop_stage 4
    [[ "${output}" == *" --num-nodes 2 --follow "*" srun python3 -m espnet2_kd.bin.asr_train "*"--multiprocessing_distributed true --dist_launcher slurm"* ]]
    run "${kd}" "${sets[@]}" --dry_run true --num_nodes 2
    [ "${status}" -eq 1 ]
    [[ "${output}" == *"set cmd_backend=slurm" ]]
    cmd_backend=lsf run "${kd}" "${sets[@]}" --dry_run true
    [ "${status}" -eq 1 ]
    [[ "${output}" == *"unknown cmd_backend 'lsf'; known: local slurm sge pbs ssh" ]]
    printf 'train_cmd="queue.pl --mem 4G"\ncuda_cmd=run.py\ndecode_cmd="retry.pl 2 queue.pl"\n' >cmd.sh
    run "${kd}" "${sets[@]}" --dry_run true
    [[ "$(grep -- '--collect_stats' <<<"${output}")" == *"run.py --driver queue.pl --mem 4G --pick "* ]]
    [[ "$(grep -m 1 'bin.decode ' <<<"${output}")" == *"run.py --driver retry.pl\\ 2\\ queue.pl --pick "* ]]
    [[ "$(grep -m 1 'train_teacher_seed1/train.log' <<<"${output}")" == *"  run.py --rotate "* ]]
}

@test "what is done here is not done again on a cluster, nor with another driver" {
    . "${root}/utils/log.sh"
    . "${root}/utils/once.sh"
    pass() { echo "$*" >>passed; }
    once made/.made -- pass run.py --rotate --gpu 1 x.log true
    once made/.made -- pass run.py --backend slurm --save-seconds 120 --rotate --gpu 0 x.log true --device cuda
    once made/.made -- pass run.py --backend slurm --mem 4G --rotate --gpu 0 x.log false
    [ "$(cat passed)" = "run.py --rotate --gpu 1 x.log true
run.py --backend slurm --mem 4G --rotate --gpu 0 x.log false" ]
}

@test "a comment in a config changes nothing, another value does" {
    . "${root}/utils/log.sh"
    . "${root}/utils/once.sh"
    pass() { echo "$*" >>passed; }
    printf 'lr: 1\n' >conf/x.yaml
    once made/.made conf/x.yaml -- pass a
    printf '# why\n\nlr: 1   # as the paper\n' >conf/x.yaml
    once made/.made conf/x.yaml -- pass b
    once made/.made conf/x.yaml -- pass a
    printf 'lr: 2\n' >conf/x.yaml
    once made/.made conf/x.yaml -- pass a
    [ "$(cat passed)" = "a
b
a
a" ]
}

@test "a value that a config and its base both give is read without an end by a signal" {
    . "${root}/utils/with_bases.sh"
    yes '# more' | head -n 20000 >conf/low.yaml
    printf 'teacher: espnet\n' >>conf/low.yaml
    printf 'base: low.yaml\nteacher: hf_text\n' >conf/high.yaml
    for n in 1 2 3 4 5; do
        run bash -c 'set -euo pipefail; . "$1"; value=$(value_of teacher conf/high.yaml); echo "${value}"' - "${root}/utils/with_bases.sh"
        [ "${status}" -eq 0 ]
        [ "${output}" = hf_text ]
    done
}

@test "a corrected label, or other audio behind the same path, is formatted again" {
    pretend_python
    run "${kd}" "${sets[@]}" --stop_stage 1
    [ "${status}" -eq 0 ]
    echo "a on" >data/train/label
    touch calls
    formatted() { run "${kd}" "${sets[@]}" --stage 2 --stop_stage 2; grep -c 'format_audio .* data/train ' calls; }
    [ "$(formatted)" = 1 ]
    [ "$(formatted)" = 1 ]
    echo "a off" >data/train/label
    [ "$(formatted)" = 2 ]
    sed -i 's#echo "$\*" >>calls#&; [[ "$*" != *"data_dir state"* ]] || date +%N#' "${KD_VENV}/bin/python3"
    [ "$(formatted)" = 3 ]
}

@test "the validation set may be a test set, with all of its utterances" {
    run "${kd}" --train_set train --valid_set valid --test_sets "valid test" --distill_configs conf/train_student.yaml --dry_run true
    [ "${status}" -eq 0 ]
    [ "$(grep -c 'format_audio .* data/valid ' <<<"${output}")" -eq 1 ]
    [[ "$(grep 'bin.decode .*/valid/' <<<"${output}" | head -n 1)" == *"--data_dir dump/raw/org/valid/split"* ]]
    [[ "$(grep 'bin.score .*/valid ' <<<"${output}" | head -n 1)" == *"--ref dump/raw/org/valid/text"* ]]
    [[ "$(grep 'bin.decode .*/test/' <<<"${output}" | head -n 1)" == *"--data_dir dump/raw/test/split"* ]]
}

@test "a recipe may do without a teacher of its own" {
    printf 'teacher: hf_text\n' >conf/train_text.yaml
    text=(--teacher_config "" --distill_configs "conf/train_student.yaml conf/train_text.yaml" --dry_run true)
    run "${kd}" "${sets[@]}" "${text[@]}"
    [ "${status}" -eq 0 ]
    [ "$(stages_of "${output}")" = "1 2 3 4 5 6 7 8" ]
    [[ "${output}" != *train_teacher* ]]
    [[ "$(grep -- '--collect_stats' <<<"${output}")" == *"--config conf/train_student.yaml"* ]]
    [[ "$(grep 'bin.stream' <<<"${output}")" == *"--align_exp exp/asr_train_student_seed1"* ]]
    run "${kd}" "${sets[@]}" --teacher_config "" --dry_run true
    [ "${status}" -eq 1 ]
    [ "${output}" = "kd.sh: conf/train_kd.yaml: needs a teacher: --teacher_config" ]
}

@test "pseudo labels come from the teacher of the same seed, and join the training set" {
    printf 'base: train_student.yaml\npseudo_labels: 0.7\n' >conf/train_pseudo.yaml
    pseudo=(--distill_configs "conf/train_student.yaml conf/train_pseudo.yaml" --stage 5 --stop_stage 5 --dry_run true)
    run "${kd}" "${sets[@]}" "${pseudo[@]}"
    [ "${status}" -eq 1 ]
    run "${kd}" "${sets[@]}" "${pseudo[@]}" --unlabelled_set wild --seeds 2
    [ "${status}" -eq 0 ]
    heard=exp/asr_train_teacher_seed2/pseudo_labels/wild
    [ "$(grep -c "pseudo_label .*--data_dir dump/raw/wild --output_dir ${heard}" <<<"${output}")" -eq 1 ]
    [[ "${output}" == *"join_heard ${heard} 0.7 dump/raw/train exp/asr_train_pseudo_seed2/data"* ]]
    line=$(grep 'asr_train .*train_pseudo_seed2 ' <<<"${output}")
    for word in data/text\\,text\\,text data/wav.scp data/speech_shape data/text_shape.bpe; do
        [[ "${line}" == *"exp/asr_train_pseudo_seed2/${word}"* ]]
    done
    [[ "${line}" == *"stats_file=exp/asr_stats_raw_bpe_unigram30/train"* && "${line}" != *dump/raw/train/* ]]
    [[ "$(grep 'asr_train .*train_student_seed2 ' <<<"${output}")" == *dump/raw/train/text* ]]
}

@test "stages are chosen and skipped as ESPnet2's users do it" {
    run "${kd}" "${sets[@]}" --dry_run true --stage 3 --stop-stage 6
    [ "$(stages_of "${output}")" = "3 4 5 6" ]
    run "${kd}" "${sets[@]}" --dry_run true --skip_train true --skip_packing true
    [ "$(stages_of "${output}")" = "1 2 6 7" ]
    [[ "${output}" == *"Skipped stages: 3 4 5 8"* ]]
    run "${kd}" "${sets[@]}" --dry_run true --skip_data_prep true --skip_eval true --skip_stages "4"
    [ "$(stages_of "${output}")" = "3 5 8" ]
}

@test "log lines have ESPnet2's form" {
    run "${kd}" "${sets[@]}" --dry_run true --stage 7
    [[ "${lines[0]}" =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\ \(kd\.sh:[0-9]+:main\)\ Stage\ 7:\ score$ ]]
    [[ "${lines[-1]}" =~ Successfully\ finished\.\ \[elapsed=[0-9]+s\]$ ]]
}

@test "every run.sh works from any directory" {
    cd /
    for script in "${root}"/egs2/*/*1/run.sh; do
        run "${script}" --dry_run true --stage 7 --stop_stage 9
        [ "${status}" -eq 0 ]
        [[ "${output}" == *"espnet2_kd.bin.report"* ]]
    done
}

@test "no option is evaluated" {
    for option in $(sed -nE '/^COMMAND_LINE/q; s/^([a-z_]+)="?[^tf].*/\1/p' "${kd}"); do
        run "${kd}" "${sets[@]}" --dry_run true "--${option}" '$(touch hit)`touch hit`'
        [ ! -e hit ]
    done
}

@test "without the environment it says how to make it" {
    run env PATH=/usr/bin:/bin "${kd}" "${sets[@]}" --stage 3 --stop_stage 3
    [ "${status}" -eq 1 ]
    [[ "${output}" == *"make setup"* ]]
}

@test "a finished stage is not run again, unless its inputs or its command change" {
    pretend_python
    run "${kd}" "${sets[@]}" --stage 1 --stop_stage 2
    [ "${status}" -eq 0 ]
    grep -q '^data.sh' calls
    grep -q format_audio calls
    # make_tokens refuses a directory that holds anything but a token list
    [ ! -e data/token_list/bpe_unigram30 ]
    : >calls
    run "${kd}" "${sets[@]}" --stage 1 --stop_stage 2 --nj 1
    refute grep -E 'data.sh|format_audio|make_tokens|check_labels' calls
    [[ "${output}" == *"Done before: dump/raw/org/train"* ]]
    echo "c 3" >>data/test/wav.scp
    run "${kd}" "${sets[@]}" --stage 1 --stop_stage 2
    [ "$(grep -c format_audio calls)" -eq 1 ]
    : >calls
    run "${kd}" "${sets[@]}" --stage 1 --stop_stage 2 --fs 8k
    [ "$(grep -c format_audio calls)" -eq 3 ]
}

@test "data is made again when a table that it was imported from has changed" {
    pretend_python
    echo a >corpus.tsv
    printf '%s\n' 'printf "%s\n" "${PWD}/corpus.tsv" >data/.sources' >>local/data.sh
    run "${kd}" "${sets[@]}" --stage 1 --stop_stage 1
    run "${kd}" "${sets[@]}" --stage 1 --stop_stage 1
    [ "$(grep -c '^data.sh' calls)" -eq 1 ]
    touch -d '+2 seconds' corpus.tsv
    run "${kd}" "${sets[@]}" --stage 1 --stop_stage 1
    [ "${status}" -eq 0 ]
    [ "$(grep -c '^data.sh' calls)" -eq 2 ]
}

@test "of two runs at the same time, one makes the data and the other waits for it" {
    pretend_python
    mkdir data
    flock data/.done.lock sleep 2 3>&- &
    while flock --nonblock data/.done.lock true; do sleep 0.05; done
    run "${kd}" "${sets[@]}" --stage 1 --stop_stage 1
    [ "${status}" -eq 0 ]
    [[ "${output}" == *"Waiting for another run: data"* ]]
    run "${kd}" "${sets[@]}" --stage 1 --stop_stage 1
    [[ "${output}" != *"Waiting"* ]]
    [ "$(grep -c '^data.sh' calls)" -eq 1 ]
}

@test "a choice that does not exist is named before anything runs" {
    for choice in "token_type syllable" "bpemode word" "audio_format mp3"; do
        read -r name value <<<"${choice}"
        run "${kd}" "${sets[@]}" "--${name}" "${value}"
        [ "${status}" -eq 1 ]
        [[ "${output}" == "kd.sh: --${name} ${value}: expected "* ]]
    done
}

@test "a failed command ends the run, and the next run takes up there" {
    pretend_python
    FAIL=make_tokens run "${kd}" "${sets[@]}" --stage 1 --stop_stage 2
    [ "${status}" -ne 0 ]
    [[ "${output}" != *"Successfully finished"* ]]
    : >calls
    run "${kd}" "${sets[@]}" --stage 1 --stop_stage 2
    [ "${status}" -eq 0 ]
    [[ "${lines[-2]}" =~ Stages\ took:\ data\ [0-9]+\ s,\ feats\ [0-9]+\ s$ ]]
    refute grep -q format_audio calls
    grep -q make_tokens calls
}

@test "an experiment keeps its command, and is not continued from another configuration" {
    pretend_python
    mkdir -p data/token_list/bpe_unigram30 dump/raw/{train,valid} exp/asr_stats_raw_bpe_unigram30/{train,valid}
    touch data/token_list/bpe_unigram30/tokens.txt dump/raw/{train,valid}/{wav.scp,text}
    touch exp/asr_stats_raw_bpe_unigram30/{train,valid}/{speech_shape,text_shape.bpe,feats_stats.npz}
    run "${kd}" "${sets[@]}" --stage 4 --stop_stage 4
    [ "${status}" -eq 0 ]
    grep -q -- '--stage 4' exp/asr_train_teacher_seed1/run.sh
    touch exp/asr_train_teacher_seed1/checkpoint.pth
    echo "max_epoch: 99" >conf/train_teacher.yaml
    run "${kd}" "${sets[@]}" --stage 4 --stop_stage 4
    [ "${status}" -eq 1 ]
    [[ "${output}" == *"conf/train_teacher.yaml"* ]]
    [[ "${output}" == *"exp/asr_train_teacher_seed1: trained from"*"--force_resume true"* ]]
    [[ "${output}" == *"+max_epoch: 99"* ]]
    [ "$(grep -c asr_train calls)" -eq 1 ]
    run "${kd}" "${sets[@]}" --stage 4 --stop_stage 4 --force_resume true
    [ "${status}" -eq 0 ]
    [ "$(grep -c 'asr_train .*--force_resume true' calls)" -eq 1 ]
    run "${kd}" "${sets[@]}" --stage 4 --stop_stage 4
    [ "${status}" -eq 0 ]
}
