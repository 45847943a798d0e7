#!/usr/bin/env bash
# Kaldi's name for: python -m espnet2_kd.bin.data_dir subset
# Usage: utils/subset_data_dir.sh [--first|--last|--shortest|--speakers|--per-spk] <source> <num> <target>
#    or: utils/subset_data_dir.sh [--utt-list <file>|--spk-list <file>] <source> <target>
set -euo pipefail
exec "${PYTHON:-python3}" -m espnet2_kd.bin.data_dir subset "$@"
