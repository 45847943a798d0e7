import numpy as np
import pytest

from espnet2_kd.data.resample import StreamResampler


def in_pieces(rate, fs, samples, sizes):
    resampler, out, start = StreamResampler(rate, fs), [], 0
    for size in sizes:
        out.append(resampler.accept(samples[start : start + size]))
        start += size
    return [*out, resampler.accept(samples[start:], final=True)]


def tones(rate, seconds, top):
    """The same sum of sines at any rate."""
    generator = np.random.default_rng(0)
    time = np.arange(round(rate * seconds)) / rate
    pairs = zip(generator.uniform(50, top, 20), generator.uniform(0, 6, 20))
    return sum(0.05 * np.sin(2 * np.pi * f * time + phase) for f, phase in pairs).astype(np.float32)


@pytest.mark.parametrize("rate", [48000, 44100, 8000, 22050, 96000, 11025])
def test_tones_stay_what_they_are(rate):
    top = 0.9 * min(rate, 16000) / 2
    out = np.concatenate(in_pieces(rate, 16000, tones(rate, 1.0, top), [999] * 5))
    expected = tones(16000, 1.0, top)
    assert len(out) == len(expected) and out.dtype == np.float32
    middle = slice(400, -400)
    assert np.abs(out - expected)[middle].max() < 1e-4


@pytest.mark.parametrize("rate", [48000, 44100])
def test_what_would_fold_back_is_gone(rate):
    loud = np.sin(2 * np.pi * 8200 * np.arange(rate) / rate).astype(np.float32)
    out = StreamResampler(rate, 16000).accept(loud, final=True)
    assert np.abs(out)[400:-400].max() < 1e-4


@pytest.mark.parametrize("rate", [48000, 44100, 8000, 16000])
@pytest.mark.parametrize("num", [0, 1, 7, 1000, 20001])
def test_pieces_do_not_matter(rate, num):
    generator = np.random.default_rng(num)
    samples = generator.standard_normal(num).astype(np.float32)
    whole = StreamResampler(rate, 16000).accept(samples, final=True)
    assert len(whole) == round(num * 16000 / rate)
    for most in (2, 50, 3000):
        sizes = generator.integers(0, most, 40)
        np.testing.assert_allclose(np.concatenate(in_pieces(rate, 16000, samples, sizes)), whole, atol=1e-6)
    if rate == 16000:
        assert (whole == samples).all()


def test_the_delay_is_four_milliseconds():
    resampler, heard, given = StreamResampler(48000, 16000), 0, 0
    for _ in range(100):
        given += 480
        heard += len(resampler.accept(np.zeros(480, dtype=np.float32)))
        assert 0 <= given / 3 - heard <= 68


def test_memory_does_not_grow():
    resampler = StreamResampler(44100, 16000)
    for _ in range(50):
        resampler.accept(np.zeros(4410, dtype=np.float32))
        assert len(resampler.waiting) < 3 * resampler.reach and resampler.waiting.base is None
