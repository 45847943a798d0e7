#!/usr/bin/env bash
# Stage 1: finds or downloads Fluent Speech Commands and writes data/train, data/valid and data/test.
# Usage: local/data.sh [--corpus DIR] [--synthetic true]   (details: README.md)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. "${KD_ROOT:-../../..}/egs2/TEMPLATE/kd1/path.sh"

exec python local/prepare.py "$@"
