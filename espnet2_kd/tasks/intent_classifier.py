"""A trained classifier of intents: from a waveform to intents in one call."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from espnet2_kd.asr.audio_input import Audio, plain_samples, to_samples
from espnet2_kd.asr.framing import fewest_samples
from espnet2_kd.asr.load import load_model, sample_rate
from espnet2_kd.data.audio import AudioFault
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.slu.intent_model import IntentModel
from espnet2_kd.tasks.intent import IntentTask

Intents = dict[str, tuple[str, float]]


class IntentClassifier:
    """Answers `{slot: (value, probability)}`.

    Attributes:
        rate: sampling rate in Hz that it wants.
        ears: SHA-256 of the recogniser's checkpoint; "" where it is not known.
    """

    def __init__(self, model: IntentModel, rate: int, ears: str = "") -> None:
        self.model, self.rate, self.ears = model, rate, ears

    @classmethod
    def from_pretrained(
        cls, exp: str | Path, model_file: str = "valid.acc.ave.pth", device: str = "cpu"
    ) -> IntentClassifier:
        """Load an experiment directory, a pack, or a name on the hub; raises ExperimentError."""
        model, args = load_model(exp, model_file, device, task=IntentTask)
        return cls(model, sample_rate(args), getattr(args, "acoustic_sum", ""))

    def __call__(self, speech: Audio) -> Intents:
        """Of a file, `(samples, rate)`, samples `(N,)` at `rate`, or slow frames `(T, D)` that `bin.acoustic_frames` took.

        Raises AudioFault for a file that cannot be read, and for less than its first frame needs.
        """
        if not isinstance(speech, (str, PathLike, tuple)) and speech.ndim == 2:
            return self.batch([speech])[0]
        samples, fewest = to_samples(speech, self.rate), fewest_samples(self.model)
        if len(samples) < fewest:
            what = f"{1000 * len(samples) / self.rate:.0f} ms of sound, of which nothing can be told"
            raise AudioFault(what, f"record at least {1000 * fewest / self.rate:.0f} ms")
        return self.batch([samples])[0]

    def batch(self, speech: Sequence[np.ndarray | torch.Tensor]) -> list[Intents]:
        """Of several, all samples or all frames; silence is added to samples of less than a frame.

        Raises ConfigError for frames of a recogniser of another width, ValueError for samples of another shape than `(N,)`.
        """
        if not speech:
            return []
        if np.ndim(speech[0]) == 2:
            # Copied: what kaldiio reads cannot be written to, which torch warns of.
            rows = [torch.tensor(np.asarray(x), dtype=torch.float32) for x in speech]
            size = self.model.encoder.output_size()
            if any(row.shape[1] != size for row in rows):
                raise ConfigError(f"frames of {rows[0].shape[1]} values; this classifier's recogniser gives {size}")
        else:
            fewest = fewest_samples(self.model)
            plain = [torch.from_numpy(plain_samples(x)) for x in speech]
            rows = [torch.nn.functional.pad(row, (0, max(0, fewest - len(row)))) for row in plain]
        device = next(self.model.parameters()).device
        lens = torch.tensor([len(row) for row in rows], device=device)
        return self.model.predict(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device), lens)
