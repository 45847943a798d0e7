import math

import pytest
import torch
from espnet.nets.pytorch_backend.transformer.subsampling import TooShortUttError
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder

from espnet2_kd.asr.encoder.chunk_conformer import ChunkConformerEncoder
from espnet2_kd.kd.taps import as_seq, record, resolve_lens
from espnet2_kd.layers.attention_plan import AttentionPlan
from espnet2_kd.layers.chunk_context import ChunkContext
from espnet2_kd.layers.relative_position import relative_positions

FEATS = 20
SMALL = {"output_size": 16, "attention_heads": 2, "linear_units": 24, "num_blocks": 2, "cnn_module_kernel": 5}
STREAMING = {"chunk_frames": 4, "left_frames": 6}
POOLED = {"input_layer": "conv2d2", "num_blocks": 4, "pool_after": [1, 3]}
POOLED_STREAMING = {**POOLED, "chunk_frames": 2, "left_frames": 3, "right_frames": 1}


def encoder(seed=0, **settings):
    torch.manual_seed(seed)
    module = ChunkConformerEncoder(FEATS, **{**SMALL, **settings})
    for name, parameter in module.named_parameters():
        # Sharp attention, so that a wrong key or distance shows.
        if "linear_q" in name or "linear_k" in name or "linear_pos" in name:
            torch.nn.init.normal_(parameter, std=0.6)
    return module.eval()


def batch(num, size, seed=1):
    generator = torch.Generator().manual_seed(seed)
    lens = torch.randint(num // 3, num + 1, (size,), generator=generator)
    lens[size // 2] = num
    return torch.randn(size, num, FEATS, generator=generator), lens


def stream(module, feats, lens, sizes):
    """Outputs of each call and the last state; sizes are repeated until the end."""
    state, outputs, start, n = module.initial_state(len(feats)), [], 0, 0
    num = feats.shape[1]
    while start < num:
        size = min(sizes[n % len(sizes)], num - start)
        piece_lens = (lens - start).clamp(0, size)
        out, state = module.forward_chunk(feats[:, start : start + size], state, start + size == num, piece_lens)
        outputs.append(out)
        start, n = start + size, n + 1
    return outputs, state


@pytest.mark.parametrize("input_layer", ["conv2d", "conv2d2", "conv2d6", "conv2d8"])
@pytest.mark.parametrize("macaron", [True, False])
def test_full_context_equals_espnets_conformer_with_the_same_weights(input_layer, macaron):
    shared = {**SMALL, "input_layer": input_layer, "macaron_style": macaron}
    ours = encoder(**{**shared, "conv_norm": "batch_norm"})
    stock = ConformerEncoder(FEATS, rel_pos_type="latest", **shared).eval()
    weights = {name.replace("embed.out.0.", "embed.out."): name for name in stock.state_dict()}
    assert weights.keys() == ours.state_dict().keys()
    values = {weights[name]: value for name, value in ours.state_dict().items()}
    stock.load_state_dict({name: values[name].view_as(value) for name, value in stock.state_dict().items()})
    for norm in (m for m in stock.modules() if isinstance(m, torch.nn.LayerNorm)):
        norm.eps = ours.after_norm.eps
    feats, lens = torch.randn(2, 90, FEATS), torch.tensor([90, 90])
    with torch.no_grad():
        expected, expected_lens, _ = stock(feats, lens)
        actual, actual_lens, _ = ours(feats, lens)
    assert torch.equal(actual_lens, expected_lens)
    assert (actual - expected).abs().max() < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        STREAMING,
        {"chunk_frames": 3, "left_frames": 4, "right_frames": 1, "input_layer": "conv2d2"},
        {"chunk_frames": 2, "left_frames": 3, "right_frames": 5, "input_layer": "conv2d6"},
        {"chunk_frames": 1, "left_frames": 0, "conv_norm": "batch_norm"},
        {"chunk_frames": 5, "use_cnn_module": False, "causal_conv": False},
        {"chunk_frames": 70, "left_frames": 3, "macaron_style": False, "input_layer": "conv2d2"},
        POOLED_STREAMING,
        {**POOLED, "chunk_frames": 1, "left_frames": 0, "pool_after": [1, 2, 4]},
        {"chunk_frames": 3, "right_frames": 4, "pool_after": [1], "conv_norm": "batch_norm"},
    ],
)
@pytest.mark.parametrize("size", [1, 8])
def test_stream_equals_whole_for_any_split(settings, size):
    module = encoder(**settings)
    for num in (15, 44, 203):
        feats, lens = batch(num, size)
        with torch.no_grad():
            expected, olens, _ = module(feats, lens)
            valid = torch.arange(expected.shape[1]) < olens[:, None]
            for sizes in ([1], [3, 0, 19, 1], [64], [num]):
                outputs, state = stream(module, feats, lens, sizes)
                actual = torch.cat(outputs, dim=1)
                assert actual.shape == expected.shape
                assert torch.equal(state.lens, olens)
                assert not valid.any() or (actual - expected)[valid].abs().max() < 1e-4


def test_frames_come_out_as_soon_as_their_context_is_there():
    module = encoder(**STREAMING, right_frames=2)
    chunk, ahead = 4, module.lookahead_frames
    assert ahead == 4 + 2
    feats, lens = batch(203, 1)
    with torch.no_grad():
        outputs, _ = stream(module, feats, lens, [1])
    counts = torch.tensor([out.shape[1] for out in outputs[:-1]]).cumsum(0).tolist()
    for received, emitted in enumerate(counts, start=1):
        frames = max((received - 7) // 4 + 1, 0)
        assert emitted == max(frames - ahead, 0) // chunk * chunk


@pytest.mark.parametrize("settings", [{**STREAMING, "right_frames": 1}, POOLED_STREAMING])
def test_stream_longer_than_a_minute_remembers_no_more(settings):
    module = encoder(**settings)
    state, seen, count = module.initial_state(2), set(), 0
    with torch.no_grad():
        for n in range(600):
            out, state = module.forward_chunk(torch.randn(2, 16, FEATS), state)
            count += out.shape[1]
            if n >= 10:
                tensors = [state.feats, *(t for b in state.blocks for t in (b.pending, b.keys, b.values, b.conv))]
                seen.add(tuple(t.shape for t in tensors))
    assert len(seen) == 1
    assert count == state.emitted > 9500 // module.stride and out.isfinite().all()


def test_no_longest_utterance():
    module = encoder(**STREAMING, num_blocks=1)
    with torch.no_grad():
        feats, lens = batch(24100, 1)
        whole, olens, _ = module(feats, lens)
        assert olens.item() == whole.shape[1] > 6000
        tail, _, _ = module(feats[:, 16 * 1480 :], torch.tensor([24100 - 16 * 1480]))
    # Attention reaches 9 frames back, the convolution 4: the end is that of a short utterance begun on a chunk boundary.
    shift = whole.shape[1] - tail.shape[1]
    assert shift == 1480 * 4
    torch.testing.assert_close(whole[:, -60:], tail[:, -60:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("right", [0, 2])
def test_gradient_reaches_no_frame_beyond_the_lookahead(right):
    module = encoder(**STREAMING, right_frames=right)
    feats = torch.randn(1, 203, FEATS, requires_grad=True)
    out, _, _ = module(feats, torch.tensor([203]))
    # A plain sum over a normalised frame is constant.
    out = out * torch.randn(16)
    for frame in (0, 5, 18):
        (grad,) = torch.autograd.grad(out[0, frame].sum(), feats, retain_graph=True)
        last = frame // 4 * 4 + 3 + module.lookahead_frames
        reached = grad[0].abs().sum(1).nonzero()[:, 0]
        assert int(reached.max()) == last * 4 + 6


@pytest.mark.parametrize("settings", [{}, STREAMING, {**STREAMING, "right_frames": 3}, POOLED, POOLED_STREAMING])
def test_batch_of_one_equals_batch_of_eight_whatever_the_padding(settings):
    module = encoder(**settings)
    feats, lens = batch(203, 8)
    padding = torch.arange(203) >= lens[:, None]
    with torch.no_grad():
        together, olens, _ = module(feats.masked_fill(padding[:, :, None], float("nan")), lens)
        for b in range(8):
            alone, num, _ = module(feats[b : b + 1, : lens[b]], lens[b : b + 1])
            assert num.item() == olens[b] == alone.shape[1]
            assert (together[b, : olens[b]] - alone[0]).abs().max() < 1e-5
    assert together.isfinite().all()


@pytest.mark.parametrize("settings", [STREAMING, POOLED, POOLED_STREAMING])
def test_padding_gets_no_gradient(settings):
    module = encoder(**settings)
    feats, lens = batch(120, 3)
    padding = torch.arange(120) >= lens[:, None]
    feats[padding] = float("nan")
    feats.requires_grad_()
    out, olens, _ = module(feats, lens)
    (out * torch.randn(16))[torch.arange(out.shape[1]) < olens[:, None]].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    assert not feats.grad[padding].any() and feats.grad[~padding].any()


def test_an_utterance_shorter_than_one_frame_within_a_batch_has_none():
    module = encoder(**STREAMING)
    out, olens, _ = module(torch.randn(2, 60, FEATS), torch.tensor([60, 6]))
    assert olens.tolist() == [14, 0] and out.isfinite().all()


@pytest.mark.parametrize(("input_layer", "limit"), [("conv2d", 7), ("conv2d2", 7), ("conv2d6", 11), ("conv2d8", 15)])
def test_too_short_input_raises_as_in_espnet(input_layer, limit):
    stock = ConformerEncoder(FEATS, input_layer=input_layer, **SMALL)
    feats, lens = torch.randn(1, limit - 1, FEATS), torch.tensor([limit - 1])
    for module in (stock, encoder(input_layer=input_layer)):
        with pytest.raises(TooShortUttError) as error:
            module(feats, lens)
        assert (error.value.actual_size, error.value.limit) == (limit - 1, limit)
    out, olens, _ = encoder(input_layer=input_layer)(torch.randn(1, limit, FEATS), torch.tensor([limit]))
    assert out.shape == (1, 1, 16) and olens.tolist() == [1]


def test_milliseconds_are_frames():
    module = encoder(chunk_ms=160, left_ms=640, right_ms=40)
    assert module.context == ChunkContext(4, 16, 1)
    assert module.frame_ms == 40
    assert encoder(chunk_ms=240, left_ms=0, input_layer="conv2d6").context == ChunkContext(4, 0)
    assert encoder(chunk_ms=128, frame_shift_ms=8).context == ChunkContext(4)
    module.set_context_ms(320)
    assert module.context == ChunkContext(8, 16, 1)
    module.set_context_ms(left_ms=80, right_ms=0)
    assert module.context == ChunkContext(8, 2, 0)
    module.set_context_ms(left_ms=math.inf)
    assert module.context == ChunkContext(8, None, 0)
    pooled = encoder(chunk_ms=320, left_ms=640, right_ms=80, pool_after=[1])
    assert (pooled.context, pooled.frame_ms, pooled.stride) == (ChunkContext(4, 8, 1), 80, 8)
    assert encoder(num_blocks=15, input_layer="conv2d2", pool_after=[5, 10], chunk_ms=160).context == ChunkContext(2)
    with pytest.raises(ValueError, match="right_ms=50 is not a multiple"):
        module.set_context_ms(right_ms=50)
    assert module.context == ChunkContext(8, None, 0)
    module.set_context(2, None, 3)
    assert module.context == ChunkContext(2, None, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk_ms": 150}, "chunk_ms=150 is not a multiple of the encoder frame of 40 ms"),
        ({"chunk_ms": 160, "left_ms": 90}, "left_ms=90 is not a multiple"),
        ({"chunk_ms": 160, "chunk_frames": 4}, "chunk_ms or chunk_frames, not both"),
        ({"chunk_ms": 0}, "at least one frame"),
        ({"left_ms": 160}, "need a chunk size"),
        ({"chunk_ms": 160, "causal_conv": False}, "causal_conv=False looks past the chunk"),
        ({"dynamic_chunk_frames": [4], "causal_conv": False}, "causal_conv=False looks past the chunk"),
        ({"dynamic_full_prob": 0.5}, "needs dynamic_chunk_frames"),
        ({"dynamic_chunk_frames": [4], "dynamic_full_prob": 2.0}, "between 0 and 1"),
        ({"dynamic_chunk_frames": [0]}, "at least one frame"),
        ({"chunk_ms": 120, "pool_after": [1]}, "chunk_ms=120 is not a multiple of the encoder frame of 80 ms"),
        ({"pool_after": [0]}, r"pool_after must name blocks from 1 to 2 .* got \[0\]"),
        ({"pool_after": [1, 3]}, r"got \[1, 3\]"),
        ({"pool_after": [2, 1]}, r"in ascending order, each once, got \[2, 1\]"),
        ({"pool_after": [1, 1]}, r"got \[1, 1\]"),
        ({"cnn_module_kernel": 4}, "odd kernel"),
        ({"conv_norm": "none"}, "unknown conv_norm"),
        ({"activation_type": "sine"}, "unknown activation"),
        ({"input_layer": "embed"}, "unknown input_layer"),
    ],
)
def test_wrong_settings_fail_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        encoder(**settings)


def test_changing_the_context_of_a_centred_encoder_is_refused():
    with pytest.raises(ValueError, match="causal_conv=False"):
        encoder().set_context(4, 8)
    with pytest.raises(ValueError, match="full context cannot run chunk by chunk"):
        encoder().initial_state()


@pytest.mark.parametrize("pools", [{}, {"input_layer": "conv2d2", "pool_after": [1]}])
def test_dynamic_chunks_draw_from_the_list_in_training_only(pools):
    module = encoder(
        chunk_frames=8, left_frames=6, dynamic_chunk_frames=[2, 5], dynamic_full_prob=0.4, dropout_rate=0.0, **pools
    )
    module.dropout.p = 0.0
    feats, lens = batch(120, 2)

    def outcome(context):
        fixed = encoder(chunk_frames=8, left_frames=6, dropout_rate=0.0, **pools)
        fixed.context = context
        return fixed(feats, lens)[0]

    known = [outcome(c) for c in (ChunkContext(2, 6), ChunkContext(5, 6), ChunkContext(), ChunkContext(8, 6))]
    with torch.no_grad():
        assert torch.equal(module(feats, lens)[0], known[3])
        module.train()
        counts = [0] * 4
        for _ in range(80):
            out = module(feats, lens)[0]
            counts[[torch.allclose(out, k, atol=1e-6) for k in known].index(True)] += 1
    assert counts[3] == 0 and all(10 < count < 50 for count in counts[:3])


def test_taps_for_distillation():
    module = encoder(**STREAMING)
    feats, lens = batch(120, 3)
    with record(module, ["encoders.1", "encoders.0.self_attn.linear_q"]) as taps:
        _, olens, _ = module(feats, lens)
    block = as_seq(taps["encoders.1"])
    assert block.x.shape == (3, 29, 16) and torch.equal(block.lens, olens)
    assert as_seq(taps["encoders.0.self_attn.linear_q"]).x.shape == (3, 29, 16)


def test_bfloat16_autocast_is_close_and_keeps_the_residual_stream_in_float32():
    module = ChunkConformerEncoder(FEATS, **SMALL, **STREAMING, dropout_rate=0.0).eval()
    feats, lens = batch(203, 3)
    exact, olens, _ = module(feats, lens)
    with torch.autocast("cpu", torch.bfloat16):
        out, _, _ = module(feats, lens)
    valid = torch.arange(out.shape[1]) < olens[:, None]
    assert out.dtype == torch.float32
    assert 0 < (out - exact)[valid].norm() / exact[valid].norm() < 0.03


def test_frames_after_the_end_of_a_stream_are_refused():
    module = encoder(**STREAMING)
    _, state = module.forward_chunk(torch.randn(2, 20, FEATS), module.initial_state(2), lens=torch.tensor([20, 11]))
    with pytest.raises(ValueError, match="a stream that has ended gets further frames"):
        module.forward_chunk(torch.randn(2, 20, FEATS), state)


def by_hand(module, feats, chunk=None, left=0, right=0):
    """Frames (T', D) of one utterance (T, F): dense masks written out, pools as loops; sizes in encoder frames."""
    x, rate = module.embed(feats[None]) * 4.0, 2 ** len(module.pool_after)
    for number, block in enumerate(module.encoders, start=1):
        num = x.shape[1]
        blocked = torch.zeros(1, num, num, dtype=torch.bool)
        for query in range(num if chunk else 0):
            start = query // (chunk * rate) * (chunk * rate)
            for key in range(num):
                blocked[0, query, key] = not start - left * rate <= key < start + (chunk + right) * rate
        plan = AttentionPlan(ChunkContext(chunk), num, num, 0, 0, blocked)
        pos = relative_positions(num - 1, num - 1, x.shape[2], x)
        x, _ = block(x, torch.ones(1, 1, num, dtype=torch.bool), pos, plan)
        if number in module.pool_after:
            x = torch.stack([x[:, t : t + 2].amax(1) for t in range(0, num, 2)], dim=1)
            rate //= 2
    return module.after_norm(x)[0]


@pytest.mark.parametrize(
    "sizes", [(), (2, 3, 1), (3, 0, 4), (1, 2, 0)], ids=["full", "right", "far_right", "one_frame"]
)
def test_pools_are_those_of_the_definition(sizes):
    module = encoder(**POOLED, **dict(zip(("chunk_frames", "left_frames", "right_frames"), sizes)))
    feats, lens = batch(203, 4)
    padding = torch.arange(203) >= lens[:, None]
    with torch.no_grad():
        actual, olens, _ = module(feats.masked_fill(padding[:, :, None], float("nan")), lens)
        for b in range(4):
            expected = by_hand(module, feats[b, : lens[b]], *sizes)
            assert olens[b] == len(expected)
            assert (actual[b, : olens[b]] - expected).abs().max() < 1e-5


def test_lengths_after_pools():
    module, num = encoder(**POOLED), 80
    with torch.no_grad():
        out, olens, _ = module(torch.randn(num + 1, num, FEATS), torch.arange(num + 1))
        for length in range(num + 1):
            frames = max((length - 3) // 2 + 1 - 2, 0)
            assert olens[length] == math.ceil(frames / 4)
            if frames:
                alone, alone_lens, _ = module(torch.randn(1, length, FEATS), torch.tensor([length]))
                assert alone.shape[1] == alone_lens.item() == olens[length]
    assert out.shape[1] == olens.max()


def test_stream_with_pools_equals_whole_at_every_length():
    # Every phase of the last frames within pools and chunks, with streams that end everywhere before.
    module = encoder(**{**POOLED_STREAMING, "right_frames": 0})
    for num in range(7, 60):
        feats = torch.randn(8, num, FEATS)
        lens = num - torch.tensor([0, 1, 2, 3, 5, 8, 13, 40]).clamp(max=num)
        with torch.no_grad():
            expected, olens, _ = module(feats, lens)
            for sizes in ([1], [11, 2]):
                outputs, state = stream(module, feats, lens, sizes)
                actual = torch.cat(outputs, dim=1)
                assert actual.shape == expected.shape and torch.equal(state.lens, olens)
                valid = torch.arange(expected.shape[1]) < olens[:, None]
                assert (actual - expected)[valid].abs().max() < 1e-4


@pytest.mark.parametrize("right", [0, 1, 3])
def test_lookahead_with_pools_is_what_frames_wait_for_and_depend_on(right):
    module = encoder(**{**POOLED_STREAMING, "right_frames": right})
    feats = torch.randn(1, 303, FEATS, requires_grad=True)
    whole, _, _ = module(feats, torch.tensor([303]))
    # A plain sum over a normalised frame is constant.
    weighted = whole * torch.randn(16)
    needed = []
    for frame in (1, 3, 5):
        (grad,) = torch.autograd.grad(weighted[0, frame].sum(), feats, retain_graph=True)
        last = frame + module.lookahead_frames
        # Of the four frames of 20 ms that the last one is made of, the last begins at feature 8 * last + 6.
        needed.append(8 * last + 6 + 6)
        assert int(grad[0].abs().sum(1).nonzero().max()) == module.last_feature(last) == needed[-1]
    state, counts = module.initial_state(), []
    with torch.no_grad():
        for feature in feats.split(1, dim=1):
            out, state = module.forward_chunk(feature, state)
            counts.append(state.emitted)
    assert [counts.index(emitted) for emitted in (2, 4, 6)] == needed


def test_pools_add_no_parameters():
    assert encoder(**POOLED).state_dict().keys() == encoder(**{**POOLED, "pool_after": ()}).state_dict().keys()


def test_taps_carry_the_lengths_of_their_stage():
    module = encoder(**POOLED_STREAMING)
    paths = [f"encoders.{n}" for n in range(4)]
    projections = [f"{path}.self_attn.linear_q" for path in paths]
    with record(module, [*paths, *projections, "encoders.3:input"]) as recorded:
        module(torch.randn(3, 120, FEATS), torch.tensor([120, 64, 21]))
    taps = resolve_lens(recorded, {})
    stages = [(57, [57, 29, 8]), (29, [29, 15, 4]), (29, [29, 15, 4]), (15, [15, 8, 2])]
    for path, (num, lens) in zip([*paths, *projections, "encoders.3:input"], [*stages, *stages, stages[3]]):
        assert taps[path].x.shape == (3, num, 16) and taps[path].lens.tolist() == lens
