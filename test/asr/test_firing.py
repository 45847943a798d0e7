"""What the pictures of a CIF recogniser show is what decoding does."""

import pytest
import torch

from espnet2_kd.asr.firing import firings
from espnet2_kd.asr.search import build_search


def test_firings(cif_model):
    model = cif_model()
    speech, lens = torch.randn(2, 16000, generator=torch.Generator().manual_seed(1)), torch.tensor([16000, 9000])
    enc, enc_lens = model.encode(speech, lens)
    best = [nbest[0] for nbest in build_search(model, "greedy").decode(enc, enc_lens.tolist())]
    for b, firing in enumerate(firings(model, speech, lens)):
        assert len(firing.alpha) == enc_lens[b] and len(firing.features) == (lens[b] - 512) // 160 + 1
        assert (firing.frame_ms, firing.feature_ms) == (40.0, 10.0)
        assert list(firing.tokens) == [model.token_list[token] for token in best[b].tokens]
        assert tuple(firing.fires[: len(firing.tokens)]) == best[b].frames
        # By definition: the weights up to the frame of a fire make the token up, those before it do not.
        for number, frame in enumerate(firing.fires, start=1):
            if number <= int(sum(firing.alpha)):
                assert sum(firing.alpha[:frame]) < number <= sum(firing.alpha[: frame + 1]) + 1e-6
        assert sum(firing.alpha) == pytest.approx(float(model.cif(enc, enc_lens).mass[b]), abs=1e-5)
