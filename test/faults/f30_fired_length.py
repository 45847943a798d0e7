"""F30: integrate-and-fire gives another number of tokens than the text has."""

import math
import random

import torch
from finding import Finding
from recipe import Recipe

STAGE = "5 distill"
NUM_UTTS, BATCH = 10_000, 100


def check(recipe: Recipe) -> Finding:
    """The rule: with a text, as many rows as it has tokens, whatever the weights; without, a fire per whole unit of weight and one
    more for a rest above a half. Counted here in exact arithmetic, from weights that are multiples of 1/64.
    """
    from espnet2_kd.layers.cif import CIF
    from espnet2_kd.ops.cif import cif_fire

    generator, torch_generator = random.Random(0), torch.Generator().manual_seed(0)
    layer, frames = CIF(4), 40
    for _ in range(NUM_UTTS // BATCH):
        lens = torch.tensor([generator.randint(1, frames) for _ in range(BATCH)])
        sixty_fourths = [[generator.choice((0, 0, 1, 7, 32, 64, 200)) for _ in range(n)] for n in lens]
        alpha = torch.zeros(BATCH, frames)
        for b, row in enumerate(sixty_fourths):
            alpha[b, : len(row)] = torch.tensor(row) / 64
        h = torch.randn(BATCH, frames, 4, generator=torch_generator)
        fired, fired_lens = cif_fire(h, alpha, lens)
        expected = [sum(row) // 64 + (sum(row) % 64 > 32) for row in sixty_fourths]
        assert fired_lens.tolist() == expected
        assert fired.shape == (BATCH, max(expected), 4) and fired.isfinite().all()

        num_tokens = torch.tensor([generator.randint(1, 60) for _ in range(BATCH)])
        fired, fired_lens = cif_fire(h, alpha, lens, num_tokens=num_tokens)
        assert fired_lens.tolist() == num_tokens.tolist() and fired.isfinite().all()
        tokens = layer(h, lens, num_tokens)
        assert tokens.lens.tolist() == num_tokens.tolist()
        assert tokens.fired.shape == (BATCH, int(num_tokens.max()), 4) and tokens.fired.isfinite().all()
        loss = layer.quantity_loss(tokens, num_tokens)
        masses = [math.fsum(row[:n].tolist()) for row, n in zip(tokens.alpha, lens)]
        assert torch.allclose(loss, (torch.tensor(masses) - num_tokens).abs(), atol=1e-3)
    message = f"0 shape errors over {NUM_UTTS} random utterances; the difference is the quantity loss"
    return Finding("5 distill", 0, message, "nothing", "not needed")
