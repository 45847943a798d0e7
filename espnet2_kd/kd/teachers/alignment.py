"""Which word pieces of a language model stand for which units of a student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from espnet2_kd.data.tokenizer import UNK
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.teachers.units import Units

MODES = ("auto", "one_to_one", "offsets")


class Alignment:
    """From the units of an utterance to the word pieces that the model reads, and back.

    Args:
        tokenizer: a fast one of transformers.
        units: the student's vocabulary.
        mode: of `MODES`; `one_to_one` refuses texts where a unit is not exactly one word piece; `offsets` goes by the characters that
            units and word pieces share; `auto` is `one_to_one` where the vocabulary promises it.
        eos: add the token that ends the sentence, as the last unit.
        lowercase: give the model small letters.

    Attributes:
        own: the units are the word pieces of this very tokenizer, which need no text between.
        one_to_one: whether each text is checked.

    Raises:
        ConfigError: a vocabulary that cannot be written as text, or a tokenizer without special tokens.
    """

    def __init__(
        self, tokenizer: Any, units: Units, mode: str = "auto", eos: bool = True, lowercase: bool = False
    ) -> None:
        self.tokenizer, self.units, self.eos, self.lowercase = tokenizer, units, eos, lowercase
        # Itself rather than through transformers, which would start threads that a data loader's workers warn of.
        self.encode = tokenizer.backend_tokenizer.encode
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        self.unk = tokenizer.unk_token or ""
        probe = self.encode("a")
        special = "".join(map(str, probe.special_tokens_mask))
        front, back = len(special) - len(special.lstrip("1")), len(special) - len(special.rstrip("1"))
        if not back:
            raise ConfigError(
                f"teacher hf_text: {tokenizer.name_or_path} ends no sentence with a token, as text encoders do"
            )
        self.front, self.back = probe.ids[:front], probe.ids[len(special) - back :]
        as_they_are = units.marked and mode != "offsets" and not lowercase
        self.own = as_they_are and tokenizer.get_vocab().keys() >= set(units.plain)
        if units.byte_level and not self.own:
            raise ConfigError(
                "teacher hf_text: the student writes byte-level pieces that are not those of "
                f"{tokenizer.name_or_path}; use that tokenizer for both, without `units: offsets` and `lowercase`"
            )
        self.one_to_one = mode == "one_to_one" or (mode == "auto" and not self.own and self._separate())

    def _separate(self) -> bool:
        """Whether every unit is one word piece, whatever stands beside it: Chinese characters, words the model knows."""
        for unit in self.units.plain:
            ids, weights = self([unit, unit])
            pieces = ids[len(self.front) : -len(self.back)]
            # Another piece than the first would be the continuation of a word, which others may continue otherwise.
            if len(pieces) != 2 or pieces[0] != pieces[1] or not self._is_one_to_one(weights, 2):
                return False
        return bool(self.units.plain)

    def __call__(self, units: Sequence[str], utt: str | None = None) -> tuple[list[int], Tensor]:
        """The model's input and the weights `(N, T)`, or `(N + 1, T)` with `eos`, that make units of its T tokens.

        A unit is the mean of the word pieces that share characters with it. One that shares none, such as a lone space,
        takes the next, since it is the beginning of that word; after the last word, the end of the sentence.

        Args:
            units: of one utterance.
            utt: its name for messages; without one the text is not checked.

        Raises:
            ConfigError: a text that is not one to one.
        """
        if self.own:
            pieces = [self.unk if unit == UNK else unit for unit in units]
            ids = [*self.front, *self.tokenizer.convert_tokens_to_ids(pieces), *self.back]
            weights = torch.eye(len(ids))[len(self.front) : len(self.front) + len(units)]
        else:
            text, spans = self.units.write(units, self.unk, self.lowercase)
            encoded = self.encode(text)
            ids = encoded.ids
            weights = _shared(
                torch.tensor(spans).reshape(-1, 2), torch.tensor(encoded.offsets), len(ids) - len(self.back)
            )
            if utt is not None and self.one_to_one and not self._is_one_to_one(weights, len(units)):
                num = len(ids) - len(self.front) - len(self.back)
                raise ConfigError(
                    f"teacher hf_text: utterance {utt} has {len(units)} units and {num} word pieces of "
                    f"{self.tokenizer.name_or_path}, not one for one: {text!r}; set `units: offsets`, or correct the text"
                )
        if self.eos:
            end = torch.eye(len(ids))[len(ids) - len(self.back)]
            weights = torch.cat([weights, end[None]])
        return ids, weights

    def _is_one_to_one(self, weights: Tensor, num: int) -> bool:
        inner = weights[:num, len(self.front) : weights.shape[1] - len(self.back)]
        return torch.equal(inner, torch.eye(num))


def _shared(spans: Tensor, offsets: Tensor, end: int) -> Tensor:
    """Weights `(N, T)` of tokens with `offsets` `(T, 2)`, special ones being empty, for units with `spans` `(N, 2)`."""
    starts, ends = spans[:, :1], spans[:, 1:]
    overlap = (offsets[:, 0] < ends) & (offsets[:, 1] > starts)
    later = offsets[:, 1] > starts
    following = torch.where(later.any(1), later.int().argmax(1), end)
    lonely = ~overlap.any(1)
    overlap[lonely, following[lonely]] = True
    return overlap / overlap.sum(1, keepdim=True)
