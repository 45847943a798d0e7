"""Which utterances the page shows, and which of them one can hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def choose(
    errors: Sequence[Mapping[str, float]], utts: Sequence[str], count: int, liked: Sequence[str] = ()
) -> list[str]:
    """Choose up to `count` of `utts`: half of them the worst of every system in turn, the rest evenly over the set.

    errors: for every system, errors by utterance, in whatever measure.
    liked: utterances that are preferred for the even part, as there is more to show of them.
    """
    count = min(count, len(utts))
    chosen: dict[str, None] = {}
    known = set(utts)
    ranked = [
        sorted((utt for utt in system if utt in known and system[utt] > 0), key=lambda utt: (-system[utt], utt))
        for system in errors
    ]
    for place in range(len(utts)):
        for utts_of in ranked:
            if len(chosen) < count // 2 and place < len(utts_of):
                chosen[utts_of[place]] = None
    for pool in ([utt for utt in utts if utt in set(liked)], list(utts)):
        rest = [utt for utt in pool if utt not in chosen]
        wanted = min(count - len(chosen), len(rest))
        chosen |= dict.fromkeys(rest[n * len(rest) // wanted] for n in range(wanted))
    return list(chosen)
