"""What comes after the encoder, as ONNX graphs: prediction and joint network of a transducer, CIF and its decoder."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from espnet2_kd.asr.decoder.cif_decoder import CIFDecoder
from espnet2_kd.asr.onnx_export import require_packages
from espnet2_kd.asr.onnx_graph import TOLERANCE, checked, open_graph, save_graph
from espnet2_kd.asr.predictor import Predictor
from espnet2_kd.data.scratch import scratch_folder
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.layers.cif import CIF

TOKENS = "tokens.txt"
SEARCH = "search.json"
NUM_CHECKS = 6  # steps of the comparison


def export_search(
    model: nn.Module, output_dir: str | Path, token_type: str, max_symbols: int = 3, tail: float | None = None
) -> dict[str, float]:
    """Write the graphs that a search calls, ``tokens.txt`` and ``search.json``; return the errors found by the check.

    A transducer gives ``predictor.onnx`` and ``joint.onnx``, a CIF recogniser ``cif.onnx`` and ``decoder.onnx``. Each appears
    only after its outputs were compared with the model's own.

    model: on the CPU, in evaluation mode.
    token_type: how tokens make words; see ``group_words``.
    max_symbols: labels per frame at most, of a transducer.
    tail: rest of a token's weight from which a CIF model fires at the end; None: the model's own.

    Raises ConfigError where a package is missing, no search here decodes the model, or a check fails.
    """
    require_packages()
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    tokens = [str(token) for token in model.token_list]
    if any("\n" in token for token in tokens):
        raise ConfigError(f"{TOKENS}: a token has a line break, so that a list of lines cannot hold it")
    about: dict[str, Any] = {"token_type": token_type, "blank": model.blank_id}
    with scratch_folder(output_dir / "export") as scratch:
        folder = Path(scratch)
        if hasattr(model, "cif"):
            about |= _cif_search(model, tail)
            errors = _export_cif(model, folder)
        elif getattr(model, "joint_network", None) is not None:
            about |= {"kind": "transducer", "max_symbols": max_symbols}
            errors = _export_transducer(model, folder)
        else:
            raise ConfigError(
                "the model is neither a transducer nor a CIF recogniser: only its encoder can be exported"
            )
        (folder / TOKENS).write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
        (folder / SEARCH).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        for name in (*errors, TOKENS, SEARCH):
            os.replace(folder / name, output_dir / name)
    return errors


class PredictorStep(nn.Module):
    """The prediction network, one label further.

    labels: the last ones (N,).
    states: of recurrent layers: hidden states, and of an LSTM its cells (N, L, H) each.

    Returns predictions in the joint space (N, J) and the new states.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.embed, self.lin_dec = predictor.decoder.embed, predictor.joint_network.lin_dec
        self.layers = nn.ModuleList(predictor.layers)
        self.num_states = 0 if not predictor.layers else 2 if isinstance(predictor.layers[0], nn.LSTM) else 1

    def forward(self, labels: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.embed(labels)
        grown: list[list[torch.Tensor]] = [[] for _ in states]
        for n, layer in enumerate(self.layers):
            gates = (
                nn.functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0),
                nn.functional.linear(states[0][:, n], layer.weight_hh_l0, layer.bias_hh_l0),
            )
            if self.num_states == 2:
                i, f, g, o = (gates[0] + gates[1]).chunk(4, dim=1)
                cell = f.sigmoid() * states[1][:, n] + i.sigmoid() * g.tanh()
                x = o.sigmoid() * cell.tanh()
                grown[1].append(cell)
            else:
                (r, z, new), (r_h, z_h, new_h) = (gate.chunk(3, dim=1) for gate in gates)
                update = (z + z_h).sigmoid()
                x = (1 - update) * (new + (r + r_h).sigmoid() * new_h).tanh() + update * states[0][:, n]
            grown[0].append(x)
        return self.lin_dec(x), *(torch.stack(parts, dim=1) for parts in grown)


class JointStep(nn.Module):
    """Encoder frames (N, D) and predictions (N, J) -> log-probabilities (N, V)."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.joint_network = predictor.joint_network

    def forward(self, frames: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        enc = self.joint_network.lin_enc(frames)
        return self.joint_network(enc, prediction, no_projection=True).log_softmax(-1)


def _export_transducer(model: nn.Module, folder: Path) -> dict[str, float]:
    try:
        predictor = Predictor(model.decoder, model.joint_network, model.blank_id)
    except TypeError as error:
        raise ConfigError(str(error)) from error
    step = PredictorStep(predictor).eval()
    names = ("hidden", "cells")[: step.num_states]
    # Two of all that may vary: one would be a constant to the exporter.
    states = tuple(torch.zeros(2, len(step.layers), step.layers[0].hidden_size) for _ in names)
    streams = {0: torch.export.Dim("streams")}
    save_graph(
        step,
        (torch.full((2,), model.blank_id), *states),
        ("labels", *names),
        ("prediction", *(f"next_{name}" for name in names)),
        (streams, (streams,) * len(names)),
        folder / "predictor.onnx",
        {"blank": model.blank_id},
    )
    joint = JointStep(predictor).eval()
    size, space = predictor.joint_network.lin_enc.in_features, predictor.joint_network.lin_enc.out_features
    inputs = torch.zeros(2, size), torch.zeros(2, space)
    save_graph(
        joint,
        inputs,
        ("frames", "prediction"),
        ("log_probs",),
        (streams, streams),
        folder / "joint.onnx",
        {"size": size},
    )
    return _transducer_errors(model, predictor, folder, size)


@torch.no_grad()
def _transducer_errors(model: nn.Module, predictor: Predictor, folder: Path, size: int) -> dict[str, float]:
    """Follow the same random labels with the model and with the graphs, three hypotheses at once."""
    graphs = [open_graph(folder / name) for name in ("predictor.onnx", "joint.onnx")]
    generator = torch.Generator().manual_seed(0)
    names = [value.name for value in graphs[0].get_inputs()][1:]
    shapes = [value.shape for value in graphs[0].get_inputs()][1:]
    states = [np.zeros((3, *shape[1:]), np.float32) for shape in shapes]
    expected, labels, worst = predictor.start(3), torch.full((3,), model.blank_id), [0.0, 0.0]
    for _ in range(NUM_CHECKS):
        out, *states = graphs[0].run(None, dict(zip(("labels", *names), (labels.numpy(), *states))))
        frames = torch.randn(3, size, generator=generator)
        log_probs = graphs[1].run(None, {"frames": frames.numpy(), "prediction": expected.out.numpy()})[0]
        wanted = predictor.log_probs(predictor.project(frames), expected.out)
        worst = [max(worst[0], _apart(out, expected.out)), max(worst[1], _apart(log_probs, wanted))]
        labels = torch.randint(len(model.token_list), (3,), generator=generator)
        expected = predictor.step(labels.tolist(), expected.state)
    return {name: checked(name, error, TOLERANCE) for name, error in zip(("predictor.onnx", "joint.onnx"), worst)}


class CIFStep(nn.Module):
    """A CIF layer on the next frames of streams.

    frames: those to weigh with what the convolution needs before and after them (S, history + T + lookahead, D), zeros
        before the beginning and after the end of a stream.
    num: how many of the T belong to each stream (S,).
    mass: weight of the token being filled (S,), float64.
    token: what it holds so far (S, D).

    Returns tokens (S, U, D), zeros beyond their numbers; their numbers (S,); weights of the frames (S, T); the new mass and token.
    """

    def __init__(self, cif: CIF) -> None:
        super().__init__()
        self.cif = cif
        # What a frame may weigh decides how many tokens it can fire, and that how many rows the result has.
        most = cif.smooth_factor - cif.noise_threshold if cif.smooth_factor != 1.0 or cif.noise_threshold else 1.0
        self.fires_per_frame = max(math.ceil(most / cif.threshold), 1)

    def forward(
        self, frames: torch.Tensor, num: torch.Tensor, mass: torch.Tensor, token: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        cif, threshold = self.cif, self.cif.threshold
        size = frames.shape[1] - cif.history - cif.lookahead
        inner = frames[:, cif.history : cif.history + size]
        x = inner
        if cif.conv is not None:
            x = cif.conv(frames.transpose(1, 2)).transpose(1, 2)
            x = x + inner if cif.residual else x
        alpha = cif.linear(cif.activation(x)).squeeze(-1).sigmoid()
        if cif.smooth_factor != 1.0 or cif.noise_threshold:
            alpha = (alpha * cif.smooth_factor - cif.noise_threshold).relu()
        alpha = alpha * (torch.arange(size) < num[:, None])
        after = mass[:, None] + alpha.double().cumsum(1)
        before = torch.cat((mass[:, None], after[:, :-1]), dim=1)
        places = torch.arange(size * self.fires_per_frame + 1)
        edges = (places.double() * threshold)[:, None]
        # Of every frame what lies between the edges of every token.
        weights = torch.minimum(after[:, None], edges + threshold) - torch.maximum(before[:, None], edges)
        rows = weights.clamp(min=0.0).float() @ inner
        rows = torch.cat((rows[:, :1] + token[:, None], rows[:, 1:]), dim=1)
        total = after[:, -1]
        fires = (total / threshold).floor()
        # The quotient is rounded: the multiple decides, as in ``ops.cif``.
        fires = fires - (fires * threshold > total).double() + ((fires + 1) * threshold <= total).double()
        fired = (places < fires[:, None]).float()[:, :, None]
        filling = (places == fires[:, None]).float()[:, :, None]
        return rows * fired, fires.long(), alpha, total - fires * threshold, (rows * filling).sum(1)


class DecoderStep(nn.Module):
    """A CIF decoder, one token further; arguments as of ``CIFDecoder.step``, and the place of the token in its sentence (N,)."""

    def __init__(self, decoder: CIFDecoder) -> None:
        super().__init__()
        self.decoder = decoder
        size = decoder.after_norm.weight.numel()
        # Computed at each place: a table of positions would end somewhere.
        frequencies = torch.exp(torch.arange(0, size, 2, dtype=torch.float32) * -(math.log(10000.0) / size))
        self.register_buffer("frequencies", frequencies)

    def forward(
        self,
        fired: torch.Tensor,
        before: torch.Tensor,
        labels: torch.Tensor,
        place: torch.Tensor,
        *prefix: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        decoder = self.decoder
        angles = place[:, None].float() * self.frequencies
        position = torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)
        x = decoder._inputs(fired[:, None], before[:, None], labels[:, None]) + position[:, None]
        x = torch.cat((prefix[0], x), dim=1)
        grown = [x]
        for layer, cache in zip(decoder.decoders, prefix[1:], strict=True):
            x, _ = layer(x, None, cache)
            grown.append(x)
        x, _ = decoder.state(decoder.after_norm(x[:, -1:]), fired[:, None], fired)
        return decoder.output_layer(x[:, 0]).log_softmax(-1), *grown


def _cif_search(model: nn.Module, tail: float | None) -> dict[str, Any]:
    cif = model.cif
    return {
        "kind": "cif",
        "sos": model.sos,
        "eos": model.eos,
        "cif_eos": model.cif_eos,
        "history": cif.history,
        "lookahead": cif.lookahead,
        "threshold": cif.threshold,
        "tail": cif.tail if tail is None else tail,
    }


def _export_cif(model: nn.Module, folder: Path) -> dict[str, float]:
    cif, decoder = model.cif, model.decoder
    if not isinstance(decoder, CIFDecoder) or not decoder.causal:
        raise ConfigError(
            "a decoder that sees later tokens labels no stream: only `decoder: cif` with causal: true is exported"
        )
    size = cif.linear.in_features
    streams, pieces = torch.export.Dim("streams"), torch.export.Dim("frames", min=cif.history + cif.lookahead + 1)
    frames = torch.zeros(2, cif.history + cif.lookahead + 3, size)
    save_graph(
        CIFStep(cif).eval(),
        (frames, torch.full((2,), 3), torch.zeros(2, dtype=torch.float64), torch.zeros(2, size)),
        ("frames", "num", "mass", "token"),
        ("tokens", "num_tokens", "alpha", "next_mass", "next_token"),
        ({0: streams, 1: pieces}, {0: streams}, {0: streams}, {0: streams}),
        folder / "cif.onnx",
        {"history": cif.history, "lookahead": cif.lookahead, "threshold": cif.threshold},
    )
    prefix = tuple(torch.zeros(2, 2, size) for _ in decoder.start(1))
    names, grown = [f"prefix_{n}" for n in range(len(prefix))], torch.export.Dim("tokens", min=0)
    labels = torch.full((2,), model.sos)
    save_graph(
        DecoderStep(decoder).eval(),
        (torch.zeros(2, size), torch.zeros(2, size), labels, torch.full((2,), 2), *prefix),
        ("fired", "before", "labels", "place", *names),
        ("log_probs", *(f"next_{name}" for name in names)),
        (*({0: streams} for _ in range(4)), ({0: streams, 1: grown},) * len(prefix)),
        folder / "decoder.onnx",
        {"sos": model.sos, "eos": model.eos},
    )
    return {
        "cif.onnx": _cif_error(cif, folder / "cif.onnx"),
        "decoder.onnx": _decoder_error(model, folder / "decoder.onnx"),
    }


@torch.no_grad()
def _cif_error(cif: CIF, path: Path) -> float:
    """Streams in pieces, one shorter than the other, through the graph against the layer on the whole."""
    graph, generator = open_graph(path), torch.Generator().manual_seed(0)
    lens = torch.tensor([23, 17])
    x = torch.randn(2, 23, cif.linear.in_features, generator=generator)
    x = x.masked_fill(torch.arange(23)[None, :, None] >= lens[:, None, None], 0.0)
    padded = nn.functional.pad(x, (0, 0, cif.history, cif.lookahead)).numpy()
    mass, token = np.zeros(2), np.zeros_like(padded[:, 0])
    found: list[list[np.ndarray]] = [[], []]
    begin, extra = 0, cif.history + cif.lookahead
    for size in (1, 7, 15):
        num = (lens.numpy() - begin).clip(0, size)
        inputs = {"frames": padded[:, begin : begin + size + extra], "num": num, "mass": mass, "token": token}
        tokens, counts, _, mass, token = graph.run(None, inputs)
        for b in range(2):
            found[b] += list(tokens[b, : counts[b]])
        begin += size
    before, cif.tail = cif.tail, None
    try:
        expected = cif(x, lens)
    finally:
        cif.tail = before
    worst = 0.0
    for b, rows in enumerate(found):
        num = int(expected.lens[b])
        # As many tokens, or the graph is wrong however close they are.
        worst = max(worst, _apart(np.array(rows), expected.fired[b, :num]) if len(rows) == num else math.inf)
    return checked(path.name, worst, TOLERANCE)


@torch.no_grad()
def _decoder_error(model: nn.Module, path: Path) -> float:
    """The same random tokens and labels through the graph and the decoder, step by step."""
    graph, generator, decoder = open_graph(path), torch.Generator().manual_seed(0), model.decoder
    names = [value.name for value in graph.get_inputs()]
    known, size = decoder.start(3), model.cif.linear.in_features
    prefix = [x.numpy() for x in known]
    labels, before, worst = torch.full((3,), model.sos), torch.zeros(3, size), 0.0
    for place in range(NUM_CHECKS):
        fired = torch.randn(3, size, generator=generator)
        inputs = (fired.numpy(), before.numpy(), labels.numpy(), np.full(3, place), *prefix)
        given = dict(zip(("fired", "before", "labels", "place", *(f"prefix_{n}" for n in range(len(prefix)))), inputs))
        # A decoder that sees no labels has no such input.
        log_probs, *prefix = graph.run(None, {name: value for name, value in given.items() if name in names})
        expected, known = decoder.step(fired, before, labels, known)
        worst = max(worst, _apart(log_probs, expected))
        labels, before = torch.randint(len(model.token_list), (3,), generator=generator), fired
    return checked(path.name, worst, TOLERANCE)


def _apart(actual: np.ndarray, expected: torch.Tensor) -> float:
    return float(np.abs(actual - expected.numpy()).max()) if actual.size else 0.0
