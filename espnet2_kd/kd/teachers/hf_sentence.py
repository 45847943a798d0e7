"""Text encoders as teachers of what a whole sentence means: every position from [CLS] to [SEP], and who attends to whom."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from espnet2_kd.data.intents import slots_of
from espnet2_kd.data.tokenizer import UNK
from espnet2_kd.kd.match import Count
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.taps import as_seq, module_at
from espnet2_kd.kd.teachers import TEACHERS
from espnet2_kd.kd.teachers.teacher import Teacher
from espnet2_kd.kd.teachers.text_encoder import TextEncoder, sentence_vector

CLASSES = "classes"
MAPS = (":scores", ":weights")
COMPAT_SIZE = 512
MEMORY = 2**30  # bytes of what was said of texts before; they come again in every epoch


@TEACHERS.add("hf_sentence")
class HFSentenceTeacher(Teacher):
    """A text encoder that reads `text`, word pieces of its own tokenizer with the special ones (`text_ids` makes them).

    Taps: paths inside the encoder such as `encoder.layer.11`, `embeddings`; `encoder.layer.11.attention.self:weights` is the
    mean of its heads' attention `(B, N, N)` after the softmax, `:scores` before it, 0 where a key is padding; `classes`, of a model that
    `bin.train_text_intents` made, is what it answers `(B, V)`.

    Args:
        model: directory or name on the hub.
        pad_to: path in the student whose frames, padding included, the text is padded and cut to (`mask: false` of `pad_text`);
            the last token is kept.
        official_code_compat: as the code of Jiang et al. (Interspeech 2021) runs BERT: with its dropout, the outputs of layers
            through a random matrix to 512 dimensions that nobody trains.
    """

    reads = "text"

    def __init__(self, model: str, pad_to: str | None = None, official_code_compat: bool = False) -> None:
        self.encoder = TextEncoder(model, "teacher hf_sentence")
        self.model = self.encoder.model
        self.pad_to, self.compat = pad_to, official_code_compat
        if self.compat:
            self.model.train()
            # Of the training's seed, but not of its random numbers: a student is the same with and without a teacher.
            generator = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
            width = self.model.config.hidden_size
            bound = 1.0 / math.sqrt(width)  # as nn.Linear begins
            weight = (torch.rand(width + 1, COMPAT_SIZE, generator=generator) * 2 - 1) * bound
            self.projection, self.projection_bias = weight[:-1], weight[-1]
        self.paths: set[str] = set()
        self.name, self.classes = Path(model), None
        self.cut = Count(
            "teacher hf_sentence: so far %d texts had more word pieces than frames; of what is beyond the last is read"
        )
        self.memory: dict[tuple[int, ...], dict[str, Tensor]] = {}
        self.num_bytes = 0

    def join(self, student: nn.Module) -> None:
        if self.pad_to:
            module_at(student, self.pad_to, "teacher hf_sentence: pad_to")
        self.token_list = list(getattr(student, "token_list", []))

    def shared_paths(self, student: nn.Module) -> set[str]:
        return {self.pad_to} if self.pad_to else set()

    def watch(self, paths: set[str]) -> None:
        self.paths = set(paths)
        wanted = set()
        if CLASSES in paths:
            self.classes = self._read_classes()
            wanted.add(self.last_layer)
        for path in paths - {CLASSES}:
            layer = path.removesuffix(MAPS[0]).removesuffix(MAPS[1])
            wanted |= {path} if layer == path else {f"{layer}.query", f"{layer}.key"}
        self.encoder.watch(wanted)

    @torch.no_grad()
    def observe(self, batch: dict[str, Any], shared: dict[str, Any]) -> dict[str, Seq]:
        if "text" not in batch:
            return {}
        text, lens = batch["text"], batch["text_lengths"]
        size = as_seq(shared[self.pad_to]).x.shape[1] if self.pad_to else 0
        if size > self.encoder.max_tokens:
            raise ConfigError(
                f"teacher hf_sentence: pad_to: {size} frames, and {self.encoder.name} reads {self.encoder.max_tokens} word pieces; lower "
                "--max_wav_duration"
            )
        rows = []
        utts = batch.get("utt_id") or [None] * len(text)
        for b, (utt, ids, num) in enumerate(zip(utts, text, lens.tolist(), strict=True), 1):
            row = ids[:num]
            if size and num > size:
                self.cut.add()
                row = torch.cat((row[: size - 1], row[-1:]))
            if len(row) > self.encoder.max_tokens:
                raise ConfigError(
                    f"teacher hf_sentence: utterance {utt or f'{b} of a batch'} has {num} word pieces, and {self.encoder.name} reads "
                    f"{self.encoder.max_tokens}; lower --max_wav_duration, or cut the utterance"
                )
            rows.append(row)
        spans = batch.get("spans")
        self._check_spans(batch, lens)
        with torch.autocast(text.device.type, enabled=False):
            # Dropout says something else every time, and states of padding depend on the batch.
            if self.compat or self.pad_to:
                values, lens = self._values(rows, text.device, size)
            else:
                values, lens = self._remembered(rows, text.device), lens.to(text.device)
        return {
            path: Seq(x, slots=self.classes.slots) if path == CLASSES else Seq(x, lens, spans=spans)
            for path, x in values.items()
        }

    def _values(self, rows: list[Tensor], device: torch.device, size: int = 0) -> tuple[dict[str, Tensor], Tensor]:
        """Path -> `(B, N, D)`, `(B, N, N)` or `(B, V)` of token ids `(N,)` each, and their numbers `(B,)`."""
        hidden, valid = self.encoder.run(rows, device, size)
        values = {path: self._value(path, hidden, valid) for path in self.paths - {CLASSES}}
        if self.classes is not None:
            values[CLASSES] = self.classes(hidden[self.last_layer].float(), valid)
        return values, valid.sum(1)

    def _remembered(self, rows: list[Tensor], device: torch.device) -> dict[str, Tensor]:
        """As `_values`; the encoder runs on texts that it has not read before."""
        keys = [tuple(row.tolist()) for row in rows]
        if self.num_bytes > MEMORY:
            self.memory, self.num_bytes = {}, 0
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self.memory}
        if new:
            values, _ = self._values(list(new.values()), device)
            for n, key in enumerate(new):
                self.memory[key] = {path: _without_padding(path, x[n], len(key)) for path, x in values.items()}
                self.num_bytes += sum(4 * x.numel() for x in self.memory[key].values())
        num = max(map(len, keys))
        return {
            path: torch.stack([_with_padding(path, self.memory[key][path], num) for key in keys]).to(device)
            for path in self.paths
        }

    def _value(self, path: str, hidden: dict[str, Tensor], valid: Tensor) -> Tensor:
        if not path.endswith(MAPS):
            if not self.compat:
                return hidden[path].float()
            return hidden[path].float() @ self.projection.to(valid.device) + self.projection_bias.to(valid.device)
        layer, kind = path.rsplit(":", 1)
        num_heads = self.model.config.num_attention_heads
        q, k = (
            hidden[f"{layer}.{name}"].float().unflatten(2, (num_heads, -1)).transpose(1, 2) for name in ("query", "key")
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        blocked = ~valid[:, None, None]
        if kind == "scores":
            return scores.masked_fill(blocked, 0.0).mean(1)
        return scores.masked_fill(blocked, -torch.inf).softmax(-1).mean(1)

    @property
    def last_layer(self) -> str:
        return f"encoder.layer.{self.model.config.num_hidden_layers - 1}"

    def _read_classes(self) -> Answers:
        """Raises ConfigError where the model has none, or others than the student."""
        try:
            description = json.loads((self.name / "intent.json").read_text(encoding="utf-8"))
            weights = load_file(self.name / "intent.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise ConfigError(
                f"teacher tap 'classes': {self.name} has not learned intents (espnet2_kd.bin.train_text_intents): {error}"
            ) from error
        # ESPnet2 wants a name for what is unknown, which is no class.
        if description["classes"] != [token for token in self.token_list if token != UNK]:
            raise ConfigError(
                f"teacher tap 'classes': the classes of {self.name} are not those of the student's token list"
            )
        slots = list(slots_of(description["classes"]).values())
        return Answers(weights["weight"], weights["bias"], description["pooling"], slots)

    @staticmethod
    def _check_spans(batch: dict[str, Any], lens: Tensor) -> None:
        if "spans" not in batch:
            return
        for b in (batch["spans_lengths"] != lens).nonzero().flatten().tolist():
            utt = (batch.get("utt_id") or {b: f"{b + 1} of a batch"})[b]
            raise ConfigError(
                f"teacher hf_sentence: utterance {utt} has {int(lens[b])} word pieces and {int(batch['spans_lengths'][b])} spans; "
                "take the frames again with the tokenizer of this teacher"
            )


class Answers:
    """The linear layer of a text intent model: weight (V, D), bias (V,); pooling is `cls` or `mean`; slots: classes of each."""

    def __init__(self, weight: Tensor, bias: Tensor, pooling: str, slots: list[list[int]]) -> None:
        self.weight, self.bias, self.pooling, self.slots = weight, bias, pooling, slots

    def __call__(self, states: Tensor, valid: Tensor) -> Tensor:
        """States of the last layer (B, N, D), valid (B, N) bool -> logits (B, V)."""
        vector = sentence_vector(states, valid, self.pooling)
        return nn.functional.linear(vector, self.weight.to(vector), self.bias.to(vector))


def _without_padding(path: str, x: Tensor, num: int) -> Tensor:
    """What was said of one text, on the CPU, of padded `(N, D)`, `(N, N)` or `(V,)`."""
    if path != CLASSES:
        x = x[:num, :num] if path.endswith(MAPS) else x[:num]
    return x.clone().cpu()


def _with_padding(path: str, x: Tensor, num: int) -> Tensor:
    """The same with `num` positions."""
    if path == CLASSES:
        return x
    more = num - len(x)
    return nn.functional.pad(x, (0, more if path.endswith(MAPS) else 0, 0, more))
