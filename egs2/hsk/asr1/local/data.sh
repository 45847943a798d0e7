#!/usr/bin/env bash
# Stage 1: joins Mandarin words to strings in downloads/strings and writes data/train, data/valid and data/test.
# Usage: local/data.sh [--corpus DIR] [--nj N] [--synthetic true]   (without --corpus: see README.md)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. "${KD_ROOT:-../../..}/egs2/TEMPLATE/kd1/path.sh"

exec python local/prepare.py "$@"
