"""Error rates against latency: what a model in chunks loses by answering sooner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from espnet2_kd.report.markdown import table
from espnet2_kd.report.metric import WORDS

NOTES = """\
WER and CER by sclite over the whole set. Algorithmic latency: audio from the start of a chunk until its first frame can
be computed: chunk, right context of all blocks, reach of the subsampling and analysis window. First token: from the end of
the first word in the forced alignment (without one: from the start of the audio) until the first token came out; emission
delay: from the end of a word until it came out, over words recognised correctly; both include the wait for the chunk and
the computing; mean (90th percentile). RTF: computing time over audio time, on one thread unless told otherwise. Utterances
are cut beforehand: finding out that a speaker has finished (endpointing) is not part of any figure."""
UNTRAINED = "\n\n† This context did not occur in training: the model was trained with another."


@dataclass(frozen=True)
class Point:
    """One system with one context on one set.

    chunk_ms, left_ms, right_ms: the context; all None for a model with full context, infinite for all of the past.
    trained: whether the model was trained with this context.
    num_utts, num_words: size of the set that was scored.
    wer, cer: percent.
    metric: key of the one that the picture shows.
    stream: totals of `stream.json`.
    """

    system: str
    chunk_ms: float | None
    left_ms: float | None
    right_ms: float | None
    trained: bool
    num_utts: int
    num_words: int
    wer: float
    cer: float
    stream: dict[str, Any]
    metric: str = WORDS.key

    @property
    def rate(self) -> float:
        """Error rate of the metric, percent."""
        return getattr(self, self.metric)

    def mean(self, name: str) -> float | None:
        """Mean of a measured time, None where none was measured."""
        return None if self.stream[name] is None else self.stream[name]["mean"]

    def to_dict(self) -> dict[str, Any]:
        """All that is known, for JSON, which has no infinity."""
        left = "inf" if self.left_ms is not None and math.isinf(self.left_ms) else self.left_ms
        return {**asdict(self), "left_ms": left}


def render(points: Sequence[Point], data_dir: str | PathLike) -> str:
    """Write the table and what its columns mean as Markdown."""
    header = (
        *("system", "chunk ms", "left ms", "right ms", "algorithmic latency ms", "WER %", "CER %"),
        *("first token ms (p90)", "emission delay ms (p90)", "RTF"),
    )
    rows = [
        (
            f"{point.system}{'' if point.trained else ' †'}",
            *(_size(ms) for ms in (point.chunk_ms, point.left_ms, point.right_ms)),
            _ms(point.stream["algorithmic_latency_ms"]),
            f"{point.wer:.2f}",
            f"{point.cer:.2f}",
            *(_with_p90(point.stream[name]) for name in ("first_token_ms", "emission_delay_ms")),
            "-" if point.stream["rtf"] is None else f"{point.stream['rtf']:.3f}",
        )
        for point in points
    ]
    first = points[0]
    streamed = sorted({point.stream["num_utts"] for point in points})
    measured = " or ".join(map(str, streamed))
    size = f"{first.num_utts} utterances, {first.num_words} words; times over {measured} of them."
    untrained = "" if all(point.trained for point in points) else UNTRAINED
    return (
        f"# {first.metric.upper()} and latency on {data_dir}\n\n{size}\n\n{table(header, rows)}\n\n{NOTES}{untrained}\n"
    )


def draw(points: Sequence[Point], path: str | PathLike) -> None:
    """Draw the error rate over algorithmic latency and over emission delay; full context, which has no latency to plot, is a level."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    systems = list(dict.fromkeys(point.system for point in points))
    colours = {system: f"C{n}" for n, system in enumerate(systems)}
    axes = {
        "algorithmic latency (ms)": lambda point: point.stream["algorithmic_latency_ms"],
        "mean emission delay (ms)": lambda point: point.mean("emission_delay_ms"),
    }
    if all(point.mean("emission_delay_ms") is None for point in points):
        del axes["mean emission delay (ms)"]
    size = (1 + 4.5 * len(axes), 4.2)
    figure, panels = pyplot.subplots(1, len(axes), figsize=size, sharey=True, squeeze=False, layout="constrained")
    panels = panels[0]
    for panel, (label, x_of) in zip(panels, axes.items(), strict=True):
        for (system, left, right), curve in _curves(points).items():
            if left is None:
                panel.axhline(curve[0].rate, color=colours[system], linestyle=":", label=f"{system}, full context")
                continue
            known = [(x, point) for point in curve if (x := x_of(point)) is not None]
            panel.plot(
                [x for x, _ in known],
                [point.rate for _, point in known],
                color=colours[system],
                marker=_marker(points, left, right),
                label=f"{system}, left {_size(left)}, right {_size(right)} ms",
            )
            for x, point in known:
                panel.annotate(f"{point.chunk_ms:g}", (x, point.rate), (4, 4), textcoords="offset points", fontsize=7)
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"{points[0].metric.upper()} (%); numbers: chunk in ms")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _curves(points: Sequence[Point]) -> dict[tuple[str, float | None, float | None], list[Point]]:
    """The points of one system with the same left and right context, by chunk."""
    curves: dict[tuple[str, float | None, float | None], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.chunk_ms or 0.0):
        curves.setdefault((point.system, point.left_ms, point.right_ms), []).append(point)
    return curves


def _marker(points: Sequence[Point], left: float, right: float) -> str:
    contexts = sorted({(point.left_ms, point.right_ms) for point in points if point.left_ms is not None})
    return "osD^vP*Xh"[contexts.index((left, right)) % 9]


def _size(ms: float | None) -> str:
    return "full" if ms is None else "all" if math.isinf(ms) else f"{ms:g}"


def _with_p90(times: dict[str, float] | None) -> str:
    return "-" if times is None else f"{times['mean']:.0f} ({times['p90']:.0f})"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
