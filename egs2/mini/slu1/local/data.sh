#!/usr/bin/env bash
# Stage 1: speaks the mini corpus with espeak-ng into downloads/mini and writes data/train, data/valid and data/test.
# Usage: local/data.sh [--num_train 2600] [--num_valid 200] [--num_test 300] [--seed 1] [--nj N] [--synthetic true]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. "${KD_ROOT:-../../..}/egs2/TEMPLATE/kd1/path.sh"

exec python local/prepare.py "$@"
