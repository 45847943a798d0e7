"""ONNX graphs: written, described, made small, opened, compared."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from espnet2_kd.kd.registry import ConfigError

# Largest difference of float32 numbers around 1, such as normalised frames.
TOLERANCE = 1e-3


def save_graph(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: tuple[Any, ...],
    path: Path,
    about: Mapping[str, Any],
) -> None:
    """Write the graph of a module's ``forward``.

    inputs: examples. A dynamic dimension must not be 1 in them: torch.export takes that for a constant.
    dynamic_shapes: of each argument, as torch.export takes them.
    about: metadata, each a JSON value.
    """
    import onnx

    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module,
            inputs,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_shapes=dynamic_shapes,
            dynamo=True,
            verbose=False,
        )
    graph = program.model_proto
    _describe(graph, about)
    onnx.save(graph, path)


def open_graph(path: Path) -> Any:
    """Return a session of onnxruntime on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def quantize_graph(source: Path, path: Path, about: Mapping[str, Any]) -> None:
    """Write the graph of ``source`` with 8-bit linear layers, activations quantised on the fly."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    # Only weights of linear layers, which are matrices; positions are constants too, but of three dimensions.
    matrices = {tensor.name for tensor in graph.graph.initializer if len(tensor.dims) == 2}
    linear = [
        node.name
        for node in graph.graph.node
        if node.op_type in ("MatMul", "Gemm") and len(node.input) > 1 and node.input[1] in matrices
    ]
    others = [node.name for node in graph.graph.node if node.op_type in ("MatMul", "Gemm") and node.name not in linear]
    with _quiet():
        quantize_dynamic(
            source,
            path,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=others,
            per_channel=True,
            # Seven bits for weights: with eight, sums overflow on CPUs without VNNI.
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    graph = onnx.load(path)
    _describe(graph, {**about, "quantized": True})
    onnx.save(graph, path)


def _describe(graph: Any, about: Mapping[str, Any]) -> None:
    import onnx

    onnx.helper.set_model_props(graph, {name: json.dumps(value) for name, value in about.items()})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporters say about themselves; errors are raised as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def checked(name: str, error: float, limit: float) -> float:
    """Return the error of a file; raises ConfigError where it is beyond the limit, or no number."""
    # Written so that what is not a number fails.
    if not error <= limit:
        raise ConfigError(f"{name}: differs from the model by {error:.2g}, more than {limit:g}: not written")
    return error
