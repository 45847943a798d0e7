#!/usr/bin/env bash
# Kaldi's name for: python -m espnet2_kd.bin.data_dir copy
# Usage: utils/copy_data_dir.sh [--utt-prefix <p>] [--spk-prefix <p>] <source> <target>
set -euo pipefail
exec "${PYTHON:-python3}" -m espnet2_kd.bin.data_dir copy "$@"
