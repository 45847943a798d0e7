"""Time per chunk of the streaming encoder: float32, int8, batches of streams, onnxruntime, and wenet's forward_chunk.

    python tools/bench/streaming.py [--wenet CHECKOUT] [--rounds 30] [--hour]

All cases take turns in one process, on one thread, once for each setting of the allocator; ratios are medians within a round.
Nothing is printed unless the frames of every case equal the pass over the whole utterance. `--wenet` takes a checkout of
https://github.com/wenet-e2e/wenet. `--hour` plays an hour of audio to one stream and tells whether time and memory grow.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from timing import ALLOCATORS, again, interleaved, machine, ratio, table

from espnet2_kd.asr.encoder.chunk_conformer import ChunkConformerEncoder
from espnet2_kd.asr.encoder.chunk_step import NO_END, ChunkStep

NUM_FEATURES = 80
FRAME_SHIFT = 0.01
CHECKED_CHUNKS = 12
# Largest difference of float32 frames, which are normalised; relative root mean square of int8 frames.
TOLERANCE, INT8_TOLERANCE = 1e-4, 0.1
PERCENTILES = (50, 90, 99)


class Case:
    """Streams that go on for ever, a few chunks at each call.

    frames: generator of the frames of chunk after chunk (B, T, D), from features (B, T, F) that it is made with.
    """

    def __init__(self, make: Callable[[torch.Tensor], Iterator], num_streams: int, int8: bool = False) -> None:
        self.make, self.num_streams, self.int8 = make, num_streams, int8
        self.seconds: list[float] = []

    def start(self, feats: torch.Tensor, chunks_per_call: int) -> Callable[[], None]:
        """Return what computes the next chunks of copies of ``feats`` (1, T, F), again and again, and notes their times."""
        frames = self.make(feats.expand(self.num_streams, -1, -1).contiguous())

        def call() -> None:
            for _ in range(chunks_per_call):
                start = time.perf_counter()
                next(frames)
                self.seconds.append(time.perf_counter() - start)

        return call


def windows(feats: torch.Tensor, window: int, shift: int) -> Iterator[torch.Tensor]:
    """Cut (B, T, F) into overlapping windows, and begin anew at the end."""
    while True:
        for start in range(0, feats.shape[1] - window + 1, shift):
            yield feats[:, start : start + window]


def step_frames(step: ChunkStep) -> Callable[[torch.Tensor], Iterator[torch.Tensor]]:
    """Frames of a ChunkStep."""

    def make(feats: torch.Tensor) -> Iterator[torch.Tensor]:
        first, caches = step.initial_first(len(feats)), step.initial_caches(len(feats))
        end = torch.full((len(feats),), NO_END)
        for window in windows(feats, step.window(1), step.shift):
            with torch.no_grad():
                out, first, caches = step(window, first, end, caches)
            yield out

    return make


def general_frames(encoder: ChunkConformerEncoder, step: ChunkStep) -> Callable[[torch.Tensor], Iterator[torch.Tensor]]:
    """Frames of ``ChunkConformerEncoder.forward_chunk``, which takes pieces of any length."""

    def make(feats: torch.Tensor) -> Iterator[torch.Tensor]:
        state, new = encoder.initial_state(len(feats)), step.window(1)
        for window in windows(feats, step.window(1), step.shift):
            with torch.no_grad():
                out, state = encoder.forward_chunk(window[:, -new:], state)
            new = step.shift
            yield out

    return make


def onnx_frames(path: Path, step: ChunkStep) -> Callable[[torch.Tensor], Iterator[torch.Tensor]]:
    """Frames of an exported step in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def make(feats: torch.Tensor) -> Iterator[torch.Tensor]:
        first, *caches = (x.numpy() for x in (step.initial_first(len(feats)), *step.initial_caches(len(feats))))
        end = np.full((len(feats),), NO_END)
        for window in windows(feats, step.window(1), step.shift):
            out, first, *caches = session.run(None, dict(zip(names, (window.numpy(), first, end, *caches))))
            yield torch.from_numpy(out)

    return make


def wenet_encoder(checkout: Path, args: argparse.Namespace) -> torch.nn.Module:
    """Build wenet's encoder of the same sizes."""
    import torch.nn.modules.conv

    # It takes this name from torch, which no longer has it; and its package imports what the encoder does not need.
    torch.nn.modules.conv.Union = typing.Union
    package = types.ModuleType("wenet")
    package.__path__ = [str(checkout / "wenet")]
    tokenizer = types.ModuleType("whisper.tokenizer")
    tokenizer.LANGUAGES = {}
    stubs = {"wenet": package, "whisper": types.ModuleType("whisper"), "whisper.tokenizer": tokenizer}
    sys.modules.update({name: stub for name, stub in stubs.items() if name == "wenet" or name not in sys.modules})
    with contextlib.redirect_stdout(io.StringIO()):
        from wenet.models.transformer.encoder import ConformerEncoder
    return ConformerEncoder(
        NUM_FEATURES,
        args.size,
        args.heads,
        args.linear_units,
        args.blocks,
        use_dynamic_chunk=True,
        causal=True,
        cnn_module_kernel=args.kernel,
        cnn_module_norm="batch_norm",
    ).eval()


def wenet_frames(encoder: torch.nn.Module, step: ChunkStep, left: int) -> Callable[[torch.Tensor], Iterator]:
    """Frames of wenet's forward_chunk, for one stream, as it takes no more."""

    def make(feats: torch.Tensor) -> Iterator[torch.Tensor]:
        attention = convolution = torch.zeros(0, 0, 0, 0)
        offset = 0
        for window in windows(feats, step.window(1), step.shift):
            with torch.no_grad():
                out, attention, convolution = encoder.forward_chunk(window, offset, left, attention, convolution)
            # Its table of positions ends after 5000 frames.
            offset = offset + step.chunk if offset < 4000 else left
            yield out

    return make


def check(name: str, case: Case, expected: Callable[[torch.Tensor], torch.Tensor], feats: torch.Tensor) -> None:
    """Compare the first chunks with the pass over the whole utterance; ends the program where they differ."""
    frames = case.make(feats.expand(case.num_streams, -1, -1).contiguous())
    actual = torch.cat([next(frames) for _ in range(CHECKED_CHUNKS)], dim=1)
    difference = actual - expected(feats)[:, : actual.shape[1]]
    error = difference.square().mean().sqrt().item() if case.int8 else difference.abs().max().item()
    limit = INT8_TOLERANCE if case.int8 else TOLERANCE
    if not error <= limit:
        sys.exit(f"{name}: differs from the pass over the whole utterance by {error:.2g}, more than {limit}: no report")


def build(args: argparse.Namespace) -> ChunkConformerEncoder:
    """Return an encoder of random weights."""
    torch.manual_seed(0)
    return ChunkConformerEncoder(
        NUM_FEATURES,
        args.size,
        args.heads,
        args.linear_units,
        args.blocks,
        cnn_module_kernel=args.kernel,
        conv_norm="batch_norm",
        chunk_frames=args.chunk,
        left_frames=args.left,
    ).eval()


def make_cases(args: argparse.Namespace, encoder: ChunkConformerEncoder, folder: Path) -> tuple[dict[str, Case], list]:
    """Return cases that passed the check, and what could not be had."""
    step, int8, absent = ChunkStep(encoder), ChunkStep(encoder, quantize=True), []
    cases = {"float32": Case(step_frames(step), 1), "int8": Case(step_frames(int8), 1, int8=True)}
    for num in args.streams:
        cases[f"float32, {num} streams"] = Case(step_frames(step), num)
        cases[f"int8, {num} streams"] = Case(step_frames(int8), num, int8=True)
    cases["encoder.forward_chunk"] = Case(general_frames(encoder, step), 1)
    try:
        for name, path in export(encoder, folder).items():
            cases[name] = Case(onnx_frames(path, step), 1, int8="int8" in name)
    except ImportError as error:
        absent.append(f"onnxruntime: {error}")
    generator = torch.Generator().manual_seed(1)
    feats = torch.randn(1, step.window(1) + (CHECKED_CHUNKS - 1) * step.shift, NUM_FEATURES, generator=generator)
    lens = torch.tensor([feats.shape[1]])
    with torch.no_grad():
        for name, case in cases.items():
            check(name, case, lambda feats: encoder(feats, lens)[0], feats)
        if args.wenet is None:
            absent.append("wenet: give --wenet CHECKOUT")
        else:
            wenet = wenet_encoder(args.wenet, args)
            cases["wenet forward_chunk"] = Case(wenet_frames(wenet, step, args.left), 1)
            number_left = args.left // args.chunk
            whole = lambda feats: wenet(feats, lens, args.chunk, number_left)[0]  # noqa: E731
            check("wenet forward_chunk", cases["wenet forward_chunk"], whole, feats)
    return cases, absent


def export(encoder: ChunkConformerEncoder, folder: Path) -> dict[str, Path]:
    """Export the step as espnet2_kd.bin.export_onnx does; raises ImportError where that cannot be."""
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401

    from espnet2_kd.asr.onnx_export import OnnxStep, quantize_graph, write_graph

    float32, int8 = folder / "encoder.onnx", folder / "encoder.int8.onnx"
    if not int8.exists():
        write_graph(OnnxStep(ChunkStep(encoder, products=False)).eval(), float32, {})
        quantize_graph(float32, int8, {})
    return {"onnxruntime float32": float32, "onnxruntime int8": int8}


def floor_ms(encoder: ChunkConformerEncoder, chunk: int) -> dict[str, float]:
    """Milliseconds to read the weights once, in 32 and in 8 bits, and to do a chunk's multiplications at full speed."""
    num = sum(p.numel() for p in encoder.parameters())
    weights, x = torch.ones(num), torch.randn(512, 512)
    byte = torch.ones(num // 4)
    cases = {"float32": weights.sum, "int8": byte.sum, "product": lambda: x @ x}
    best = {name: min(times) for name, times in interleaved(cases, 10).items()}
    # Every weight meets every frame of the chunk, that of the subsampling's convolutions at each frequency too.
    pairs = chunk * sum(p.numel() for p in encoder.encoders.parameters()) + chunk * encoder.embed.out.weight.numel()
    width, rows = NUM_FEATURES, chunk * encoder.embed.stride
    for (kernel, stride), layer in zip(encoder.embed.layers, encoder.embed.conv[::2]):
        width, rows = (width - kernel) // stride + 1, rows // stride
        pairs += rows * width * layer.weight.numel()
    return {
        "read_float32": best["float32"],
        "read_int8": best["int8"],
        "arithmetic": pairs / 512**3 * best["product"],
    }


def measure(args: argparse.Namespace) -> dict:
    """Check and time all cases in this process."""
    torch.set_num_threads(1)
    encoder = build(args)
    cases, absent = make_cases(args, encoder, args.folder)
    feats = torch.randn(1, 4000, NUM_FEATURES, generator=torch.Generator().manual_seed(2))
    calls = {name: case.start(feats, args.chunks_per_call) for name, case in cases.items()}
    for call in calls.values():
        call()
        call()
    for case in cases.values():
        case.seconds.clear()
    times = interleaved(calls, args.rounds)
    rows = {}
    for name, case in cases.items():
        row = {"ms": statistics.median(times[name]) / args.chunks_per_call, "streams": case.num_streams}
        row["percentiles"] = [1000 * float(p) for p in np.percentile(case.seconds, PERCENTILES)]
        row["to_one"] = ratio(times[name], times["int8" if name.startswith("int8") else "float32"])
        if "wenet forward_chunk" in cases:
            row["to_wenet"] = ratio(times[name], times["wenet forward_chunk"])
        rows[name] = row
    num_params = sum(p.numel() for p in encoder.parameters())
    return {"rows": rows, "absent": absent, "floor": floor_ms(encoder, args.chunk), "num_params": num_params}


def report(args: argparse.Namespace, allocator: str, result: dict) -> None:
    """Print the table of one setting."""
    chunk_ms = 1000 * FRAME_SHIFT * 4 * args.chunk
    print(
        f"\nAllocator {allocator}; chunks of {chunk_ms:g} ms, {args.rounds} rounds of {args.chunks_per_call} chunks\n"
    )
    header = ["case", "ms", "to wenet", "streams' s per s", "throughput", *(f"p{p} ms" for p in PERCENTILES)]
    rows = []
    for name, row in result["rows"].items():
        # Of as many streams, each chunk_ms long, in the time for one.
        gain = f"{row['streams'] / row['to_one']:.2f}x" if name.partition(",")[0] in ("float32", "int8") else "-"
        cells = [f"{row['ms']:.2f}", f"{row['to_wenet']:.2f}" if "to_wenet" in row else "-"]
        cells += [f"{row['streams'] * chunk_ms / row['ms']:.1f}", gain]
        rows.append([name, *cells, *(f"{value:.2f}" for value in row["percentiles"])])
    print(table(header, rows) + "\n")
    floor = result["floor"]
    print(
        f"Floor: {result['num_params'] / 1e6:.1f} M weights read once {floor['read_float32']:.2f} ms in float32, "
        f"{floor['read_int8']:.2f} ms in int8; multiplications of one stream at the speed of a large product "
        f"{floor['arithmetic']:.2f} ms"
    )
    for line in result["absent"]:
        print(f"\nLeft out: {line}")


def long_stream(args: argparse.Namespace) -> None:
    """Play ``--hour`` seconds to one stream; print its memory, and in the last tenth its time beside that of a new stream.

    A machine that others use as well is now faster, now slower: its beginning cannot be compared with its end.
    """
    torch.set_num_threads(1)
    encoder = build(args)
    feats = torch.randn(1, 4000, NUM_FEATURES, generator=torch.Generator().manual_seed(2))
    for name, step in (("float32", ChunkStep(encoder)), ("int8", ChunkStep(encoder, quantize=True))):
        old, new = step.initial_state(), step.initial_state()
        times, beside, sizes = [], [], []
        num = int(args.hour / FRAME_SHIFT / step.shift)
        tenth = max(num // 10, 1)
        for n in range(num):
            start = n * step.shift % (feats.shape[1] - step.shift)
            chunk = feats[:, start : start + step.shift]
            out, old = timed_chunk(step, chunk, old, times)
            if n == num // 10:
                resident = resident_bytes()
            if n >= num - tenth:
                _, new = timed_chunk(step, chunk, new, beside)
            sizes.append(sum(cache.nbytes for cache in old.caches) + old.feats.nbytes)
        if not torch.isfinite(out).all() or len(set(sizes[10:])) != 1:
            sys.exit(f"{name}: the state grows, or frames are no numbers")
        last = times[-tenth:]
        percentiles = " ".join(f"p{p} {np.percentile(times, p):.2f}" for p in PERCENTILES)
        print(
            f"{name}: {num} chunks, {args.hour:g} s of audio: {statistics.median(last):.2f} ms a chunk in the last tenth, "
            f"{statistics.median(beside):.2f} in a stream that begins then, in turn ({ratio(last, beside):.2f}); {percentiles}; "
            f"state {sizes[-1]} bytes throughout, process {(resident_bytes() - resident) / 2**20:+.1f} MiB from the first "
            "tenth to the end"
        )


def timed_chunk(step: ChunkStep, chunk: torch.Tensor, state, times: list[float]):
    """What `forward_chunk` returns; its milliseconds are added to `times`."""
    begin = time.perf_counter()
    with torch.no_grad():
        done = step.forward_chunk(chunk, state)
    times.append(1000 * (time.perf_counter() - begin))
    return done


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Print one table per setting of the allocator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wenet", type=Path, help="checkout of wenet")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--chunks_per_call", type=int, default=4)
    parser.add_argument("--streams", type=int, nargs="*", default=[4, 16])
    parser.add_argument(
        "--hour", type=float, nargs="?", const=3600.0, help="play so many seconds to one stream instead"
    )
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--linear_units", type=int, default=2048)
    parser.add_argument("--kernel", type=int, default=15)
    parser.add_argument("--chunk", type=int, default=4)
    parser.add_argument("--left", type=int, default=16)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.hour is not None:
        long_stream(args)
        return
    torch.set_num_threads(1)
    if args.folder is not None:
        print(json.dumps(measure(args)))
        return
    print(
        f"{machine()}; encoder alone: {args.blocks} layers, d={args.size} h={args.heads} ff={args.linear_units} conv "
        f"{args.kernel} causal, conv2d/4, chunk {args.chunk} left {args.left}, random weights"
    )
    with tempfile.TemporaryDirectory() as folder:
        for allocator, settings in ALLOCATORS.items():
            report(args, allocator, again("--folder", folder, settings=settings))


if __name__ == "__main__":
    main()
