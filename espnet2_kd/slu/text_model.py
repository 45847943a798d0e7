"""Intents of a written sentence, one per slot, from a Hugging Face text encoder, which can then teach."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from espnet2_kd.data.intents import slots_of
from espnet2_kd.data.table import replacing
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import length_mask
from espnet2_kd.kd.teachers.text_encoder import load_text_encoder, max_tokens, sentence_vector
from espnet2_kd.slu.text_options import POOLINGS

DESCRIPTION, HEADS = "intent.json", "intent.safetensors"
DESCRIBED = {"classes": list, "pooling": str, "dropout_rate": (int, float), "source": str}


class TextIntentModel(nn.Module):
    """A text encoder and, on one vector of it, a linear layer whose outputs of the same slot compete with each other.

    Args:
        encoder: of Hugging Face; word pieces (B, N) -> states (B, N, D).
        tokenizer: the encoder's.
        classes: all there are, `slot=value`; logits and slots are in their order.
        pooling: `cls`, the state of the first token, or `mean`, that of all tokens, special ones too.
        dropout_rate: before the linear layer.
        source: what the encoder was before, a name for people.

    Raises:
        ConfigError: no classes, or wrong names of them; an unknown pooling; a tokenizer that does not fit.
    """

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer: Any,
        classes: Sequence[str],
        pooling: str = "cls",
        dropout_rate: float = 0.1,
        source: str = "",
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ConfigError(f"pooling {pooling!r}: one of {', '.join(POOLINGS)}")
        if pooling == "cls" and tokenizer.cls_token_id is None:
            raise ConfigError(f"{source} puts no token like [CLS] before a sentence: set pooling: mean")
        try:
            self.slots = slots_of(classes)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if not self.slots or len(set(classes)) != len(classes):
            raise ConfigError("classes: give at least one, and none twice")
        num_embeddings = encoder.get_input_embeddings().num_embeddings
        if len(tokenizer) > num_embeddings:
            raise ConfigError(f"{source} has {len(tokenizer)} word pieces, but embeddings of {num_embeddings}")
        self.encoder, self.tokenizer, self.classes = encoder, tokenizer, list(classes)
        self.pooling, self.dropout_rate, self.source = pooling, dropout_rate, source
        self.max_pieces = max_tokens(encoder, tokenizer)
        self.dropout = nn.Dropout(dropout_rate)
        self.heads = nn.Linear(encoder.config.hidden_size, len(self.classes))
        self._places = {classes[n]: place for ids in self.slots.values() for place, n in enumerate(ids)}

    @classmethod
    def from_encoder(
        cls, model: str, classes: Sequence[str], pooling: str = "cls", dropout_rate: float = 0.1
    ) -> TextIntentModel:
        """Put an untrained linear layer on an encoder, by its directory or its name on the hub; raises ConfigError."""
        # A checkpoint of masked words has no pooler; ours does without it.
        encoder, tokenizer = load_text_encoder(model, "text encoder", may_lack="pooler.")
        # Where it lies on this machine is nobody's business.
        source = Path(model).resolve().name if Path(model).is_dir() else model
        return cls(encoder, tokenizer, classes, pooling, dropout_rate, source)

    @classmethod
    def load(cls, folder: str | Path) -> TextIntentModel:
        """Load what `save` wrote, in evaluation mode; raises ConfigError for anything missing, damaged or unfitting."""
        folder = Path(folder)
        description = _read_description(folder / DESCRIPTION)
        encoder, tokenizer = load_text_encoder(str(folder), "text encoder")
        try:
            model = cls(encoder, tokenizer, **description)
        except ConfigError as error:
            raise ConfigError(f"{folder / DESCRIPTION}: {error}") from error
        try:
            model.heads.load_state_dict(load_file(folder / HEADS))
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{folder / HEADS}: is missing or damaged ({error}): train again") from error
        except RuntimeError as error:
            what = f"does not fit the {len(model.classes)} classes of {DESCRIPTION} and the encoder"
            raise ConfigError(f"{folder / HEADS}: {what}: {error}") from error
        return model.eval()

    def save(self, folder: str | Path) -> None:
        """Write the encoder as `transformers` does, so that others can load it, and beside it what is ours.

        `intent.json` comes last: a folder that has it is complete.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DESCRIPTION).unlink(missing_ok=True)
        temporary = folder / ".model.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            self.encoder.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            save_file(self.heads.state_dict(), temporary / HEADS)
            for path in temporary.iterdir():
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        with replacing(folder / DESCRIPTION) as stream:
            json.dump({name: getattr(self, name) for name in DESCRIBED}, stream, indent=1)
            stream.write("\n")

    def forward(self, ids: Tensor, lens: Tensor) -> Tensor:
        """Word pieces (B, N), lens (B,) -> logits (B, V)."""
        mask = length_mask(lens, ids.shape[1])
        states = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return self.heads(self.dropout(sentence_vector(states, mask, self.pooling)))

    def losses(self, logits: Tensor, places: Tensor) -> Tensor:
        """Cross entropies summed over slots: logits (B, V), the right classes' places in their slots (B, S) -> (B,)."""
        parts = [
            F.cross_entropy(logits[:, ids], places[:, slot], reduction="none")
            for slot, ids in enumerate(self.slots.values())
        ]
        return torch.stack(parts).sum(0)

    def choices(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, V) -> places of the best classes in their slots (B, S), and their probabilities (B, S)."""
        best = [logits[:, ids].softmax(1).max(1) for ids in self.slots.values()]
        return torch.stack([found.indices for found in best], 1), torch.stack([found.values for found in best], 1)

    def places(self, classes: Collection[str]) -> list[int]:
        """Place in its slot of one class of each slot, in the order of slots; KeyError for an unknown class."""
        by_slot = {name.partition("=")[0]: self._places[name] for name in classes}
        return [by_slot[slot] for slot in self.slots]

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Word pieces of every text, with the special ones, however many."""
        return self.tokenizer(list(texts), verbose=False)["input_ids"] if texts else []

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Word pieces of some sentences -> (B, N), (B,), where the model is."""
        device = self.heads.weight.device
        ids = pad_sequence([torch.tensor(row) for row in rows], True, self.tokenizer.pad_token_id or 0)
        return ids.to(device), torch.tensor([len(row) for row in rows], device=device)

    @torch.no_grad()
    def answers(self, rows: Sequence[Sequence[int]], batch_size: int = 64) -> list[dict[str, tuple[str, float]]]:
        """For the word pieces of every sentence: slot -> its value and the probability of that. In evaluation mode only."""
        found: list[dict[str, tuple[str, float]]] = [{} for _ in rows]
        order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            places, probabilities = self.choices(self(*self.pad([rows[n] for n in batch])))
            for n, row, sure in zip(batch, places.tolist(), probabilities.tolist(), strict=True):
                for (slot, ids), place, probability in zip(self.slots.items(), row, sure, strict=True):
                    found[n][slot] = self.classes[ids[place]].partition("=")[2], probability
        return found

    def predict(self, texts: Sequence[str]) -> list[dict[str, tuple[str, float]]]:
        """As `answers`, of texts; raises ConfigError for one that is longer than the encoder reads."""
        rows = self.pieces(texts)
        for text, row in zip(texts, rows, strict=True):
            if len(row) > self.max_pieces:
                raise ConfigError(f"{text[:40]!r}... has {len(row)} word pieces, the model reads {self.max_pieces}")
        return self.answers(rows)


def _read_description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: not found: this is no text intent model, or its training has not ended")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: is damaged ({error}): train again") from error
    if not isinstance(description, dict) or description.keys() != DESCRIBED.keys():
        raise ConfigError(f"{path}: is no description of a text intent model: {', '.join(DESCRIBED)} are expected")
    for name, kind in DESCRIBED.items():
        if not isinstance(description[name], kind):
            raise ConfigError(f"{path}: {name}: {description[name]!r} cannot be")
    return description
