#!/usr/bin/env bash
# A streaming Conformer-Transducer for a home assistant, distilled from a full-context teacher; synthetic speech.
# Usage: run.sh [--option value]...   (all options: run.sh --help; about a quarter of an hour on two CPU cores)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../../TEMPLATE/kd1/kd.sh \
    --lang en \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    --token_type bpe \
    --nbpe 100 \
    --speed_perturb_factors "" \
    --seeds "1" \
    --teacher_config conf/train_teacher.yaml \
    --distill_configs "conf/train_student_nokd.yaml conf/train_kd_aux.yaml" \
    --inference_config conf/decode.yaml \
    --num_threads 1 \
    "$@"
