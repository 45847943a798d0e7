# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the recipes' scripts: their stages, one after the other.

# run_stages: calls stage_<number>_<name> for the numbers wanted of STAGES; what a stage adds to `closing` is shown last.
# Sets `number`, `cores`, and on this machine `nj`, `inference_nj` and `ngpu` to what it has.
run_stages() {
    local number began took=""
    local -a todo=()
    cores=$(env -u OMP_NUM_THREADS nproc)  # which otherwise takes that variable for the number of cores
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
        trap 'rm -rf -- "${KD_RUN}"' EXIT
        python3 -I "${KD_ROOT}/utils/warden.py" $$ </dev/null >/dev/null 2>&1 &
        python3 "${KD_ROOT}/tools/check_env.py" --quiet --stages "${ENV_STAGES:-${todo[*]}}"
        if [[ ${train_cmd} == run.py* ]]; then
            # More jobs than cores would only load the same program more often.
            nj=$((nj < cores ? nj : cores))
            inference_nj=$((inference_nj < cores ? inference_nj : cores))
        fi
        if ((ngpu > 0)) && [[ ${cuda_cmd} == run.py* ]] && ! nvidia-smi -L >/dev/null 2>&1; then
            log_depth=2 log "No GPU on this machine: training on the CPU"
            ngpu=0
        fi
    fi
    for number in "${todo[@]}"; do
        log_depth=2 log "Stage ${number}: ${STAGES[number]}"
        began=${SECONDS}
        "stage_${number}_${STAGES[number]}"
        took+=", ${STAGES[number]} $((SECONDS - began)) s"
    done
    [[ -z ${closing} ]] || printf '%s' "${closing}"  # at the end, where it is seen
    "${dry_run}" || ((${#todo[@]} < 2)) || log_depth=2 log "Stages took: ${took#, }"
    log_depth=2 log "Successfully finished. [elapsed=${SECONDS}s]"
}
