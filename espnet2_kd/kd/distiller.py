"""All terms of a run: builds the heads, computes the weighted losses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from espnet2_kd.kd.heads import HEADS
from espnet2_kd.kd.lattice import LatticeRows
from espnet2_kd.kd.processes import alone, together
from espnet2_kd.kd.registry import ConfigError, nearest
from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.term import Term

EDGE_FRAMES = 4
Taps = tuple[dict[str, Seq], dict[str, Seq]]  # student's and teacher's


class Distiller(nn.Module):
    """Holds every training-only parameter of a distillation; lives in the student as `kd`.

    Args:
        terms: from `parse_terms`.
        student: path -> `Seq` of one probe batch through the student.
        teacher: path -> `Seq` of the same batch through the teacher.

    Raises:
        ConfigError: student and teacher differ in frames, or, without a head that maps them, in width.
    """

    def __init__(self, terms: list[Term], student: dict[str, Seq], teacher: dict[str, Seq]) -> None:
        super().__init__()
        self.terms = terms
        self.heads = nn.ModuleDict()
        # A buffer, so that schedules continue after a resume.
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        for term in terms:
            s = student[term.student]
            teacher_taps = term.teacher_taps()
            t = teacher[teacher_taps.get("x", next(iter(teacher_taps.values())))]
            where = f"term {term.name!r}"
            keywords = HEADS.parse(term.head, where)[1]
            injected: dict[str, Any] = {"in_size": s.x.shape[-1], "teacher_size": t.x.shape[-1]}
            name = HEADS.parse(term.head, where)[0]
            if name in ("nonstreaming", "frame_rate") and s.lens is None:
                raise ConfigError(
                    f"{where}: head {name} wants frames, but {term.student!r} gives one vector for an utterance"
                )
            if name == "nonstreaming" and "lstm" not in keywords:
                injected["lstm"] = "future" in term.reads
            if term.per == "token" and s.lens is None:
                raise ConfigError(f"{where}: per token, but {term.student!r} gives one vector for an utterance")
            if name == "same_as":
                self.heads[term.name] = self._head_of(keywords.get("term"), where)
            else:
                self.heads[term.name] = HEADS.build(term.head, where, **injected)
            with torch.no_grad():
                out = self._student_values(term, student)
            if term.match is not None and not (s.lens is None or t.lens is None):
                self.compared(term, (student, teacher))  # says what the match lacks
            if term.match is None:
                _check_frames(where, term, s, out, t)
            elif s.lens is None or t.lens is None:
                raise ConfigError(f"{where}: `match` needs a sequence on both sides, not one vector for an utterance")
            for key in sorted(term.reads & {"x", "future"}):
                if term.maps is None and out[key].x.shape[-1] != t.x.shape[-1]:
                    raise ConfigError(
                        f"{where}: {out[key].x.shape[-1]} student and {t.x.shape[-1]} teacher dimensions; use `head: projection`"
                    )
            # What a loss does not like it says now, and not when the first batch comes.
            with torch.no_grad(), torch.random.fork_rng(), alone():
                _values(term, [self.compared(term, (student, teacher))], s.x.device.type)

    def _head_of(self, name: Any, where: str) -> nn.Module:
        if name not in self.heads:
            raise ConfigError(f"{where}: same_as: no earlier term {name!r}; {nearest(str(name), self.heads.keys())}")
        return self.heads[name]

    @property
    def student_paths(self) -> set[str]:
        """Paths to record in the student."""
        return {path for term in self.terms for path in term.student_taps().values()}

    def _student_values(self, term: Term, student: dict[str, Seq]) -> dict[str, Seq]:
        taps = term.student_taps()
        values = {key: student[path] for key, path in taps.items() if key != "x"}
        values.update(self.heads[term.name](student[taps["x"]]))
        return values

    def compared(self, term: Term, taps: Taps) -> tuple[dict[str, Seq], dict[str, Seq]]:
        """What the losses of a term read of both sides, by key (`x`, `future`, `q`, `k`, `v`), equally long."""
        student, teacher = taps
        targets = {key: teacher[path] for key, path in term.teacher_taps().items()}
        values = self._student_values(term, student)
        if term.match is None:
            return _common_frames(values, targets)
        sides = values["x"], targets["x"]
        with torch.autocast(sides[0].x.device.type, enabled=False):
            matched = term.match.maps(*sides, term.maps.probabilities) if term.maps else term.match.features(*sides)
        return tuple({"x": seq} for seq in matched)

    def serves(self, term: Term, taps: Taps) -> bool:
        """Whether both sides gave what the term reads; speech without labels reaches the encoder only."""
        student, teacher = taps
        return student.keys() >= set(term.student_taps().values()) and teacher.keys() >= set(
            term.teacher_taps().values()
        )

    def forward(
        self, labelled: Taps, unlabelled: Taps | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum over terms of the mean over utterances, or over tokens, of all speech that a term can use.

        Args:
            labelled, unlabelled: student's and teacher's taps, each path -> `Seq`.
            weight: weight of this process's loss in the average over processes, which makes the means those over what all
                processes have.

        Returns:
            The scalar loss, and for the log `loss_kd_<term>` (unweighted mean) and `weight_kd_<term>`.
        """
        step = int(self.step)
        total: Tensor | float = 0.0
        stats: dict[str, Tensor] = {}
        counts = torch.zeros(len(self.terms), dtype=torch.float64)
        sums: list[dict[str, Tensor]] = []
        for number, term in enumerate(self.terms):
            passes = [labelled]
            if unlabelled is not None and self.serves(term, unlabelled):
                passes.append(unlabelled)
            sides = [self.compared(term, taps) for taps in passes]
            values = _values(term, sides, labelled[0][term.student].x.device.type)
            counts[number] = _count(term, sides)
            sums.append({name: value.sum() for name, value in values.items()})
        means = 1.0 / counts.clamp(min=1.0) * _corrections(counts, weight)
        for number, term in enumerate(self.terms):
            for name, (_, schedule) in term.losses.items():
                value = sums[number][name] * float(means[number])
                term_weight = schedule(step)
                total = total + term_weight * value
                stats[f"loss_kd_{name}"] = value.detach()
                stats[f"weight_kd_{name}"] = value.new_tensor(term_weight)
        if self.training:
            self.step += 1
        return total, stats


def _values(term: Term, sides: list[tuple[dict[str, Seq], dict[str, Seq]]], device: str) -> dict[str, Tensor]:
    """Log name -> losses of the utterances of all passes."""
    # Sums over time and softmaxes over many keys lose digits in half precision.
    with torch.autocast(device, enabled=False):
        return {name: torch.cat([loss(*side) for side in sides]) for name, (loss, _) in term.losses.items()}


def _count(term: Term, sides: list[tuple[dict[str, Seq], dict[str, Seq]]]) -> float:
    """Utterances, or valid tokens, of all passes."""
    read = [next(iter(student.values())) for student, _ in sides]
    if term.per == "utterance":
        return float(sum(len(seq.x) for seq in read))
    return float(sum(int(seq.lens.sum()) for seq in read))


def _corrections(counts: Tensor, weight: Tensor | None) -> Tensor:
    """What makes the mean over the `counts` of this process count right among all processes, for each term.

    ESPnet2's trainer averages the losses of the processes by their weights: the labelled utterances of most models, the labels
    of a CIF recogniser. A mean over anything else would have to be weighted by the number of that.
    """
    if weight is None or not together():
        return torch.ones_like(counts)
    here = torch.cat((counts, weight.detach().reshape(1).to(counts))).to(weight.device)
    everywhere = here.clone()
    torch.distributed.all_reduce(everywhere)
    here, everywhere = here.cpu(), everywhere.cpu()
    return here[:-1] / here[-1] * everywhere[-1] / everywhere[:-1].clamp(min=1.0)


def _check_frames(where: str, term: Term, s: Seq, out: dict[str, Seq], t: Seq) -> None:
    if all(_same_frames(value.x.shape[:-1], t.x.shape[:-1]) for value in out.values()):
        return
    shapes = f"{where}: student tap {term.student!r} gives {list(s.x.shape)} and teacher tap {term.teacher!r} {list(t.x.shape)}"
    if t.labels is not None and t.label_lens is None:
        raise ConfigError(
            f"{shapes} on the same text; the student tap must give a vector per label, and one more if `eos` in teacher_conf"
        )
    raise ConfigError(
        f"{shapes} on the same audio; both need the same frame rate (front-end hop and subsampling), or a head between: `head: {{frame_rate: {{up: 2}}}}`, or "
        "`up: 2` in a `nonstreaming` head, where the teacher has twice as many frames"
    )


def _same_frames(s: torch.Size, t: torch.Size) -> bool:
    """Whether `(B, T, ...)` agree, but for what front-ends and subsamplings without padding leave out at the end."""
    if len(s) != len(t) or s[:1] != t[:1] or s[2:] != t[2:]:
        return False
    return s == t or (abs(s[1] - t[1]) <= EDGE_FRAMES and 8 * abs(s[1] - t[1]) <= t[1])


def _common_frames(student: dict[str, Seq], teacher: dict[str, Seq]) -> tuple[dict[str, Seq], dict[str, Seq]]:
    """Both sides with the shorter of their lengths.

    Subsamplings differ in which last frames they count: ESPnet2's one that begins in an utterance, ours one that lies in it.
    """
    lens = [seq.lens for seq in (*student.values(), *teacher.values()) if seq.lens is not None]
    if not lens:
        return student, teacher
    shortest = torch.stack([x.to(lens[0].device) for x in lens]).amin(0)
    num_frames = min(seq.x.shape[1] for seq in (*student.values(), *teacher.values()))
    return tuple({key: _cut(seq, num_frames, shortest) for key, seq in side.items()} for side in (student, teacher))


def _cut(seq: Seq, num_frames: int, lens: Tensor) -> Seq:
    x = seq.x
    if x.shape[1] > num_frames:
        x = x.first(num_frames) if isinstance(x, LatticeRows) else x[:, :num_frames]
    return replace(seq, x=x, lens=lens.clamp(max=num_frames))
