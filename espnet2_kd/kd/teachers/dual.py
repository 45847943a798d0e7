"""A student that teaches itself with what it hears when it may hear everything."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from espnet2_kd.kd.lattice import JOINT, lattice_hook
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.taps import in_encoder, module_at, record, resolve_lens, tellers
from espnet2_kd.kd.teachers import TEACHERS
from espnet2_kd.kd.teachers.teacher import Teacher


@TEACHERS.add("dual")
class DualModeTeacher(Teacher):
    """The student with full context: all weights shared, both modes trained at once (dual-mode ASR, Yu et al., ICLR 2021).

    The task loss of the full-context pass is added to the student's; targets carry no gradient. Both passes read the same masked
    features, and a causal convolution stays causal. Batch normalisation would mix the statistics of both modes: `conv_norm:
    layer_norm` keeps them apart.

    Args:
        weight: of the full-context task loss.
    """

    def __init__(self, weight: float = 1.0) -> None:
        if weight < 0:
            raise ConfigError(f"teacher dual: weight {weight} must not be negative")
        self.weight = weight
        self.paths: set[str] = set()
        self.loss: Tensor | None = None

    def join(self, student: nn.Module) -> None:
        if not hasattr(getattr(student, "encoder", None), "full_context"):
            name = type(getattr(student, "encoder", None)).__name__
            raise ConfigError(f"teacher dual: encoder {name} cannot change its context; use `encoder: chunk_conformer`")
        self.model = student

    def watch(self, paths: set[str]) -> None:
        for path in paths:
            module_at(self.model, path, "teacher tap")
        self.paths = set(paths)

    def shared_paths(self, student: nn.Module) -> set[str]:
        return {"specaug"} if getattr(student, "specaug", None) is not None else set()

    def observe(self, batch: dict[str, Any], shared: dict[str, Any]) -> dict[str, Seq]:
        # Below distillation, once the student is distilled: this pass is not to be taught.
        forward = getattr(self.model, "forward_task", self.model)
        paths = self.paths if "text" in batch else {path for path in self.paths if in_encoder(path)}
        with (
            record(self.model, paths - {JOINT} | tellers(paths)) as recorded,
            self.model.encoder.full_context(),
            ExitStack() as hooks,
        ):
            if "specaug" in shared:
                masked = shared["specaug"]
                hook = self.model.specaug.register_forward_hook(lambda module, args, output: masked)
                hooks.callback(hook.remove)
            if JOINT in paths:
                hooks.callback(self.model.joint_network.register_forward_pre_hook(lattice_hook(recorded)).remove)
            if "text" in batch:
                self.loss = self.weight * forward(**batch)[0]
            else:
                self.model.encode(batch["speech"], batch["speech_lengths"])
        missing = sorted(paths - recorded.keys())
        if missing:
            raise ConfigError(f"teacher taps that never run: {', '.join(missing)}")
        resolved = resolve_lens(recorded, batch)
        return {path: seq.with_x(seq.x.detach()) for path, seq in resolved.items()}

    def take_loss(self) -> Tensor | None:
        loss, self.loss = self.loss, None
        return loss
