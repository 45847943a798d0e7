#!/usr/bin/env bash
# Print spk2utt made from utt2spk, read from a file or from standard input.
# Usage: utils/utt2spk_to_spk2utt.sh <utt2spk> > <spk2utt>    or: ... | utils/utt2spk_to_spk2utt.sh > <spk2utt>
set -euo pipefail
exec "${PYTHON:-python3}" -m espnet2_kd.bin.data_dir spk2utt "${1:-/dev/stdin}"
