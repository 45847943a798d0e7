"""The pages in a real browser: opened, clicked, heard; nothing complains, nothing is fetched."""

import re
import shutil

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
TABS = ("summary", "curves", "utterances", "errors", "costs", "about")
PHONE = {"width": 390, "height": 844}
# Everything that sticks out to the right of the window and is not inside something that scrolls by itself.
STICKING_OUT = """[...document.querySelectorAll('section.open *, header *')].filter(
    (e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, nav, .lane')).map((e) => e.outerHTML.slice(0, 90))"""
# Contrast of the text of elements with what is behind it, by WCAG 2.
CONTRASTS = """(selector) => {
    const parse = (colour) => {
        const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = (rgb) => {
        const [r, g, b] = rgb.slice(0, 3).map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (e) => {
        for (; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        return [255, 255, 255, 255];
    };
    return [...document.querySelectorAll(selector)].filter((e) => e.offsetParent !== null && e.innerText.trim()).map((e) => {
        const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName + '.' + e.className + ': ' + e.innerText.slice(0, 40)];
    });
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Function that opens a page; at the end nobody must have complained, and nothing have been asked of the network."""
    complaints, contexts = [], []

    def open_it(folder, **options):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(("file:", "data:", "blob:")) else complaints.append(request.url)
            ),
        )
        page.goto((folder / "exp/report/index.html").as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert complaints == []


def wait_for_sound(page):
    """Until the player knows how long its sound is. The page forbids the strings that playwright's own waiting runs."""
    for _ in range(600):
        if page.evaluate("document.querySelector('audio').duration > 0"):
            return
        page.wait_for_timeout(50)
    pytest.fail("the player has no sound")


def visit(page, tab):
    page.click(f"#tab-{tab}")
    page.wait_for_selector(f"#{tab}.open")
    assert page.locator("section.open").count() == 1


@pytest.mark.parametrize("kind", ["asr", "intent"])
def test_every_tab(kind, open_page, asr_page, intent_page):
    page = open_page((asr_page if kind == "asr" else intent_page)[0])
    for tab in TABS:
        visit(page, tab)
        assert page.locator(f"#tab-{tab}").get_attribute("aria-selected") == "true"
        charts = page.locator("section.open .chart:visible")
        for n in range(charts.count()):
            assert charts.nth(n).locator(".main-svg").count() > 0
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('script').length") == 3
    for summary in page.locator("details summary").all():
        if summary.is_visible():
            summary.click()


def test_values_in_the_charts(open_page, asr_page):
    page = open_page(asr_page[0])
    drawn = page.evaluate(
        "document.querySelector('[data-figure=rates0]').data.map((trace) => [trace.y[0], trace.x[0]])"
    )
    rows = page.evaluate("DATA.results[0].rows.map((row) => [row.name, row.wer.mean])")
    assert [pair for pair in drawn if pair in rows] == rows
    visit(page, "curves")
    page.wait_for_selector("[data-term=loss_kd_l4] .main-svg")
    traces = page.evaluate("document.querySelector('[data-term=loss_kd_l4] .chart').data.map((t) => [t.name, t.y])")
    assert [name for name, _ in traces] == ["train_kd_aux, seed 1, train", "train_kd_aux, seed 1, valid"]
    assert traces[0][1] == [value for _, value in page.evaluate("DATA.curves.trainings[3].train.loss_kd_l4")]
    page.locator("#curve-controls").get_by_label("all seeds").check()
    assert page.evaluate("document.querySelector('[data-term=loss_kd_l4] .chart').data.length") == 4
    page.locator("#curve-controls").get_by_label("train_kd_aux").uncheck()
    assert page.evaluate("document.querySelector('[data-term=loss_kd_l4] .chart').data.length") == 0
    page.locator("#curve-controls").get_by_label("loss_kd_l4", exact=True).first.uncheck()
    assert page.locator("[data-term=loss_kd_l4]").count() == 0
    assert "asr_train_kd_token_seed1: 2 of 9 epochs, has not ended" in page.inner_text("#curve-controls")


def test_utterances(open_page, asr_page):
    page = open_page(asr_page[0])
    visit(page, "utterances")
    page.fill("#utt-search", "u003")
    assert page.locator("#utt-list [data-place]").count() == 1
    page.click("#utt-list [data-place]")
    assert page.inner_text("#utt-detail h3") == "u003"
    wait_for_sound(page)
    # u003 is the fourth recording, of 0.8 s.
    assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(0.8, abs=0.01)
    page.wait_for_function("document.querySelector('.timeline img').naturalWidth > 10")
    assert page.locator(".lane .mark").count() > 3 and page.locator(".lane .fire").count() > 3
    utt = page.evaluate("currentSet().utts[browser.utt]")
    for row, system in zip(page.locator(".aligned tr:not(.ref)").all(), "012", strict=True):
        marks = row.locator(".sub, .del, .ins").count()
        assert marks == utt["errors"][system]
        assert row.locator(".mark-of").count() == marks  # not by colour alone
    words = page.locator(".aligned tr.ref td").all_inner_texts()
    assert [word for word in words if word] == utt["ref"]
    page.click(".spectrum", position={"x": 5, "y": 20})
    page.wait_for_function("document.querySelector('audio').currentTime < 0.1")
    page.fill("#utt-search", "no such thing")
    assert page.locator("#utt-list [data-place]").count() == 0 and "Nothing like that" in page.inner_text("#utt-list")
    page.fill("#utt-search", "")
    page.get_by_label("with sound only").check()
    assert page.locator("#utt-list [data-place]").count() == page.evaluate(
        "currentSet().utts.filter((u) => u.clip !== null).length"
    )
    page.get_by_label("with sound only").uncheck()
    page.get_by_label("Errors of").select_option("2")
    page.get_by_label("Order").select_option("better")
    gains = page.evaluate("chosenUtts().map(({utt}) => utt.errors[1] - utt.errors[2])")
    assert gains == sorted(gains, reverse=True) and gains[0] > 0
    page.get_by_label("Set").select_option("1")
    assert "35 of 35" in page.inner_text("#utt-note")


def test_hostile_texts_are_shown(open_page, asr_page):
    page = open_page(asr_page[0])
    visit(page, "utterances")
    for place in range(page.evaluate("currentSet().utts.length")):
        page.evaluate("openUtt", place)
        utt = page.evaluate("currentSet().utts[browser.utt]")
        shown = page.inner_text("#utt-detail h3")
        assert shown == utt["id"] or (shown.endswith("…") and utt["id"].startswith(shown[:-1]))
        assert page.locator(".aligned tr.ref td .w").all_inner_texts() == [
            word if len(word) <= 48 else f"{word[:47]}…" for word in utt["ref"]
        ]
    assert page.evaluate("window.hacked") is None
    assert page.locator("#utt-detail script, #utt-detail img:not(.spectrum img)").count() == 0


def test_a_link_to_an_utterance(open_page, asr_page):
    page = open_page(asr_page[0])
    visit(page, "errors")
    link = page.locator("#errors a").nth(2)
    name = link.inner_text()
    link.click()
    page.wait_for_selector("#utterances.open")
    assert page.inner_text("#utt-detail h3") == name
    assert re.fullmatch(r"#utterances/0/\d+", page.evaluate("location.hash"))


def test_intents(open_page, intent_page):
    page = open_page(intent_page[0])
    visit(page, "errors")
    page.wait_for_selector("[data-matrix] .main-svg")
    page.locator("[data-matrix]").get_by_label("System").select_option("2")
    page.locator("[data-matrix]").get_by_label("Slot").select_option("milk")
    z = page.evaluate("document.querySelector('[data-matrix] .chart').data[0].z")
    counts = page.evaluate("DATA.matrices.find((m) => m.set === 'test' && m.system === 2 && m.slot === 'milk').counts")
    total = sum(count for ref, _, count in counts if ref == 0)
    assert z[0][0] == pytest.approx(100 * next(count for ref, hyp, count in counts if ref == hyp == 0) / total)
    page.locator("[data-matrix]").get_by_label("System").select_option("0")
    page.locator("[data-matrix]").get_by_label("Set").select_option("test_white_0db")
    assert "text has no noise" in page.inner_text("[data-matrix] .chart")
    visit(page, "utterances")
    page.fill("#utt-search", "u003")
    page.click("#utt-list [data-place]")
    wait_for_sound(page)
    table = page.locator("#utt-detail table")
    utt = page.evaluate("currentSet().utts[browser.utt]")
    assert table.locator("tr.ref td").all_inner_texts() == [value for _, value in utt["ref"]]
    assert table.locator(".sub").count() == sum(utt["errors"].values())
    assert f"{round(100 * utt['hyps']['1'][1][2])} %" in table.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["asr", "intent"])
def test_phone_in_light_and_dark(scheme, kind, open_page, asr_page, intent_page):
    page = open_page((asr_page if kind == "asr" else intent_page)[0], viewport=PHONE, color_scheme=scheme)
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back)[:3])) < 200) == (scheme == "dark")
    for tab in TABS:
        visit(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], tab
        assert page.evaluate(STICKING_OUT) == []
        poor = [
            found
            for found in page.evaluate(CONTRASTS, "p, h1, h2, h3, td, th, li, button, label, summary, .w, .note, a")
            if found[0] < 4.5
        ]
        assert poor == []
    page.click("#theme")
    other = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", other)[:3])) < 200) == (scheme == "light")
