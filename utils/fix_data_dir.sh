#!/usr/bin/env bash
# Kaldi's name for: python -m espnet2_kd.bin.data_dir fix
# Usage: utils/fix_data_dir.sh [--normalise] <data-dir>
set -euo pipefail
exec "${PYTHON:-python3}" -m espnet2_kd.bin.data_dir fix "$@"
