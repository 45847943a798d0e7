import random

import pytest
import torch

from espnet2_kd.asr.load import load_model
from espnet2_kd.asr.stream_pool import StreamPool

CONFS = {
    "chunk": {"chunk_ms": 80, "left_ms": 160, "conv_norm": "batch_norm"},
    "right": {"chunk_ms": 120, "left_ms": 80, "right_ms": 40},
    "pool": {"chunk_ms": 160, "left_ms": 160, "right_ms": 80, "input_layer": "conv2d2", "pool_after": [1, 2]},
}
SIZES = {"output_size": 16, "attention_heads": 2, "linear_units": 24, "num_blocks": 2, "cnn_module_kernel": 5}


@pytest.fixture(scope="module")
def models(tiny_experiment):
    made = {}

    def get(name, center=False):
        if name not in made:
            exp = tiny_experiment(f"pool_{name}", encoder_conf={**SIZES, **CONFS[name]})
            made[name] = load_model(exp, "valid.loss_transducer.ave.pth")[0]
        made[name].frontend.stft.center = center
        return made[name]

    return get


def noise(num, seed=0):
    return torch.randn(num, generator=torch.Generator().manual_seed(seed)) * 0.1


def collect(pool, frames):
    """Step until nothing comes; frames by stream."""
    finals = []
    while results := pool.step():
        for stream, (piece, final) in results.items():
            frames.setdefault(stream, []).append(piece)
            finals += [stream] if final else []
    return finals


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("name", CONFS)
def test_streams_that_come_and_go_equal_each_alone(models, name, center):
    model, rng = models(name, center), random.Random(5)
    pool = StreamPool(model, max_streams=4)
    audio = [noise(num, seed) for seed, num in enumerate([20000, 5000, 12345, 1600, 0, 300, 2000, 9001, 31000, 7000])]
    waiting, live, frames, finals, most = list(range(len(audio))), {}, {}, [], 0
    utterances = {}
    while waiting or live:
        while waiting and len(pool.streams) < 4 and rng.random() < 0.5:
            stream = pool.open()
            utterances[stream] = waiting.pop(0)
            live[stream] = 0
        most = max(most, len(live))
        for stream, start in list(live.items()):
            samples = audio[utterances[stream]]
            size = rng.choice([0, 100, 640, 3000])
            live[stream] = start + size
            pool.push(stream, samples[start : start + size], final=start + size >= len(samples))
            if start + size >= len(samples):
                del live[stream]
        # Sometimes audio piles up.
        if rng.random() < 0.7 or len(pool.streams) == 4:
            finals += collect(pool, frames)
    finals += collect(pool, frames)
    assert most >= 3 and sorted(finals) == list(range(len(audio))) and not pool.streams
    for stream, samples in enumerate(audio):
        actual = torch.cat(frames[stream])
        if len(samples) < 2000:
            if len(samples) < 1400:
                assert actual.shape == (0, 16)
            continue
        with torch.no_grad():
            expected, lens = model.encode(samples[None], torch.tensor([len(samples)]))
        assert actual.shape == expected[0].shape and lens.item() == len(actual)
        assert (actual - expected[0]).abs().max() < 1e-4


def test_a_stream_that_is_dropped_leaves_the_others_alone(models):
    model = models("chunk")
    pool = StreamPool(model)
    samples = [noise(16000, seed) for seed in range(3)]
    streams, frames = [pool.open() for _ in samples], {}
    for start in range(0, 16000, 1000):
        for stream in list(pool.streams):
            pool.push(stream, samples[stream][start : start + 1000], final=start == 15000)
        collect(pool, frames)
        if start == 5000:
            pool.close(streams[1])
    assert len(frames[1]) < len(frames[0]) == len(frames[2])
    for stream in (0, 2):
        with torch.no_grad():
            expected, _ = model.encode(samples[stream][None], torch.tensor([16000]))
        assert (torch.cat(frames[stream]) - expected[0]).abs().max() < 1e-4


def test_memory_is_bounded(models):
    pool = StreamPool(models("right"), max_streams=3)
    for _ in range(3):
        pool.open()
    sizes = set()
    for n in range(300):
        for stream in pool.streams:
            pool.push(stream, noise(1920, n))
        collect(pool, {})
        if n > 20:
            sizes.add(sum(cache.nbytes for cache in pool._caches))
            assert all(
                stream.waiting.untyped_storage().nbytes() < 4 * 2 * pool.window for stream in pool.streams.values()
            )
    assert sizes == {3 * pool.bytes_per_stream}
    assert pool._first.abs().max() <= pool.encoder.out_of_sight


def test_misuse_is_refused(models, tiny_experiment):
    model = models("chunk")
    pool = StreamPool(model, max_streams=1)
    stream = pool.open()
    with pytest.raises(ValueError, match="1 streams are open already"):
        pool.open()
    pool.push(stream, noise(10), final=True)
    with pytest.raises(ValueError, match="open a new stream"):
        pool.push(stream, noise(10))
    assert pool.step()[stream].final
    with pytest.raises(KeyError):
        pool.push(stream, noise(10))
    with pytest.raises(ValueError, match="max_streams=0"):
        StreamPool(model, max_streams=0)
    model.encoder.set_context(2, None)
    with pytest.raises(ValueError, match="bounded left context"):
        StreamPool(model)
    model.encoder.set_context(2, 4)
    model.train()
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        StreamPool(model)
    model.eval()
