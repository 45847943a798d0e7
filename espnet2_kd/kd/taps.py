"""Reading values inside a model by dotted path, without touching the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from espnet2_kd.kd.lattice import LatticeRows
from espnet2_kd.kd.registry import ConfigError, nearest
from espnet2_kd.kd.seq import Seq

INPUT = ":input"
# Where a layer of ESPnet2 keeps its attention projections.
ATTENTION = {"q": ".self_attn.linear_q", "k": ".self_attn.linear_k", "v": ".self_attn.linear_v"}
# What `model.encode(speech, speech_lengths)` of an ESPnet2 model runs.
ENCODE_PARTS = ("frontend", "specaug", "normalize", "preencoder", "encoder", "postencoder")


def module_at(model: nn.Module, path: str, where: str) -> nn.Module:
    """The submodule at a tap path such as `encoder.encoders.3` or `joint_network:input`.

    Raises:
        ConfigError: no such submodule; the message lists the nearest names.
    """
    name = path.removesuffix(INPUT)
    try:
        if name:
            return model.get_submodule(name)
    except AttributeError:
        pass
    modules = dict(model.named_modules())
    raise ConfigError(f"{where}: no submodule {name!r} in {type(model).__name__}; {nearest(name, modules)}")


def in_encoder(path: str) -> bool:
    """Whether a tap lies in what `encode` runs, so that speech without labels reaches it."""
    return path.removesuffix(INPUT).split(".")[0] in ENCODE_PARTS


def tellers(paths: Iterable[str]) -> set[str]:
    """What tells the lengths of taps inside layers: the encoder's output and, as it may pool frames, those of the layers themselves."""
    layers = (re.match(r"(encoder\.(encoders|layers)|decoder\.layers)\.\d+", path) for path in paths)
    return {"encoder"} | {layer[0] for layer in layers if layer}


def as_seq(value: Any) -> Seq:
    """Turn what a module returned into a `Seq`.

    Known shapes: a tensor; `(x, mask)` of Transformer layers; `((x, pos), mask)` of Conformer layers; `(x, mask, pos)` of
    standalone-transducer blocks; `(x, lens, states)` of encoders; `(x, states)` of recurrent layers. Masks are `(B, 1, T)` or `(B, T)` with True on
    valid frames.

    Raises:
        TypeError: the value holds no tensor in its first place.
    """
    rest: tuple = ()
    while isinstance(value, (tuple, list)):
        rest = (*value[1:], *rest)
        value = value[0]
    if isinstance(value, Seq):
        return value
    if isinstance(value, LatticeRows):
        return Seq(value)
    if not isinstance(value, Tensor):
        raise TypeError(f"a tap must read a tensor, not {type(value).__name__}")
    lens = None
    if value.dim() >= 3:
        for other in rest:
            if not isinstance(other, Tensor):
                continue
            if other.dtype == torch.bool and other.shape[0] == value.shape[0] and other.shape[-1] == value.shape[1]:
                # Of all rows: a decoder's are causal, and its first sees one token.
                lens = other.reshape(other.shape[0], -1, other.shape[-1]).any(1).sum(-1)
                break
            if not other.is_floating_point() and other.shape == value.shape[:1]:
                lens = other
                break
    return Seq(value, lens)


@contextmanager
def record(model: nn.Module, paths: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Collect the raw output (or, with `path:input`, the first input) of submodules while the block runs.

    A submodule that runs several times keeps its last value.
    """
    values: dict[str, Any] = {}
    handles = []

    def keep_output(path: str):
        return lambda module, args, output: values.__setitem__(path, output)

    def keep_input(path: str):
        return lambda module, args: values.__setitem__(path, args)

    try:
        for path in paths:
            module = module_at(model, path, "tap")
            if path.endswith(INPUT):
                handles.append(module.register_forward_pre_hook(keep_input(path)))
            else:
                handles.append(module.register_forward_hook(keep_output(path)))
        yield values
    finally:
        for handle in handles:
            handle.remove()


def resolve_lens(taps: dict[str, Any], batch: dict[str, Any]) -> dict[str, Seq]:
    """Give every recorded value its lengths.

    Values that carry none (a linear layer's output) take those of a recorded value with the same batch and frame count: a
    projection inside a layer has the frames of that layer. Lattices `(B, T, U, V)` also take the labels of the batch,
    `text` `(B, U - 1)` and `text_lengths` `(B,)`.

    Raises:
        ConfigError: a sequence whose lengths cannot be told.
    """
    seqs = {path: as_seq(value) for path, value in taps.items()}
    known = [seq for seq in seqs.values() if seq.lens is not None]
    resolved = {}
    for path, seq in seqs.items():
        if seq.lens is None and seq.x.dim() >= 3:
            same = [k for k in known if k.x.shape[:2] == seq.x.shape[:2]]
            if not same:
                raise ConfigError(
                    f"tap {path!r}: its output carries no lengths and no tapped layer has {seq.x.shape[1]} frames"
                )
            seq = Seq(seq.x, same[0].lens)
        if seq.x.dim() == 4:
            if "text" not in batch:
                raise ConfigError(f"tap {path!r}: a transducer lattice needs the batch's `text`")
            seq = Seq(seq.x, seq.lens, batch["text_lengths"] + 1, batch["text"])
        resolved[path] = seq
    return resolved
