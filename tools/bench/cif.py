"""Time and memory of integrate-and-fire against other implementations, which are read from checkouts of theirs.

    python tools/bench/cif.py --torch_cif DIR --funasr DIR --cif_pytorch DIR [--device cuda]

Peers: George0828Zhang/torch_cif, modelscope/FunASR, MingLunHan/CIF-PyTorch. Integration alone, weights of U(0, 0.4), sums
just above integers so that every peer fires every token. Every setting of the allocator runs in a process of its own, in
which all implementations take turns; memory in one process each. Nothing is reported while the tests of CIF fail.
"""

import argparse
import importlib.util
import json
import random
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import torch
from timing import ALLOCATORS, FRUGAL, again, interleaved, machine, peak_growth, ratio, refuse_if_red, table

from espnet2_kd.ops.cif import cif_fire

TESTS = ("test/ops/test_cif.py", "test/ops/test_cif_triton.py")
SHAPES = ["16,250,256", "8,1000,512", "32,500,256"]
OURS = "auto"
ALSO = {"cpu": ("bag", "numba"), "cuda": ("triton",)}  # what it takes, and could take
SLOW = ("FunASR cif", "CIF-PyTorch")  # a loop over frames: a few rounds do, in turn with ours
Fire = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def load(path: Path, *stubs: str) -> ModuleType:
    """The module of one file, without its package; stubs stand for imports that integration does not use."""
    spec = importlib.util.spec_from_file_location(f"peer_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in stubs}):
        spec.loader.exec_module(module)
    return module


def torch_cif(path: Path, lens: torch.Tensor, num_tokens: torch.Tensor) -> dict[str, Fire]:
    fire = load(path / "torch_cif/cif.py").cif_function
    options = {"target_lengths": num_tokens, "unbound_alpha": True}
    return {"torch_cif": lambda h, alpha: fire(h, alpha, **options)["cif_out"][0]}


def funasr(path: Path, lens: torch.Tensor, num_tokens: torch.Tensor) -> dict[str, Fire]:
    packages = ["register", "train_utils", "train_utils.device_funcs", "utils", "utils.torch_function", "models"]
    packages += ["models.transformer", "models.transformer.utils", "models.transformer.utils.nets_utils"]
    module = load(
        path / "funasr/models/paraformer/cif_predictor.py", "funasr", *(f"funasr.{name}" for name in packages)
    )
    return {
        "FunASR cif": lambda h, alpha: module.cif(h, alpha, 1.0)[0],
        "FunASR cif_v1": lambda h, alpha: module.cif_v1(h, alpha, 1.0)[0],
    }


def cif_pytorch(path: Path, lens: torch.Tensor, num_tokens: torch.Tensor) -> dict[str, Fire]:
    middleware = load(path / "modules/cif_middleware.py").CifMiddleware

    def fire(h: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        size = h.shape[2]
        config = SimpleNamespace(
            cif_threshold=1.0,
            cif_embedding_dim=size,
            encoder_embed_dim=size,
            produce_weight_type="none",
            conv_cif_width=3,
            conv_cif_dropout=0.0,
            apply_scaling=False,
            apply_tail_handling=False,
            tail_handling_firing_threshold=0.5,
        )
        patches = (
            [] if h.is_cuda else [mock.patch.object(c, "cuda", lambda x: x) for c in (torch.Tensor, torch.nn.Module)]
        )
        for patch in patches:
            patch.start()
        module = middleware(config)
        del module.weight_proj
        module.weight_proj = lambda _: torch.logit(alpha)[..., None]  # its sigmoid makes them weights again
        padding = torch.arange(h.shape[1], device=h.device) >= lens[:, None]
        fired = module({"encoder_raw_out": h, "encoder_padding_mask": padding}, None)["cif_out"]
        for patch in patches:
            patch.stop()
        return fired

    return {"CIF-PyTorch": fire}


PEERS = {"torch_cif": torch_cif, "funasr": funasr, "cif_pytorch": cif_pytorch}


def inputs(shape: str, args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames, weights, lengths, numbers of tokens."""
    batch_size, num_frames, size = map(int, shape.split(","))
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(batch_size, num_frames, size, generator=generator)
    alpha = torch.rand(batch_size, num_frames, generator=generator).double() * 0.4 + 1e-4
    num_tokens = alpha.sum(1).floor()
    alpha *= ((num_tokens + 1e-3) / alpha.sum(1))[:, None]
    h = h.to(args.device, getattr(torch, args.dtype)).requires_grad_()
    lens = torch.full((batch_size,), num_frames, device=args.device)
    return h, alpha.float().to(args.device).requires_grad_(), lens, num_tokens.long().to(args.device)


def implementations(lens: torch.Tensor, num_tokens: torch.Tensor, args: argparse.Namespace) -> dict[str, Fire]:
    def ours(impl: str) -> Fire:
        return lambda h, alpha: cif_fire(h, alpha, lens, num_tokens=num_tokens, impl=impl)[0]

    found = {name: ours(name) for name in (OURS, *ALSO[args.device])}
    for name, peer in PEERS.items():
        if getattr(args, name):
            found.update(peer(getattr(args, name), lens, num_tokens))
    return found


def captured(case: Callable[[], object]) -> Callable[[], object]:
    """The kernels of a case alone: replayed from a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        case()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        case()
    return graph.replay


def cuda_times(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """As `interleaved`, by the GPU's clock: from an idle GPU with a cold cache to the last kernel's end, launches included."""
    flush = torch.empty(256 * 2**20, dtype=torch.int8, device="cuda")
    order, shuffle = list(cases), random.Random(0).shuffle
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 3):  # the first ones compile, and fill the allocator
        shuffle(order)
        for name in order:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            flush.zero_()
            torch.cuda.synchronize()
            start.record()
            cases[name]()
            end.record()
            torch.cuda.synchronize()
            if turn >= 3:
                times[name].append(start.elapsed_time(end))
    return times


def measure(shape: str, args: argparse.Namespace) -> dict:
    """Milliseconds of every implementation, how far its tokens are from ours in float64, and what it failed with."""
    h, alpha, lens, num_tokens = inputs(shape, args)
    size = int(num_tokens.max())
    grad = torch.randn(len(h), size, h.shape[2], device=h.device, dtype=h.dtype)
    forward, both, faults, errors = {}, {}, {}, {}
    with torch.no_grad():
        exact = cif_fire(h.double(), alpha, lens, num_tokens=num_tokens)[0]
    for name, fire in implementations(lens, num_tokens, args).items():
        try:
            fired = fire(h, alpha)
            torch.autograd.grad(fired, (h, alpha), grad)
        except (RuntimeError, IndexError, AssertionError) as error:
            faults[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        errors[name] = float((fired.detach().double() - exact).abs().max())
        forward[name] = torch.no_grad()(lambda fire=fire: fire(h, alpha))
        both[name] = lambda fire=fire: torch.autograd.grad(fire(h, alpha), (h, alpha), grad)
    forward["h.clone()"] = torch.no_grad()(h.clone)
    if args.device == "cuda":

        def step() -> tuple[torch.Tensor, ...]:
            fired, _ = cif_fire(h, alpha, lens, num_tokens=num_tokens, max_tokens=size, impl="triton")
            return torch.autograd.grad(fired, (h, alpha), grad)

        both["triton, graph"] = captured(step)
    times = []
    for cases in (forward, both):
        take = cuda_times if args.device == "cuda" else interleaved
        quick = take({name: case for name, case in cases.items() if name not in SLOW}, args.rounds)
        slow = {name: case for name, case in cases.items() if name in (OURS, *SLOW)}
        slow = take(slow, args.slow_rounds) if len(slow) > 1 else {}
        times.append({name: (one, quick[OURS]) for name, one in quick.items()})
        times[-1].update({name: (one, slow[OURS]) for name, one in slow.items() if name != OURS})
    return {"fwd": times[0], "both": times[1], "errors": errors, "faults": faults, "num_tokens": int(num_tokens.sum())}


def memory(name: str, shape: str, args: argparse.Namespace) -> float:
    """MiB by which this process grows in one forward and backward pass of one implementation."""

    def step(shape: str) -> Callable[[], object]:
        h, alpha, lens, num_tokens = inputs(shape, args)
        grad = torch.randn(len(h), int(num_tokens.max()), h.shape[2], device=h.device, dtype=h.dtype)
        fire = implementations(lens, num_tokens, args)[name]
        return lambda: torch.autograd.grad(fire(h, alpha), (h, alpha), grad)

    step("2,20,8")()  # loads and compiles what has to be
    case = step(shape)
    if args.device == "cpu":
        return peak_growth(case)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    case()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def report(shape: str, args: argparse.Namespace) -> None:
    """The table of one shape under every allocator."""
    batch_size, num_frames, size = map(int, shape.split(","))
    # A GPU has an allocator of its own.
    allocators = ALLOCATORS if args.device == "cpu" else {"default": {}}
    results = {name: again("--time", shape, settings=settings) for name, settings in allocators.items()}
    first = next(iter(results.values()))
    peaks = {name: again("--memory", name, shape, settings=FRUGAL) for name in first["errors"]}
    width = size * getattr(torch, args.dtype).itemsize
    frames, tokens = batch_size * num_frames * width, first["num_tokens"] * width
    entries = (batch_size * num_frames + first["num_tokens"]) * size
    print(f"\n#### ({shape})\n")
    print(f"Floor: forward {(frames + tokens) / 1e6:.1f} MB and {2 * entries / 1e6:.0f} MFLOP, with backward", end=" ")
    print(f"{(3 * frames + 2 * tokens) / 1e6:.1f} MB and {6 * entries / 1e6:.0f} MFLOP;", end=" ")
    print(f"grad h and tokens take {(frames + tokens) / 2**20:.1f} MiB.\n")
    header, rows = ["implementation"], []
    for allocator in allocators:
        header += [f"fwd ms ({allocator})", f"/ {OURS}", "fwd+bwd ms", f"/ {OURS}", "/ floor"]
    header += ["peak MiB", "max error"]
    for name in dict.fromkeys([*first["fwd"], *first["both"]]):
        row = [name]
        for result in results.values():
            # Clone reads and writes the frames once.
            floor = statistics.median(result["fwd"]["h.clone()"][0]) / (2 * frames) * (3 * frames + 2 * tokens)
            for times in (result["fwd"], result["both"]):
                here, ours = times.get(name, (None, None))
                row += [f"{statistics.median(here):.3f}", f"{ratio(here, ours):.2f}"] if here else ["-", "-"]
            row.append(f"{statistics.median(here) / floor:.2f}" if here else "-")
        row.append(f"{peaks[name]:.1f}" if name in peaks else "-")
        row.append(f"{first['errors'][name]:.0e}" if name in peaks else "-")
        rows.append(row)
    absent = {name: "not run, needs --device cuda" for name in ("triton", "triton, graph") if args.device == "cpu"}
    absent |= {name: f"not run, no --{name}" for name in PEERS if not getattr(args, name)}
    for name, why in {**absent, **first["faults"]}.items():
        rows.append([f"{name}: {why}"] + ["-"] * (len(header) - 1))
    print(table(header, rows), flush=True)


def main() -> None:
    """Print one table for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in PEERS:
        parser.add_argument(f"--{name}", type=Path, help="checkout of the peer; left out without")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="B,T,C")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--slow_rounds", type=int, default=3, help="of peers that loop over frames")
    parser.add_argument("--time", help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.time:
        print(json.dumps(measure(args.time, args)))
    elif args.memory:
        print(json.dumps(memory(*args.memory, args)))
    else:
        for name in PEERS:
            path = getattr(args, name)
            if path and not path.is_dir():
                parser.error(f"--{name} {path}: no such directory")
        if args.device == "cuda" and not torch.cuda.is_available():
            parser.error("--device cuda: torch finds no GPU")
        refuse_if_red(*TESTS)
        device = f"{torch.cuda.get_device_name()}, " if args.device == "cuda" else ""
        print(
            f"{device}{machine()}, {args.dtype}; medians of {args.rounds} rounds in shuffled order (peers that loop over"
        )
        print(f"frames: {args.slow_rounds}), ratios within a round; floor: the bytes at the speed of h.clone().")
        print("Error: to ours in float64; peers leave out the thousandth of a frame that our last token takes as well.")
        for shape in args.shapes:
            report(shape, args)


if __name__ == "__main__":
    main()
