"""How alike the layers of two models are: linear CKA (Kornblith et al., ICML 2019), and the taps it proposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from espnet2_kd.kd.seq import Seq


class LinearCKA:
    """Linear centred kernel alignment between every layer of one model and every layer of another, over any number of batches.

    With X `(N, P)` and Y `(N, Q)`, the centred features of N frames: `|Y'X|^2 / (|X'X| |Y'Y|)` in Frobenius norms; 1 where one
    is a rotation and scaling of the other, near 0 where they share nothing. Sums are kept in float64, so that memory does not
    grow with N: all pairs of layers need P x Q numbers each.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[tuple[str, str], Tensor] = {}
        self.products: dict[tuple[tuple[str, str], tuple[str, str]], Tensor] = {}

    def add(self, student: Mapping[str, Seq], teacher: Mapping[str, Seq]) -> None:
        """Count a batch in: path -> `Seq` `(B, T, D)` of both, with the same frames."""
        sides = {("student", path): seq for path, seq in student.items()}
        sides |= {("teacher", path): seq for path, seq in teacher.items()}
        num_frames = min(seq.x.shape[1] for seq in sides.values())
        mask = torch.stack([seq.mask[:, :num_frames] for seq in sides.values()]).all(0)
        rows = {key: seq.x[:, :num_frames][mask].double() for key, seq in sides.items()}
        self.count += int(mask.sum())
        for a, x in rows.items():
            self.sums[a] = self.sums.get(a, 0) + x.sum(0)
            for b, y in rows.items():
                if a == b or (a[0] == "student" and b[0] == "teacher"):
                    self.products[a, b] = self.products.get((a, b), 0) + x.T @ y

    def matrix(self) -> Tensor:
        """`(student layers, teacher layers)` in the order of the first batch; NaN for a layer that never changes."""
        layers = {side: [key for key in self.sums if key[0] == side] for side in ("student", "teacher")}
        norms = {key: torch.linalg.matrix_norm(self._centred(key, key)) for key in self.sums}
        return torch.stack(
            [
                torch.stack([self._centred(s, t).square().sum() / (norms[s] * norms[t]) for t in layers["teacher"]])
                for s in layers["student"]
            ]
        )

    def _centred(self, a: tuple[str, str], b: tuple[str, str]) -> Tensor:
        return self.products[a, b] - torch.outer(self.sums[a], self.sums[b]) / self.count


def propose_taps(matrix: Tensor, num_taps: int) -> list[tuple[int, int]]:
    """Pairs (student layer, teacher layer), counted from 0, with the greatest sum of similarities.

    One pair in each of `num_taps` equal bands of student layers, so that the whole depth is taught; teacher layers rise with
    student layers.

    Args:
        matrix: `(S, T)` similarities; NaN counts as none.

    Raises:
        ValueError: more taps than layers of either model.
    """
    num_student, num_teacher = matrix.shape
    if not 1 <= num_taps <= min(num_student, num_teacher):
        raise ValueError(f"{num_taps} taps of {num_student} student and {num_teacher} teacher layers")
    values = matrix.nan_to_num(0.0).tolist()
    # best[t]: the best pairs up to this band whose last teacher layer is t.
    best: dict[int, tuple[float, list[tuple[int, int]]]] = {-1: (0.0, [])}
    for band in range(num_taps):
        rows = range(band * num_student // num_taps, (band + 1) * num_student // num_taps)
        found: dict[int, tuple[float, list[tuple[int, int]]]] = {}
        for t in range(num_teacher):
            before = [best[last] for last in best if last < t]
            if not before:
                continue
            total, pairs = max(before, key=lambda entry: entry[0])
            s = max(rows, key=lambda row: (values[row][t], row))
            found[t] = (total + values[s][t], [*pairs, (s, t)])
        best = found
    return max(best.values(), key=lambda entry: entry[0])[1]


def layers_of(paths: Sequence[str]) -> list[str]:
    """Of the paths of a model's submodules, those of its encoder's layers, `encoder.encoders.<n>` or `<...>layers.<n>`, in order."""
    for parent in ("encoder.encoders", "encoder.layers", "layers"):
        layers = [path for path in paths if path.rpartition(".")[0] == parent and path.rpartition(".")[2].isdigit()]
        if layers:
            return layers
    return []
