"""Pictures of intent classification: what is taken for what, and what noise does to the accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike

import numpy as np

from espnet2_kd.data.table import replacing

# Inches: of a class, of a letter beside it, and around the matrix.
CELL, LETTER, MARGIN = 0.19, 0.075, 0.6
MIN_MATRIX = 2.2
# Beyond this many classes a number no longer fits into its cell.
NUM_WITH_NUMBERS = 16
FONTS = ["DejaVu Sans", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "SimHei"]


@dataclass(frozen=True)
class Curve:
    """One system over SNRs.

    snr_db, mean, std: one of each per point, percent; std 0 where there is one seed.
    clean: mean and std without noise, if known.
    """

    system: str
    snr_db: Sequence[float]
    mean: Sequence[float]
    std: Sequence[float]
    clean: tuple[float, float] | None


def confusion_matrix(counts: Mapping[tuple[str, str], int]) -> tuple[list[str], np.ndarray]:
    """Turn counts of (reference, hypothesis) into the values that occur, sorted, and counts (V, V), reference first."""
    values = sorted({value for pair in counts for value in pair})
    places = {value: place for place, value in enumerate(values)}
    matrix = np.zeros((len(values), len(values)), dtype=int)
    for (ref, hyp), count in counts.items():
        matrix[places[ref], places[hyp]] += count
    return values, matrix


def plot_confusions(path: str | PathLike, slot: str, counts: Mapping[tuple[str, str], int]) -> None:
    """Draw the matrix of a slot, each row in percent of its utterances, with the values that occur.

    The picture grows with the number of values. A value that is only ever recognised has an empty row.
    """
    from matplotlib import colormaps, rc_context
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    values, matrix = confusion_matrix(counts)
    totals = matrix.sum(1, keepdims=True)
    shares = np.where(totals > 0, 100 * matrix / np.maximum(totals, 1), np.nan)
    labels = [f"{value} ({total})" for value, total in zip(values, totals[:, 0], strict=True)]
    cell = CELL * 2 if len(values) <= NUM_WITH_NUMBERS else CELL
    size = max(MIN_MATRIX, cell * len(values))
    left, bottom = (MARGIN + LETTER * max(map(len, names)) for names in (labels, values))
    width, height = left + size + 2 * MARGIN, bottom + size + MARGIN
    with rc_context({"font.sans-serif": FONTS}):
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((left / width, bottom / height, size / width, size / height))
        palette = colormaps["Blues"].with_extremes(bad="0.92")
        # By the square root, or the few per cent that are wrong would look like none.
        image = axes.imshow(shares, norm=PowerNorm(0.5, 0, 100), cmap=palette, aspect="auto")
        bar = figure.add_axes(((left + size + 0.15) / width, bottom / height, 0.15 / width, size / height))
        figure.colorbar(image, cax=bar, label="% of the row").ax.tick_params(labelsize=7)
        axes.set_xticks(range(len(values)), values, rotation=90, fontsize=7)
        axes.set_yticks(range(len(values)), labels, fontsize=7)
        axes.set_xlabel("recognised", fontsize=9)
        axes.set_ylabel("reference (utterances)", fontsize=9)
        right = int(np.trace(matrix))
        axes.set_title(f"{slot}: {right} of {matrix.sum()} right", fontsize=9)
        # Lines between the cells, since a single dark one is hard to follow to its label.
        axes.set_xticks(np.arange(len(values) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(values) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="0.85", linewidth=0.4)
        axes.tick_params(which="minor", length=0)
        if len(values) <= NUM_WITH_NUMBERS:
            _write_numbers(axes, shares)
        with replacing(path, "wb") as stream:
            figure.savefig(stream, format="png", dpi=130)


def _write_numbers(axes, shares: np.ndarray) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if share > 0:
            colour = "white" if share > 40 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=6.5, color=colour)


def plot_accuracy(path: str | PathLike, curves: Sequence[Curve], title: str) -> None:
    """Draw exact match over SNR with standard deviations, one line per system; `clean` stands to the right of all SNRs.

    Colours, markers and strokes all differ, so that it can be read without colour; a system without SNRs is a level.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    snrs = sorted({snr for curve in curves for snr in curve.snr_db})
    step = min((b - a for a, b in pairwise(snrs)), default=5.0)
    has_clean = any(curve.clean for curve in curves)
    at_clean = snrs[-1] + 1.5 * step
    with rc_context({"font.sans-serif": FONTS}):
        figure = Figure(figsize=(6.4, 4.4 + 0.2 * len(curves)), layout="constrained")
        axes = figure.subplots()
        for number, curve in enumerate(curves):
            # Beside each other, or the bars of one hide those of another.
            aside = 0.04 * step * (number - (len(curves) - 1) / 2)
            style = {"color": f"C{number % 10}", "linewidth": 1.4}
            if not curve.snr_db:
                if curve.clean:
                    axes.axhline(curve.clean[0], linestyle=(0, (1, 1.5)), label=f"{curve.system}, clean", **style)
                continue
            style |= {"marker": "osD^vP*Xh<"[number % 10], "markersize": 4, "capsize": 3, "elinewidth": 1}
            stroke = ("-", "--", "-.", ":")[number % 4]
            x = [snr + aside for snr in curve.snr_db]
            axes.errorbar(x, curve.mean, curve.std, linestyle=stroke, label=curve.system, **style)
            if curve.clean:
                axes.errorbar([at_clean + aside], [curve.clean[0]], [curve.clean[1]], linestyle="none", **style)
        ticks = [*snrs, at_clean] if has_clean else snrs
        axes.set_xticks(ticks, [*(f"{snr:g}" for snr in snrs), "clean"][: len(ticks)])
        axes.set_xlabel("SNR (dB)")
        axes.set_ylabel("exact match (%), mean ± standard deviation over seeds")
        axes.set_title(title, fontsize="medium")
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        with replacing(path, "wb") as stream:
            figure.savefig(stream, format="png", dpi=200)
