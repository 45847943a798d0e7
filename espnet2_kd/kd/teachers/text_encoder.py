"""A text encoder of Hugging Face transformers, frozen, with values read inside: BERT, MacBERT, RoBERTa, MiniLM and their kin."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from espnet2_kd.data.problems import first_line
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import length_mask
from espnet2_kd.kd.taps import as_seq, module_at, record
from espnet2_kd.kd.teachers.hub import VOCABULARY, WEIGHTS, model_files


class TextEncoder:
    """Encoder and tokenizer.

    Args:
        name: directory with `config.json` and a tokenizer, or a name on the hub.
        where: begins error messages.

    Attributes:
        max_tokens: how many it has positions for, special ones counted.

    Raises:
        ConfigError: as `load_text_encoder`; or a tokenizer that tells no offsets.
    """

    def __init__(self, name: str, where: str) -> None:
        # A checkpoint of masked words has no pooler, and no tap can be there: it gives no vector for each word piece.
        whole, self.tokenizer = load_text_encoder(name, where, may_lack="pooler.")
        if not self.tokenizer.is_fast:
            raise ConfigError(f"{where}: {name} has no fast tokenizer (tokenizer.json), which tells offsets")
        self.name = name
        self.model: nn.Module = whole.eval().requires_grad_(False)
        self.max_tokens = max_tokens(self.model, self.tokenizer)
        self.paths: set[str] = set()

    @staticmethod
    def files(name: str) -> list[Path]:
        """The files that decide what it says."""
        return model_files(name, (*WEIGHTS, *VOCABULARY))

    def watch(self, paths: set[str]) -> None:
        """Say, once, which submodules will be read; raises ConfigError for one that is not there."""
        for path in paths:
            module_at(self.model, path, "teacher tap")
        self.paths = set(paths)

    def run(self, rows: list[Tensor], device: torch.device, size: int = 0) -> tuple[dict[str, Tensor], Tensor]:
        """Path -> `(B, T, D)` of token ids `(T,)` each, and which of the T positions are valid `(B, T)`; T is at least `size`."""
        if next(self.model.parameters()).device != device:
            self.model.to(device)
        ids = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id or 0).to(device)
        ids = nn.functional.pad(ids, (0, max(size - ids.shape[1], 0)), value=self.tokenizer.pad_token_id or 0)
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
        return hidden, mask


def load_text_encoder(name: str, where: str, may_lack: str | tuple[str, ...] = ()) -> tuple[nn.Module, Any]:
    """An encoder in float32 and its tokenizer, by its directory or its name on the hub.

    Args:
        where: begins error messages.
        may_lack: what its weights may be missing of: what begins so.

    Raises:
        ConfigError: a model that is not there or is damaged, lacks weights, or is more than a text encoder.
    """
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        # In float32 whatever the file holds: half precision would make a batch of many differ from a batch of one.
        encoder, report = AutoModel.from_pretrained(
            name, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        what = "is no directory here" if not os.path.exists(name) else "cannot be loaded"
        raise ConfigError(f"{where}: {name} {what}: {first_line(error)}") from error
    if encoder.config.is_encoder_decoder:
        raise ConfigError(f"{where}: {name} is a {encoder.config.model_type}, which is more than a text encoder")
    # transformers would go on with random numbers in their place.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(may_lack))
    if missing:
        raise ConfigError(f"{where}: {name} has no weights for {', '.join(missing[:3])} ({len(missing)} missing)")
    return encoder, tokenizer


def sentence_vector(states: Tensor, valid: Tensor, pooling: str) -> Tensor:
    """States (B, N, D), valid (B, N) bool -> (B, D): with `cls` that of the first token, with `mean` of all, special ones too."""
    if pooling == "cls":
        return states[:, 0]
    return states.masked_fill(~valid[:, :, None], 0.0).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


def max_tokens(model: nn.Module, tokenizer: Any) -> int:
    """How many tokens with the special ones the model has positions for."""
    limits = [tokenizer.model_max_length]
    positions = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    if isinstance(positions, nn.Embedding):
        # RoBERTa counts from behind the padding's index.
        unused = 0 if positions.padding_idx is None else positions.padding_idx + 1
        limits.append(positions.num_embeddings - unused)
    return min(limits)
