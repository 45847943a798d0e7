"""How the terms of a training went, epoch by epoch, from what it logged."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from espnet2_kd.data.documents import NUMBER, read_json
from espnet2_kd.data.problems import DataError

_RESULTS = re.compile(r"INFO: (\d+)epoch results: (.*)")
_PART = re.compile(r"\[(\w+)\] ")
_VALUE = re.compile(r"(\w+)=([-+\d.e]+|nan|-?inf)(?=, |$)")
_PLANNED = re.compile(r"INFO: \d+/(\d+)epoch started")
# What a training logs of itself rather than of what it learns.
_NOT_SHOWN = re.compile(r".*_time|total_count|time|clip|loss_scale|.*_mem_.*")
GPU_MEMORY = re.compile(r"gpu_max_cached_mem_GB=([\d.]+)")
TEXT_TERMS = {"loss": ("train", "loss"), "valid_loss": ("valid", "loss"), "valid_accuracy": ("valid", "acc")}

Series = dict[str, dict[int, float]]


@dataclass
class Curves:
    """Values by term and epoch, of training and validation; the epochs that were planned; GPU memory in GB."""

    train: Series = field(default_factory=dict)
    valid: Series = field(default_factory=dict)
    planned: int | None = None
    gpu_gb: float | None = None

    @property
    def num_epochs(self) -> int:
        return max((epoch for part in (self.train, self.valid) for term in part.values() for epoch in term), default=0)

    @property
    def terms(self) -> list[str]:
        return sorted({*self.train, *self.valid}, key=_order)


def read_curves(exp: Path) -> Curves:
    """Read `train.log`, after the logs of earlier parts of the training (`train.log.1`, ...), or `train.json`.

    Of an epoch that was trained twice the later counts. Lines that are no such results are passed over.
    """
    logs = sorted(exp.glob("train.log.*"), key=lambda path: int(path.suffix[1:]) if path.suffix[1:].isdigit() else 0)
    curves = Curves()
    for log in [*logs, exp / "train.log"]:
        if log.is_file():
            _read_log(log, curves)
    if not curves.num_epochs and (exp / "train.json").is_file():
        _read_text_training(exp / "train.json", curves)
    return curves


def _read_log(log: Path, curves: Curves) -> None:
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if found := _RESULTS.search(line):
                epoch, parts = int(found[1]), _PART.split(found[2])
                for name, text in zip(parts[1::2], parts[2::2], strict=False):
                    if name in ("train", "valid"):
                        _add(getattr(curves, name), epoch, text)
                if memory := GPU_MEMORY.search(line):
                    curves.gpu_gb = max(curves.gpu_gb or 0.0, float(memory[1]))
            elif found := _PLANNED.search(line):
                curves.planned = int(found[1])


def _add(series: Series, epoch: int, text: str) -> None:
    for name, value in _VALUE.findall(text.strip().removesuffix(",")):
        if _NOT_SHOWN.fullmatch(name):
            continue
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):
            series.setdefault(name, {})[epoch] = number


def _read_text_training(path: Path, curves: Curves) -> None:
    """What a text classifier writes down of its epochs."""
    try:
        epochs = read_json(path, {"epochs": list})["epochs"]
    except DataError:
        return
    for number, epoch in enumerate(epochs, 1):
        for key, (part, term) in TEXT_TERMS.items():
            if isinstance(epoch, dict) and isinstance(epoch.get(key), NUMBER) and math.isfinite(epoch[key]):
                getattr(curves, part).setdefault(term, {})[number] = float(epoch[key])


def _order(term: str) -> tuple[int, str]:
    """The sum first, then what it is made of, weights, accuracies, the rest."""
    groups = ("loss", "loss_task", "loss_kd_", "weight_kd_", "loss_", "acc", "cer", "wer")
    exact = [n for n, group in enumerate(groups[:2]) if term == group]
    starts = [n for n, group in enumerate(groups) if n > 1 and term.startswith(group)]
    return (exact or starts or [len(groups)])[0], term
