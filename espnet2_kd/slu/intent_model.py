"""Intents of an utterance, one per slot, from frames of a frozen acoustic model."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.cls.decoder.abs_decoder import AbsDecoder
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch import nn

from espnet2_kd.data.intents import slots_of
from espnet2_kd.data.tokenizer import UNK
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.layers.pooling import SlowFrames


class IntentModel(AbsESPnetModel):
    """A frozen acoustic front-end, frames slowed down, and a classifier of one class per slot.

    Classes are named ``slot=value``; those of a slot compete with each other. The loss of an utterance is the sum over its
    slots of the cross entropy (Jiang et al., Interspeech 2021).

    token_list: classes, ``<unk>`` last; labels of an utterance are one of each slot, in any order.
    slow_rate: how many acoustic frames make one of the classifier's.
    freeze: whether the acoustic front-end stays as it is, dropout and batch norm included.
    lsm_weight: label smoothing, spread over the wrong classes of the slot.
    frozen_dropout: leave the dropout of what is frozen switched on in training, as the code of the paper does.

    Raises ConfigError for classes that are not named so, or with ``<unk>`` elsewhere.
    """

    def __init__(
        self,
        token_list: Sequence[str],
        frontend: nn.Module | None,
        specaug: nn.Module | None,
        normalize: nn.Module | None,
        preencoder: nn.Module | None,
        encoder: AbsEncoder,
        decoder: AbsDecoder,
        slow_rate: int = 1,
        freeze: bool = True,
        lsm_weight: float = 0.1,
        frozen_dropout: bool = False,
    ) -> None:
        super().__init__()
        self.token_list = list(token_list)
        try:
            self.slots = slots_of(self.token_list)
        except ValueError as error:
            raise ConfigError(f"token_list: {error}") from error
        if UNK in self.token_list[:-1]:
            raise ConfigError(f"token_list: {UNK} is not the last: python -m espnet2_kd.bin.intent_classes writes it")
        self.vocab_size = sum(len(classes) for classes in self.slots.values())
        self.frontend, self.specaug, self.normalize, self.preencoder = frontend, specaug, normalize, preencoder
        self.encoder, self.decoder = encoder, decoder
        self.slow = SlowFrames(slow_rate)
        self.freeze, self.lsm_weight, self.frozen_dropout = freeze, lsm_weight, frozen_dropout
        if freeze:
            for part in self._acoustic():
                part.requires_grad_(False)

    def _acoustic(self) -> list[nn.Module]:
        parts = (self.frontend, self.normalize, self.preencoder, self.encoder)
        return [part for part in parts if part is not None]

    def train(self, mode: bool = True) -> "IntentModel":
        """As usual, but for what is frozen: its dropout would blur what it was trained to hear."""
        super().train(mode)
        if self.freeze and not self.frozen_dropout:
            for part in self._acoustic():
                part.eval()
        return self

    def encode(self, speech: torch.Tensor, speech_lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples (B, N), (B,) -> slow frames (B, T, D), (B,); slow frames that were taken beforehand stay as they are.

        Raises ConfigError in training on such frames what would change them.
        """
        if speech.dim() == 3:
            if self.training and (self.specaug is not None or not self.freeze):
                what = "specaug" if self.freeze else "freeze: false"
                raise ConfigError(f"{what} cannot do anything with frames that were taken beforehand: train on wav.scp")
            return speech, speech_lengths
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            x, lens = self._features(speech, speech_lengths)
            if self.specaug is not None and self.training:
                x, lens = self.specaug(x, lens)
            if self.normalize is not None:
                x, lens = self.normalize(x, lens)
            if self.preencoder is not None:
                x, lens = self.preencoder(x, lens)
            x, lens, _ = self.encoder(x, lens)
            if isinstance(x, tuple):  # of an encoder with CTC outputs inside
                x = x[0]
        return self.slow(x, lens)

    def forward(
        self,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        label: torch.Tensor,
        label_lengths: torch.Tensor,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Speech (B, N) or slow frames (B, T, D), labels (B, S), one class of each slot, -1 beyond -> loss, what to log, batch size.

        Anything else in the batch, such as `text`, is for a teacher.
        """
        logits = self.logits(speech, speech_lengths)
        wanted = self._wanted(label, kwargs.get("utt_id"))
        loss: torch.Tensor | float = 0.0
        right = torch.ones(len(speech), dtype=torch.bool, device=speech.device)
        stats = {}
        for slot, classes in self.slots.items():
            scores = logits[:, classes].float()
            smoothing = self.lsm_weight * len(classes) / max(len(classes) - 1, 1)
            loss = loss + F.cross_entropy(scores, wanted[slot], label_smoothing=min(smoothing, 1.0))
            hit = scores.argmax(1) == wanted[slot]
            right &= hit
            stats[f"acc_{slot}"] = hit.float().mean()
        stats = {"loss": loss.detach(), "acc": right.float().mean(), **stats}
        return force_gatherable((loss, stats, len(speech)), speech.device)

    def forward_unlabelled(self, speech: torch.Tensor, speech_lengths: torch.Tensor) -> None:
        """Run every layer for a teacher to compare, on utterances of which nobody knows the intent."""
        self.logits(speech, speech_lengths)

    def logits(self, speech: torch.Tensor, speech_lengths: torch.Tensor) -> torch.Tensor:
        """Scores of all classes (B, V), in the order of ``token_list``."""
        return self.decoder(*self.encode(speech, speech_lengths))

    @torch.no_grad()
    def predict(self, speech: torch.Tensor, speech_lengths: torch.Tensor) -> list[dict[str, tuple[str, float]]]:
        """For every utterance: slot -> its value and the probability of that."""
        logits = self.logits(speech, speech_lengths).float()
        found: list[dict[str, tuple[str, float]]] = [{} for _ in speech]
        for slot, classes in self.slots.items():
            best, index = logits[:, classes].softmax(1).max(1)
            for b, (probability, n) in enumerate(zip(best.tolist(), index.tolist(), strict=True)):
                found[b][slot] = self.token_list[classes[n]].partition("=")[2], probability
        return found

    def collect_feats(
        self, speech: torch.Tensor, speech_lengths: torch.Tensor, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        feats, lens = self._features(speech, speech_lengths)
        return {"feats": feats, "feats_lengths": lens}

    def _features(self, speech: torch.Tensor, lens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        speech = speech[:, : int(lens.max())]
        return (speech, lens) if self.frontend is None else self.frontend(speech, lens)

    def _wanted(self, label: torch.Tensor, utts: Sequence[str] | None) -> dict[str, torch.Tensor]:
        """Slot -> place (B,) of the right class among those of the slot; raises ConfigError where a slot has no label."""
        wanted = {}
        for slot, classes in self.slots.items():
            # (B, S, classes of the slot): which label is which class.
            found = label[:, :, None] == torch.tensor(classes, device=label.device)
            if not found.any(2).sum(1).eq(1).all():
                b = int(found.any(2).sum(1).ne(1).nonzero()[0])
                utt = utts[b] if utts else f"{b + 1} of a batch"
                raise ConfigError(
                    f"label: utterance {utt} has not exactly one known value of the slot {slot!r}; "
                    "python -m espnet2_kd.bin.intent_classes names it"
                )
            wanted[slot] = found.any(1).int().argmax(1)
        return wanted
