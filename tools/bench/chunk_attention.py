"""Time and memory of chunk attention, folded into blocks and dense: python tools/bench/chunk_attention.py [--device cuda]."""

import argparse
import statistics
import time

import torch

from espnet2_kd.layers.attention_plan import AttentionPlan
from espnet2_kd.layers.chunk_attention import ChunkAttention
from espnet2_kd.layers.chunk_context import ChunkContext
from espnet2_kd.layers.relative_position import relative_positions


def milliseconds(module: ChunkAttention, x: torch.Tensor, plan: AttentionPlan, backward: bool, repeats: int) -> float:
    """Median time of one pass, after one to warm up."""
    times = []
    pos = relative_positions(plan.back, plan.ahead, x.shape[2], x)
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with torch.set_grad_enabled(backward):
            out = module(x, pos, plan)
            if backward:
                out.sum().backward()
        if x.is_cuda:
            torch.cuda.synchronize()
        times.append(1000.0 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--chunk", type=int, default=4)
    parser.add_argument("--left", type=int, default=16)
    parser.add_argument("--right", type=int, default=0)
    parser.add_argument("--frames", type=int, nargs="+", default=[125, 250, 500, 1000, 2000, 4000])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    context = ChunkContext(args.chunk, args.left, args.right)
    module = ChunkAttention(args.heads, args.size).to(args.device)
    print(f"batch {args.batch_size}, size {args.size}, {args.heads} heads, {context}, {args.device}; ms, median")
    print(f"{'frames':>8} {'fold fwd':>10} {'dense fwd':>10} {'fold f+b':>10} {'dense f+b':>10}")
    for num in args.frames:
        lens = torch.full((args.batch_size,), num, device=args.device)
        x = torch.randn(args.batch_size, num, args.size, device=args.device, requires_grad=True)
        folded, dense = AttentionPlan.make(lens, num, context), AttentionPlan.dense(lens, num, context)
        cells = [
            milliseconds(module, x, plan, backward, args.repeats)
            for backward in (False, True)
            for plan in (folded, dense)
        ]
        print(f"{num:>8} " + " ".join(f"{cell:>10.2f}" for cell in cells))


if __name__ == "__main__":
    main()
