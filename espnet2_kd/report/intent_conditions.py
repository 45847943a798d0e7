"""Test sets and their noisy copies, told by their names: `test`, `test_babble_10db`, `test_white_0db`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NOISY = re.compile(r"(?P<rest>.+)_(?P<snr>-?\d+(?:\.\d+)?)db")


@dataclass(frozen=True)
class Condition:
    """One test set: the set that it is, or is a copy of, with its noise and SNR (dB); None and None for no noise."""

    test_set: str
    clean: str
    noise: str | None = None
    snr_db: float | None = None

    @property
    def label(self) -> str:
        """How its column is headed."""
        return "clean" if self.snr_db is None else f"{self.snr_db:g} dB"


def read_conditions(test_sets: Sequence[str]) -> list[Condition]:
    """Read the names of sets, each once: first every set without noise, then its copies by noise and falling SNR.

    A copy is called `<set>_<noise>_<snr>db`. Where `<set>` is none of those asked for, the noise is the last word
    before the SNR. A name without that form is a set of its own.
    """
    names = list(dict.fromkeys(test_sets))
    plain = [name for name in names if not _is_noisy(name)]
    copies = [_noisy(name, plain) for name in names if _is_noisy(name)]
    sets = list(dict.fromkeys([*plain, *(copy.clean for copy in copies)]))
    found = []
    for clean in sets:
        found += [Condition(clean, clean)] if clean in plain else []
        mine = [copy for copy in copies if copy.clean == clean]
        for noise in dict.fromkeys(copy.noise for copy in mine):
            found += sorted((copy for copy in mine if copy.noise == noise), key=lambda copy: -copy.snr_db)
    return found


def _is_noisy(name: str) -> bool:
    match = _NOISY.fullmatch(name)
    return match is not None and "_" in match["rest"]


def _noisy(name: str, plain: Sequence[str]) -> Condition:
    match = _NOISY.fullmatch(name)
    rest = match["rest"]
    # The longest: with test and test_far asked for, test_far_babble_0db is a copy of test_far.
    clean = max((known for known in plain if rest.startswith(f"{known}_")), key=len, default=rest.rpartition("_")[0])
    return Condition(name, clean, rest[len(clean) + 1 :], float(match["snr"]))
