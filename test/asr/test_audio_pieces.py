import io
import wave

import numpy as np
import pytest
import soundfile

from espnet2_kd.asr.audio_pieces import read_pieces, stream_pieces
from espnet2_kd.data.audio import AudioFault

SAMPLES = (np.arange(1000) * 31 % 65536 - 32768).astype("<i2")


class Pipe(io.RawIOBase):
    """Bytes that can be read once, a few at a time, like a pipe."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self.data.read(min(len(buffer), 100))
        buffer[: len(data)] = data
        return len(data)


def pipe(data):
    return io.BufferedReader(Pipe(data), buffer_size=64)


def wav_bytes(rate=16000, channels=1, width=2):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(SAMPLES.tobytes())
    return stream.getvalue()


@pytest.mark.parametrize("data", [SAMPLES.tobytes(), wav_bytes(), SAMPLES.tobytes() + b"\1"])
def test_a_pipe_gives_every_sample_once(data):
    pieces = list(stream_pieces(pipe(data), 16000, 300))
    assert [len(piece) for piece in pieces[:4]] == [300, 300, 300, 100]
    assert np.array_equal(np.concatenate(pieces), SAMPLES.astype(np.float32) / 32768)


def test_an_empty_pipe_gives_nothing():
    assert list(stream_pieces(pipe(b""), 16000, 300)) == []


@pytest.mark.parametrize("kind", [{"rate": 8000}, {"channels": 2}, {"width": 1}])
def test_another_kind_of_wav_is_refused(kind):
    with pytest.raises(AudioFault, match="standard input has"):
        list(stream_pieces(pipe(wav_bytes(**kind)), 16000, 300))


@pytest.mark.parametrize(("format", "name"), [("FLAC", "flac"), ("OGG", "ogg"), ("MP3", "mp3"), ("AIFF", "aiff")])
def test_compressed_sound_is_not_taken_for_samples(format, name):
    file = io.BytesIO()
    soundfile.write(file, SAMPLES, 16000, format=format)
    content = file.getvalue() if name != "mp3" else b"ID3" + file.getvalue()
    with pytest.raises(AudioFault, match=f"standard input is {name}: give the file's name, or send raw samples"):
        list(stream_pieces(pipe(content), 16000, 300))


def test_a_fault_names_the_file_and_channels_can_be_chosen(tmp_path):
    two = np.stack((SAMPLES, -SAMPLES), axis=1)
    soundfile.write(tmp_path / "two.wav", two, 16000, subtype="FLOAT")
    with pytest.raises(AudioFault, match=f"{tmp_path}/two.wav: 2 channels: choose one with --ref_channel 0"):
        list(read_pieces(str(tmp_path / "two.wav"), 16000, 300))
    pieces = np.concatenate(list(read_pieces(str(tmp_path / "two.wav"), 16000, 300, "1")))
    np.testing.assert_allclose(pieces, -SAMPLES, atol=1e-6)


def test_files_of_any_rate(tmp_path):
    soundfile.write(tmp_path / "same.wav", SAMPLES, 16000, subtype="PCM_16")
    expected = soundfile.read(tmp_path / "same.wav", dtype="float32")[0]
    pieces = list(read_pieces(str(tmp_path / "same.wav"), 16000, 300))
    assert [len(piece) for piece in pieces] == [300, 300, 300, 100]
    assert np.array_equal(np.concatenate(pieces), expected)
    soundfile.write(tmp_path / "half.wav", SAMPLES, 8000, subtype="PCM_16")
    assert sum(len(piece) for piece in read_pieces(str(tmp_path / "half.wav"), 16000, 300)) == 2000
    with pytest.raises(AudioFault, match="not found"):
        list(read_pieces(str(tmp_path / "none.wav"), 16000, 300))
