#!/usr/bin/env bash
# Streaming recognition of English read by Mandarin speakers (speechocean762), distilled from a full-context teacher.
# Usage: run.sh [--option value]...   (all options: run.sh --help; corpus elsewhere: --local_data_opts "--corpus DIR")
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../../TEMPLATE/kd1/kd.sh \
    --lang en \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    --token_type bpe \
    --nbpe 100 \
    --speed_perturb_factors "0.9 1.0 1.1" \
    --seeds "1" \
    --teacher_config conf/train_teacher.yaml \
    --distill_configs "conf/train_student_nokd.yaml conf/train_kd_token.yaml conf/train_kd_aux30_init.yaml" \
    --inference_config conf/decode.yaml \
    "$@"
