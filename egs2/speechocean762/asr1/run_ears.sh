#!/usr/bin/env bash
# A recogniser with full context that also hears noise: its encoder is the ears of ../../barista/slu1.
# Usage: run_ears.sh [--option value]...   (all options: run_ears.sh --help)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ./run.sh --teacher_config conf/train_ears.yaml --distill_configs conf/train_ears.yaml --stop_stage 4 "$@"
