"""One distillation term as the user writes it, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from torch import nn

from espnet2_kd.kd.heads import HEADS
from espnet2_kd.kd.heads.nonstreaming import NonStreaming
from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.match import MATCHES
from espnet2_kd.kd.registry import ConfigError, as_keywords, nearest
from espnet2_kd.kd.schedule import build_schedule
from espnet2_kd.kd.taps import ATTENTION

KEYS = ("name", "student", "head", "teacher", "match", "loss", "losses", "weight", "per")
PER = ("utterance", "token")


@dataclass
class Term:
    """Student tap, head and teacher tap with one or more weighted losses.

    Attributes:
        name: in log names (`loss_kd_<name>_<loss>`, or `loss_kd_<name>` for a single `loss`).
        student: tap path in the student.
        teacher: tap path in the teacher.
        head: spec of the head; every loss of the term reads the same forward pass of it.
        losses: log name -> (loss, schedule: step -> weight).
        match: how frames meet word pieces, where the student hears and the teacher reads; None: both have the same frames.
        per: what the losses are divided by in a batch: the utterances, or the tokens (rows of the tapped sequence).
        teacher_attention: where a layer of the teacher keeps its projections.
    """

    name: str
    student: str
    teacher: str
    head: str | dict[str, Any]
    losses: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    per: str = "utterance"
    match: Any = None
    teacher_attention: Mapping[str, str] = field(default_factory=lambda: ATTENTION)

    @property
    def reads(self) -> set[str]:
        """What the losses read of head and teacher: `x`, `future`, `q`, `k`, `v`."""
        return {key for loss, _ in self.losses.values() for key in loss.reads}

    @property
    def maps(self) -> Any:
        """The loss of attention maps, if there is one."""
        return next((loss for loss, _ in self.losses.values() if getattr(loss, "compares_maps", False)), None)

    def student_taps(self) -> dict[str, str]:
        """Key -> path of what is recorded in the student.

        Attention projections come from the tapped layer itself, unless the head brings its own (the non-streaming branch).
        """
        taps = {"x": self.student}
        if HEADS.parse(self.head, self.name)[0] != "nonstreaming":
            taps.update({key: self.student + suffix for key, suffix in ATTENTION.items() if key in self.reads})
        return taps

    def teacher_taps(self) -> dict[str, str]:
        """Key -> path of what is recorded in the teacher; a `future` loss reads the teacher's `x`."""
        taps = {key: self.teacher + suffix for key, suffix in self.teacher_attention.items() if key in self.reads}
        if self.reads & {"x", "future"}:
            taps["x"] = self.teacher
        return taps


def _check_shift(term: Term, head: Mapping[str, Any], where: str) -> None:
    """A mask that hides frames must hide the one that is predicted."""
    hidden = head.get("shift", signature(NonStreaming).parameters["shift"].default)
    for loss, _ in term.losses.values():
        if "future" in loss.reads and head.get("mask", "none") != "none" and loss.shift != hidden:
            raise ConfigError(
                f"{where}: the `future` loss predicts {loss.shift} frames ahead and the mask of the head is for {hidden}: give both the same `shift`"
            )


def parse_terms(specs: list[Mapping[str, Any]]) -> list[Term]:
    """Check and build the list `kd_terms` of a config.

    Each entry: `{name, student, teacher, head: identity, loss: <loss>, weight: <number or schedule>}`, or, for several losses
    on one head, `losses: {<loss>: {weight: ..., <keyword>: ...}}`. `teacher` defaults to the student's path, `per` to
    `utterance`; `match` is one of `MATCHES`, where frames meet words.

    Raises:
        ConfigError: unknown or missing key, double name, wrong loss, head or keyword; the message names the term.
    """
    if not isinstance(specs, (list, tuple)):
        raise ConfigError(f"kd_terms: a list of terms is expected, not {type(specs).__name__}")
    terms: list[Term] = []
    for number, spec in enumerate(specs, start=1):
        if not isinstance(spec, Mapping):
            raise ConfigError(f"kd_terms[{number}]: a mapping is expected, not {spec!r}")
        where = f"kd_terms[{number}]" + (f" ({spec['name']})" if "name" in spec else "")
        for key in spec:
            if key not in KEYS:
                raise ConfigError(f"{where}: unknown key {key!r}; {nearest(key, KEYS)}")
        for key in ("name", "student"):
            if not spec.get(key):
                raise ConfigError(f"{where}: `{key}` is missing")
        name = str(spec["name"])
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ConfigError(
                f"{where}: the name must be letters, digits and underscores: it becomes part of log names"
            )
        if name in (t.name for t in terms):
            raise ConfigError(f"{where}: two terms are named {name!r}")
        if hasattr(nn.ModuleDict, name):
            raise ConfigError(
                f"{where}: {name!r} is a name that torch keeps for itself; take another, such as {name}_term"
            )
        if ("loss" in spec) == ("losses" in spec):
            raise ConfigError(f"{where}: give either `loss` with `weight`, or `losses`")
        term = Term(name, str(spec["student"]), str(spec.get("teacher", spec["student"])), spec.get("head", "identity"))
        term.per = spec.get("per", term.per)
        if term.per not in PER:
            raise ConfigError(f"{where}: per: {term.per!r}; {nearest(str(term.per), PER)}")
        HEADS.parse(term.head, where)
        if spec.get("match") is not None:
            term.match = MATCHES.build(spec["match"], where)
        if "loss" in spec:
            if "weight" not in spec:
                raise ConfigError(f"{where}: `weight` is missing")
            term.losses[name] = (LOSSES.build(spec["loss"], where), build_schedule(spec["weight"], where))
        else:
            if "weight" in spec:
                raise ConfigError(f"{where}: with `losses`, each loss has its own `weight`")
            if not spec["losses"]:
                raise ConfigError(f"{where}: `losses` names none")
            for loss, keywords in as_keywords(spec["losses"], f"{where}: losses").items():
                keywords = as_keywords(keywords, f"{where}: loss {loss!r}")
                if "weight" not in keywords:
                    raise ConfigError(f"{where}: loss {loss!r} has no `weight`")
                weight = build_schedule(keywords.pop("weight"), where)
                term.losses[f"{name}_{loss}"] = (LOSSES.build({loss: keywords}, where), weight)
        for log_name in term.losses:
            if owner := next((t.name for t in terms if log_name in t.losses), None):
                raise ConfigError(
                    f"{where}: loss_kd_{log_name} in the log would be that of term {owner!r}, too; rename one"
                )
        if "future" in term.reads:
            head, keywords = HEADS.parse(term.head, where)
            if head != "nonstreaming" or keywords.get("lstm") is False:
                raise ConfigError(f"{where}: the `future` loss reads the LSTM of a `nonstreaming` head")
            _check_shift(term, keywords, where)
        if term.maps and (len(term.losses) > 1 or HEADS.parse(term.head, where)[0] != "identity"):
            raise ConfigError(
                f"{where}: attention maps are compared by themselves; give this term no head and no other loss"
            )
        if term.match is not None and term.reads != {"x"}:
            raise ConfigError(
                f"{where}: `match` makes outputs of layers equally long, not {', '.join(sorted(term.reads))}"
            )
        if term.per == "token" and getattr(term.match, "one_vector", False):
            raise ConfigError(f"{where}: per token, but this match leaves one vector for an utterance")
        terms.append(term)
    return terms
