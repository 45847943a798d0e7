"""Time and memory of the distillation losses that would be large if written down plainly.

    python tools/bench/losses.py [--rounds 15] [--device cuda]

Forward and backward, one thread. Next to each loss stands the plain way: whole relation matrices, a gathered vector for every
negative (as HieraDist has it), and a lattice of the teacher beside that of the student; next to the transducer loss, torchaudio's.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics

import torch
import torch.nn.functional as F
import torchaudio.functional
from timing import ALLOCATORS, FRUGAL, again, interleaved, machine, peak_growth, ratio, refuse_if_red, table

from espnet2_kd.kd.lattice import LatticeRows
from espnet2_kd.kd.losses import LOSSES
from espnet2_kd.kd.seq import Seq
from espnet2_kd.ops.rnnt import rnnt_loss

TESTS = ("test/kd/test_losses.py", "test/kd/test_contrastive.py", "test/asr/test_rnnt_loss.py")


def plain_relation(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, num_heads: int) -> torch.Tensor:
    """MiniLMv2's loss of one relation, with all its matrices."""
    logs = []
    for x in (student, teacher):
        heads = x.unflatten(2, (num_heads, -1)).transpose(1, 2)
        logits = heads @ heads.transpose(2, 3) / math.sqrt(heads.shape[3])
        logs.append(F.log_softmax(logits.masked_fill(~mask[:, None, None], -1e30), dim=-1))
    rows = F.kl_div(logs[0], logs[1], reduction="none", log_target=True).sum(3).mean(1)
    return (rows * mask).sum()


def plain_contrastive(student: torch.Tensor, teacher: torch.Tensor, num_negatives: int) -> torch.Tensor:
    """InfoNCE with a vector `(N, K, C)` for every negative of every token."""
    num = len(student)
    weights = torch.ones(num, num, device=student.device).fill_diagonal_(0.0)
    student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    negatives = teacher[torch.multinomial(weights, num_negatives)]
    positive = (student * teacher).sum(-1, keepdim=True)
    others = (student[:, None] * negatives).sum(-1)
    logits = torch.cat((positive, others), dim=1) / 0.02
    return F.cross_entropy(logits, torch.zeros(num, dtype=torch.long, device=student.device), reduction="sum")


def plain_lattice(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL of every node of a lattice `(B, T, U, V)`."""
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="sum", log_target=True)


def relations(lens: list[int], device: str):
    """Plain and ours on Q, K and V of 8 heads, teacher 768 wide, student 256."""
    loss = LOSSES.build({"relation": {"num_heads": 8}}, "bench")
    lengths = torch.tensor(lens, device=device)
    student = [torch.randn(len(lens), max(lens), 256, device=device, requires_grad=True) for _ in "qkv"]
    teacher = [torch.randn(len(lens), max(lens), 768, device=device) for _ in "qkv"]
    mask = Seq(student[0], lengths).mask
    sides = [{k: Seq(x, lengths) for k, x in zip("qkv", xs, strict=True)} for xs in (student, teacher)]
    return {
        "plain": lambda: sum(plain_relation(s, t, mask, 8) for s, t in zip(student, teacher, strict=True)).backward(),
        "ours": lambda: loss(*sides).sum().backward(),
    }


def contrasts(num: int, num_negatives: int, device: str):
    """Plain and ours for so many tokens of 768 numbers."""
    loss = LOSSES.build({"contrastive": {"num_negatives": num_negatives}}, "bench")
    student = torch.randn(num, 768, device=device, requires_grad=True)
    teacher = torch.randn(num, 768, device=device)
    lens = torch.full((16,), num // 16, device=device)
    sides = [{"x": Seq(x.view(16, num // 16, 768), lens)} for x in (student, teacher)]
    return {
        "plain": lambda: plain_contrastive(student, teacher, num_negatives).backward(),
        "ours": lambda: loss(*sides).sum().backward(),
    }


class Joint(torch.nn.Module):
    """The usual joint network: a sum, tanh, a linear layer."""

    def __init__(self, size: int, num_classes: int) -> None:
        super().__init__()
        self.out = torch.nn.Linear(size, num_classes)

    def forward(self, encoded: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
        """`(B, T, 1, D)`, `(B, 1, U, D)` -> `(B, T, U, V)`."""
        return self.out(torch.tanh(encoded + predicted))


def lattices(device: str):
    """Plain and ours on lattices of 4 x 150 x 40 x 500; the student's logits are there already, the teacher's are not."""
    shape, size = (4, 150, 40, 500), 256
    loss = LOSSES.build({"output_kl": {"reduction": "sum"}}, "bench")
    student = torch.randn(shape, device=device, requires_grad=True)
    encoded, predicted = torch.randn(4, 150, 1, size, device=device), torch.randn(4, 1, 40, size, device=device)
    joint = Joint(size, shape[3]).to(device).requires_grad_(False)
    lens, label_lens = torch.full((4,), 150, device=device), torch.full((4,), 40, device=device)
    labels = torch.ones(4, 39, dtype=torch.long, device=device)
    seqs = [Seq(x, lens, label_lens, labels) for x in (student, LatticeRows.of(joint, encoded, predicted))]
    return {
        "plain": lambda: plain_lattice(student, joint(encoded, predicted)).backward(),
        "ours": lambda: loss({"x": seqs[0]}, {"x": seqs[1]}).sum().backward(),
    }


def transducers(batch: int, num_frames: int, num_labels: int, num_classes: int, device: str):
    """torchaudio's loss and ours on a lattice of utterances of one length."""
    logits = torch.randn(batch, num_frames, num_labels + 1, num_classes, device=device, requires_grad=True)
    labels = torch.randint(1, num_classes, (batch, num_labels), device=device, dtype=torch.int32)
    lens = [torch.full((batch,), num, device=device, dtype=torch.int32) for num in (num_frames, num_labels)]
    return {
        "plain": lambda: torchaudio.functional.rnnt_loss(logits, labels, *lens, blank=0, reduction="sum").backward(),
        "ours": lambda: rnnt_loss(logits, labels, *lens).sum().backward(),
    }


CASES = {
    "relation, 8 x 400 frames": lambda device: relations([400] * 8, device),
    "relation, 8 x 400 .. 200 frames": lambda device: relations([400, 371, 342, 313, 284, 255, 226, 200], device),
    "contrastive, 512 tokens, 409 negatives": lambda device: contrasts(512, 409, device),
    "contrastive, 1024 tokens, 700 negatives": lambda device: contrasts(1024, 700, device),
    "lattice KL, 4 x 150 x 40 x 500": lattices,
    "transducer, 8 x 40 x 20 x 100": lambda device: transducers(8, 40, 19, 100, device),
    "transducer, 4 x 150 x 40 x 500": lambda device: transducers(4, 150, 39, 500, device),
}


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--time", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if args.time:
        wait = torch.cuda.synchronize if args.device == "cuda" else lambda: None
        print(json.dumps(interleaved(CASES[args.time](args.device), args.rounds, wait)))
    elif args.memory:
        name, which = args.memory
        case = CASES[name](args.device)[which]
        if args.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            case()
            print(json.dumps((torch.cuda.max_memory_allocated() - before) / 2**20))
        else:
            print(json.dumps(peak_growth(case)))
    else:
        refuse_if_red(*TESTS)
        report(args.device, args.rounds)


def report(device: str, rounds: int) -> None:
    """Every case under both allocators, and its memory."""
    allocators = ALLOCATORS if device == "cpu" else {"default": {}}
    rows = []
    for name in CASES:
        row = [name]
        for settings in allocators.values():
            times = again("--time", name, settings=settings)
            row += [f"{statistics.median(times[which]):.1f}" for which in ("plain", "ours")]
            row.append(f"{ratio(times['ours'], times['plain']):.3f}")
        row += [f"{again('--memory', name, which, settings=FRUGAL):.0f}" for which in ("plain", "ours")]
        rows.append(row)
    header = ["loss, forward and backward"]
    for allocator in allocators:
        header += [f"plain ms ({allocator})", "ours ms", "ratio"]
    header += ["plain peak MiB", "ours"]
    print(f"{machine()}, {device}; medians of {rounds} rounds in shuffled order, ratios within a round\n")
    print(table(header, rows))


if __name__ == "__main__":
    main()
