from dataclasses import replace

import pytest
import torch

from espnet2_kd.asr.encoder.chunk_conformer import ChunkConformerEncoder
from espnet2_kd.asr.encoder.chunk_step import NO_END, ChunkStep

SIZES = {
    "input_size": 80,
    "output_size": 16,
    "attention_heads": 2,
    "linear_units": 24,
    "num_blocks": 3,
    "cnn_module_kernel": 5,
}
CONFS = {
    "chunk": {"chunk_frames": 2, "left_frames": 4},
    "right": {"chunk_frames": 3, "left_frames": 2, "right_frames": 1},
    "far right": {"chunk_frames": 2, "left_frames": 3, "right_frames": 5, "conv_norm": "batch_norm"},
    "pools": {"chunk_frames": 2, "left_frames": 2, "right_frames": 1, "input_layer": "conv2d2", "pool_after": [1, 2]},
    "last pool": {"chunk_frames": 2, "left_frames": 2, "pool_after": [3]},
    "plain": {"chunk_frames": 4, "left_frames": 0, "use_cnn_module": False, "macaron_style": False},
    "one frame": {"chunk_frames": 1, "left_frames": 4, "cnn_module_kernel": 1, "input_layer": "conv2d6"},
    "long chunk": {"chunk_frames": 100, "left_frames": 4, "input_layer": "conv2d8", "activation_type": "relu"},
}


def encoder(**conf):
    torch.manual_seed(0)
    made = ChunkConformerEncoder(**{**SIZES, **conf})
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.LayerNorm)):
            torch.nn.init.normal_(module.weight, 1.0, 0.3)
            torch.nn.init.normal_(module.bias)
    return made.eval()


def run(step, feats, lens, piece):
    state, pieces, num = step.initial_state(len(feats)), [], feats.shape[1]
    for start in range(0, num, piece):
        size = min(piece, num - start)
        chunk_lens = (lens - start).clamp(0, size)
        out, state = step.forward_chunk(feats[:, start : start + size], state, start + piece >= num, chunk_lens)
        pieces.append(out)
    return torch.cat(pieces, dim=1), state


@torch.no_grad()
@pytest.mark.parametrize("products", [True, False])
@pytest.mark.parametrize("name", CONFS)
def test_any_pieces_equal_the_masked_pass(name, products):
    model = encoder(**CONFS[name])
    step = ChunkStep(model, products=products)
    for num in (15, 90, 397):
        feats = torch.randn(3, num, 80)
        lens = torch.tensor([num, max(num // 2, 15), max(num - 3, 15)])
        expected, expected_lens, _ = model(feats, lens)
        valid = torch.arange(expected.shape[1]) < expected_lens[:, None]
        for piece in (7, 16, 64, 1000):
            actual, state = run(step, feats, lens, piece)
            assert actual.shape == expected.shape and torch.equal(state.lens, expected_lens)
            assert (actual - expected)[valid].abs().max() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("name", ["chunk", "right", "far right", "pools"])
def test_frames_come_out_when_those_of_the_encoder_do(name):
    model = encoder(**CONFS[name])
    step = ChunkStep(model)
    state, other = step.initial_state(), model.initial_state()
    for feats in torch.randn(120, 1, 1, 80):
        out, state = step.forward_chunk(feats, state)
        expected, other = model.forward_chunk(feats, other)
        assert out.shape == expected.shape


@torch.no_grad()
@pytest.mark.parametrize("name", ["chunk", "right", "pools"])
def test_streams_at_different_places_share_a_batch(name):
    model = encoder(**CONFS[name])
    step = ChunkStep(model)
    feats = torch.randn(1, step.window(1) + 9 * step.shift, 80)
    windows = [feats[:, n * step.shift :][:, : step.window(1)] for n in range(10)]
    no_end = torch.tensor([NO_END])

    def alone(num):
        first, caches, outs = step.initial_first(), step.initial_caches(), []
        for window in windows[:num]:
            out, first, caches = step(window, first, no_end, caches)
            outs.append(out)
        return outs, first, caches

    outs, *_ = alone(10)
    _, first, caches = alone(4)
    first = torch.cat((first, step.initial_first()))
    caches = tuple(torch.cat(pair) for pair in zip(caches, step.initial_caches()))
    for n in range(6):
        out, first, caches = step(torch.cat((windows[4 + n], windows[n])), first, no_end.repeat(2), caches)
        assert (out[0] - outs[4 + n][0]).abs().max() < 1e-5 and (out[1] - outs[n][0]).abs().max() < 1e-5


@torch.no_grad()
def test_nothing_grows_and_no_table_ends_after_days_of_audio():
    model = encoder(**CONFS["pools"])
    step = ChunkStep(model)
    feats = torch.randn(1, 600, 80)
    near, _ = run(ChunkStep(model), feats, torch.tensor([600]), 600)
    state, sizes, outs = step.initial_state(), set(), []
    for n in range(600 // 8):
        out, state = step.forward_chunk(feats[:, n * 8 : n * 8 + 8], state)
        outs.append(out)
        if n == 40:
            # A month has gone by: the same stream, its counters far ahead.
            far = 10**8 * step.chunk
            state = replace(state, computed=state.computed + far)
        if n > 30:
            sizes.add((state.feats.shape[1] <= step.window(1), *(cache.shape for cache in state.caches)))
            assert state.first.abs().max() <= step.out_of_sight
    assert len(sizes) == 1 and all(set(block.layouts) == {1} for block in step.blocks)
    actual = torch.cat(outs, dim=1)
    assert (actual - near[:, : actual.shape[1]]).abs().max() < 1e-4


@torch.no_grad()
def test_eight_bits_are_close():
    sizes = {"output_size": 64, "linear_units": 128, "attention_heads": 4}
    for name in ("chunk", "pools"):
        model = encoder(**{**CONFS[name], **sizes})
        feats, lens = torch.randn(2, 300, 80), torch.tensor([300, 200])
        expected, expected_lens, _ = model(feats, lens)
        actual, _ = run(ChunkStep(model, quantize=True), feats, lens, 16)
        valid = torch.arange(expected.shape[1]) < expected_lens[:, None]
        difference = (actual - expected)[valid]
        assert 0.0 < difference.square().mean().sqrt() < 0.1 * expected[valid].square().mean().sqrt()


def test_what_has_no_step_is_refused():
    for conf in ({}, {"chunk_frames": 2}):
        with pytest.raises(ValueError, match="bounded left context"):
            ChunkStep(encoder(**conf))
    model = encoder(**CONFS["chunk"])
    step = ChunkStep(model)
    _, state = step.forward_chunk(torch.zeros(1, 20, 80), step.initial_state(), final=True)
    with pytest.raises(ValueError, match="ended gets further frames"):
        step.forward_chunk(torch.zeros(1, 20, 80), state)
    with pytest.raises(ValueError, match=r"call eval\(\) first"):
        ChunkStep(model.train())
