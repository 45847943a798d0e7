"""Contrastive distillation against loops in float64, its sampling, and several processes."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.losses.contrastive import Contrastive
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq

LENS = [5, 2, 0, 3]
POOL = [(b, i) for b, n in enumerate(LENS) for i in range(n)]


def batch(labels=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sides = []
    for _ in range(2):
        x = torch.randn(len(LENS), max(LENS), 6, generator=generator)
        x[~(torch.arange(max(LENS)) < torch.tensor(LENS)[:, None])] = torch.nan
        sides.append(Seq(x, torch.tensor(LENS), labels=labels))
    return {"x": sides[0]}, {"x": sides[1]}


def cosine(a, b):
    a, b = a.double(), b.double()
    return float(a @ b / math.sqrt(float(a @ a) * float(b @ b)))


def by_definition(student, teacher, negatives, temperature):
    """One number per utterance; negatives: anchor -> tokens of the pool."""
    losses = [0.0] * len(LENS)
    for b, i in POOL:
        q = student["x"].x[b, i]
        logits = [cosine(q, teacher["x"].x[where]) / temperature for where in [(b, i), *negatives((b, i))]]
        losses[b] += math.log(sum(math.exp(value - logits[0]) for value in logits))
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 0.02])
def test_all_others_as_negatives(temperature):
    student, teacher = batch()
    loss = Contrastive(temperature, num_negatives=None)(student, teacher)
    expected = by_definition(student, teacher, lambda own: [t for t in POOL if t != own], temperature)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)
    assert loss[2] == 0


def test_gradients_do_not_touch_padding_or_teacher():
    student, teacher = batch()
    x = student["x"].x.requires_grad_()
    teacher["x"].x.requires_grad_()
    Contrastive(0.5)(student, teacher).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad[0].abs().sum() > 0 and x.grad[2].eq(0).all() and x.grad[1, 2:].eq(0).all()

    def loss(values):
        full = torch.zeros_like(x, dtype=torch.float64).masked_scatter(student["x"].mask[:, :, None], values)
        return Contrastive(0.5, num_negatives=None)(
            {"x": Seq(full, student["x"].lens)}, {"x": teacher["x"].with_x(teacher["x"].x.detach())}
        )

    values = student["x"].x.detach()[student["x"].mask].double().requires_grad_()
    loss(values).sum().backward()
    step, direction = 1e-3, torch.randn(values.shape, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        slope = (loss(values + step * direction) - loss(values - step * direction)).sum() / (2 * step)
    assert float((values.grad * direction).sum()) == pytest.approx(float(slope), rel=2e-2)


@pytest.mark.parametrize(("asked", "drawn"), [(3, 3), (8, 8), (9, 9), (10, 8), (700, 8)])
def test_each_token_draws_so_many_and_never_itself(asked, drawn):
    """Of 10 tokens; with no more than are asked for, 80 %. Every other token must come equally often."""
    loss, counts = Contrastive(num_negatives=asked), torch.zeros(10, 10)
    torch.manual_seed(0)
    for _ in range(600):
        keep = loss._draw(torch.arange(10), 10, torch.device("cpu"))
        assert keep.sum(1).eq(drawn).all() and not keep.diagonal().any()
        counts += keep
    others = counts[~torch.eye(10, dtype=torch.bool)] / 600
    assert (others - drawn / 9).abs().max() < 0.1


def test_sampled_value_is_that_of_the_drawn_tokens():
    student, teacher = batch()
    loss = Contrastive(0.1, num_negatives=4)
    torch.manual_seed(3)
    keep = loss._draw(torch.arange(10), 10, torch.device("cpu"))
    torch.manual_seed(3)
    value = loss(student, teacher)
    chosen = {own: [POOL[j] for j in keep[k].nonzero().flatten().tolist()] for k, own in enumerate(POOL)}
    torch.testing.assert_close(value.double(), by_definition(student, teacher, chosen.get, 0.1), rtol=1e-4, atol=1e-5)


def test_equal_labels_are_no_negatives():
    labels = torch.tensor([[1, 2, 3, 1, 2], [3, 1, 0, 0, 0], [0] * 5, [4, 4, 1, 0, 0]])
    student, teacher = batch(labels)
    value = Contrastive(0.3, num_negatives=None, mask_same=True)(student, teacher)

    def negatives(own):
        return [t for t in POOL if labels[t] != labels[own]]

    torch.testing.assert_close(value.double(), by_definition(student, teacher, negatives, 0.3), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="mask_same needs the labels"):
        Contrastive(mask_same=True)(*batch())


@pytest.mark.parametrize("lens", [[0, 0], [1, 0]])
def test_without_another_token_there_is_nothing_to_tell_apart(lens):
    x = torch.randn(2, 3, 4, requires_grad=True)
    loss = Contrastive()({"x": Seq(x, torch.tensor(lens))}, {"x": Seq(torch.randn(2, 3, 4), torch.tensor(lens))})
    assert torch.equal(loss, torch.zeros(2))
    loss.sum().backward()
    assert x.grad.isfinite().all()


SCRIPT = """
import sys, torch
from espnet2_kd.kd.losses.contrastive import Contrastive
from espnet2_kd.kd.seq import Seq
folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
part = torch.load(f"{folder}/part.{rank}.pt")
s, t = (Seq(part[name], part["lens"], labels=part["labels"]) for name in ("s", "t"))
loss = Contrastive(0.3, num_negatives=None, mask_same=True, gather=True)({"x": s}, {"x": t})
torch.save(loss, f"{folder}/loss.{rank}.pt")
torch.distributed.destroy_process_group()  # a process may hang at its exit otherwise
"""


def test_negatives_of_all_processes(tmp_path):
    labels = torch.arange(20).view(4, 5) % 6
    student, teacher = batch(labels)
    for rank, rows in enumerate(([0], [1, 2, 3])):
        part = {"s": student["x"].x[rows], "t": teacher["x"].x[rows], "labels": labels[rows]}
        torch.save({**part, "lens": torch.tensor(LENS)[rows]}, tmp_path / f"part.{rank}.pt")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    jobs = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path, str(rank), "2"], env=environment) for rank in (0, 1)
    ]
    assert [job.wait(120) for job in jobs] == [0, 0]
    found = torch.cat([torch.load(tmp_path / f"loss.{rank}.pt") for rank in (0, 1)])
    torch.testing.assert_close(found, Contrastive(0.3, num_negatives=None, mask_same=True)(student, teacher))


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="must be positive"):
        LOSSES.build({"contrastive": {"temperature": 0}}, "test")
    with pytest.raises(ConfigError, match="at least 1"):
        LOSSES.build({"contrastive": {"num_negatives": 0}}, "test")
