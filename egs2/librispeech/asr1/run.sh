#!/usr/bin/env bash
# Streaming distillation on LibriSpeech, every row of Shim et al. (Interspeech 2023).
# Usage: run.sh [--subset 960|clean_100] [--option value]...   (all options: run.sh --help)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export LIBRISPEECH_SUBSET=960  # local/data.sh reads it
if [[ ${1:-} == --subset ]]; then
    LIBRISPEECH_SUBSET=${2:?--subset: 960 or clean_100}
    shift 2
fi

exec ../../TEMPLATE/kd1/kd.sh \
    --lang en \
    --train_set "train_${LIBRISPEECH_SUBSET}" \
    --valid_set dev \
    --test_sets "test_clean test_other" \
    --token_type bpe \
    --nbpe 1000 \
    --speed_perturb_factors "0.9 1.0 1.1" \
    --max_wav_duration 30 \
    --teacher_config conf/train_teacher_full.yaml \
    --distill_configs "conf/train_student_stream.yaml conf/train_aux_all.yaml" \
    --inference_config conf/decode.yaml \
    "$@"
