"""A voice in a room: level, noise, echoes and rate, measured."""

import numpy as np
import pytest

from espnet2_kd.data import room


def make_room(**changes):
    values = {"t60": 0.3, "direct_to_reverberant_db": 6.0, "snr_db": 30.0, "rms_db": -25.0, "before": 0.1, "after": 0.1}
    return room.Room(**{**values, **changes})


def test_impulse_response_decays_as_it_should():
    here = make_room(t60=0.3, direct_to_reverberant_db=6.0)
    fits = []
    for seed in range(20):
        response = room.impulse_response(here, np.random.default_rng(seed))
        assert response[0] == 1.0
        np.testing.assert_allclose(10 * np.log10(1.0 / np.sum(response[1:] ** 2)), 6.0, atol=1e-9)
        backward = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1])
        begin, end = int(0.03 * room.FS), int(0.13 * room.FS)
        fits.append(np.polyfit(np.arange(begin, end) / room.FS, backward[begin:end], 1)[0])
    np.testing.assert_allclose(np.mean(fits), -60.0 / 0.3, rtol=0.1)


def test_record_level_and_snr():
    here = make_room(snr_db=20.0, rms_db=-23.0, t60=0.1, direct_to_reverberant_db=16.0)
    speech = 0.5 * np.random.default_rng(0).standard_normal(4 * room.FS)
    heard = room.record(speech, room.FS, here, np.random.default_rng(1))
    assert len(heard) == len(speech) + 2 * int(0.1 * room.FS)
    np.testing.assert_allclose(10 * np.log10(np.mean(heard**2)), -23.0, atol=1e-6)
    pause = heard[: int(0.1 * room.FS)]
    voice = heard[len(pause) : len(pause) + len(speech)]
    np.testing.assert_allclose(10 * np.log10(np.mean(voice**2) / np.mean(pause**2)), 20.0, atol=1.5)


def test_record_never_clips():
    here = make_room(rms_db=-3.0)
    speech = np.zeros(room.FS)
    speech[100::500] = 1.0
    heard = room.record(speech, room.FS, here, np.random.default_rng(1))
    np.testing.assert_allclose(np.max(np.abs(heard)), 0.99)


@pytest.mark.parametrize(("hertz", "kept"), [(1000, True), (7000, True), (9500, False)])
def test_record_resamples_without_aliases(hertz, kept):
    here = make_room(snr_db=200.0, direct_to_reverberant_db=200.0)
    tone = np.sin(2 * np.pi * hertz * np.arange(22050) / 22050)
    both = tone + 0.01 * np.sin(2 * np.pi * 500 * np.arange(22050) / 22050)
    heard = room.record(both, 22050, here, np.random.default_rng(0))[2000:14000]
    spectrum = 20 * np.log10(np.abs(np.fft.rfft(heard * np.hanning(len(heard)))) + 1e-12)
    level = {f: np.max(spectrum[round(f * 12000 / 16000) + np.arange(-3, 4)]) for f in (500, 6500, min(hertz, 7000))}
    if kept:
        assert level[hertz] - level[500] == pytest.approx(40, abs=0.5)
    else:
        assert level[6500] < level[500] - 40
