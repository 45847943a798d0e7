#!/usr/bin/env bash
# Stage 1: joins ATIS' public texts and intents with LDC's recordings, or speaks them, and writes data/train, data/valid and data/test.
# Usage: local/data.sh [--corpus DIR | --synthesize true | --synthetic true] [--texts DIR] [--num_intents N] [--multi_intent first]   (details: README.md)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. "${KD_ROOT:-../../..}/egs2/TEMPLATE/kd1/path.sh"

exec python local/prepare.py "$@"
