import numpy as np
import pytest
import torch

NAME = "valid.loss_transducer.ave.pth"


def test_words_end_with_their_last_letter(tiny_experiment):
    from espnet2_kd.asr.alignment import align
    from espnet2_kd.asr.load import ExperimentError, load_model
    from espnet2_kd.asr.word_times import WordAligner

    exp = tiny_experiment("asr_word_times", encoder_conf={})
    samples = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    words, ends = WordAligner.load(exp, NAME, 16000).word_ends(samples, "abc de f")
    model, args = load_model(exp, NAME)
    tokens = [args.token_list.index(token) for token in ["a", "b", "c", "<space>", "d", "e", "<space>", "f"]]
    frames = align(model, torch.from_numpy(samples), tokens).frames
    assert words == ["abc", "de", "f"]
    assert ends == [(frames[i] + 1) * 40.0 for i in (2, 5, 7)]
    with pytest.raises(ValueError, match="need"):
        WordAligner.load(exp, NAME, 16000).word_ends(samples, "abcdefg " * 10)
    with pytest.raises(ExperimentError, match="16000 Hz and cannot align audio at 8000 Hz"):
        WordAligner.load(exp, NAME, 8000)
