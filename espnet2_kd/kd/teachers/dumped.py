"""A teacher whose features lie on disk."""

from __future__ import annotations

from typing import Any

from espnet2_kd.kd.registry import ConfigError, nearest
from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.teachers import TEACHERS
from espnet2_kd.kd.teachers.teacher import Teacher


@TEACHERS.add("dumped")
class DumpedTeacher(Teacher):
    """Reads features that the data loader brings along, so no teacher runs.

    Args:
        taps: teacher path as the terms name it -> data name, for example `{encoder.encoders.3: teacher_1}` with
            `--train_data_path_and_name_and_type dump/teacher/layer4.scp,teacher_1,kaldi_ark` (`(T, D)` per utterance).
    """

    def __init__(self, taps: dict[str, str]) -> None:
        self.taps = dict(taps)
        self.paths: set[str] = set()

    def watch(self, paths: set[str]) -> None:
        for path in paths:
            if path not in self.taps:
                raise ConfigError(f"teacher dumped: no data name for tap {path!r}; {nearest(path, self.taps)}")
        self.paths = paths

    def observe(self, batch: dict[str, Any], shared: dict[str, Any]) -> dict[str, Seq]:
        observed = {}
        for path in self.paths:
            name = self.taps[path]
            if name not in batch and "text" not in batch:
                continue
            if name not in batch:
                raise ConfigError(
                    f"teacher dumped: the batch holds no {name!r}; add its scp to the training and validation data"
                )
            observed[path] = Seq(batch[name], batch[f"{name}_lengths"])
        return observed
