"""What a client and the server of the live demo say to each other over the WebSocket `/listen`.

The client begins with a text message, which is JSON, as all text here:

    {"type": "hello", "rate": 48000, "format": "int16"}      rate in Hz of its audio; int16 or float32 samples, little endian

The server answers what there is to hear it, and its limits:

    {"type": "ready", "systems": [{"name", "kind", "mode", "rate", "chunk_ms", "lookahead_ms", "guess_ms", "note"}, ...],
     "max_seconds": 60, "max_message_bytes": 262144}

Then binary messages are mono audio, of any length up to that, and this ends an utterance; the next audio begins another:

    {"type": "end"}

What the server says, at any time, `system` being a number from 0 in the order of `ready`, `utterance` one from 0:

    {"type": "result", "system", "utterance", "final", "cut", "audio_ms", "compute_ms", "words": [{"text", "final", "end_ms"}, ...]}
        All words of the utterance so far. Those that are `final` stay as they are. `intents`, of a classifier, instead of words:
        [{"slot", "value", "probability"}, ...]. `final`: the utterance has ended; `cut`: because it was as long as may be.
    {"type": "progress", "system", "utterance", "audio_ms", "compute_ms"}       heard so far, nothing new in it
    {"type": "behind", "system", "queued_ms"}       the server is slower than the audio comes; again with less when it has caught up
    {"type": "error", "message", "system"}          one line. With a `system`, that one sits out the utterance; else the server hangs up

A server that cannot follow reads no further, so that whoever sends waits. Its codes of closing: 1008 a rule was broken, 1009 a
message was too long, 1011 a fault of the server, 1012 it stops, 1013 too many clients.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

FORMATS = {"int16": np.dtype("<i2"), "float32": np.dtype("<f4")}
MIN_RATE, MAX_RATE = 8000, 192000
MAX_MESSAGE_BYTES = 256 * 1024
MAX_TEXT = 1000


class ProtocolError(ValueError):
    """What a client did wrong, in one line."""


def read_command(text: str) -> dict[str, Any]:
    """Read a text message: a mapping with a known `type`; raises ProtocolError."""
    if len(text) > MAX_TEXT:
        raise ProtocolError(f"a text message of {len(text)} characters, more than {MAX_TEXT}")
    try:
        command = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a text message that is not JSON") from error
    if not isinstance(command, dict) or command.get("type") not in ("hello", "end"):
        raise ProtocolError('a text message without `"type": "hello"` or `"type": "end"`')
    return command


def read_hello(text: str) -> tuple[int, np.dtype]:
    """Give rate in Hz and type of the samples to come; raises ProtocolError."""
    command = read_command(text)
    if command["type"] != "hello":
        raise ProtocolError('the first message must be {"type": "hello", ...}')
    rate, name = command.get("rate"), command.get("format", "int16")
    if not isinstance(rate, int) or isinstance(rate, bool) or not MIN_RATE <= rate <= MAX_RATE:
        raise ProtocolError(f"hello: rate: give a whole number of Hz from {MIN_RATE} to {MAX_RATE}")
    if not isinstance(name, str) or name not in FORMATS:
        raise ProtocolError(f"hello: format: choose {' or '.join(FORMATS)}")
    return rate, FORMATS[name]


def read_samples(data: bytes, kind: np.dtype) -> np.ndarray:
    """Give float32 samples `(N,)` in [-1, 1], clipping what lies outside; raises ProtocolError."""
    if len(data) % kind.itemsize:
        raise ProtocolError(f"a binary message of {len(data)} bytes, which are no whole {kind.name} samples")
    samples = np.frombuffer(data, dtype=kind)
    if kind.kind == "i":
        return samples.astype(np.float32) / 32768.0
    if not np.isfinite(samples).all():
        raise ProtocolError("samples that are not finite (NaN or infinity)")
    return samples.clip(-1.0, 1.0).astype(np.float32)


class MessageRate:
    """Lets `per_second` messages pass on average, and `burst` at once."""

    def __init__(self, per_second: float = 400.0, burst: int = 2000) -> None:
        self.per_second, self.burst = per_second, burst
        self.left, self.since = float(burst), time.monotonic()

    def count(self) -> None:
        """Count a message; raises ProtocolError for one too many."""
        now = time.monotonic()
        self.left = min(self.burst, self.left + (now - self.since) * self.per_second)
        self.since = now
        if self.left < 1.0:
            raise ProtocolError(f"more than {self.per_second:g} messages a second: put more audio into each")
        self.left -= 1.0
