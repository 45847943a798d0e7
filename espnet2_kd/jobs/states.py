"""What the driver knows of arrays in a scheduler's hands, for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from espnet2_kd.jobs import record

SHOWN = 3  # reasons


def read_states(logdir: Path) -> dict[str, str]:
    """Sum up every array whose logs lie in a directory, by the array's name.

    Jobs are told from the states that their driver has written down last; an array of another user's is left out.
    """
    found = {}
    for path in sorted(logdir.glob("q/*/states.json")):
        try:
            text = json.loads(path.read_text(encoding="utf-8"))
        except (PermissionError, json.JSONDecodeError):
            continue
        places = {
            number: _place(path.with_name(f"{number}.json"))
            for number, (state, _) in text["states"].items()
            if state == "running"
        }
        found[path.parent.name] = f"{path.parent.name} on {text['backend']}: {summary(text['states'], places)}"
    return found


def _place(path: Path) -> str:
    """Where a task runs, as which of the scheduler's jobs, and since when, if its node has said so."""
    try:
        known = record.read(path)
    except OSError:
        return ""
    if known is None or not known.began:
        return ""
    job = f", job {known.task}" if known.task else ""
    return f"{known.host}{job}, since {datetime.fromtimestamp(known.began):%m-%d %H:%M}"


def summary(states: dict[str, list[str]], places: Mapping[str, str] | None = None) -> str:
    """Count states, and say why jobs wait or have failed: `8 jobs, 5 done, 2 pending (Resources), 1 failed (7: exit code 1)`.

    places: where those that run do.
    """
    counts = Counter(state for state, _ in states.values())
    parts = [f"{len(states)} jobs"]
    for state, count in counts.most_common():
        if state == "failed":
            why = [f"{number}: {detail}" for number, (word, detail) in states.items() if word == state]
        elif state == "running":
            why = [f"{number}: {place}" for number, place in (places or {}).items() if place]
        else:
            why = sorted({detail for word, detail in states.values() if word == state and detail})
        more = f"; and {len(why) - SHOWN} more" if len(why) > SHOWN else ""
        parts.append(f"{count} {state}" + (f" ({'; '.join(why[:SHOWN])}{more})" if why else ""))
    return ", ".join(parts)
