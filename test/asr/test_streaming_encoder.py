import pytest
import torch

from espnet2_kd.asr.load import load_model
from espnet2_kd.asr.streaming_encoder import StreamingEncoder

RATE = 16000
CONFS = {
    "chunk": {"chunk_ms": 80, "left_ms": 160},
    "right": {"chunk_ms": 120, "left_ms": 80, "right_ms": 40},
    "pool": {"chunk_ms": 160, "left_ms": 160, "right_ms": 80, "input_layer": "conv2d2", "pool_after": [1, 2]},
    "full": {},
}


@pytest.fixture(scope="module")
def models(tiny_experiment):
    made = {}

    def get(name, center=False):
        if name not in made:
            conf = {
                "output_size": 16,
                "attention_heads": 2,
                "linear_units": 24,
                "num_blocks": 2,
                "cnn_module_kernel": 5,
            }
            exp = tiny_experiment(f"streaming_{name}", encoder_conf={**conf, **CONFS[name]})
            made[name] = load_model(exp, "valid.loss_transducer.ave.pth")[0]
        made[name].frontend.stft.center = center
        return made[name]

    return get


def noise(size, num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lens = torch.randint(num // 3, num + 1, (size,), generator=generator)
    lens[size // 2] = num
    samples = torch.randn(size, num, generator=generator) * 0.1
    return samples.masked_fill(torch.arange(num) >= lens[:, None], 0.0), lens


def run(encoder, samples, lens, piece):
    num = samples.shape[1]
    return [
        encoder.accept(
            samples[:, start : start + piece],
            final=start + piece >= num,
            lens=(lens - start).clamp(0, min(piece, num - start)),
        )
        for start in range(0, num, piece)
    ]


@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("name", CONFS)
def test_any_split_of_the_audio_equals_encode(models, name, center, size):
    model = models(name, center)
    encoder = StreamingEncoder(model)
    assert encoder.mode == ("offline" if name == "full" else "streaming")
    # Shorter than a chunk, and no multiple of one.
    for num in (1600, 12345):
        samples, lens = noise(size, num)
        with torch.no_grad():
            expected, expected_lens = model.encode(samples, lens)
        valid = torch.arange(expected.shape[1]) < expected_lens[:, None]
        for piece in (37 if num < 2000 else 160, 1000, 4096, num):
            encoder.reset()
            actual = torch.cat(run(encoder, samples, lens, piece), dim=1)
            assert actual.shape == expected.shape and torch.equal(encoder.lens, expected_lens)
            assert not valid.any() or (actual - expected)[valid].abs().max() < 1e-4


def test_frames_of_one_stream_do_not_depend_on_the_others(models):
    model = models("chunk")
    samples, lens = noise(8, 9000)
    encoder = StreamingEncoder(model)
    together = torch.cat(run(encoder, samples, lens, 700), dim=1)
    nums = encoder.lens
    for b in range(8):
        encoder.reset()
        alone = torch.cat(run(encoder, samples[b : b + 1, : lens[b]], lens[b : b + 1], 700), dim=1)
        assert alone.shape[1] == nums[b]
        assert (together[b, : nums[b]] - alone[0]).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["chunk", "right", "pool"])
@pytest.mark.parametrize("piece", [160, 1000])
def test_future_audio_cannot_change_what_was_emitted(models, name, piece):
    encoder = StreamingEncoder(models(name))
    samples, lens = noise(1, 16000)
    whole = run(encoder, samples, lens, piece)
    assert sum(out.shape[1] for out in whole[: len(whole) // 2]) > 0
    for calls in (len(whole) // 3, len(whole) // 2, len(whole) - 2000 // piece):
        other = samples.clone()
        other[:, calls * piece :] = torch.randn_like(other[:, calls * piece :])
        encoder.reset()
        changed = run(encoder, other, lens, piece)
        assert all(torch.equal(a, b) for a, b in zip(whole[:calls], changed[:calls]))
        assert not all(torch.equal(a, b) for a, b in zip(whole[calls:], changed[calls:]))


@pytest.mark.parametrize("name", ["chunk", "right", "pool"])
@pytest.mark.parametrize("center", [False, True])
def test_lookahead_is_the_audio_that_the_first_chunk_waits_for(models, name, center):
    encoder = StreamingEncoder(models(name, center))
    needed = round(encoder.lookahead_ms * RATE / 1000)
    samples = torch.randn(4 * needed) * 0.1
    assert encoder.accept(samples[: needed - 1]).shape[1] == 0
    chunk = round(encoder.chunk_ms / encoder.frame_ms)
    assert encoder.accept(samples[needed - 1 : needed]).shape[1] == chunk
    # Each further chunk waits for its own length of audio.
    assert encoder.accept(samples[needed : needed + round(encoder.chunk_ms * 16) - 1]).shape[1] == 0
    assert encoder.accept(samples[:1]).shape[1] == chunk


def test_figures(models):
    encoder = StreamingEncoder(models("chunk"))
    # Two frames of 40 ms; the second ends 6 features of 10 ms after its first, whose window is 32 ms.
    assert (encoder.chunk_ms, encoder.frame_ms, encoder.lookahead_ms) == (80, 40, 40 + 60 + 32)
    pooled = StreamingEncoder(models("pool"))
    # Two chunks and, beyond them, a frame of right context are 5 frames of 80 ms, which are 20 of 20 ms.
    assert (pooled.chunk_ms, pooled.frame_ms, pooled.lookahead_ms) == (160, 80, 380 + 60 + 32)
    offline = StreamingEncoder(models("full"))
    assert (offline.mode, offline.chunk_ms, offline.lookahead_ms, offline.frame_ms) == ("offline", None, None, 40)


@pytest.mark.parametrize("center", [False, True])
def test_a_long_stream_remembers_no_more(models, center):
    encoder = StreamingEncoder(models("chunk", center))
    seen = set()
    for n in range(400):
        encoder.accept(torch.randn(1, 1280) * 0.1)
        if n >= 20:
            state, frontend = encoder.state, encoder.frontend
            tensors = [state.feats, frontend.waiting, frontend.tail, state.first, *state.caches]
            assert state.first.abs().max() <= encoder.step.out_of_sight
            seen.add(tuple(t.shape for t in tensors))
    assert len(seen) == 1 and encoder.lens.item() > 790


@pytest.mark.parametrize("name", CONFS)
@pytest.mark.parametrize("num", [0, 1, 100, 1471])
def test_audio_too_short_for_a_frame_has_none(models, name, num):
    encoder = StreamingEncoder(models(name))
    assert encoder.accept(torch.zeros(num), final=True).shape == (1, 0, 16)
    assert encoder.lens.tolist() == [0]
    encoder.reset()
    assert encoder.accept(torch.zeros(1472), final=True).shape == (1, 1, 16)


@pytest.mark.parametrize("name", CONFS)
def test_the_end_may_come_with_an_empty_piece(models, name):
    model = models(name)
    encoder = StreamingEncoder(model)
    samples, lens = noise(1, 12345)
    first = encoder.accept(samples[0])
    last = encoder.accept(samples[0, :0], final=True)
    with torch.no_grad():
        expected, _ = model.encode(samples, lens)
    assert last.shape[1] > 0
    assert (torch.cat((first, last), dim=1) - expected).abs().max() < 1e-4


def test_misuse_is_refused(models):
    model = models("chunk")
    encoder = StreamingEncoder(model)
    encoder.accept(torch.zeros(2, 100))
    with pytest.raises(ValueError, match="3 streams after 2"):
        encoder.accept(torch.zeros(3, 100))
    encoder.accept(torch.zeros(2, 100), final=True)
    with pytest.raises(ValueError, match=r"call reset\(\)"):
        encoder.accept(torch.zeros(2, 100))
    model.train()
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        StreamingEncoder(model)
    model.eval()
    model.encoder.frame_shift_ms = 8.0
    with pytest.raises(ValueError, match="frame_shift_ms=8, but the front-end's frames are 10 ms apart"):
        StreamingEncoder(model)
    model.encoder.frame_shift_ms = 10.0
