#!/usr/bin/env bash
# Streaming recognition of connected digits (FSDD, unseen speakers), distilled from a full-context teacher.
# Usage: run.sh [--option value]...   (all options: run.sh --help; corpus elsewhere: --local_data_opts "--corpus DIR")
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../../TEMPLATE/kd1/kd.sh \
    --lang en \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    --token_type word \
    --speed_perturb_factors "0.8 0.9 1.0 1.1 1.2" \
    --seeds "1 2 3" \
    --teacher_config conf/train_teacher.yaml \
    --distill_configs "conf/train_student_nokd.yaml conf/train_kd_token.yaml conf/train_kd_aux.yaml" \
    --inference_config conf/decode.yaml \
    "$@"
