#!/usr/bin/env bash
# Intents of a home assistant, by a speech transformer that learned from MiniLM; synthetic speech.
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
    --nbpe 100 \
    --num_threads 1 \
    --seeds "1" \
    --slow_rate 2 \
    --acoustic_model valid.loss_transducer.ave.pth \
    --noises "white" \
    --snrs "10 5" \
    --text_model downloads/minilm \
    --intent_configs "conf/train_none.yaml conf/train_gru.yaml conf/train_std_hidden.yaml conf/train_std.yaml" \
    --score_opts "--title mini" \
    "$@"
