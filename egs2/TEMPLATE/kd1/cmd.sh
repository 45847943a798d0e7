# shellcheck shell=bash
# Where jobs run. Source it. A recipe that needs another place has a cmd.sh of its own.
# Call form: $train_cmd [--mem 4G] [--gpu N] [--num-threads N] [--max-jobs-run N] JOB=1:N log/x.JOB.log command arg...

cmd_backend=local

case ${cmd_backend} in
    local)
        export train_cmd="run.py"   # data preparation, statistics
        export cuda_cmd="run.py"    # training
        export decode_cmd="run.py"  # decoding
        ;;
    *)
        echo "cmd.sh: unknown cmd_backend '${cmd_backend}'; known: local" >&2
        return 1
        ;;
esac
