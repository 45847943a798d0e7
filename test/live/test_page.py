"""The page in a headless Chromium whose microphone plays a file."""

import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from espnet2_kd.asr.decode_config import DecodeConfig
from espnet2_kd.asr.recognizer import Recognizer
from espnet2_kd.data.resample import StreamResampler, resample

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium", path="/usr/bin") or shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
SECOND = 16000
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


@pytest.fixture(scope="module")
def sound(tmp_path_factory, noise):
    """Two sentences with a pause between and after."""
    pause = np.zeros(int(1.3 * SECOND), dtype=np.float32)
    samples = np.concatenate([noise(int(1.5 * SECOND)), pause, noise(SECOND, 1), pause])
    path = tmp_path_factory.mktemp("sound") / "two.wav"
    soundfile.write(path, samples, SECOND)
    return path


@pytest.fixture(scope="module")
def browser(sound):
    playwright.expect.set_options(timeout=60000)  # where other tests run beside it everything takes longer
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", *fake, f"--use-file-for-fake-audio-capture={sound}%noloop"],
        )
        yield browser
        browser.close()


class Visit:
    """An open page, what it says to its console, and what it and the server say to each other."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.faults, self.requests, self.sent, self.received = [], [], [], []
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", self._watch)
        self.page.goto(address)
        playwright.expect(self.page.locator("#start")).to_be_enabled()

    def _watch(self, socket):
        socket.on("framesent", lambda data: self.sent.append(data))
        socket.on("framereceived", lambda text: self.received.append(json.loads(text)))

    def wait_until_ready(self):
        playwright.expect(self.page.locator("#status")).to_have_text("Ready.")

    def utterances(self):
        """Samples that the page sent, at its rate, utterance by utterance; and the rate."""
        rate, parts = json.loads(self.sent[0])["rate"], [[]]
        for message in self.sent[1:]:
            if isinstance(message, bytes):
                parts[-1].append(np.frombuffer(message, "<i2").astype(np.float32) / 32768.0)
            else:
                assert json.loads(message) == {"type": "end"}
                parts.append([])
        assert not parts.pop()
        return [np.concatenate(pieces) for pieces in parts], rate

    def column(self, number):
        return self.page.locator(".system").nth(number)


@pytest.fixture
def visit(browser, demo):
    visits = []

    def make(**options):
        visits.append(Visit(browser, demo, **options))
        return visits[-1]

    yield make
    for one in visits:
        one.context.close()
        assert one.faults == []
        assert all(url.startswith((demo, "blob:")) for url in one.requests)


@pytest.fixture(scope="module")
def recognizers(teacher, student):
    return [Recognizer.load(exp, "valid.loss_transducer.ave.pth", DecodeConfig()) for exp in (teacher, student)]


def check_words(visit, recognizers):
    """The columns show what decoding at leisure makes of the samples that were sent."""
    utterances, rate = visit.utterances()
    heard = [StreamResampler(rate, SECOND).accept(samples, final=True) for samples in utterances]
    for number, recognizer in enumerate(recognizers):
        shown = visit.column(number).locator(".transcript > p").all_inner_texts()
        expected = [recognizer.text(recognizer.decode([samples])[0][0]) for samples in heard]
        assert [" ".join(text.split()[1:]) for text in shown] == [text for text in expected if text] != []
        assert visit.column(number).locator(".word.partial").count() == 0
    return heard


def test_the_microphone(visit, recognizers, tmp_path):
    it = visit()
    it.page.click("#start")
    playwright.expect(it.page.locator("#stop")).to_be_enabled()
    # In one look: the word may be another a moment later.
    playwright.expect(it.column(1).locator(".word.partial").first).to_have_css("text-decoration-style", "dotted")
    # The file plays once, and two pauses end two sentences. A busy machine may leave gaps, and so more pauses.
    for number in (0, 1):
        playwright.expect(it.column(number).locator(".transcript > p").nth(1)).to_be_visible()
    level = it.page.locator("#level").get_attribute("aria-valuenow")
    assert -60 <= float(level) <= 0
    intents = it.page.locator(".intents:not(.partial)")
    playwright.expect(intents.nth(1)).to_be_visible()
    it.page.click("#stop")
    it.wait_until_ready()
    heard = check_words(it, recognizers)
    assert len(heard) >= 2
    assert 2 <= intents.count() <= len(heard)
    for number, name in ((0, ".p50"), (1, ".p50"), (1, ".p90"), (2, ".p50")):
        latency = it.column(number).locator(name).inner_text()
        assert re.fullmatch(r"\d+ ms", latency) and 0 < int(latency.split()[0]) < 20000
    assert 0 < float(it.column(1).locator(".rtf").inner_text()) < 20
    badge = "full context: waits for the end, guesses every 0.5\u00a0s"
    assert it.column(0).locator(".badge").inner_text() == badge
    assert "streams: answers every 80\u00a0ms" in it.column(1).locator(".badge").inner_text()
    with it.page.expect_download() as download:
        it.page.click("#save")
    download.value.save_as(tmp_path / "saved.tsv")
    rows = [line.split("\t") for line in (tmp_path / "saved.tsv").read_text().splitlines()]
    assert rows[0] == ["model", "utterance", "text", "end_s", "latency_ms"]
    words = [row for row in rows if row[0] == "student"]
    assert [row[2] for row in words] == it.column(1).locator(".word").all_inner_texts()
    assert all(0 < float(row[3]) < 60 and int(row[4]) > -200 for row in words)
    assert any(row[0] == "intents" and "=" in row[2] for row in rows)
    it.page.click("#clear")
    playwright.expect(it.page.locator(".word:not(.legend .word)")).to_have_count(0)


def test_intents_as_bars(visit, sound):
    it = visit()
    it.page.select_option("#pace", "once")
    it.page.set_input_files("#file", sound)
    it.page.wait_for_selector(".intents:not(.partial) .bar")
    it.wait_until_ready()
    last = [message for message in it.received if message.get("intents") and message["final"]]
    bars = it.page.locator(".intents").first
    first = last[0]["intents"]
    assert bars.locator(".value").all_inner_texts() == [f"{one['slot']}{one['value']}" for one in first]
    for bar, one in zip(bars.locator(".bar").all(), first, strict=True):
        width = bar.evaluate("e => e.firstElementChild.getBoundingClientRect().width / e.getBoundingClientRect().width")
        assert width == pytest.approx(one["probability"], abs=0.02)


def test_a_file_at_once(visit, recognizers, sound):
    it = visit()
    it.page.uncheck("#pauses")
    it.page.select_option("#pace", "once")
    it.page.set_input_files("#file", sound)
    it.page.wait_for_selector(".system .word")
    it.wait_until_ready()
    heard = check_words(it, recognizers)
    samples = soundfile.read(sound, dtype="float32")[0]
    assert len(heard) == 1 and abs(len(heard[0]) - len(samples)) < 20
    # The browser has changed the rate and we have changed it back.
    num = min(len(heard[0]), len(samples))
    low = [resample(resample(part[:num], SECOND, 8000), 8000, SECOND)[500 : num - 500] for part in (heard[0], samples)]
    assert np.corrcoef(*low)[0, 1] > 0.99
    assert it.column(1).locator(".p50").inner_text() == "–"


def test_a_file_as_it_is_spoken_on_a_phone(visit, recognizers, sound):
    it = visit(**PHONE)
    it.page.select_option("#pace", "silent")
    it.page.set_input_files("#file", sound)
    playwright.expect(it.column(1).locator(".word").first).to_be_visible()
    playwright.expect(it.page.locator("#status")).to_contain_text("Listening to two.wav")
    it.wait_until_ready()
    assert len(check_words(it, recognizers)) >= 2
    assert it.page.evaluate("document.documentElement.scrollWidth") <= 390
    # As large as a finger.
    for button in it.page.locator("button").all():
        assert button.bounding_box()["height"] >= 40


def luminance(color):
    channels = [int(x) / 255 for x in re.findall(r"\d+", color)[:3]]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(visit, scheme):
    it = visit(color_scheme=scheme)
    page = it.page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
    assert (luminance(page) < 0.05) == (scheme == "dark")
    card = it.column(0).evaluate("e => getComputedStyle(e).backgroundColor")
    on = {".hint": page, "#status": page, ".legend": page, ".badge": card, "dt": card, "dd": card, ".empty": card}
    for place, below in (on | {".legend .partial": card}).items():
        color = it.page.locator(place).first.evaluate("e => getComputedStyle(e).color")
        light, dark = sorted((luminance(color), luminance(below)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, place


@pytest.mark.parametrize("wait_ms", [0, 30, 100, 250])
def test_stop_before_anything_was_said(visit, wait_ms):
    """Before the server is reached, before the microphone is there, or after; the console stays empty."""
    it = visit()
    it.page.click("#start")
    it.page.wait_for_timeout(wait_ms)
    it.page.click("#stop")
    it.wait_until_ready()
    playwright.expect(it.page.locator("#fault")).to_be_hidden()
    playwright.expect(it.page.locator("#start")).to_be_enabled()


def test_what_is_no_sound(visit, tmp_path):
    it = visit()
    (tmp_path / "page.wav").write_text("<html>")
    for pace in ("once", "silent"):
        it.page.select_option("#pace", pace)
        it.page.set_input_files("#file", tmp_path / "page.wav")
        playwright.expect(it.page.locator("#fault")).to_contain_text("cannot decode this file")
        it.wait_until_ready()
        playwright.expect(it.page.locator("#start")).to_be_enabled()


def test_silence(visit, tmp_path):
    it = visit()
    soundfile.write(tmp_path / "silence.wav", np.zeros(3 * SECOND), SECOND)
    it.page.select_option("#pace", "once")
    it.page.set_input_files("#file", tmp_path / "silence.wav")
    playwright.expect(it.page.locator("#fault")).to_contain_text("louder than the background")
    assert it.page.locator(".intents").count() == 0


def test_a_file_that_is_dropped(visit, recognizers, sound):
    it = visit()
    it.page.select_option("#pace", "once")
    transfer = it.page.evaluate_handle(
        """bytes => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(bytes)], "two.wav"));
          return transfer;
        }""",
        list(sound.read_bytes()),
    )
    it.page.dispatch_event("main", "dragover", {"dataTransfer": transfer})
    assert "dropping" in it.page.locator("body").get_attribute("class")
    it.page.dispatch_event("main", "drop", {"dataTransfer": transfer})
    it.page.wait_for_selector(".system .word")
    it.wait_until_ready()
    check_words(it, recognizers)
    assert it.page.locator("body").get_attribute("class") == ""


def test_a_server_that_is_busy_or_gone(visit):
    it = visit()
    answers = [({"type": "error", "message": "busy: 8 clients"}, 1013), (None, 1011)]

    def answer(socket):
        message, code = answers.pop(0)
        if message:
            socket.send(json.dumps(message))
        socket.close(code=code)

    it.page.route_web_socket(re.compile("/listen$"), answer)
    for fault in ("busy: 8 clients", "its log says how"):
        it.page.click("#start")
        playwright.expect(it.page.locator("#fault")).to_contain_text(fault)
        it.wait_until_ready()
