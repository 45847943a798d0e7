"""What is random in the preparation of an utterance depends on seed, epoch and utterance, and on nothing else."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

# How likely ESPnet2's preprocessing adds something to the speech.
ADDED = ("rir_apply_prob", "noise_apply_prob")


class SeededPreprocess:
    """A preprocessing function with random numbers of its own for every utterance of every epoch.

    ESPnet2 seeds the processes that read data, so that noise and reverberation depend on how many there are and on all that
    each has read before. A training that goes on in the middle of an epoch would have to read it all again.

    quiet_epochs: so many epochs at the beginning are without the noise and the reverberation that ESPnet2 adds. A recogniser that
        hears speech in quiet first finds out sooner when the words are said.
    epoch: of all trainings of this process.
    """

    epoch = 0

    def __init__(
        self, preprocess: Callable[[str, dict[str, Any]], dict[str, Any]], seed: int, quiet_epochs: int = 0
    ) -> None:
        self.preprocess, self.seed, self.quiet_epochs = preprocess, seed, quiet_epochs
        self.added = {name: getattr(preprocess, name) for name in ADDED if hasattr(preprocess, name)}

    def __getstate__(self) -> dict[str, Any]:
        # Processes that are started afresh get the instance, not the class's attribute.
        return {**self.__dict__, "epoch": self.epoch}

    def __call__(self, uid: str, data: dict[str, Any]) -> dict[str, Any]:
        for name, probability in self.added.items():
            setattr(self.preprocess, name, probability if self.epoch > self.quiet_epochs else 0.0)
        seed = zlib.crc32(f"{self.seed} {self.epoch} {uid}".encode())
        python, numpy = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            try:
                return self.preprocess(uid, data)
            finally:
                random.setstate(python)
                np.random.set_state(numpy)
