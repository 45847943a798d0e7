"""What the driver knows of arrays in a scheduler's hands, for people."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

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
        found[path.parent.name] = f"{path.parent.name} on {text['backend']}: {summary(text['states'])}"
    return found


def summary(states: dict[str, list[str]]) -> str:
    """Count states, and say why jobs wait or have failed: `8 jobs, 5 done, 2 pending (Resources), 1 failed (7: exit code 1)`."""
    counts = Counter(state for state, _ in states.values())
    parts = [f"{len(states)} jobs"]
    for state, count in counts.most_common():
        if state == "failed":
            why = [f"{number}: {detail}" for number, (word, detail) in states.items() if word == state]
        else:
            why = (
                []
                if state == "running"
                else sorted({detail for word, detail in states.values() if word == state and detail})
            )
        more = f"; and {len(why) - SHOWN} more" if len(why) > SHOWN else ""
        parts.append(f"{count} {state}" + (f" ({'; '.join(why[:SHOWN])}{more})" if why else ""))
    return ", ".join(parts)
