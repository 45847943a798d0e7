"""One HTML file that holds everything: text, charts, sounds, programs."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from espnet2_kd.report.page.blocks import Block, figures_in

TABS = {
    "summary": "Summary",
    "curves": "Learning curves",
    "utterances": "Utterances",
    "errors": "Errors",
    "costs": "Costs",
    "about": "About",
}
SCRIPTS = ("theme.js", "charts.js", "curves.js", "words.js", "timeline.js", "utterances.js", "matrix.js", "tabs.js")
# Nothing may be loaded, and no program but those below may run, whatever a transcript has in it. Charts set styles.
POLICY = (
    "default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; media-src data:; "
    "base-uri 'none'; form-action 'none'"
)
ROOM_FOR_TABLES = 0.5e6


@dataclass(frozen=True)
class Page:
    """All that a page shows.

    synthetic: what is to be known of synthetic speech, or nothing.
    tabs: blocks of the tabs `summary`, `errors`, `costs` and `about`; the others are made by programs from `data`.
    pictures: of trainings.
    data: plain values.
    """

    title: str
    synthetic: str
    tabs: Mapping[str, Sequence[Block]]
    pictures: Sequence[Mapping[str, Any]]
    data: Mapping[str, Any]


def render(page: Page) -> str:
    """Write the page as one text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("espnet2_kd.report.page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    scripts = [plotly_script(), "\n".join(_file(name) for name in SCRIPTS)]
    figures = {figure.name: figure for blocks in page.tabs.values() for figure in figures_in(blocks)}
    data = {
        **page.data,
        "figures": {name: {"traces": figure.traces, "layout": figure.layout} for name, figure in figures.items()},
    }
    return environment.get_template("page.html").render(
        page=page,
        tabs=TABS,
        style=_file("style.css"),
        scripts=scripts,
        policy=POLICY.format(hashes=" ".join(f"'sha256-{_hash(script)}'" for script in scripts)),
        data=as_json(data),
    )


def room_for_media(megabytes: float) -> int:
    """Bytes that are left for utterances and pictures in a page of so many megabytes; 0 where there is no room."""
    return max(0, round(megabytes * 1e6 - len(plotly_script()) - ROOM_FOR_TABLES))


def as_json(values: Any) -> str:
    """Write values as JSON that can neither end nor begin an element of a page; raises ValueError for NaN."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@functools.cache
def plotly_script() -> str:
    """The program that draws charts, as the installed package has it."""
    from plotly.offline import get_plotlyjs

    # The element ends where the parser first meets its end tag, in a string of the program too.
    return get_plotlyjs().replace("</script", "<\\/script")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _file(name: str) -> str:
    return (files("espnet2_kd.report.page") / "templates" / name).read_text(encoding="utf-8")
