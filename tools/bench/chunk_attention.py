"""Chunk attention with relative positions, folded into blocks, against what others compute: the dense matrix under a mask.

    python tools/bench/chunk_attention.py [--rounds 7] [--device cuda]

Forward and backward, one thread, width 256, 4 heads, chunks of 4 frames that see 16 more. Four tables: attention alone against
torch's scaled_dot_product_attention under a mask, without relative positions and with them (as a bias, the same result as ours);
a whole Conformer layer against ESPnet2's; how time grows with length, as the slope of its logarithm: 1 is linear, 2 is quadratic; and,
where sequences are hardly longer than a window, folding against the dense form, and which of them is taken.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics

import torch
import torch.nn.functional as F
from timing import ALLOCATORS, again, interleaved, machine, ratio, refuse_if_red, table

from espnet2_kd.layers.attention_plan import AttentionPlan
from espnet2_kd.layers.chunk_attention import ChunkAttention
from espnet2_kd.layers.chunk_context import ChunkContext
from espnet2_kd.layers.conformer_block import ConformerBlock
from espnet2_kd.layers.folded_attention import distance_to_key
from espnet2_kd.layers.relative_position import relative_positions

SIZE, HEADS, HIDDEN, KERNEL = 256, 4, 1024, 15
CONTEXT = ChunkContext(4, 16, 0)
LENGTHS = (500, 1000, 2000, 4000, 8000)
LONGEST_BIAS = 4000  # the bias of every pair of frames, and its gradient, take gigabytes beyond
LAYERS = ((16, 125), (16, 375), (1, 2000))
GROWTH = (2000, 4000, 8000, 16000)
CROSSOVER = [  # context, and lengths as multiples of the window of keys
    (context, batch_size, scale)
    for context in ((1, 4, 0), (4, 16, 0), (8, 32, 8), (16, 64, 0), (20, 200, 0))
    for batch_size in (1, 16)
    for scale in (1.02, 1.3, 1.6, 2.0)
]
TESTS = ("test/layers",)


def core(num_frames: int, device: str):
    """Attention alone, from queries, keys, values (1, T, H, d) and projected positions on; with the gradient of an output
    that is used."""
    module = ChunkAttention(HEADS, SIZE).to(device)
    lens = torch.full((1,), num_frames, device=device)
    plan = AttentionPlan.make(lens, num_frames, CONTEXT)
    blocked = AttentionPlan.dense(lens, num_frames, CONTEXT).blocked[:, None]
    q, k, v = (torch.randn(1, num_frames, HEADS, SIZE // HEADS, device=device, requires_grad=True) for _ in range(3))
    grad = torch.randn(1, num_frames, SIZE, device=device)
    mask = ~blocked
    near, far = (
        module.positions(relative_positions(back, ahead, SIZE, q)).detach().requires_grad_()
        for back, ahead in ((plan.back, plan.ahead), (num_frames - 1, num_frames - 1))
    )

    def ours() -> torch.Tensor:
        return module.attend(q, k, v, near, plan)

    def dense() -> torch.Tensor:
        return joined(F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=mask))

    def biased() -> torch.Tensor:
        by_content, by_distance = ((q + bias).transpose(1, 2) for bias in (module.pos_bias_u, module.pos_bias_v))
        bias = distance_to_key(by_distance @ far.transpose(1, 2), num_frames)
        bias = (bias / math.sqrt(SIZE // HEADS)).masked_fill(blocked, -torch.inf)
        return joined(F.scaled_dot_product_attention(by_content, *(x.transpose(1, 2) for x in (k, v)), attn_mask=bias))

    def joined(heads: torch.Tensor) -> torch.Tensor:
        return heads.transpose(1, 2).flatten(2)

    cases = {"peer": dense, "ours": ours}
    if num_frames <= LONGEST_BIAS:
        torch.testing.assert_close(ours(), biased(), rtol=1e-4, atol=1e-5)
        cases["biased"] = biased
    return {name: lambda case=case: case().backward(grad) for name, case in cases.items()}


def layer(batch_size: int, num_frames: int, device: str, peer: bool = True):
    """A Conformer layer, ours with causal convolution, ESPnet2's with its own."""
    lens = torch.full((batch_size,), num_frames, device=device)
    x = torch.randn(batch_size, num_frames, SIZE, device=device, requires_grad=True)
    block = ConformerBlock(SIZE, HEADS, HIDDEN, KERNEL, causal=True, conv_norm="batch_norm").to(device)
    mask = torch.ones(batch_size, 1, num_frames, dtype=torch.bool, device=device)

    def ours() -> None:
        # The plan and the positions belong to the batch and serve all layers; they are counted here all the same.
        plan = AttentionPlan.make(lens, num_frames, CONTEXT)
        block(x, mask, relative_positions(plan.back, plan.ahead, SIZE, x), plan)[0].sum().backward()

    cases = {"ours": ours}
    if peer:
        stock = espnet_layer().to(device)
        dense = ~AttentionPlan.dense(lens, num_frames, CONTEXT).blocked
        pos = torch.randn(1, 2 * num_frames - 1, SIZE, device=device)
        cases["peer"] = lambda: stock((x, pos), dense)[0][0].sum().backward()
    return cases


def espnet_layer() -> torch.nn.Module:
    """The layer of ESPnet2's ConformerEncoder with its defaults."""
    from espnet.nets.pytorch_backend.conformer.convolution import ConvolutionModule
    from espnet.nets.pytorch_backend.conformer.encoder_layer import EncoderLayer
    from espnet.nets.pytorch_backend.transformer.attention import RelPositionMultiHeadedAttention
    from espnet.nets.pytorch_backend.transformer.positionwise_feed_forward import PositionwiseFeedForward

    def feed_forward() -> torch.nn.Module:
        return PositionwiseFeedForward(SIZE, HIDDEN, 0.1, torch.nn.SiLU())

    attention = RelPositionMultiHeadedAttention(HEADS, SIZE, 0.0)
    convolution = ConvolutionModule(SIZE, KERNEL, torch.nn.SiLU())
    return EncoderLayer(SIZE, attention, feed_forward(), feed_forward(), convolution, 0.1)


def forms(context: list[int], batch_size: int, num_frames: int, device: str):
    """Folding and the dense form of the same attention."""
    module = ChunkAttention(HEADS, SIZE).to(device)
    lens = torch.full((batch_size,), num_frames, device=device)
    shape = (batch_size, num_frames, HEADS, SIZE // HEADS)
    q, k, v = (torch.randn(shape, device=device, requires_grad=True) for _ in range(3))
    grad = torch.randn(batch_size, num_frames, SIZE, device=device)

    def case(plan: AttentionPlan):
        pos = relative_positions(plan.back, plan.ahead, SIZE, q)
        return lambda: module.attend(q, k, v, module.positions(pos), plan).backward(grad)

    plans = (make(lens, num_frames, ChunkContext(*context)) for make in (AttentionPlan.folded, AttentionPlan.dense))
    return dict(zip(("ours", "peer"), map(case, plans), strict=True))


def main() -> None:
    """Print four tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if args.case:
        wait = torch.cuda.synchronize if args.device == "cuda" else lambda: None
        kind, *shape = args.case
        if kind in ("core", "forms"):
            cases = {"core": core, "forms": forms}[kind](*shape, args.device)
        else:
            cases = layer(*shape, args.device, peer=kind == "layer")
        print(json.dumps(interleaved(cases, args.rounds, wait)))
        return
    refuse_if_red(*TESTS)
    allocators = ALLOCATORS if args.device == "cpu" else {"default": {}}
    print(f"{machine()}, {args.device}; medians of {args.rounds} rounds in shuffled order, ratios within a round\n")
    compare("attention, 1 x T frames", "SDPA", {f"1 x {n}": ["core", n] for n in LENGTHS}, allocators, "with positions")
    compare("Conformer layer", "ESPnet2", {f"{b} x {n}": ["layer", b, n] for b, n in LAYERS}, allocators)
    grow(allocators)
    cross()


def compare(title: str, peer: str, cases: dict[str, list], allocators: dict[str, dict], more: str = "") -> None:
    """Ours against a peer, and against the same peer with more of what ours does."""
    rows = []
    for name, case in cases.items():
        row = [name]
        for settings in allocators.values():
            times = again("--case", json.dumps(case), settings=settings)
            row += [f"{statistics.median(times[which]):.2f}" for which in ("peer", "ours")]
            row.append(f"{ratio(times['ours'], times['peer']):.3f}")
            if more:
                row.append(f"{ratio(times['ours'], times['biased']):.3f}" if "biased" in times else "not run")
        rows.append(row)
    names = ("{0} ms ({1})", "ours ms", "ratio", *([f"to {{0}} {more}"] if more else []))
    header = [title, *(cell.format(peer, name) for name in allocators for cell in names)]
    print(table(header, rows) + "\n")


def grow(allocators: dict[str, dict]) -> None:
    """Ours at growing length."""
    rows = []
    for name, settings in allocators.items():
        cases = [["growth", 1, n] for n in GROWTH]
        times = [statistics.median(again("--case", json.dumps(case), settings=settings)["ours"]) for case in cases]
        slope = math.log(times[-1] / times[0]) / math.log(GROWTH[-1] / GROWTH[0])
        rows.append([name, *(f"{time:.1f}" for time in times), f"{slope:.2f}"])
    print(table(["Conformer layer, ours", *(f"1 x {n} ms" for n in GROWTH), "slope"], rows))


def cross() -> None:
    """Folding against the dense form where either may be faster."""
    rows = []
    for context, batch_size, scale in CROSSOVER:
        window = AttentionPlan.folded(torch.ones(1), 1, ChunkContext(*context)).blocked.shape[2]
        num_frames = round(scale * window)
        times = again("--case", json.dumps(["forms", context, batch_size, num_frames]), settings=ALLOCATORS["hot"])
        plan = AttentionPlan.make(torch.full((1,), num_frames), num_frames, ChunkContext(*context))
        measured = ratio(times["ours"], times["peer"])
        rows.append(
            [
                *(" ".join(map(str, context)), f"{batch_size} x {num_frames}"),
                *(f"{statistics.median(times[which]):.2f}" for which in ("peer", "ours")),
                *(f"{measured:.2f}", "folded" if plan.block < num_frames else "dense"),
            ]
        )
    print("\n" + table(["chunk, left, right", "batch", "dense ms (hot)", "folded ms", "ratio", "taken"], rows))


if __name__ == "__main__":
    main()
