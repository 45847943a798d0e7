#!/usr/bin/env bash
# Kaldi's name for: python -m espnet2_kd.bin.data_dir validate
# Usage: utils/validate_data_dir.sh [--no-text] [--no-wav] [--no-feats] [--no-spk-sort] [--non-print] <data-dir>
set -euo pipefail

options=()
for word in "$@"; do
    case "${word}" in
        # We keep no feats.scp, never insist on speaker order, and take any printable text.
        --no-feats | --no-spk-sort | --non-print) ;;
        *) options+=("${word}") ;;
    esac
done
exec "${PYTHON:-python3}" -m espnet2_kd.bin.data_dir validate "${options[@]}"
