#!/usr/bin/env bash
# A CIF recogniser for Mandarin (AISHELL-1), taught by BERT on two levels: the four rows of HieraDist (Interspeech 2023).
# Usage: run.sh [--option value]...   (all options: run.sh --help; corpus elsewhere: --local_data_opts "--corpus DIR")
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../../TEMPLATE/kd1/kd.sh \
    --lang zh \
    --train_set train \
    --valid_set dev \
    --test_sets "dev test" \
    --token_type char \
    --speed_perturb_factors "" \
    --teacher_config "" \
    --distill_configs "conf/train_cif.yaml conf/train_cif_acd.yaml conf/train_cif_lrd.yaml conf/train_cif_hkd.yaml" \
    --lm_config conf/train_lm.yaml \
    --inference_config "conf/decode.yaml conf/decode_lm.yaml" \
    --inference_asr_model valid.acc.ave.pth \
    "$@"
