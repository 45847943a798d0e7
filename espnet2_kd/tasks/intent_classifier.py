"""A trained classifier of intents: from a waveform to intents in one call."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from espnet2_kd.asr.audio_input import Audio, to_samples
from espnet2_kd.asr.load import load_model, sample_rate
from espnet2_kd.slu.intent_model import IntentModel
from espnet2_kd.tasks.intent import IntentTask

Intents = dict[str, tuple[str, float]]


class IntentClassifier:
    """Answers `{slot: (value, probability)}`.

    Attributes:
        rate: sampling rate in Hz that it wants.
    """

    def __init__(self, model: IntentModel, rate: int) -> None:
        self.model, self.rate = model, rate

    @classmethod
    def from_pretrained(
        cls, exp: str | Path, model_file: str = "valid.acc.ave.pth", device: str = "cpu"
    ) -> IntentClassifier:
        """Load an experiment directory, a pack, or a name on the hub; raises ExperimentError."""
        model, args = load_model(exp, model_file, device, task=IntentTask)
        return cls(model, sample_rate(args))

    def __call__(self, speech: Audio) -> Intents:
        """Of a file, `(samples, rate)`, samples `(N,)` at `rate`, or slow frames `(T, D)` that `bin.acoustic_frames` took."""
        taken = not isinstance(speech, (str, PathLike, tuple)) and speech.ndim == 2
        return self.batch([speech if taken else to_samples(speech, self.rate)])[0]

    def batch(self, speech: Sequence[np.ndarray | torch.Tensor]) -> list[Intents]:
        """Of several, all samples or all frames."""
        # Copied: what kaldiio reads cannot be written to, which torch warns of.
        rows = [x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x)) for x in speech]
        device = next(self.model.parameters()).device
        lens = torch.tensor([len(row) for row in rows], device=device)
        return self.model.predict(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device), lens)
