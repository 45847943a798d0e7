"""Charts of recognisers: what is better, how sure that is, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from espnet2_kd.report.comparison import Comparison, Row, Spread
from espnet2_kd.report.metric import METRICS, WORDS
from espnet2_kd.report.page.blocks import Figure
from espnet2_kd.report.page.costs import Disk
from espnet2_kd.report.page.errors import LengthBin
from espnet2_kd.report.significance import Interval

ROW_HEIGHT = 46
LATENCIES = {"emission_delay_ms": "mean emission delay (ms)", "first_token_ms": "mean time to first token (ms)"}
# A chart of systems by name has these to its left: without limits a long name leaves no chart.
MAX_NAME = 34


def short(name: str) -> str:
    """A name that fits beside a chart: names often differ at their ends, so it is cut in the middle."""
    return name if len(name) <= MAX_NAME else f"{name[:12]}…{name[13 - MAX_NAME :]}"


def rates(comparison: Comparison, order: Mapping[str, int], name: str) -> Figure | None:
    """Error rates with their intervals, and those of single trainings."""
    label = comparison.metric.label
    scored = _scored(comparison)
    if not scored:
        return None
    traces = []
    for row, rate in scored:
        interval = row.interval
        bounds = _bounds(Interval(rate.mean, 100 * interval.low, 100 * interval.high) if interval else None)
        traces.append(
            _point(row, order, rate.mean, f"{rate.mean:.2f} %", bounds)
            | {"hovertemplate": f"%{{y}}<br>{label} %{{text}}<extra></extra>"}
        )
        if len(rate.values) > 1:
            traces.append(
                {
                    **{"type": "scatter", "mode": "markers", "system": order[row.name], "hollow": True},
                    **{"x": list(rate.values.values()), "y": [short(row.name)] * len(rate.values)},
                    "text": [f"seed {seed}" for seed in rate.values],
                    "hovertemplate": f"%{{y}}, %{{text}}<br>{label} %{{x:.2f}} %<extra></extra>",
                }
            )
    layout = _by_name(len(scored), f"{label} (%), 95 % interval")
    title = f"{_title(comparison)}, {comparison.test_set}"
    return Figure(name, title, traces, layout, "Small open marks: single trainings.")


def changes(comparison: Comparison, order: Mapping[str, int], name: str) -> Figure | None:
    """Relative changes of the error rate against the base, with their intervals."""
    rows = [row for row in comparison.rows if row.change and math.isfinite(row.change.relative.value)]
    if not rows:
        return None
    traces = []
    for row in rows:
        relative = row.change.relative
        percent = Interval(100 * relative.value, 100 * relative.low, 100 * relative.high)
        traces.append(
            _point(row, order, percent.value, f"{percent.value:+.1f} %", _bounds(percent))
            | {"hovertemplate": "%{y}<br>%{text}<extra></extra>"}
        )
    layout = _by_name(len(rows), f"change of the {comparison.metric.label} (%); left is better")
    layout["xaxis"]["zeroline"] = True
    return Figure(name, f"Change against {comparison.base}, {comparison.test_set}", traces, layout)


def latency(comparison: Comparison, order: Mapping[str, int], name: str) -> Figure | None:
    """Error rate against latency: of the two measured the one that more systems have."""
    scored = _scored(comparison)
    known = {key: [(row, rate) for row, rate in scored if (row.speed or {}).get(key)] for key in LATENCIES}
    key = max(known, key=lambda one: len(known[one]))
    if not known[key]:
        return None
    return _trade(known[key], order, name, lambda row: row.speed[key].mean, LATENCIES[key], comparison)


def size(comparison: Comparison, order: Mapping[str, int], name: str) -> Figure | None:
    """Error rate against the number of parameters."""
    scored = [(row, rate) for row, rate in _scored(comparison) if row.num_parameters]
    if not scored:
        return None
    return _trade(scored, order, name, lambda row: row.num_parameters / 1e6, "parameters (millions)", comparison)


def _scored(comparison: Comparison) -> list[tuple[Row, Spread]]:
    """The rows that were scored, with the rate that they are compared by."""
    return [(row, rate) for row in comparison.rows if (rate := row.rate(comparison.metric))]


def _title(comparison: Comparison) -> str:
    return f"{comparison.metric.unit.capitalize()} error rate"


def _trade(
    scored: Sequence[tuple[Row, Spread]],
    order: Mapping[str, int],
    name: str,
    x_of: Callable[[Row], float],
    label: str,
    comparison: Comparison,
) -> Figure:
    metric = comparison.metric.label
    traces = [
        {
            **{"type": "scatter", "mode": "markers", "name": row.name, "system": order[row.name], "big": True},
            **{"x": [x_of(row)], "y": [rate.mean], "error_y": _std(rate)},
            "hovertemplate": f"%{{fullData.name}}<br>{label}: %{{x:.4g}}<br>{metric} %{{y:.2f}} %<extra></extra>",
        }
        for row, rate in scored
    ]
    layout = {
        "xaxis": {"title": {"text": label}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": f"{metric} (%)"}},
        **{"showlegend": True, "height": 360},
    }
    return Figure(name, f"{_title(comparison)} against {label.split(' (')[0]}, {comparison.test_set}", traces, layout)


def contexts(points: Sequence[Mapping[str, Any]], where: str, name: str) -> Figure | None:
    """What `wer_latency.json` says: error rate over algorithmic latency, a line for each system."""
    lines: dict[str, list[tuple[float, float, str]]] = {}
    metric = METRICS[points[0].get("metric", WORDS.key)]
    for point in points:
        delay = (point.get("stream") or {}).get("algorithmic_latency_ms")
        if delay is not None:
            label = (
                f"chunk {point['chunk_ms']:g} ms, left {point['left_ms']}" if point.get("chunk_ms") else "full context"
            )
            lines.setdefault(str(point["system"]), []).append((float(delay), float(point[metric.key]), label))
    if not lines:
        return None
    traces = [
        {
            **{"type": "scatter", "mode": "lines+markers", "name": system, "system": n},
            **dict(zip(("x", "y", "text"), map(list, zip(*sorted(line), strict=True)), strict=True)),
            "hovertemplate": f"%{{fullData.name}}, %{{text}}<br>%{{x:.0f}} ms<br>{metric.label} %{{y:.2f}} %<extra></extra>",
        }
        for n, (system, line) in enumerate(lines.items())
    ]
    layout = {
        "xaxis": {"title": {"text": "algorithmic latency (ms)"}},
        "yaxis": {"title": {"text": f"{metric.label} (%)"}},
        **{"showlegend": True, "height": 360},
    }
    return Figure(name, f"Error rate against latency, by context: {where}", traces, layout)


def by_length(bins: Mapping[str, Sequence[LengthBin]], order: Mapping[str, int], name: str, title: str, unit: str):
    """Error rates of systems over the length of the reference."""
    traces = [
        {
            **{"type": "scatter", "mode": "lines+markers", "name": system, "system": order[system]},
            **{"x": [one.label for one in some], "y": [one.rate for one in some]},
            "text": [f"{one.num_utts} utterances" for one in some],
            "hovertemplate": f"%{{fullData.name}}<br>%{{x}} {unit}, %{{text}}<br>%{{y:.2f}} %<extra></extra>",
        }
        for system, some in bins.items()
    ]
    layout = {
        "xaxis": {"title": {"text": f"{unit} in the reference"}, "type": "category"},
        "yaxis": {"title": {"text": "errors (%)"}, "rangemode": "tozero"},
        **{"showlegend": True, "height": 340},
    }
    return Figure(name, title, traces, layout)


def by_noise(
    levels: Sequence[str],
    spreads: Mapping[str, Sequence[Spread | None]],
    order: Mapping[str, int],
    name: str,
    title: str,
    label: str,
) -> Figure:
    """A rate of systems over SNRs, `levels` being how these are called, quiet first."""
    traces = [
        {
            **{"type": "scatter", "mode": "lines+markers", "name": system, "system": order[system]},
            **{"x": list(levels), "y": [spread and spread.mean for spread in some], "connectgaps": False},
            "error_y": {
                **{"type": "data", "array": [(spread.std or 0) if spread else 0 for spread in some]},
                "visible": any(spread and spread.std for spread in some),
            },
            "hovertemplate": f"%{{fullData.name}}<br>%{{x}}<br>{label} %{{y:.2f}} %<extra></extra>",
        }
        for system, some in spreads.items()
        if any(some)
    ]
    layout = {
        "xaxis": {"title": {"text": "signal-to-noise ratio"}, "type": "category"},
        "yaxis": {"title": {"text": f"{label} (%)"}},
        **{"showlegend": True, "height": 360},
    }
    return Figure(name, title, traces, layout, "Bars: standard deviation over seeds.")


def disk(disks: Sequence[Disk], name: str) -> Figure | None:
    """The largest directories."""
    largest = disks[:12]
    if not largest:
        return None
    traces = [
        {
            **{"type": "bar", "orientation": "h", "system": 0, "x": [one.size / 1e6 for one in largest]},
            **{"y": [short(one.where) for one in largest]},
            "hovertemplate": "%{y}<br>%{x:.1f} MB<extra></extra>",
        }
    ]
    return Figure(name, "Disk space", traces, _by_name(len(largest), "MB", 30))


def _point(row: Row, order: Mapping[str, int], x: float, text: str, bounds: dict[str, Any]) -> dict[str, Any]:
    return {
        **{"type": "scatter", "mode": "markers", "system": order[row.name], "big": True},
        **{"x": [x], "y": [short(row.name)], "text": [text], "error_x": bounds},
    }


def _bounds(interval: Interval | None) -> dict[str, Any]:
    if interval is None or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return {"visible": False}
    return {
        **{"type": "data", "symmetric": False, "visible": True},
        **{"array": [interval.high - interval.value], "arrayminus": [interval.value - interval.low]},
    }


def _std(spread: Spread) -> dict[str, Any]:
    return {"type": "data", "array": [spread.std or 0.0], "visible": bool(spread.std)}


def _by_name(num_rows: int, label: str, row_height: int = ROW_HEIGHT) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": label}, "zeroline": False},
        "yaxis": {"type": "category", "autorange": "reversed", "automargin": True},
        **{"showlegend": False, "height": 110 + row_height * num_rows},
    }
