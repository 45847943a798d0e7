# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the recipes' scripts: their stages, one after the other.

# is_local COMMAND: whether a command of cmd.sh runs its jobs on this machine.
is_local() {
    [[ $1 =~ ^([^ ]*/)?run\.(py|pl)( |$) && $1 != *" --driver "* ]] && [[ $1 != *" --backend "* || $1 == *" --backend local"* ]]
}

# set_commands: makes the arrays train_command, cuda_command and decode_command of what cmd.sh says. Drivers of Kaldi's
# kind, such as a user's queue.pl, know neither --pick nor --follow nor --rotate, so ours calls them.
set_commands() {
    local name word
    for name in train cuda decode; do
        local -n said=${name}_cmd command=${name}_command
        local -a words=() driver=()
        read -ra words <<<"${said}"
        command=("${words[@]}")
        [[ ${words[0]##*/} != run.py ]] || continue
        for word in "${words[@]}"; do
            [[ ${word} != -* ]] || break
            driver+=("${word}")
        done
        command=(run.py --driver "${driver[*]}" "${words[@]:${#driver[@]}}")
    done
}

# is_spoken: prints whether the test speech is synthetic: that of --synthetic is, where local/data.sh has left data/synthetic,
# and where --score_opts says so.
is_spoken() {
    if "${synthetic}" || [[ -f data/synthetic || " ${score_opts} " == *" --synthetic true "* ]]; then echo true; else echo false; fi
}

# need STAGE FILE...: fails unless the files are there that an earlier stage makes.
need() {
    local made_by=$1 file
    ! "${dry_run}" || return 0
    for file in "${@:2}"; do
        [[ -e ${file} ]] || fail "stage ${number} needs ${file}, which is not there: run stage ${made_by} first"
    done
}

# note_stage WORD...: adds what has become of the stage in hand to its file in ${expdir}/.stages, for espnet2_kd.bin.status.
note_stage() {
    [[ -z ${stage_file:-} ]] || printf '%s %s %s\n' "$(date +%s)" "$1" "${*:2}" >>"${stage_file}"
}

# begin_stage: makes that file, and holds it as long as the stage runs. A script within another's run writes none.
begin_stage() {
    stage_file=""
    "${dry_run}" || "${nested}" || {
        mkdir -p "${expdir}/.stages"
        printf '%s\n' "${STAGES[@]:1}" >"${expdir}/.stages/names"
        stage_file=${expdir}/.stages/${number}.stage
        [[ -z ${stage_lock:-} ]] || exec {stage_lock}>&-
        exec {stage_lock}>>"${stage_file}"
        ! flock --nonblock "${stage_lock}" || : >"${stage_file}"
    }
    note_stage begun "$(uname -n)" $$
}

# run_stages: calls stage_<number>_<name> for the numbers wanted of STAGES; what a stage adds to `closing` is shown last.
# Sets `number`, `cores` and `local_nj`, and where jobs run on this machine `nj`, `inference_nj` and `ngpu` to what it has.
run_stages() {
    local number began took="" local_nj nested=false
    stage_file="" stage_lock=""  # for the trap below, too
    [[ -z ${KD_RUN:-} ]] || nested=true
    local -a todo=()
    cores=$(env -u OMP_NUM_THREADS nproc)  # which otherwise takes that variable for the number of cores
    local_nj=$((nj < cores ? nj : cores))  # more processes than cores would only load the same program more often
    [[ -z ${skip_stages} ]] || log_depth=2 log "Skipped stages: ${skip_stages# }"
    for ((number = stage < 1 ? 1 : stage; number <= stop_stage && number < ${#STAGES[@]}; number++)); do
        [[ " ${skip_stages} " == *" ${number} "* ]] || todo+=("${number}")
    done
    if ! "${dry_run}"; then
        # Should this run be killed, what it has started is found by this mark in its environment, and its temporary files too.
        # What torch has compiled is to outlive it.
        export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-${TMPDIR:-/tmp}/torchinductor_$(id -un)}
        KD_RUN=$(mktemp -d "${TMPDIR:-/tmp}/kd.XXXXXX")
        export KD_RUN TMPDIR=${KD_RUN}
        trap 'ended=$?; ((ended == 0)) || note_stage failed "${ended}"; rm -rf -- "${KD_RUN}"' EXIT
        python3 -I "${KD_ROOT}/utils/warden.py" $$ </dev/null >/dev/null 2>&1 &
        python3 "${KD_ROOT}/tools/check_env.py" --quiet --stages "${ENV_STAGES:-${todo[*]}}"
        if is_local "${train_cmd}"; then
            nj=${local_nj}
            inference_nj=$((inference_nj < cores ? inference_nj : cores))
        fi
        if ((ngpu > 0)) && is_local "${cuda_cmd}" && ! nvidia-smi -L >/dev/null 2>&1; then
            log_depth=2 log "No GPU on this machine: training on the CPU"
            ngpu=0
        fi
    fi
    is_local "${cuda_cmd}" || cores=$((num_threads > 0 ? num_threads : 1))  # of a node
    for number in "${todo[@]}"; do
        log_depth=2 log "Stage ${number}: ${STAGES[number]}"
        began=${SECONDS}
        begin_stage
        "stage_${number}_${STAGES[number]}"
        note_stage "done" "$((SECONDS - began))"
        took+=", ${STAGES[number]} $((SECONDS - began)) s"
    done
    [[ -z ${stage_lock} ]] || exec {stage_lock}>&-
    stage_file=""
    [[ -z ${closing} ]] || printf '%s' "${closing}"  # at the end, where it is seen
    "${dry_run}" || ((${#todo[@]} < 2)) || log_depth=2 log "Stages took: ${took#, }"
    log_depth=2 log "Successfully finished. [elapsed=${SECONDS}s]"
}
