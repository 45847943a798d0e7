"""The models that listen."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet2_kd.asr.decode_config import DecodeConfig
from espnet2_kd.asr.framing import encoder_frame_ms
from espnet2_kd.asr.load import ExperimentError, find_model
from espnet2_kd.asr.model_pack import is_pack
from espnet2_kd.asr.recognizer import Recognizer
from espnet2_kd.data.documents import read_yaml
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.live.streams import IntentStream, Stream, WholeWordStream, WordStream
from espnet2_kd.tasks.intent_classifier import IntentClassifier

# What the recipes choose, and before a training has ended the best so far.
CHECKPOINTS = tuple(
    f"valid.{metric}.{kind}.pth" for kind in ("ave", "best") for metric in ("loss_transducer", "acc", "loss")
)


@dataclass(frozen=True)
class System:
    """A model that any number of streams share.

    name: its title.
    about: what a client is told of it: `kind` (words or intents), `mode` (streaming or full_context), `rate`, `chunk_ms` and
        `lookahead_ms` (None with full context), `guess_ms` (None when streaming), `note` (why a model with chunks does not
        stream here, or None).
    open_stream: makes an utterance of audio at a rate in Hz.
    thread: where it computes, one piece after the other, so that no two streams use a model at once.
    """

    name: str
    about: dict[str, Any]
    open_stream: Callable[[int], Stream]
    thread: ThreadPoolExecutor = field(repr=False)

    def warm_up(self) -> None:
        """Hear a second of noise: the first run pays for memory and for tables that are made late."""
        rate = self.about["rate"]
        noise = np.random.default_rng(0).normal(0.0, 0.05, rate).astype(np.float32)
        self.thread.submit(self.open_stream(rate).accept, noise, True).result()


def load_system(
    exp: str | Path,
    name: str | None = None,
    model_file: str | None = None,
    config: str | Path | None = None,
    device: str = "cpu",
    num_threads: int = 1,
    guess_ms: float = 1000.0,
) -> System:
    """Load a recogniser or a classifier of intents: an experiment directory, a pack, or a name on the hub.

    model_file: checkpoint; None takes the first of CHECKPOINTS that is there.
    config: decoding settings of a recogniser; None: those that it was scored with, else greedy search.
    guess_ms: see `WholeStream`.

    Raises ExperimentError, PackError, ConfigError and DataError.
    """
    model_file = model_file or choose_checkpoint(exp)
    settings = read_yaml(find_model(exp, model_file)[0])
    name = name or Path(exp).name
    thread = ThreadPoolExecutor(1, f"model {name}", torch.set_num_threads, (num_threads,))
    # Only the task of intents has this option.
    if isinstance(settings, dict) and "acoustic_file" in settings:
        if config is not None:
            raise ConfigError(f"{exp}: is a classifier of intents, which has no decoding settings: leave out {config}")
        classifier = IntentClassifier.from_pretrained(exp, model_file, device)
        about = _about(name, "intents", classifier.rate, guess_ms)
        return System(name, about, lambda rate: IntentStream(classifier, rate, guess_ms), thread)
    recognizer = Recognizer.load(exp, model_file, DecodeConfig.for_model(exp, config), device)
    try:
        encoder = recognizer.streaming_encoder()
    except ConfigError as error:
        streams, note = False, str(error)
    else:
        streams, note = encoder.mode == "streaming", None
    if streams:
        about = _about(name, "words", recognizer.rate, None) | {
            "mode": "streaming",
            "chunk_ms": encoder.chunk_ms,
            "lookahead_ms": encoder.lookahead_ms,
        }
        return System(name, about, lambda rate: WordStream(recognizer, rate), thread)
    frame_ms = encoder_frame_ms(recognizer.model)
    about = _about(name, "words", recognizer.rate, guess_ms) | {"note": note}
    return System(name, about, lambda rate: WholeWordStream(recognizer, rate, guess_ms, frame_ms), thread)


def choose_checkpoint(exp: str | Path) -> str:
    """Return the name of the checkpoint to take; a pack has one of its own. Raises ExperimentError where there is none."""
    exp = Path(exp)
    if is_pack(exp):
        return CHECKPOINTS[0]
    for name in CHECKPOINTS:
        if (exp / name).is_file():
            return name
    there = sorted(path.name for path in exp.glob("*.pth"))
    if not exp.is_dir():
        raise ExperimentError(f"{exp}: no such experiment directory")
    raise ExperimentError(
        f"{exp}: no averaged or best checkpoint: train further, or choose with --model_file: {', '.join(there) or 'none there'}"
    )


def _about(name: str, kind: str, rate: int, guess_ms: float | None) -> dict[str, Any]:
    full = {"mode": "full_context", "chunk_ms": None, "lookahead_ms": None, "guess_ms": guess_ms, "note": None}
    return {"name": name, "kind": kind, "rate": rate, **full}
