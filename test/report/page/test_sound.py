"""Sound and spectrogram of the page are those of the recording."""

import base64
import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from espnet2_kd.data.audio import AudioFault
from espnet2_kd.report.page.budget import Budget
from espnet2_kd.report.page.media import Media, add_in_turn
from espnet2_kd.report.page.selection import choose
from espnet2_kd.report.page.sound import MAX_COLUMNS, NUM_BANDS, RATE, log_spectrogram, make_clip, png


def tone(hertz, seconds, rate=RATE):
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("hertz", [200, 1000, 5000])
def test_a_tone_is_where_it_belongs(hertz):
    levels = log_spectrogram(tone(hertz, 1.0))
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), NUM_BANDS + 2)[1:-1] / 2595) - 1)
    assert levels.shape[0] == NUM_BANDS and levels.max() == 255
    assert abs(np.argmin(np.abs(centres - hertz)) - levels[:, levels.shape[1] // 2].argmax()) <= 1


def test_time_runs_to_the_right():
    samples = np.concatenate([np.zeros(RATE * 15, np.float32), tone(1000, 5.0)])
    levels = log_spectrogram(samples)
    assert levels.shape[1] == MAX_COLUMNS
    loud = levels.max(0) > 200
    assert not loud[: int(0.74 * MAX_COLUMNS)].any() and loud[int(0.76 * MAX_COLUMNS) :].all()


def test_picture_has_low_bands_below():
    levels = np.zeros((4, 3), np.uint8)
    levels[0, 2] = 255
    image = np.array(Image.open(io.BytesIO(png(levels))).convert("RGB")).astype(int).sum(2)
    assert image.shape == (4, 3) and image.argmax() == 3 * 3 + 2


def test_clip_is_the_recording(tmp_path):
    sound = tone(440, 0.5, 8000)
    soundfile.write(tmp_path / "a.wav", np.stack([sound, sound], 1), 8000)
    clip = make_clip(str(tmp_path / "a.wav"))
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(clip.sound)))
    assert (rate, samples.ndim, clip.seconds, clip.shown) == (RATE, 1, 0.5, 0.5)
    inner = slice(1000, -1000)
    assert np.abs(samples - tone(440, 0.5))[inner].max() < 2e-3


def test_a_long_recording_is_cut(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000 * 70, np.float32), 8000)
    clip = make_clip(str(tmp_path / "a.wav"))
    assert (clip.seconds, clip.shown) == (70, 60)


def test_commands_are_not_run(tmp_path):
    with pytest.raises(AudioFault, match="command"):
        make_clip(f"touch {tmp_path / 'x'} |")
    assert not (tmp_path / "x").exists()


def test_sets_take_turns_and_room_is_kept(tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        soundfile.write(folder / "x.wav", tone(440, 0.3), RATE)
        (folder / "wav.scp").write_text("".join(f"u{n} {folder / 'x.wav'}\n" for n in range(4)) + "gone nowhere.wav\n")
    utts = ["gone", "u0", "u1", "u2", "u3"]
    media = Media(Budget(10_000_000))
    places = add_in_turn(media, [(folders[0], utts), (None, utts), (folders[1], utts)], 5)
    assert [list(found) for found in places] == [["u0", "u1", "u2"], [], ["u0", "u1"]]
    assert len(media.clips) == 5 and media.budget.left_out["utterances with sound"] == 3
    assert len(media.faults) == 2 and "file not found" in media.faults[0]
    size = len(media.clips[0]["sound"]) + len(media.clips[0]["picture"])
    small = Media(Budget(2 * size + 10))
    add_in_turn(small, [(folders[0], utts[1:])], 9)
    assert len(small.clips) == 2 and small.budget.left_out["utterances with sound"] == 2 and small.budget.left >= 0


def test_choice_of_utterances():
    utts = [f"u{n:02d}" for n in range(20)]
    first = {utt: n for n, utt in enumerate(utts)}
    second = {utt: 20 - n for n, utt in enumerate(utts)}
    chosen = choose([first, second], utts, 8, liked=["u07", "u08"])
    assert chosen[:4] == ["u19", "u00", "u18", "u01"]
    assert chosen[4:6] == ["u07", "u08"] and len(set(chosen)) == 8
    assert sorted(choose([first], utts, 99)) == utts and choose([], [], 5) == [] and choose([first], utts, 0) == []
