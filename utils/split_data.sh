#!/usr/bin/env bash
# Kaldi's name for: python -m espnet2_kd.bin.data_dir split
# Usage: utils/split_data.sh [--per-utt] <data-dir> <num>    (always per utterance: <data-dir>/split<num>utt/<n>)
set -euo pipefail
if [[ "${1:-}" == --per-utt ]]; then
    shift
fi
exec "${PYTHON:-python3}" -m espnet2_kd.bin.data_dir split "$@"
