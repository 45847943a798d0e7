"""A transcript as the teacher reads it, and when each of its word pieces was spoken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espnet2_kd.data.problems import first_line
from espnet2_kd.kd.registry import ConfigError


class SentenceReader:
    """Word pieces of a Hugging Face tokenizer, the special ones with them.

    Args:
        model: directory or name on the hub.

    Raises:
        ConfigError: there is no such tokenizer, or no fast one.
    """

    def __init__(self, model: str) -> None:
        from transformers import AutoTokenizer

        self.name = model
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        except (OSError, ValueError) as error:
            what = "is no directory here" if not Path(model).exists() else "cannot be loaded"
            raise ConfigError(f"text encoder: {model} {what}: {first_line(error)}") from error
        if not tokenizer.is_fast:
            raise ConfigError(f"text encoder: {model} has no fast tokenizer (tokenizer.json), which tells offsets")
        # Itself rather than through transformers, which would start threads that a data loader's workers warn of.
        self._backend: Any = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()

    def ids(self, text: str) -> np.ndarray:
        """Ids `(N,)` of a transcript."""
        return np.array(self._backend.encode(" ".join(text.split())).ids, dtype=np.int64)

    def spans(self, text: str, ends: Sequence[float], begin: float, num_frames: float) -> np.ndarray:
        """From when to when each word piece was spoken `(N, 2)`, float32, in the unit of the arguments.

        A word lasts from the end of the one before; its pieces share its time by their letters. What lies before the first word
        and after the last goes to the special tokens there.

        Args:
            ends: when each word ended.
            begin: when the first began.
            num_frames: the end of all.
        """
        words = text.split()
        if len(words) != len(ends):
            raise ValueError(f"{len(words)} words, but {len(ends)} ends of words")
        # Of every letter of the text, blanks with the word after them, when it begins; and of the last, when it ends.
        times, last = [], begin
        for number, (word, end) in enumerate(zip(words, ends, strict=True)):
            times += [last] * (number > 0)
            times += list(last + (max(end, last) - last) * np.arange(len(word)) / len(word))
            last = max(end, last)
        times.append(last)
        encoded = self._backend.encode(" ".join(words))
        rows = [
            None if special else (times[start], times[stop])
            for special, (start, stop) in zip(encoded.special_tokens_mask, encoded.offsets, strict=True)
        ]
        spoken = [number for number, row in enumerate(rows) if row is not None]
        if not spoken:
            return np.tile(np.array([[0.0, num_frames]], dtype=np.float32), (len(rows), 1))
        before, after = (0.0, begin), (last, max(num_frames, last))
        filled = [row or (after if number > spoken[-1] else before) for number, row in enumerate(rows)]
        return np.array(filled, dtype=np.float32)
