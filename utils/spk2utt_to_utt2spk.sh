#!/usr/bin/env bash
# Print utt2spk made from spk2utt, read from a file or from standard input.
# Usage: utils/spk2utt_to_utt2spk.sh <spk2utt> > <utt2spk>    or: ... | utils/spk2utt_to_utt2spk.sh > <utt2spk>
set -euo pipefail
exec "${PYTHON:-python3}" -m espnet2_kd.bin.data_dir utt2spk "${1:-/dev/stdin}"
