"""Pictures of a CIF recogniser: when its tokens fire, and how much they resemble what a teacher says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Firing:
    """What a CIF recogniser does with one utterance.

    Attributes:
        features: what the encoder reads, normalised (T, F).
        feature_ms: time between two of them.
        alpha: weights of the encoder frames, as predicted (T',).
        frame_ms: time between two encoder frames.
        fires: encoder frame in which each token fires (U,).
        tokens: the label of each, by greedy search; fewer than `fires` where the sentence ends before.
    """

    features: np.ndarray
    feature_ms: float
    alpha: Sequence[float]
    frame_ms: float
    fires: Sequence[int]
    tokens: Sequence[str]


def plot_firing(path: Path, firing: Firing, title: str) -> None:
    """Draw spectrogram, weights and fires over time, each token where it fires."""
    pyplot = _pyplot()
    seconds = len(firing.alpha) * firing.frame_ms / 1000
    width = min(20.0, max(5.0, 2.2 * seconds))
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(width, 4.5), sharex=True, layout="constrained")
    extent = (0.0, len(firing.features) * firing.feature_ms / 1000, 0, firing.features.shape[1])
    top.imshow(firing.features.T, origin="lower", aspect="auto", extent=extent, cmap="magma")
    top.set_ylabel("feature")
    top.set_title(title, fontsize="medium")
    frame = firing.frame_ms / 1000
    starts = [n * frame for n in range(len(firing.alpha))]
    bottom.bar(starts, firing.alpha, width=frame, align="edge", color="tab:blue", alpha=0.6)
    bottom.set_ylabel("weight")
    bottom.set_xlabel(f"s; the weights sum to {sum(firing.alpha):.2f}, {len(firing.fires)} tokens fire")
    bottom.set_ylim(0.0, 1.35 * max(1.0, *firing.alpha))
    height = bottom.get_ylim()[1]
    for number, index in enumerate(firing.fires):
        end = (index + 1) * frame
        for axes in (top, bottom):
            axes.axvline(end, color="tab:red", linewidth=0.8)
        # On two levels, since neighbours may be near each other.
        label = firing.tokens[number] if number < len(firing.tokens) else "·"
        bottom.text(end, height * (0.97 - 0.11 * (number % 2)), label, ha="right", va="top", fontsize="small")
    _save(path, figure)


def plot_similarity(path: Path, similarity: np.ndarray, tokens: Sequence[str], title: str) -> None:
    """Draw the cosines (U, U) of a student's tokens, downwards, with a teacher's vectors; the diagonal is what it learns."""
    pyplot = _pyplot()
    size = max(3.5, 0.28 * len(tokens) + 1.5)
    figure, axes = pyplot.subplots(figsize=(size + 0.8, size), layout="constrained")
    image = axes.imshow(similarity, vmin=-1.0, vmax=1.0, cmap="RdBu_r")
    figure.colorbar(image, ax=axes, label="cosine")
    axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize="small")
    axes.set_yticks(range(len(tokens)), tokens, fontsize="small")
    axes.set_xlabel("teacher")
    axes.set_ylabel("student")
    axes.set_title(title, fontsize="medium")
    _save(path, figure)


def _pyplot():
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    # Chinese labels need a font that has them; without one the picture is right but for boxes.
    matplotlib.rcParams["font.sans-serif"] = ["DejaVu Sans", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "SimHei"]
    return pyplot


def _save(path: Path, figure) -> None:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
