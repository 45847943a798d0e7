#!/usr/bin/env bash
# A CIF recogniser for Mandarin words in a row, one speaker, characters as tokens: real speech for the length of CIF's output.
# Usage: run.sh [--option value]...   (all options: run.sh --help; corpus elsewhere: --local_data_opts "--corpus DIR")
# Taught by BERT, which comes from the Hugging Face hub:
#   run.sh --cache_teacher true \
#       --distill_configs "conf/train_cif.yaml conf/train_cif_acd.yaml conf/train_cif_lrd.yaml conf/train_cif_hkd.yaml"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../../TEMPLATE/kd1/kd.sh \
    --lang zh \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    --token_type char \
    --speed_perturb_factors "0.9 1.0 1.1" \
    --num_threads 1 \
    --teacher_config "" \
    --distill_configs "conf/train_cif.yaml" \
    --inference_config conf/decode_cif.yaml \
    --inference_asr_model valid.acc.ave.pth \
    "$@"
