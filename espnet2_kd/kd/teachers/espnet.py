"""An ESPnet2 model as a teacher."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet2_kd.kd.lattice import JOINT, lattice_hook
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.taps import in_encoder, module_at, record, resolve_lens, tellers
from espnet2_kd.kd.teachers import TEACHERS
from espnet2_kd.kd.teachers.teacher import Teacher

INPUTS = ("clean", "same")
CHECKPOINT = "valid.loss_transducer.ave.pth"


class _Enough(Exception):
    """Everything that is watched has been seen: the rest of the forward pass would be for nothing."""


class ModelTeacher(Teacher):
    """Any ESPnet2 model in memory.

    Taps inside the encoder cost one encoder pass; taps beyond it (`ctc.ctc_lo`, `decoder...`, `joint_network`) cost the model's
    whole forward pass on the student's own labels. Where nothing is tapped after the lattice of a transducer, the pass ends there.

    Args:
        input: `clean` (default) gives the teacher the audio without SpecAugment; `same` hands it the student's masked features.
    """

    def __init__(self, model: nn.Module, input: str = "clean") -> None:
        if input not in INPUTS:
            raise ConfigError(f"teacher input {input!r}: one of {', '.join(INPUTS)}")
        self.model = model.eval().requires_grad_(False)
        self.input = input
        self.paths: set[str] = set()
        self.student_tokens: list[str] | None = None
        # In eval mode ESPnet2 models decode every batch to report error rates; a teacher's are not wanted.
        for calculator in ("error_calculator", "error_calculator_trans"):
            if getattr(model, calculator, None) is not None:
                setattr(model, calculator, None)

    def join(self, student: nn.Module) -> None:
        self.student_tokens = getattr(student, "token_list", None)

    def watch(self, paths: set[str]) -> None:
        for path in paths:
            module_at(self.model, path, "teacher tap")
        tokens = getattr(self.model, "token_list", None)
        told = sorted(path for path in paths if not in_encoder(path))
        if told and None not in (tokens, self.student_tokens) and list(tokens) != list(self.student_tokens):
            raise ConfigError(
                f"teacher taps {', '.join(told)}: the teacher has other tokens than the student ({len(tokens)} and "
                f"{len(self.student_tokens)}), and what it says of labels would be of others; take the same token list, or taps in the encoder"
            )
        self.paths = set(paths)

    def shared_paths(self, student: nn.Module) -> set[str]:
        return {"specaug"} if self.input == "same" and getattr(student, "specaug", None) is not None else set()

    @torch.no_grad()
    def observe(self, batch: dict[str, Any], shared: dict[str, Any]) -> dict[str, Seq]:
        self._follow(batch["speech"].device)
        paths = self.paths if "text" in batch else {path for path in self.paths if in_encoder(path)}
        with record(self.model, paths - {JOINT} | tellers(paths)) as recorded, ExitStack() as hooks:
            if "specaug" in shared:
                features = shared["specaug"]
                hook = self.model.frontend.register_forward_hook(lambda module, args, output: features)
                hooks.callback(hook.remove)
            if JOINT in paths:
                joint = module_at(self.model, JOINT, "teacher tap")
                hooks.callback(joint.register_forward_pre_hook(lattice_hook(recorded)).remove)
                hooks.callback(joint.register_forward_pre_hook(self._stop_when_seen(recorded)).remove)
            if all(in_encoder(path) for path in paths):
                self.model.encode(batch["speech"], batch["speech_lengths"])
            else:
                with suppress(_Enough):
                    self.model(**batch)
        missing = sorted(paths - recorded.keys())
        if missing:
            raise ConfigError(f"teacher taps that never run: {', '.join(missing)}")
        return resolve_lens(recorded, batch)

    def _stop_when_seen(self, recorded: dict[str, Any]):
        def stop(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if self.paths <= recorded.keys():
                raise _Enough

        return stop

    def _follow(self, device: torch.device) -> None:
        # The trainer moves the student only; the teacher is outside its module tree.
        if next(self.model.parameters()).device != device:
            self.model.to(device)


@TEACHERS.add("espnet")
class EspnetTeacher(ModelTeacher):
    """An ESPnet2 experiment: its own `config.yaml` and a checkpoint.

    Args:
        exp: the directory; or a packed model: a zip of ESPnet2's model zoo, its unpacked directory, or its name on the hub.
        checkpoint: file name in the directory; a packed model has one of its own.
        task: ESPnet2 task of the model (`asr`, `slu`, `st`, ...).
        input: see `ModelTeacher`.
    """

    def __init__(self, exp: str, checkpoint: str = CHECKPOINT, task: str = "asr", input: str = "clean") -> None:
        from espnet2_kd.asr.load import load_model

        model, _ = load_model(Path(exp), checkpoint, "cpu", task=task)
        super().__init__(model, input)

    @staticmethod
    def files(exp: str, checkpoint: str = CHECKPOINT, **conf: Any) -> list[Path]:
        """The files that decide what this teacher says."""
        from espnet2_kd.asr.load import find_model

        return list(find_model(exp, checkpoint))
