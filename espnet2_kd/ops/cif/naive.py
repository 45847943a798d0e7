"""The definition of continuous integrate-and-fire (Dong and Xu, ICASSP 2020), as one would write it down: slow and exact."""

from __future__ import annotations

import torch
from torch import Tensor


def cif_fire_naive(
    h: Tensor,
    alpha: Tensor,
    lens: Tensor,
    *,
    num_tokens: Tensor | None = None,
    threshold: float = 1.0,
    tail: float | None = 0.5,
) -> tuple[Tensor, Tensor]:
    """See `cif_fire`, which gives the same for any size; here frame follows frame, in the precision of `h`.

    A frame's weight goes to the token that is being filled. Whenever that has got `threshold` it fires, and what is left of
    the weight goes to the next one: a frame can fire several tokens.
    """
    batch = []
    for b in range(len(h)):
        tokens: list[Tensor] = []
        token, before = h.new_zeros(h.shape[2]), alpha.new_zeros((), dtype=torch.float64)
        for t in range(int(lens[b])):
            # Sums since the start, not since the last fire: so no rounding adds up.
            after = before + alpha[b, t].double()
            while after >= (edge := (len(tokens) + 1) * threshold):
                if num_tokens is not None and len(tokens) >= int(num_tokens[b]) - 1:
                    break  # the last token takes all there is
                tokens.append(token + (edge - before).to(h.dtype) * h[b, t])
                token, before = torch.zeros_like(token), torch.full_like(before, edge)
            token = token + (after - before).to(h.dtype) * h[b, t]
            before = after
        if num_tokens is not None:
            tokens = [*tokens, token][: int(num_tokens[b])]
            tokens += [torch.zeros_like(token)] * (int(num_tokens[b]) - len(tokens))
        elif tail is not None and (residue := before - len(tokens) * threshold) > tail:
            tokens.append(token * (threshold / residue).to(h.dtype))
        batch.append(tokens)
    fired_lens = torch.tensor([len(tokens) for tokens in batch], device=h.device)
    fired = h.new_zeros(len(h), int(fired_lens.max()), h.shape[2])
    for b, tokens in enumerate(batch):
        if tokens:
            fired[b, : len(tokens)] = torch.stack(tokens)
    return fired, fired_lens
