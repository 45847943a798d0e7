#!/usr/bin/env bash
# A CIF recogniser for a home assistant, taught by BERT (MiniLM) on two levels: HieraDist's four rows; synthetic speech.
# Usage: run_cif.sh [--option value]...   (all options: run_cif.sh --help)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [[ " $* " != *" --help "* ]]; then
    . ../../TEMPLATE/kd1/minilm.sh
fi

exec ../../TEMPLATE/kd1/kd.sh \
    --lang en \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    --hf_model downloads/minilm \
    --speed_perturb_factors "" \
    --num_threads 1 \
    --seeds "1" \
    --teacher_config "" \
    --distill_configs "conf/train_cif.yaml conf/train_cif_acd.yaml conf/train_cif_lrd.yaml conf/train_cif_hkd.yaml" \
    --cache_teacher true \
    --inference_config conf/decode_cif.yaml \
    --inference_asr_model valid.acc.ave.pth \
    --report RESULTS_cif.md \
    "$@"
