"""Faults found in a user's data, reported all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One fault of one utterance: where it is, what is wrong and what to do; `line` 0 means the file as a whole."""

    file: str
    line: int
    utt: str
    what: str
    remedy: str
    fatal: bool = True

    def __str__(self) -> str:
        what = self.what if self.fatal else f"warning: {self.what}"
        return f"{self.file}:{self.line}: {self.utt}: {what}: {self.remedy}"


class DataError(ValueError):
    """Raised with every problem found, so that one run is enough to see them all."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = list(problems)
        super().__init__("\n".join([*map(str, self.problems), count_line(self.problems)]))


def count_line(problems: Iterable[Problem]) -> str:
    """Summarise `problems` as one line."""
    problems = list(problems)
    errors = sum(p.fatal for p in problems)
    return f"{errors} problem(s), {len(problems) - errors} warning(s)"


def raise_if_fatal(problems: Iterable[Problem]) -> None:
    """Raise DataError with all of `problems` when at least one of them is fatal."""
    problems = list(problems)
    if any(p.fatal for p in problems):
        raise DataError(problems)


def one_problem(file: str | PathLike, what: str, remedy: str, line: int = 0, utt: str = "-") -> DataError:
    """Make the DataError of a single problem."""
    return DataError([Problem(str(file), line, utt, what, remedy)])


def require_two_places(source: str | PathLike, target: str | PathLike) -> None:
    """Raise DataError where what is to be written would take the place of what is read."""
    if Path(source).resolve() == Path(target).resolve():
        raise one_problem(target, "source and target are the same directory", "give two directories")


def first_line(error: BaseException) -> str:
    """Give the first line of what an exception says, or its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
