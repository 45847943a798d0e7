"""Text encoders of Hugging Face transformers as teachers: BERT, MacBERT, RoBERTa, MiniLM and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.teachers import TEACHERS
from espnet2_kd.kd.teachers.alignment import MODES, Alignment
from espnet2_kd.kd.teachers.teacher import Teacher
from espnet2_kd.kd.teachers.text_encoder import TextEncoder
from espnet2_kd.kd.teachers.units import Units


@TEACHERS.add("hf_text")
class HFTextTeacher(Teacher):
    """A text encoder, by its directory or its name on the hub; reads the transcript, so speech without one is not taught.

    Taps are paths inside the encoder: `encoder.layer.11` of BERT and RoBERTa, `embeddings`. An utterance of N of the student's
    units gives N vectors, and with `eos` one more, which is the encoder's at [SEP] or </s> and meets the student's end of the
    sentence (HieraDist; Han et al., Interspeech 2023). How units and word pieces meet is said in `Alignment`.

    Args:
        model: directory with `config.json` and a tokenizer, or a name on the hub such as `google-bert/bert-base-chinese`.
        units: `auto`, `one_to_one` (Chinese characters; anything else is refused) or `offsets`.
        eos: whether the end of the sentence is a target.
        lowercase: read small letters, for a cased model and text in capitals such as that of LibriSpeech.
    """

    reads = "text"
    attention: ClassVar[dict[str, str]] = {
        "q": ".attention.self.query",
        "k": ".attention.self.key",
        "v": ".attention.self.value",
    }

    def __init__(self, model: str, units: str = "auto", eos: bool = True, lowercase: bool = False) -> None:
        if units not in MODES:
            raise ConfigError(f"teacher hf_text: units {units!r}: one of {', '.join(MODES)}")
        self.encoder = TextEncoder(model, "teacher hf_text")
        self.model = self.encoder.model
        self.units, self.eos, self.lowercase = units, eos, lowercase

    @staticmethod
    def files(model: str, **conf: Any) -> list[Path]:
        """The files that decide what this teacher says."""
        return TextEncoder.files(model)

    def join(self, student: nn.Module) -> None:
        if not hasattr(student, "token_list"):
            raise ConfigError(
                f"teacher hf_text: {type(student).__name__} has no token_list to tell what its labels mean"
            )
        self.use_tokens(student.token_list)

    def use_tokens(self, token_list: Sequence[str]) -> None:
        """Learn the student's vocabulary; raises ConfigError where it cannot be aligned."""
        self.vocabulary = Units(token_list)
        self.align = Alignment(self.encoder.tokenizer, self.vocabulary, self.units, self.eos, self.lowercase)

    def watch(self, paths: set[str]) -> None:
        self.encoder.watch(paths)

    @torch.no_grad()
    def observe(self, batch: dict[str, Any], shared: dict[str, Any]) -> dict[str, Seq]:
        if "text" not in batch:
            return {}
        device = batch["text"].device
        # The batch that a model is built with has no names, and a text that nobody said.
        utts = batch.get("utt_id") or [None] * len(batch["text"])
        rows, parts = [], []
        for b, (utt, units) in enumerate(zip(utts, self.vocabulary.strings(batch), strict=True), 1):
            ids, weights = self.align(units, utt)
            if len(ids) > self.encoder.max_tokens:
                raise ConfigError(
                    f"teacher hf_text: utterance {utt or f'{b} of a batch'} has {len(ids)} word pieces, and {self.encoder.name} reads {self.encoder.max_tokens}; "
                    "lower --max_wav_duration, or cut the utterance"
                )
            rows.append(torch.tensor(ids))
            parts.append(weights)
        labels, lens = self.vocabulary.labels(batch, self.eos)
        pool = torch.zeros(len(parts), labels.shape[1], max(map(len, rows)))
        for row, weights in enumerate(parts):
            pool[row, : weights.shape[0], : weights.shape[1]] = weights
        hidden, pool = self.encoder.run(rows, device)[0], pool.to(device)
        with torch.autocast(device.type, enabled=False):
            return {path: Seq(pool @ x.float(), lens, labels=labels) for path, x in hidden.items()}
