"""What leaves a file called `executed` behind, should anything run it."""

from __future__ import annotations

import os

from recipe import Recipe, Run


class Program:
    """Runs a command when it is unpickled without care."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def program(recipe: Recipe) -> Program:
    """One for this recipe."""
    return Program(f"touch {recipe.path}/executed")


def refused(recipe: Recipe, run: Run, pattern: str) -> str:
    """The line that refuses; AssertionError where the program has run, or the command went well."""
    assert not (recipe.path / "executed").exists(), "executed"
    assert run.status > 0, run.output[-3000:]
    return run.line(pattern)
