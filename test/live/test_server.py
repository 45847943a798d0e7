"""The WebSocket: answers equal decoding at leisure, and whatever clients do, others are served and nothing is kept."""

import asyncio
import gc
import json
import os
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from espnet2_kd.live import session
from espnet2_kd.live.protocol import MessageRate, ProtocolError
from espnet2_kd.live.server import PAGE, DemoServer, is_loopback, serve
from espnet2_kd.live.streams import Stream
from espnet2_kd.live.systems import System, load_system

RATE = 16000


@pytest.fixture(scope="module")
def systems(student, teacher, intents):
    return [load_system(exp, guess_ms=500.0) for exp in (student, teacher, intents)]


class Counter(Stream):
    """Says how many samples it has heard, when it may."""

    def __init__(self, rate, gate, streams):
        super().__init__(rate, rate)
        self.gate = gate
        streams.add(self)

    def _hear(self, samples, final):
        assert self.gate.wait(60)
        if len(samples) and samples[0] == -1.0:
            raise RuntimeError("bad luck\nwith details")
        return {"words": [{"text": str(self.num_samples), "final": final, "end_ms": 0.0}]}


@pytest.fixture
def counter():
    """A system that waits for its gate, which is open at first, and the streams it has."""
    gate, streams, thread = threading.Event(), weakref.WeakSet(), ThreadPoolExecutor(1)
    gate.set()
    system = System("counter", {"name": "counter"}, lambda rate: Counter(rate, gate, streams), thread)
    yield system, gate, streams
    gate.set()
    thread.shutdown()


def run(server, conversation, **options):
    """Let `conversation(client)` talk with a server of these systems."""

    async def both():
        demo = server if isinstance(server, DemoServer) else DemoServer(server, **options)
        app = demo.app()
        # The threads outlive one server, because the tests share the models.
        app.on_shutdown.clear()
        async with TestClient(TestServer(app)) as client:
            return await conversation(client)

    return asyncio.run(both())


async def connect(client, rate=RATE, kind="int16", **options):
    socket = await client.ws_connect("/listen", **options)
    await socket.send_json({"type": "hello", "rate": rate, "format": kind})
    ready = await socket.receive_json(timeout=60)
    assert ready["type"] == "ready", ready
    return socket


def pcm(samples):
    return np.rint(samples * 32768).astype("<i2").tobytes()


async def finals(socket, num):
    """All results until `num` systems have ended an utterance, the last of each, by system."""
    found = {}
    while len(found) < num:
        message = await socket.receive_json(timeout=60)
        assert message["type"] in ("result", "progress", "behind"), message
        if message["type"] == "result" and message["final"]:
            found[message["system"]] = message
    return found


async def until(condition):
    """Wait for something to become true."""
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def said(result):
    return [word["text"] for word in result["words"]]


def alone(system, samples, rate=RATE):
    return system.open_stream(rate).accept(samples, True).found


def test_many_clients_hear_what_is_decoded_at_leisure(systems, noise):
    lens = [20000, 33333, 12345, 700, 28000]

    async def one(client, number):
        samples, generator = noise(lens[number], number), np.random.default_rng(number)
        kind = ("int16", "float32")[number % 2]
        socket = await connect(client, kind=kind)
        start = 0
        while start < len(samples):
            size = int(generator.integers(1, 4000))
            part = samples[start : start + size]
            await socket.send_bytes(pcm(part) if kind == "int16" else part.astype("<f4").tobytes())
            start += size
            await asyncio.sleep(0.001)
        await socket.send_json({"type": "end"})
        found = await finals(socket, 3)
        await socket.close()
        return found

    async def all_at_once(client):
        return await asyncio.gather(*(one(client, number) for number in range(len(lens))))

    for number, found in enumerate(run(systems, all_at_once)):
        samples = noise(lens[number], number)
        for i, system in enumerate(systems):
            expected = alone(system, samples)
            if i < 2:
                assert said(found[i]) == said(expected)
                assert all(word["final"] for word in found[i]["words"])
                assert len(said(found[i])) > 3 or lens[number] < 1000
            else:
                for one_found, one_expected in zip(found[i]["intents"], expected["intents"], strict=True):
                    assert one_found["value"] == one_expected["value"]
                    assert one_found["probability"] == pytest.approx(one_expected["probability"], abs=2e-4)
            assert found[i]["audio_ms"] == pytest.approx(lens[number] / 16, abs=0.1)
            assert found[i]["utterance"] == 0 and not found[i]["cut"]
            assert found[i]["compute_ms"] > 0 or lens[number] < 1000


def test_words_come_before_the_end_and_final_ones_stay(systems, noise):
    async def talk(client):
        socket = await connect(client)
        await socket.send_bytes(pcm(noise(32000)))
        found = []
        while len(found) < 3:
            message = await socket.receive_json(timeout=20)
            found += [message] if message["type"] == "result" and message["words"] else []
        await socket.send_json({"type": "end"})
        return found, (await finals(socket, 1))[0]

    found, last = run(systems[:1], talk)
    assert all(not message["final"] for message in found)
    for message in found:
        final = [word["text"] for word in message["words"] if word["final"]]
        assert said(last)[: len(final)] == final
    assert any(word["final"] for message in found for word in message["words"])


def test_one_utterance_after_the_other_and_any_rate(systems, noise):
    lens = [48000, 30000]

    async def talk(client):
        socket = await connect(client, rate=48000)
        found = []
        for number, num in enumerate(lens):
            await socket.send_bytes(pcm(noise(num, number)))
            await socket.send_json({"type": "end"})
            found.append((await finals(socket, 1))[0])
        return found

    for number, found in enumerate(run(systems[:1], talk)):
        assert found["utterance"] == number
        assert said(found) == said(alone(systems[0], noise(lens[number], number), 48000)) != []


def test_an_utterance_without_sound_ends_too(systems):
    async def talk(client):
        socket = await connect(client)
        await socket.send_json({"type": "end"})
        return await finals(socket, 3)

    found = run(systems, talk)
    assert found[0]["words"] == found[1]["words"] == found[2]["intents"] == []


def test_an_utterance_that_is_too_long_goes_on_as_another(systems, noise):
    samples = noise(2 * RATE + 4000)

    async def talk(client):
        socket = await connect(client)
        await socket.send_bytes(pcm(samples))
        await socket.send_json({"type": "end"})
        return [(await finals(socket, 1))[0] for _ in range(3)]

    found = run(systems[:1], talk, max_seconds=1.0)
    assert [(message["utterance"], message["cut"]) for message in found] == [(0, True), (1, True), (2, False)]
    for number, message in enumerate(found):
        assert said(message) == said(alone(systems[0], samples[number * RATE : (number + 1) * RATE]))


@pytest.mark.parametrize(
    "message, fault",
    [
        (b"123", "3 bytes"),
        ('{"type": "hello", "rate": 16000}', "already"),
        ("{", "not JSON"),
        ('{"type": "stop"}', "end"),
    ],
)
def test_a_broken_rule_ends_the_conversation_with_a_line(counter, message, fault):
    async def talk(client):
        socket = await connect(client)
        await (socket.send_bytes if isinstance(message, bytes) else socket.send_str)(message)
        error = await socket.receive_json(timeout=60)
        end = await socket.receive(timeout=60)
        return error, end.type, socket.close_code

    error, kind, code = run([counter[0]], talk)
    assert error["type"] == "error" and fault in error["message"] and "\n" not in error["message"]
    assert kind == aiohttp.WSMsgType.CLOSE and code == 1008


@pytest.mark.parametrize("first", [b"\0\0", '{"type": "end"}', "hello"])
def test_first_of_all_hello(counter, first):
    async def talk(client):
        socket = await client.ws_connect("/listen")
        await (socket.send_bytes if isinstance(first, bytes) else socket.send_str)(first)
        return await socket.receive_json(timeout=60)

    assert run([counter[0]], talk)["type"] == "error"


def test_a_long_message_is_refused(counter):
    async def talk(client):
        socket = await connect(client)
        await socket.send_bytes(bytes(300_000))
        await socket.receive(timeout=60)
        code = socket.close_code
        # Others are served as before.
        await (await connect(client)).close()
        return code

    assert run([counter[0]], talk) == 1009


def test_too_many_messages_are_refused(counter, monkeypatch):
    monkeypatch.setattr(session, "MessageRate", lambda: MessageRate(per_second=1.0, burst=20))

    async def talk(client):
        socket = await connect(client)
        for _ in range(40):
            await socket.send_bytes(b"\0\0")
        while (message := await socket.receive_json(timeout=60))["type"] != "error":
            pass
        return message["message"]

    assert "messages a second" in run([counter[0]], talk)


def test_a_fault_ends_a_conversation_while_a_result_is_being_sent(counter, monkeypatch):
    """The listener is told to stop just when what it sent has gone; one that went on would keep the client waiting."""
    sending, sent = asyncio.Event(), asyncio.Event()

    class Refuses:
        def count(self):
            if sending.is_set():
                sent.set()
                raise ProtocolError("that will do")

    async def send(socket, text, real=aiohttp.web.WebSocketResponse.send_str):
        if json.loads(text)["type"] == "result":
            sending.set()
            await sent.wait()
        await real(socket, text)

    monkeypatch.setattr(session, "MessageRate", Refuses)
    monkeypatch.setattr(aiohttp.web.WebSocketResponse, "send_str", send)

    async def talk(client):
        socket = await connect(client)
        await socket.send_bytes(bytes(200))
        await asyncio.wait_for(sending.wait(), 60)
        await socket.send_bytes(bytes(200))
        while (message := await socket.receive_json(timeout=60))["type"] != "error":
            pass
        return message["message"]

    assert run([counter[0]], talk) == "that will do"


def test_who_says_nothing_has_to_leave(counter, monkeypatch):
    monkeypatch.setattr(session, "IDLE_SECONDS", 0.5)
    system, gate, _ = counter

    async def talk(client):
        with monkeypatch.context() as patch:
            patch.setattr(session, "HELLO_SECONDS", 0.05)
            silent = await client.ws_connect("/listen")
            faults = [(await silent.receive_json(timeout=60))["message"]]
        idle = await connect(client)
        faults.append((await idle.receive_json(timeout=60))["message"])
        # Who waits for an answer may be silent.
        waiting = await connect(client)
        gate.clear()
        await waiting.send_bytes(bytes(200))
        await waiting.send_json({"type": "end"})
        await asyncio.sleep(1.2)
        gate.set()
        return faults, (await finals(waiting, 1))[0]

    faults, found = run([system], talk)
    assert all("nothing was heard" in fault for fault in faults) and said(found) == ["100"]


def test_one_client_too_many(counter):
    async def talk(client):
        first = [await connect(client) for _ in range(2)]
        third = await client.ws_connect("/listen")
        answer = await third.receive_json(timeout=60)
        await third.receive(timeout=60)
        code = third.close_code
        await first[0].close()
        await until(lambda: len(demo.clients) == 1)
        await connect(client)
        return answer, code

    demo = DemoServer([counter[0]], max_clients=2)
    answer, code = run(demo, talk)
    assert answer["message"].startswith("busy: 2 clients") and code == 1013


@pytest.mark.parametrize("politely", [True, False])
def test_who_vanishes_leaves_nothing_behind(counter, politely):
    system, gate, streams = counter
    demo = DemoServer([system])

    async def talk(client):
        socket = await connect(client)
        await socket.send_bytes(bytes(2 * RATE))
        await until(lambda: len(demo.clients) == len(streams) == 1)
        gate.clear()
        await socket.send_bytes(bytes(2 * RATE))
        await asyncio.sleep(0.05)
        if politely:
            await socket.close()
        else:
            socket._response.connection.transport.abort()
        await until(lambda: not demo.clients)
        gate.set()
        # The next one need not wait for what nobody wants any more.
        other = await connect(client)
        await other.send_bytes(bytes(20))
        await other.send_json({"type": "end"})
        assert said((await finals(other, 1))[0]) == ["10"]
        await other.close()
        await until(lambda: not demo.clients)

    run(demo, talk)
    gc.collect()
    assert not streams


def test_a_slow_system_makes_its_client_wait_and_says_so(counter, monkeypatch):
    system, gate, _ = counter
    gate.clear()
    took, queued, put = [], [], session.Listener.put

    def watched(listener, piece):
        put(listener, piece)
        queued.append(listener.queued_ms)

    monkeypatch.setattr(session.Listener, "put", watched)

    async def talk(client):
        socket = await connect(client, rate=8000)

        async def send():
            for _ in range(30):
                await socket.send_bytes(bytes(160_000))
            await socket.send_json({"type": "end"})

        sending = asyncio.create_task(send())
        # While it is slow, the rest of the server is not.
        for _ in range(10):
            start = time.perf_counter()
            assert (await client.get("/systems")).status == 200
            took.append(time.perf_counter() - start)
            await asyncio.sleep(0.02)
        gate.set()
        found, behind = {}, []
        while not found.get("final"):
            found = await socket.receive_json(timeout=60)
            behind += [found["queued_ms"]] if found["type"] == "behind" else []
        await sending
        return found, behind

    found, behind = run([system], talk, max_seconds=3600.0)
    assert said(found) == [str(30 * 80_000)]
    # Of 300 seconds, what was waiting before the last message, and that.
    assert 5_000.0 < max(queued) <= session.MAX_QUEUED_MS + 10_000.0
    assert behind[0] > 2000.0 and behind[-1] <= 500.0
    assert sorted(took)[len(took) // 2] < 0.5


def test_a_system_that_fails_sits_out_and_the_others_go_on(counter, systems, noise):
    samples = noise(RATE)

    async def talk(client):
        socket = await connect(client)
        await socket.send_bytes(np.array([-32768], "<i2").tobytes() + pcm(samples))
        await socket.send_json({"type": "end"})
        faults, found = [], []
        while not (found and faults):
            message = await socket.receive_json(timeout=20)
            faults += [message] if message["type"] == "error" else []
            found += [message] if message.get("final") else []
        await socket.send_bytes(bytes(20))
        await socket.send_json({"type": "end"})
        return faults, found, await finals(socket, 2)

    faults, found, later = run([counter[0], systems[0]], talk)
    assert faults == [{"type": "error", "system": 0, "message": "counter could not go on: bad luck"}]
    assert [message["system"] for message in found] == [1]
    whole = np.concatenate([np.array([-1.0], dtype=np.float32), samples])
    assert said(found[0]) == said(alone(systems[0], whole))
    assert said(later[0]) == ["10"] and later[0]["utterance"] == 1


def test_a_fault_of_the_server_is_told_and_logged(counter, monkeypatch, caplog):
    def bug(*args):
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(session, "read_samples", bug)

    async def talk(client):
        socket = await connect(client)
        await socket.send_bytes(b"\0\0")
        error = await socket.receive_json(timeout=60)
        await socket.receive(timeout=60)
        return error, socket.close_code

    error, code = run([counter[0]], talk)
    assert error == {"type": "error", "message": "the server failed; its log says how"} and code == 1011
    assert any(record.exc_info and "a bug of ours" in str(record.exc_info[1]) for record in caplog.records)


def test_pages_of_others_are_refused(counter):
    async def talk(client):
        async def status(path="/listen", **headers):
            try:
                socket = await client.ws_connect(path, headers=headers)
            except aiohttp.WSServerHandshakeError as error:
                return error.status
            await socket.close()
            return 200

        port = client.port
        answers = {
            "own": await status(Origin=f"http://127.0.0.1:{port}"),
            "no page": await status(),
            "tunnel": await status(Host="localhost:9000", Origin="http://localhost:9000"),
            "foreign": await status(Origin="http://evil.example"),
            "other port": await status(Origin="http://127.0.0.1:1"),
            "sandbox": await status(Origin="null"),
            "file": await status(Origin="file://"),
            "rebinding": await status(Host="evil.example", Origin="http://evil.example"),
            "rebinding without page": await status(Host=f"evil.example:{port}"),
        }
        page = await client.get("/", headers={"Host": "evil.example"})
        return answers, page.status, await page.text()

    answers, status, text = run([counter[0]], talk)
    good = {"own", "no page", "tunnel"}
    assert {name for name, code in answers.items() if code == 200} == good
    assert {answers[name] for name in answers.keys() - good} == {403}
    assert status == 403 and text.startswith("refused") and text.count("\n") == 1


def test_names_that_are_allowed():
    local = DemoServer([])
    assert local.allows("localhost:1", None) and local.allows("[::1]:80", "http://[::1]:80")
    for host in ("192.168.1.2", "evil.example", "", "[::1", "127.0.0.1.evil.example", "localhost.evil.example"):
        assert not local.allows(host, None)
    assert not local.allows("localhost", "http://[::1")
    everywhere = DemoServer([], host="0.0.0.0", allow_hosts=["Demo.example"])
    assert everywhere.allows("192.168.1.2:8765", "http://192.168.1.2:8765")
    assert everywhere.allows("demo.example", "https://demo.example")
    assert not everywhere.allows("evil.example", "http://evil.example")
    assert not everywhere.allows("192.168.1.2", "http://evil.example")
    assert is_loopback("localhost") and is_loopback("127.0.0.2") and is_loopback("::1")
    assert not is_loopback("0.0.0.0") and not is_loopback("demo.example")


def test_the_page_is_whole_and_keeps_to_itself(counter):
    async def talk(client):
        answers = {}
        for path in (*PAGE, "/systems", "/nothing", "/../server.py", "/listen"):
            answer = await client.get(path)
            answers[path] = answer.status, await answer.text(), answer.headers
        answers["post"] = (await client.post("/", data=b"x")).status, "", {}
        return answers

    answers = run([counter[0]], talk)
    assert {path: status for path, (status, _, _) in answers.items()} == {
        **dict.fromkeys((*PAGE, "/systems"), 200),
        **{"/nothing": 404, "/../server.py": 404, "/listen": 400, "post": 405},
    }
    for path in PAGE:
        _, text, headers = answers[path]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        # The namespace of the icon is a name, not an address.
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("https:", "").replace(
            "https pages", ""
        )
    about = json.loads(answers["/systems"][1])
    assert about == {"systems": [{"name": "counter"}], "max_seconds": 60.0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(counter, number):
    codes = []

    async def talk(url):
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}listen") as socket:
            await socket.send_json({"type": "hello", "rate": RATE})
            await socket.receive(timeout=60)
            os.kill(os.getpid(), number)
            message = await socket.receive(timeout=60)
            codes.append((message.type, socket.close_code))

    async def both():
        talking = []
        await serve(
            DemoServer([counter[0]]), "127.0.0.1", 0, lambda url: talking.append(asyncio.create_task(talk(url)))
        )
        await talking[0]

    start = time.perf_counter()
    asyncio.run(both())
    assert codes == [(aiohttp.WSMsgType.CLOSE, 1012)] and time.perf_counter() - start < 10
