#!/usr/bin/env bash
# Kaldi's name for: python -m espnet2_kd.bin.data_dir split
# Usage: utils/split_data.sh [--per-utt] <data-dir> <num>    (always per utterance: <data-dir>/split<num>utt/<n>)
set -euo pipefail
if [[ "${1:-}" == --per-utt ]]; then
    shift
fi
if (($# != 2)); then
    echo "Usage: ${0} [--per-utt] <data-dir> <num>" >&2
    exit 1
fi
exec "${PYTHON:-python3}" -m espnet2_kd.bin.data_dir split --num "$2" "$1"
