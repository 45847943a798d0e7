#!/usr/bin/env bash
# Coffee orders with six slots, by a speech transformer that learned from MiniLM; real recordings without transcripts.
# Usage: run.sh [--option value]...   (all options: run.sh --help; corpus elsewhere: --local_data_opts "--corpus DIR")
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [[ " $* " != *" --help "* ]]; then
    . ../../TEMPLATE/kd1/minilm.sh
fi

configs=()
for name in none gru std_hidden utterance std sentence; do
    configs+=("conf/train_${name}.yaml")
done

# Nothing is trained on the tokens. Of words there are never too many for the audio; of smaller ones, in a text that was
# not said, there may be.
exec ../../TEMPLATE/slu1/slu.sh \
    --lang en \
    --train_set train \
    --valid_set valid \
    --test_sets "test" \
    --token_type word \
    --num_threads 1 \
    --seeds "1 2 3 4 5" \
    --slow_rate 2 \
    --acoustic_exp ../../speechocean762/asr1/exp/asr_train_ears_seed1 \
    --acoustic_model valid.loss_transducer.ave.pth \
    --text_model downloads/minilm \
    --text_data data/local/sentences.tsv \
    --spoken_text false \
    --intent_configs "${configs[*]}" \
    --score_opts "--title barista" \
    "$@"
