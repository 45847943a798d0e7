#!/usr/bin/env bash
# 64 intents of requests to a home assistant, by a speech transformer that learned from MiniLM; synthetic speech.
# Usage: run.sh [--option value]...   (all options: run.sh --help)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [[ " $* " != *" --help "* ]]; then
    . ../../TEMPLATE/kd1/minilm.sh
fi

exec ../../TEMPLATE/slu1/slu.sh \
    --lang en \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    --token_type bpe \
    --nbpe 400 \
    --speed_perturb_factors "0.9 1.0 1.1" \
    --num_threads 1 \
    --seeds "1 2 3 4 5" \
    --slow_rate 2 \
    --acoustic_model valid.loss_transducer.ave.pth \
    --text_model downloads/minilm \
    --intent_configs "conf/train_none.yaml conf/train_gru.yaml conf/train_std_hidden.yaml conf/train_std.yaml conf/train_std_interpolate.yaml conf/train_std_token_pool.yaml conf/train_sentence.yaml" \
    --score_opts "--title nlu_home" \
    "$@"
