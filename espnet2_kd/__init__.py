"""Knowledge distillation of streaming speech models on ESPnet2 recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from espnet2_kd.tasks.pretrained import from_pretrained

__version__ = "0.1.0"
__all__ = ["from_pretrained"]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: torch and ESPnet2 take seconds, and most of our commands need neither.
    if name == "from_pretrained":
        from espnet2_kd.tasks.pretrained import from_pretrained

        return from_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
