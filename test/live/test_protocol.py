import json

import numpy as np
import pytest

from espnet2_kd.live.protocol import FORMATS, MessageRate, ProtocolError, read_command, read_hello, read_samples


def test_hello():
    assert read_hello('{"type": "hello", "rate": 44100}') == (44100, np.dtype("<i2"))
    assert read_hello('{"type": "hello", "rate": 8000, "format": "float32"}') == (8000, np.dtype("<f4"))


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "not JSON"),
        ("[" * 900, "not JSON"),
        ("[]", "without"),
        ('{"type": "shutdown"}', "without"),
        ('{"type": ["hello"]}', "without"),
        ('{"type": "end"}', "first message"),
        ('{"type": "hello"}', "rate"),
        ('{"type": "hello", "rate": 0}', "rate"),
        ('{"type": "hello", "rate": 1e4}', "rate"),
        ('{"type": "hello", "rate": true}', "rate"),
        ('{"type": "hello", "rate": 99999999}', "rate"),
        ('{"type": "hello", "rate": 16000, "format": "mp3"}', "int16 or float32"),
        ('{"type": "hello", "rate": 16000, "format": {}}', "int16 or float32"),
        (json.dumps({"type": "hello", "rate": 16000, "more": "x" * 1000}), "characters"),
    ],
)
def test_what_is_no_hello(text, said):
    with pytest.raises(ProtocolError, match=said) as caught:
        read_hello(text)
    assert "\n" not in str(caught.value)


def test_an_end_is_a_command():
    assert read_command('{"type": "end"}') == {"type": "end"}


def test_samples():
    int16, float32 = FORMATS["int16"], FORMATS["float32"]
    found = read_samples(np.array([-32768, 0, 16384], "<i2").tobytes(), int16)
    assert found.tolist() == [-1.0, 0.0, 0.5] and found.dtype == np.float32
    found = read_samples(np.array([-3.0, 0.25, 1.5], "<f4").tobytes(), float32)
    assert found.tolist() == [-1.0, 0.25, 1.0] and found.dtype == np.float32 and found.flags.writeable
    assert len(read_samples(b"", int16)) == 0
    for data, kind, said in (
        (b"123", int16, "3 bytes"),
        (b"123456", float32, "6 bytes"),
        (np.array([0.0, np.nan], "<f4").tobytes(), float32, "not finite"),
        (np.array([np.inf], "<f4").tobytes(), float32, "not finite"),
    ):
        with pytest.raises(ProtocolError, match=said):
            read_samples(data, kind)


def test_messages_per_second(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("espnet2_kd.live.protocol.time.monotonic", lambda: now[0])
    rate = MessageRate(per_second=10.0, burst=5)
    for _ in range(5):
        rate.count()
    with pytest.raises(ProtocolError, match="10 messages a second"):
        rate.count()
    now[0] += 0.25
    rate.count()
    rate.count()
    with pytest.raises(ProtocolError):
        rate.count()
    # What is saved up does not grow for ever.
    now[0] += 1000.0
    for _ in range(5):
        rate.count()
    with pytest.raises(ProtocolError):
        rate.count()
