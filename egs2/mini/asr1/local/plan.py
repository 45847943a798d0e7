"""What the mini corpus is: which sentences, in which voices."""

from collections.abc import Iterator

import numpy as np
from grammar import SPLITS, sentence_pools

from espnet2_kd.data.spoken import SpokenUtterance, keyed_rng


def draw_sentences(pools: dict[str, list[str]], count: int, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Yield `count` pairs (intent, sentence), intents in turn; a sentence comes again only when all have been used."""
    left: dict[str, list[str]] = {}
    while count > 0:
        left = {intent: sentences for intent, sentences in left.items() if sentences}
        if not left:
            left = {intent: [pool[i] for i in rng.permutation(len(pool))] for intent, pool in pools.items() if pool}
        for intent in rng.permutation(sorted(left))[:count]:
            yield str(intent), left[intent].pop()
            count -= 1


def plan(sizes: dict[str, int], seed: int) -> list[SpokenUtterance]:
    """Return all utterances of the corpus, the same for the same sizes and seed."""
    pools = sentence_pools(seed)
    utterances = []
    for split in SPLITS:
        rng = keyed_rng(seed, split)
        for number, (intent, text) in enumerate(draw_sentences(pools[split], sizes[split], rng)):
            utterances.append(SpokenUtterance.draw(number, split, text, intent, rng, seed))
    return utterances
