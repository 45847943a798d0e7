# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the recipes' scripts: trainings, one after the other or side by side. It calls `train CONFIG SEED TEACHER`.

# seeds_of CONFIG: with which seeds it is trained.
seeds_of() {
    if [[ -n ${teacher_seed} && $1 == "${teacher_config}" ]]; then
        printf '%s' "${teacher_seed}"
    else
        printf '%s' "${seeds}"
    fi
}

# spread_out: fills `machines`, for the job driver, `launcher`, and `processes`, the options of a training on several GPUs.
spread_out() {
    machines=() launcher=() processes=()
    ((ngpu < 2 && num_nodes < 2)) || processes=(--multiprocessing_distributed true)
    if ((num_nodes > 1)); then
        machines=(--num-nodes "${num_nodes}") launcher=(srun)
        processes+=(--dist_launcher slurm)
    fi
}

# require_slurm: fails where a training wants several machines and its jobs do not go through Slurm.
require_slurm() {
    ((num_nodes < 2)) || [[ " ${cuda_cmd} " == *" --backend slurm "* ]] ||
        fail "--num_nodes ${num_nodes}: trainings on several machines go through Slurm; set cmd_backend=slurm"
}

# train_all CONFIG...: trains every config with every seed. On a CPU they run side by side as far as the cores go, since
# one small model cannot keep several cores busy; on a cluster all of them do.
train_all() {
    local config seed teacher slots=1 running=0 failed=false
    if ! is_local "${cuda_cmd}"; then
        "${dry_run}" || slots=$(($# * ${#seed_list[@]}))
    elif ((ngpu == 0)); then
        slots=$((cores / (num_threads > 0 ? num_threads : 1)))
        slots=$((slots > $# * ${#seed_list[@]} ? $# * ${#seed_list[@]} : slots > 1 ? slots : 1))
    fi
    ((num_threads > 0)) || local num_threads=$((ngpu > 0 || cores < slots ? 1 : cores / slots))
    for config in "$@"; do
        for seed in $(seeds_of "${config}"); do
            teacher=""
            ! wants_teacher "${config}" || teacher=$(exp_of "${teacher_config}" "${teacher_seed:-${seed}}")
            log "${config}, seed ${seed}"
            if ((slots == 1)); then
                train "${config}" "${seed}" "${teacher}"
                continue
            fi
            if ((running == slots)); then
                wait -n || failed=true
                running=$((running - 1))
            fi
            train "${config}" "${seed}" "${teacher}" 2>&1 | sed -u "s|^|$(basename "${config}" .yaml) seed ${seed}: |" &
            running=$((running + 1))
        done
    done
    for ((; running > 0; running--)); do
        wait -n || failed=true
    done
    ! "${failed}" || fail "a training failed, see above; what the others did is kept"
}
