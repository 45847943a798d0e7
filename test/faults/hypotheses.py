"""Faults of what was decoded: scoring refuses, and scores what has not changed no second time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from finding import Finding, refuse
from recipe import DECODED, Recipe

TEXT = f"{DECODED}/text"


def score(recipe: Recipe, inject: Callable[[], object], says: Sequence[str]) -> Finding:
    """The student's hypotheses are damaged; the teacher's scores, and the student's old ones, must not be reported for them."""
    return refuse(
        recipe,
        inject,
        [TEXT],
        says,
        options=("--stage", "7", "--stop_stage", "7"),
        gone=[f"{DECODED}/score.json", f"{DECODED}/.scored"],
        repeats=[f"{DECODED}/score*", f"{DECODED}/.scored"],
    )
