"""One client: its audio goes to every system, and what they find goes back."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web

from espnet2_kd.data.problems import first_line
from espnet2_kd.live.protocol import (
    MAX_MESSAGE_BYTES,
    MessageRate,
    ProtocolError,
    read_command,
    read_hello,
    read_samples,
)
from espnet2_kd.live.streams import Answer, Found, Stream
from espnet2_kd.live.systems import System

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

logger = logging.getLogger(__name__)

# A system computes so much at a time: what has piled up goes quicker together, but others have to wait for it.
PIECE_MS = 500.0
# With so much waiting for a system nothing more is read from its client.
MAX_QUEUED_MS = 5000.0
BEHIND_MS, CAUGHT_UP_MS = 2000.0, 500.0
PROGRESS_MS = 250.0
HELLO_SECONDS, IDLE_SECONDS, SEND_SECONDS = 10.0, 60.0, 20.0


class Piece(NamedTuple):
    """Samples of an utterance; `end`: none follow, or none (None), or they were cut off here ("cut")."""

    utterance: int
    samples: np.ndarray
    end: str | None = None


class Session:
    """Talks with a client until it leaves, breaks a rule or is silent for long.

    max_seconds: an utterance that is longer is ended, and goes on as another.
    """

    def __init__(self, socket: web.WebSocketResponse, systems: Sequence[System], max_seconds: float) -> None:
        self.socket, self.systems, self.max_seconds = socket, systems, max_seconds
        self.listeners: list[Listener] = []
        self.room = asyncio.Event()
        self.utterance = self.num_samples = 0

    async def run(self) -> None:
        """Return when the conversation is over; whatever was computed for it is dropped.

        Raises whatever went wrong in the server, after the client has been told; aiohttp writes it into its log.
        """
        code, fault = WSCloseCode.OK, None
        try:
            await self._talk()
        except ProtocolError as error:
            code, fault = WSCloseCode.POLICY_VIOLATION, str(error)
        except asyncio.TimeoutError:
            code, fault = WSCloseCode.POLICY_VIOLATION, "nothing was heard for long: connect again"
        except ConnectionError:
            logger.info("a client vanished")
        except Exception:
            await self._hang_up(WSCloseCode.INTERNAL_ERROR, "the server failed; its log says how")
            raise
        await self._hang_up(code, fault)

    async def _hang_up(self, code: WSCloseCode, fault: str | None) -> None:
        if self.socket.closed:
            return
        try:
            if fault is not None:
                await self.send({"type": "error", "message": fault})
            await self.socket.close(code=code, message=(fault or "").encode()[:120])
        except (ConnectionError, asyncio.TimeoutError):
            logger.info("a client vanished")

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message; raises ConnectionError or TimeoutError where nobody takes it."""
        # Not `asyncio.wait_for`, which before Python 3.12 may lose the cancellation of who waits.
        async with timeout(SEND_SECONDS):
            await self.socket.send_str(json.dumps(message, ensure_ascii=False))

    async def _talk(self) -> None:
        hello = await self.socket.receive(HELLO_SECONDS)
        if hello.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
            return
        if hello.type is not WSMsgType.TEXT:
            raise ProtocolError('the first message must be {"type": "hello", ...}')
        self.rate, self.kind = read_hello(hello.data)
        self.max_samples = max(1, int(self.max_seconds * self.rate))
        self.listeners = [Listener(self, i, system) for i, system in enumerate(self.systems)]
        abouts = [system.about for system in self.systems]
        limits = {"max_seconds": self.max_seconds, "max_message_bytes": MAX_MESSAGE_BYTES}
        await self.send({"type": "ready", "systems": abouts, **limits})
        tasks = [asyncio.create_task(part.run()) for part in self.listeners]
        tasks.append(asyncio.create_task(self._read()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        rate = MessageRate()
        while True:
            try:
                message = await self.socket.receive(IDLE_SECONDS)
            except asyncio.TimeoutError:
                # Who waits for an answer may be silent.
                if any(listener.busy for listener in self.listeners):
                    continue
                raise
            if message.type is WSMsgType.BINARY:
                rate.count()
                self._hear(read_samples(message.data, self.kind))
            elif message.type is WSMsgType.TEXT:
                rate.count()
                if read_command(message.data)["type"] != "end":
                    raise ProtocolError("hello was said already")
                self._end("end")
            else:
                return
            while any(listener.queued_ms > MAX_QUEUED_MS for listener in self.listeners):
                self.room.clear()
                await self.room.wait()

    def _hear(self, samples: np.ndarray) -> None:
        size = max(1, int(self.rate * PIECE_MS / 1000.0))
        while len(samples):
            if self.num_samples == self.max_samples:
                self._end("cut")
            piece, samples = np.split(samples, [min(size, self.max_samples - self.num_samples)])
            self.num_samples += len(piece)
            self._put(Piece(self.utterance, piece))

    def _end(self, how: str) -> None:
        self._put(Piece(self.utterance, np.zeros(0, dtype=np.float32), how))
        self.utterance, self.num_samples = self.utterance + 1, 0

    def _put(self, piece: Piece) -> None:
        for listener in self.listeners:
            listener.put(piece)


class Listener:
    """One system that hears one client."""

    def __init__(self, session: Session, number: int, system: System) -> None:
        self.session, self.number, self.system = session, number, system
        self.waiting: deque[Piece] = deque()
        self.num_waiting = 0
        self.busy = False
        self.news = asyncio.Event()
        self.stream: Stream | None = None
        self.failed = self.behind = False
        self.found: Found | None = None
        self.told_ms = 0.0

    @property
    def queued_ms(self) -> float:
        """Audio that waits."""
        return self.num_waiting * 1000.0 / self.session.rate

    def put(self, piece: Piece) -> None:
        self.waiting.append(piece)
        self.num_waiting += len(piece.samples)
        self.busy = True
        self.news.set()

    async def run(self) -> None:
        """Hear what was put, for ever."""
        while True:
            await self.news.wait()
            await self._tell_queue()
            piece = self._take()
            if not self.failed:
                await self._hear(piece)
            if piece.end is not None:
                self.stream, self.failed, self.found, self.told_ms = None, False, None, 0.0
            self.busy = bool(self.waiting)
            self.session.room.set()

    def _take(self) -> Piece:
        """What waits of one utterance, at most a piece's length of it."""
        size = self.session.rate * PIECE_MS / 1000.0
        taken = [self.waiting.popleft()]
        num = len(taken[0].samples)
        while taken[-1].end is None and self.waiting and num + len(self.waiting[0].samples) <= size:
            taken.append(self.waiting.popleft())
            num += len(taken[-1].samples)
        self.num_waiting -= num
        if not self.waiting:
            self.news.clear()
        return Piece(taken[0].utterance, np.concatenate([piece.samples for piece in taken]), taken[-1].end)

    async def _hear(self, piece: Piece) -> None:
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self.system.thread, self._compute, piece)
        except Exception as error:
            logger.exception("%s failed", self.system.name)
            self.failed = True
            fault = f"{self.system.name} could not go on: {first_line(error)}"
            await self.session.send({"type": "error", "system": self.number, "message": fault})
            return
        head = {"system": self.number, "utterance": piece.utterance}
        times = {"audio_ms": round(answer.audio_ms, 1), "compute_ms": round(answer.compute_ms, 1)}
        if answer.found != self.found or piece.end is not None:
            ends = {"final": piece.end is not None, "cut": piece.end == "cut"}
            await self.session.send({"type": "result", **head, **ends, **times, **answer.found})
        elif answer.audio_ms - self.told_ms >= PROGRESS_MS:
            await self.session.send({"type": "progress", **head, **times})
        else:
            return
        self.found, self.told_ms = answer.found, answer.audio_ms

    def _compute(self, piece: Piece) -> Answer:
        """In the system's thread."""
        if self.stream is None:
            self.stream = self.system.open_stream(self.session.rate)
        return self.stream.accept(piece.samples, piece.end is not None)

    async def _tell_queue(self) -> None:
        queued = self.queued_ms
        if queued <= CAUGHT_UP_MS if self.behind else queued > BEHIND_MS:
            self.behind = not self.behind
            await self.session.send({"type": "behind", "system": self.number, "queued_ms": round(queued, 1)})
