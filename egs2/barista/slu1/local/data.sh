#!/usr/bin/env bash
# Stage 1: finds the recorded coffee orders and writes data/train, data/valid, data/test and data/local/sentences.tsv.
# Usage: local/data.sh [--corpus DIR] [--num_sentences 5000] [--num_unlabelled 0] [--nj N] [--synthetic true]   (details: README.md)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. "${KD_ROOT:-../../..}/egs2/TEMPLATE/kd1/path.sh"

exec python local/prepare.py "$@"
