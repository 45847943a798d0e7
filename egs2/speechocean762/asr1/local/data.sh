#!/usr/bin/env bash
# Stage 1: finds or downloads speechocean762 and writes data/train, data/valid and data/test.
# Usage: local/data.sh [--corpus DIR] [--arctic true] [--libri true] [--libri_unlabelled true] [--hidden SHARE] [--spoken N] [--synthetic true]   (details: README.md)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. "${KD_ROOT:-../../..}/egs2/TEMPLATE/kd1/path.sh"

exec python local/prepare.py "$@"
