"""What a CIF recogniser does with an utterance, for looking at it."""

import torch

from espnet2_kd.asr.cif_search import CIFSearch
from espnet2_kd.asr.framing import encoder_frame_ms
from espnet2_kd.ops.cif import fire_frames
from espnet2_kd.report.cif_plots import Firing


@torch.no_grad()
def firings(model: torch.nn.Module, speech: torch.Tensor, lens: torch.Tensor) -> list[Firing]:
    """Look at utterances (B, N) with lens (B,) as decoding does; ``model`` is a ``CIFASRModel`` in evaluation mode."""
    feats, feat_lens = model._extract_feats(speech, lens)
    if model.normalize is not None:
        feats, feat_lens = model.normalize(feats, feat_lens)
    enc, enc_lens = model.encode(speech, lens)
    tokens = model.cif(enc, enc_lens)
    fires = fire_frames(tokens.alpha, enc_lens, tokens.lens, threshold=model.cif.threshold)
    best = [nbest[0] for nbest in CIFSearch(model).decode(enc, enc_lens.tolist())]
    frame_ms = encoder_frame_ms(model)
    feature_ms = getattr(model.frontend, "hop_length", 1) * 1000.0 / int(getattr(model.frontend, "fs", 16000))
    return [
        Firing(
            feats[b, : feat_lens[b]].cpu().numpy(),
            feature_ms,
            tokens.alpha[b, : enc_lens[b]].tolist(),
            frame_ms,
            fires[b, : tokens.lens[b]].tolist(),
            tuple(model.token_list[token] for token in best[b].tokens),
        )
        for b in range(len(speech))
    ]
