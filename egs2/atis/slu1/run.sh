#!/usr/bin/env bash
# Intents of ATIS, by a speech transformer that learned from BERT (Jiang et al., Interspeech 2021).
# Usage: run.sh --local_data_opts "--corpus DIR" [--option value]...   (all options: run.sh --help; without: README.md)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

configs=()
for name in none gru std_hidden std std_interpolate std_token_pool sentence official_code; do
    configs+=("conf/train_${name}.yaml")
done

exec ../../TEMPLATE/slu1/slu.sh \
    --lang en \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    --token_type bpe \
    --nbpe 100 \
    --seeds "1 2 3 4 5" \
    --slow_rate 2 \
    --acoustic_model valid.loss_transducer.ave.pth \
    --text_model google-bert/bert-base-uncased \
    --intent_configs "${configs[*]}" \
    --score_opts "--title ATIS" \
    "$@"
