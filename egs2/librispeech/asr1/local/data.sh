#!/usr/bin/env bash
# Stage 1: finds or downloads LibriSpeech and writes data/train_<subset>, data/dev, data/test_clean and data/test_other.
# Usage: local/data.sh [--corpus DIR] [--subset 960|clean_100] [--synthetic true]   (details: README.md)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. "${KD_ROOT:-../../..}/egs2/TEMPLATE/kd1/path.sh"

exec python local/prepare.py "$@"
