#!/usr/bin/env bash
# Kaldi's name for: python -m espnet2_kd.bin.data_dir combine
# Usage: utils/combine_data.sh <target-data-dir> <source-data-dir> [<source-data-dir> ...]
set -euo pipefail
exec "${PYTHON:-python3}" -m espnet2_kd.bin.data_dir combine "$@"
