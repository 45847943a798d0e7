"""The streaming encoder as an ONNX model with explicit caches, checked against the model before it is kept."""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from espnet2_kd.asr.encoder.chunk_step import NO_END, ChunkStep
from espnet2_kd.asr.onnx_graph import TOLERANCE, checked, open_graph, quantize_graph, save_graph
from espnet2_kd.asr.streaming_encoder import StreamingEncoder
from espnet2_kd.asr.streaming_frontend import StreamingFrontend
from espnet2_kd.data.scratch import scratch_folder
from espnet2_kd.kd.registry import ConfigError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# For 8 bits: root of the mean square of differences against that of the frames.
INT8_TOLERANCE = 0.25
LOG_FLOOR = 1e-10


class OnnxStep(nn.Module):
    """A ChunkStep behind the normalisation of features: tensors in, tensors out.

    feats: natural logarithms of mel energies (B, W, M); without a front-end, features as the encoder takes them.

    Other arguments and the results as those of ``ChunkStep.forward``, caches one by one.
    """

    def __init__(self, step: ChunkStep, frontend: StreamingFrontend | None = None) -> None:
        super().__init__()
        self.step = step
        scale, shift = torch.tensor(1.0), torch.tensor(0.0)
        if frontend is not None and (base := frontend.frontend.logmel.log_base) is not None:
            scale = scale / math.log(base)
        if frontend is not None and (mvn := frontend.normalize) is not None:
            std = mvn.std.float() if mvn.norm_vars else torch.ones_like(mvn.std, dtype=torch.float32)
            mean = mvn.mean.float() if mvn.norm_means else torch.zeros_like(mvn.mean, dtype=torch.float32)
            scale, shift = scale / std, -mean / std
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        # Made here, because nothing can be made while the step is traced.
        for block in step.blocks:
            block.layout(1)

    def forward(
        self, feats: torch.Tensor, first: torch.Tensor, end: torch.Tensor, *caches: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        out, first, caches = self.step(feats * self.scale + self.shift, first, end, caches)
        return (out, first, *caches)


def export_encoder(model: nn.Module, output_dir: str | Path, quantize: bool = False) -> dict[str, float]:
    """Write ``encoder.onnx``, ``features.npz`` and, on request, ``encoder.int8.onnx``; return the errors found by the check.

    Each file appears only after its outputs were compared with the model's own. The int8 one has 8-bit linear layers.

    model: an ``ESPnetASRModel`` with a streaming encoder, on the CPU, in evaluation mode.
    quantize: write the 8-bit model too.

    Returns ``features`` and ``float32`` (largest difference), and ``int8`` (relative root mean square).

    Raises ConfigError where a package is missing, the model cannot stream in bounded memory, or a check fails.
    """
    require_packages()
    try:
        if StreamingEncoder(model).step is None:
            raise ValueError("only an encoder with chunks and a bounded left context can be exported (chunk_conformer)")
        # Convolutions as such: runtimes know them, and have fast ones.
        step, frontend = ChunkStep(model.encoder, products=False).eval(), StreamingFrontend(model)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    errors = {}
    with scratch_folder(output_dir / "export") as folder:
        path = Path(folder, "features.npz")
        np.savez(path, **feature_arrays(frontend))
        errors["features"] = checked("features.npz", _feature_error(path, frontend), TOLERANCE)
        os.replace(path, output_dir / path.name)
        about = metadata(step, frontend)
        path = Path(folder, "encoder.onnx")
        write_graph(OnnxStep(step, frontend).eval(), path, about)
        errors["float32"] = checked(path.name, _frame_errors(path, model, step, frontend)[0], TOLERANCE)
        if quantize:
            small = Path(folder, "encoder.int8.onnx")
            quantize_graph(path, small, about)
            errors["int8"] = checked(small.name, _frame_errors(small, model, step, frontend)[1], INT8_TOLERANCE)
            os.replace(small, output_dir / small.name)
        os.replace(path, output_dir / path.name)
    return errors


def require_packages() -> None:
    """Raise ConfigError where a package is missing that writes or checks graphs."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"not installed: {', '.join(missing)}: `pip install {' '.join(missing)}`")


def feature_arrays(frontend: StreamingFrontend) -> dict[str, np.ndarray]:
    """Arrays with which ``log(max(|rfft(samples * window)|^2 @ mel, floor))`` gives the features of the exported graph.

    window: (n_fft,), with zeros where the model's own is shorter.
    mel: (n_fft / 2 + 1, M).
    """
    stft = frontend.frontend.stft
    size = stft.win_length
    window = torch.ones(size) if stft.window is None else getattr(torch, f"{stft.window}_window")(size)
    left = (stft.n_fft - size) // 2
    window = nn.functional.pad(window, (left, stft.n_fft - size - left))
    if stft.normalized:
        window = window / math.sqrt(stft.n_fft)
    return {"window": window.numpy(), "mel": frontend.frontend.logmel.melmat.numpy(), "floor": np.float32(LOG_FLOOR)}


def metadata(step: ChunkStep, frontend: StreamingFrontend) -> dict[str, Any]:
    """What a program must know to run the exported graph; doc/onnx.md explains each."""
    return {
        "sample_rate": frontend.rate,
        "hop_length": frontend.hop,
        "n_fft": frontend.window,
        "center": frontend.margin > 0,
        "num_mels": step.num_features,
        "window": step.window(1),
        "shift": step.shift,
        "lead": step.lead,
        "stride": step.stride,
        "kernels_strides": step.subsample.kernels,
        "rate": step.rates[0],
        "chunk": step.chunk,
        "delay": step.delay,
        "no_end": NO_END,
        "output_size": step.size,
        "frame_ms": step.shift // step.chunk * frontend.frame_shift_ms,
    }


def write_graph(module: OnnxStep, path: Path, about: dict[str, Any]) -> None:
    """Write the ONNX graph of a step for any number of streams, with ``about`` as its metadata."""
    step = module.step
    names = ("feats", "first", "end", *step.cache_names)
    # Two streams: torch.export takes a size of one for a constant.
    inputs = (
        torch.zeros(2, step.window(1), step.num_features),
        step.initial_first(2),
        torch.full((2,), NO_END),
        *step.initial_caches(2),
    )
    streams = {0: torch.export.Dim("streams")}
    outputs = ("frames", "next_first", *(f"next_{name}" for name in step.cache_names))
    shapes = (streams, streams, streams, (streams,) * len(step.cache_names))
    save_graph(module, inputs, names, outputs, shapes, path, about)


def _feature_error(path: Path, frontend: StreamingFrontend) -> float:
    arrays = np.load(path)
    samples = torch.randn(8 * frontend.hop + frontend.window, generator=torch.Generator().manual_seed(0)) * 0.1
    frames = np.lib.stride_tricks.sliding_window_view(samples.numpy(), frontend.window)[:: frontend.hop]
    power = np.abs(np.fft.rfft(frames * arrays["window"])) ** 2
    actual = np.log(np.maximum(power @ arrays["mel"], arrays["floor"]))
    base = frontend.frontend.logmel.log_base
    expected, _ = frontend.frontend(samples[None], torch.tensor([len(samples)]))
    return float(np.abs(actual - expected[0].numpy() * (1.0 if base is None else math.log(base))).max())


def _frame_errors(path: Path, model: nn.Module, step: ChunkStep, frontend: StreamingFrontend) -> tuple[float, float]:
    """Errors of a batch of streams that end at different times against the encoder's pass over all of each.

    Returns the largest difference and the relative root mean square.
    """
    session = open_graph(path)
    # Far enough that nothing is left of the beginning in any cache, and a rest that fills no chunk.
    num = step.window(1) + step.shift * (step.out_of_sight // (step.chunk * step.rates[0]) + 3) + step.stride
    lens = torch.tensor([num, num // 2, max(num // 3, step.reach)])
    generator = torch.Generator().manual_seed(0)
    feats = torch.randn(3, num, step.num_features, generator=generator) * 2.0 - 5.0
    module = OnnxStep(step, frontend)
    with torch.no_grad():
        expected, expected_lens, _ = model.encoder(feats * module.scale + module.shift, lens)
    actual = run_session(session, step, feats.numpy(), step.num_frames(lens).numpy())
    valid = (torch.arange(expected.shape[1]) < expected_lens[:, None]).numpy()
    difference = (actual[:, : expected.shape[1]] - expected.numpy())[valid]
    size = np.sqrt(np.mean(expected.numpy()[valid] ** 2))
    return float(np.abs(difference).max()), float(np.sqrt(np.mean(difference**2)) / size)


def run_session(session: Any, step: ChunkStep, feats: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Run an exported graph over whole feature sequences (B, T, M) of ``ends`` frames after the subsampling each (B,).

    Returns frames (B, T', D) of all chunks, those after the last of a stream too.
    """
    streams = len(feats)
    names = [value.name for value in session.get_inputs()]
    first, *caches = (x.numpy() for x in (step.initial_first(streams), *step.initial_caches(streams)))
    feats = np.pad(feats, ((0, 0), (step.lead * step.stride, 0), (0, 0)))
    frames, computed, last = [], 0, -(-int(ends.max()) // step.rates[0])
    while computed - step.delay < last:
        window = feats[:, computed // step.chunk * step.shift :][:, : step.window(1)]
        window = np.pad(window, ((0, 0), (0, step.window(1) - window.shape[1]), (0, 0)))
        end = (ends - computed * step.rates[0] + step.lead).astype(np.int64)
        out, first, *caches = session.run(None, dict(zip(names, (window, first, end, *caches))))
        frames.append(out)
        computed += step.chunk
    return np.concatenate(frames, axis=1)[:, step.delay :]
