"""Text encoders of Hugging Face transformers as teachers: BERT, MacBERT, RoBERTa, MiniLM and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq, length_mask
from espnet2_kd.kd.taps import as_seq, module_at, record
from espnet2_kd.kd.teachers import TEACHERS
from espnet2_kd.kd.teachers.alignment import MODES, Alignment
from espnet2_kd.kd.teachers.hub import VOCABULARY, WEIGHTS, model_files
from espnet2_kd.kd.teachers.teacher import Teacher
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
        from transformers import AutoModel, AutoTokenizer

        if units not in MODES:
            raise ConfigError(f"teacher hf_text: units {units!r}: one of {', '.join(MODES)}")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
            # In float32 whatever the file holds: half precision would make a batch of many differ from a batch of one.
            whole = AutoModel.from_pretrained(model, trust_remote_code=False, dtype=torch.float32)
        except (OSError, ValueError) as error:
            where = "is no directory here" if not Path(model).exists() else "cannot be loaded"
            raise ConfigError(f"teacher hf_text: {model} {where}: {str(error).splitlines()[0]}") from error
        if not self.tokenizer.is_fast:
            raise ConfigError(f"teacher hf_text: {model} has no fast tokenizer (tokenizer.json), which tells offsets")
        if whole.config.is_encoder_decoder:
            raise ConfigError(
                f"teacher hf_text: {model} is a {whole.config.model_type}, which is more than a text encoder"
            )
        self.name, self.units, self.eos, self.lowercase = model, units, eos, lowercase
        self.model: nn.Module = whole.eval().requires_grad_(False)
        self.max_tokens = _max_tokens(self.model, self.tokenizer)
        self.paths: set[str] = set()

    @staticmethod
    def files(model: str, **conf: Any) -> list[Path]:
        """The files that decide what this teacher says."""
        return model_files(model, (*WEIGHTS, *VOCABULARY))

    def join(self, student: nn.Module) -> None:
        if not hasattr(student, "token_list"):
            raise ConfigError(
                f"teacher hf_text: {type(student).__name__} has no token_list to tell what its labels mean"
            )
        self.use_tokens(student.token_list)

    def use_tokens(self, token_list: Sequence[str]) -> None:
        """Learn the student's vocabulary; raises ConfigError where it cannot be aligned."""
        self.vocabulary = Units(token_list)
        self.align = Alignment(self.tokenizer, self.vocabulary, self.units, self.eos, self.lowercase)

    def watch(self, paths: set[str]) -> None:
        for path in paths:
            module_at(self.model, path, "teacher tap")
        self.paths = set(paths)

    @torch.no_grad()
    def observe(self, batch: dict[str, Any], shared: dict[str, Any]) -> dict[str, Seq]:
        if "text" not in batch:
            return {}
        device = batch["text"].device
        if next(self.model.parameters()).device != device:
            self.model.to(device)
        # The batch that a model is built with has no names, and a text that nobody said.
        utts = batch.get("utt_id") or [None] * len(batch["text"])
        rows, parts = [], []
        for b, (utt, units) in enumerate(zip(utts, self.vocabulary.strings(batch), strict=True), 1):
            ids, weights = self.align(units, utt)
            if len(ids) > self.max_tokens:
                raise ConfigError(
                    f"teacher hf_text: utterance {utt or f'{b} of a batch'} has {len(ids)} word pieces, and {self.name} reads {self.max_tokens}; "
                    "lower --max_wav_duration, or cut the utterance"
                )
            rows.append(torch.tensor(ids))
            parts.append(weights)
        labels, lens = self.vocabulary.labels(batch, self.eos)
        pool = torch.zeros(len(parts), labels.shape[1], max(map(len, rows)))
        for row, weights in enumerate(parts):
            pool[row, : weights.shape[0], : weights.shape[1]] = weights
        hidden, pool = self._run(rows, device), pool.to(device)
        with torch.autocast(device.type, enabled=False):
            return {path: Seq(pool @ x.float(), lens, labels=labels) for path, x in hidden.items()}

    def _run(self, rows: list[Tensor], device: torch.device) -> dict[str, Tensor]:
        """Path -> `(B, T, D)` of token ids `(T,)` each."""
        ids = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id or 0).to(device)
        mask = length_mask(torch.tensor([len(row) for row in rows], device=device), ids.shape[1])
        with record(self.model, self.paths) as recorded:
            self.model(input_ids=ids, attention_mask=mask.long())
        missing = sorted(self.paths - recorded.keys())
        if missing:
            raise ConfigError(f"teacher taps that never run in {type(self.model).__name__}: {', '.join(missing)}")
        hidden = {path: as_seq(value).x for path, value in recorded.items()}
        for path, x in hidden.items():
            if x.dim() != 3 or x.shape[:2] != ids.shape:
                raise ConfigError(f"teacher tap {path!r} gives {list(x.shape)}, not a vector for each word piece")
        return hidden


def _max_tokens(model: nn.Module, tokenizer: Any) -> int:
    """How many tokens with the special ones the model has positions for."""
    limits = [tokenizer.model_max_length]
    positions = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    if isinstance(positions, nn.Embedding):
        # RoBERTa counts from behind the padding's index.
        unused = 0 if positions.padding_idx is None else positions.padding_idx + 1
        limits.append(positions.num_embeddings - unused)
    return min(limits)
