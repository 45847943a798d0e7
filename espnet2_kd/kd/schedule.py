"""How the weight of a distillation term changes over training steps."""

from __future__ import annotations

import math

from espnet2_kd.kd.registry import ConfigError, Registry, fits

SCHEDULES = Registry("schedule")


@SCHEDULES.add("constant")
class Constant:
    """The same weight at every step."""

    def __init__(self, weight: float) -> None:
        self.weight = float(weight)

    def __call__(self, step: int) -> float:
        return self.weight


@SCHEDULES.add("warmup")
class Warmup:
    """Zero until `start` (steps), then linear up to `weight` over `steps`, then constant."""

    def __init__(self, weight: float, steps: int, start: int = 0) -> None:
        self.weight, self.steps, self.start = float(weight), max(int(steps), 1), int(start)

    def __call__(self, step: int) -> float:
        return self.weight * min(max((step - self.start) / self.steps, 0.0), 1.0)


@SCHEDULES.add("cosine")
class Cosine:
    """From `weight` down to `final` over `steps` along half a cosine, then `final`."""

    def __init__(self, weight: float, steps: int, final: float = 0.0) -> None:
        self.weight, self.steps, self.final = float(weight), max(int(steps), 1), float(final)

    def __call__(self, step: int) -> float:
        done = min(step / self.steps, 1.0)
        return self.final + (self.weight - self.final) * 0.5 * (1.0 + math.cos(math.pi * done))


def build_schedule(spec: float | dict, where: str):
    """A number is a constant weight; `{warmup: {...}}` or `{cosine: {...}}` is a schedule: step -> weight."""
    if isinstance(spec, (int, float)) and not isinstance(spec, bool):
        if not fits(spec, float):
            raise ConfigError(f"{where}: weight: a finite number is expected, not {spec!r:.80}")
        return Constant(spec)
    if isinstance(spec, str) and spec not in SCHEDULES.classes:
        raise ConfigError(
            f"{where}: weight: a number, or a schedule such as {{warmup: {{...}}}}, is expected, not {spec!r:.80}"
        )
    return SCHEDULES.build(spec, where)
