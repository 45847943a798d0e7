"""Parts of a student that start with the teacher's weights."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.taps import module_at


def inherit(student: nn.Module, teacher: nn.Module, paths: Iterable[str]) -> None:
    """Copy the teacher's weights into the student's modules at these dotted paths, which must be alike; they stay trainable.

    A student that is narrower than its teacher can still have its prediction network and the output of its joint network, and
    so begins with what the teacher knows of spelling and has to learn to hear only.

    Raises:
        ConfigError: no such module in one of the two, or weights of other names or shapes; nothing is copied then.
    """
    pairs = []
    for path in paths:
        ours = module_at(student, path, "teacher_init")
        theirs = module_at(teacher, path, "teacher_init, in the teacher").state_dict()
        shapes = [{name: tuple(x.shape) for name, x in state.items()} for state in (ours.state_dict(), theirs)]
        for name in sorted({*shapes[0], *shapes[1]}):
            if (own := shapes[0].get(name)) != (others := shapes[1].get(name)):
                raise ConfigError(
                    f"teacher_init: {path}.{name} is {own or 'missing'} in the student and {others or 'missing'} in the "
                    "teacher; only modules of one size can be taken over"
                )
        pairs.append((ours, theirs))
    for ours, theirs in pairs:
        ours.load_state_dict(theirs)
