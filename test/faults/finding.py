"""What a row of the matrix found, and the way that most rows go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recipe import Recipe, Run, inside


@dataclass(frozen=True)
class Finding:
    """Where a fault was noticed, how the program ended, what it said, what it left behind, and what running again cost."""

    stage: str
    status: int
    message: str
    left: str
    rerun: str


def refuse(
    recipe: Recipe,
    inject: Callable[[], object],
    restore: Sequence[str],
    says: Sequence[str],
    options: Sequence[str] = ("--stop_stage", "2"),
    leaves: Sequence[str] = (),
    gone: Sequence[str] = (),
    repeats: Sequence[str] = (),
    mend: Callable[[], object] | None = None,
) -> Finding:
    """A finished recipe meets a fault, fails, is mended, and goes on.

    Args:
        inject: the fault.
        restore: files that get their content back afterwards; `mend` does it instead where it is given.
        says: patterns, each of which a line must match; the first one's line is the message.
        options: of run.sh.
        leaves: patterns of the only files that the failing run may have written.
        gone: files that it must have removed, since they are no longer right.
        repeats: patterns of the only files that the run after the fix may write.
    """
    kept = {name: (recipe.path / name).read_bytes() for name in restore}
    inject()
    before = recipe.files()
    failed = recipe.run(*options)
    assert failed.status > 0, f"status {failed.status}\n{failed.output[-3000:]}"
    for pattern in says:
        failed.line(pattern)
    left = recipe.changed(before)
    assert inside(left, *leaves), f"left behind: {left}"
    assert not [name for name in gone if (recipe.path / name).exists()], "something wrong is still there"
    if mend is None:
        for name, content in kept.items():
            recipe.write(name, content)
    else:
        mend()
    before = recipe.files()
    again = recipe.run(*options)
    assert again.status == 0, f"after the fix: {again.output[-3000:]}"
    made = recipe.changed(before)
    assert inside(made, *repeats), f"made again: {[name for name in made if not inside([name], *repeats)]}"
    return Finding(failed.stage, failed.status, failed.line(says[0]), describe(left), cost(again, made))


def describe(names: Sequence[str]) -> str:
    """Files in words."""
    if not names:
        return "nothing"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def cost(again: Run, made: Sequence[str], what: str | None = None) -> str:
    """How long running again took, and what it made."""
    return f"{again.seconds:.0f} s: {what or (f'{len(made)} files' if made else 'nothing')}"
