#!/usr/bin/env bash
# Stage 1: speaks the texts of NLU-Evaluation-Data with espeak-ng and writes data/train, data/valid and data/test.
# Usage: local/data.sh [--texts DIR] [--num_train 8000] [--num_valid 1000] [--num_test 1000] [--num_unlabelled 0] [--seed 1] [--nj N] [--synthetic true]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. "${KD_ROOT:-../../..}/egs2/TEMPLATE/kd1/path.sh"

exec python local/prepare.py "$@"
