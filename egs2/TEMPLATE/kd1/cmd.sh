# shellcheck shell=bash
# Where jobs run. Source it. A recipe that needs something else has a cmd.sh of its own: doc/clusters.md has examples.
# Call form: $train_cmd [--mem 4G] [--gpu N] [--num-threads N] [--max-jobs-run N] JOB=1:N log/x.JOB.log command arg...

cmd_backend=${cmd_backend:-local}  # local, slurm, sge, pbs or ssh; for one run: cmd_backend=slurm ./run.sh

case ${cmd_backend} in
    local)
        export train_cmd="run.py"   # data preparation, statistics
        export cuda_cmd="run.py"    # training
        export decode_cmd="run.py"  # decoding
        ;;
    slurm | sge | pbs | ssh)
        # What the options ask of the scheduler is said in conf/<backend>.conf of the recipe, or else of the template.
        export train_cmd="run.py --backend ${cmd_backend}"
        export cuda_cmd="run.py --backend ${cmd_backend} --save-seconds 120"  # so long before its time is up, a training saves
        export decode_cmd="run.py --backend ${cmd_backend}"
        ;;
    *)
        echo "cmd.sh: unknown cmd_backend '${cmd_backend}'; known: local slurm sge pbs ssh" >&2
        return 1
        ;;
esac
