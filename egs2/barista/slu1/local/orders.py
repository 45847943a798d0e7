"""Coffee orders: their slots, and the benchmark's grammar, which says how an order of given slots may be worded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from espnet2_kd.data.problems import one_problem

SLOTS = ("drink", "size", "roast", "shots", "milk", "sugar")
NONE = "none"
# The benchmark's names of the slots.
PUBLISHED = {
    "coffeeDrink": "drink",
    "size": "size",
    "roast": "roast",
    "numberOfShots": "shots",
    "milkAmount": "milk",
    "sugarAmount": "sugar",
}
_AMOUNT = re.compile(r"^(a little bit of|a bit of|some|a lot of|lots of) ")
_PIECE = re.compile(r"\[([^\]]*)\]|\$\w+:(\w+)|([^\s\[\]$]+)")
_ARTICLE = re.compile(r"\ban? (?=([a-z]))")


def kind(phrase: str) -> str:
    """Return what is ordered without how much of it: `a bit of soy milk` is `soy milk`."""
    return _AMOUNT.sub("", " ".join(phrase.lower().split()))


def label_of(phrases: Mapping[str, str]) -> dict[str, str]:
    """Return the value of every slot, `none` where nothing is said of it."""
    return {slot: kind(phrases.get(slot, NONE)) for slot in SLOTS}


@dataclass(frozen=True)
class Grammar:
    """Patterns of pieces, each a slot's name or the wordings to choose from, and the phrases of each slot."""

    patterns: Sequence[Sequence[str | tuple[str, ...]]]
    phrases: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, path: Path) -> Grammar:
        """Read the benchmark's YAML: `[a, b]` is a choice, `$slot:name` a phrase; raises DataError."""
        try:
            context = yaml.safe_load(path.read_text(encoding="utf-8"))["context"]
            expressions = [line for lines in context["expressions"].values() for line in lines]
            phrases = {
                PUBLISHED[name]: tuple(" ".join(v.lower().split()) for v in vs) for name, vs in context["slots"].items()
            }
            patterns = [cls._pieces(line) for line in expressions]
        except OSError as error:
            raise one_problem(path, f"cannot be read ({error.strerror})", "fetch the corpus again") from error
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            what = f"is no grammar of coffee orders ({type(error).__name__}: {str(error).splitlines()[0]})"
            raise one_problem(path, what, "fetch the corpus again") from error
        return cls(patterns, phrases)

    @staticmethod
    def _pieces(line: str) -> list[str | tuple[str, ...]]:
        pieces: list[str | tuple[str, ...]] = []
        for choice, slot, word in _PIECE.findall(line):
            if slot:
                pieces.append(PUBLISHED[slot])
            else:
                pieces.append(
                    tuple(option.strip().lower() for option in choice.split(",")) if choice else (word.lower(),)
                )
        return pieces

    def word(self, phrases: Mapping[str, str], rng: np.random.Generator) -> str:
        """Return an order with exactly these phrases; raises ValueError where the grammar has none."""
        said = {slot for slot, phrase in phrases.items() if phrase != NONE}
        for slot in said:
            if kind(phrases[slot]) not in {kind(phrase) for phrase in self.phrases.get(slot, ())}:
                raise ValueError(f"{slot} {phrases[slot]!r} is not in the grammar")
        fitting = [
            pattern for pattern in self.patterns if {piece for piece in pattern if isinstance(piece, str)} == said
        ]
        if not fitting:
            raise ValueError(f"the grammar has no order of {' '.join(sorted(said)) or 'nothing'}")
        return self._render(fitting[int(rng.integers(len(fitting)))], phrases, rng)

    def draw(self, rng: np.random.Generator) -> tuple[str, dict[str, str]]:
        """Return a random order and its phrases."""
        pattern = self.patterns[int(rng.integers(len(self.patterns)))]
        slots = [piece for piece in pattern if isinstance(piece, str)]
        phrases = {slot: self.phrases[slot][int(rng.integers(len(self.phrases[slot])))] for slot in slots}
        return self._render(pattern, phrases, rng), phrases

    def read_phrases(self, sentence: str) -> dict[str, str]:
        """Find the phrases of an order, the longest of each slot; raises ValueError for one without a drink."""
        rest, found = f" {' '.join(sentence.lower().split())} ", {}
        # A medium roast is no medium size, so what has been understood is taken out.
        for slot in ("roast", "shots", "drink", "milk", "sugar", "size"):
            for phrase in sorted(self.phrases.get(slot, ()), key=len, reverse=True):
                if f" {phrase} " in rest:
                    rest = rest.replace(f" {phrase} ", " | ", 1)
                    found[slot] = phrase
                    break
        if "drink" not in found:
            raise ValueError("names no drink of the grammar")
        return found

    def _render(self, pattern: Sequence[str | tuple[str, ...]], phrases: Mapping[str, str], rng) -> str:
        said = [phrases[piece] if isinstance(piece, str) else piece[int(rng.integers(len(piece)))] for piece in pattern]
        # The grammar leaves the article open, speakers do not.
        return _ARTICLE.sub(lambda found: "an " if found[1] in "aeiou" else "a ", " ".join(said))
