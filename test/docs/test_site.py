"""The site is built whole: no broken link, every module in the reference, nothing from a network."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="mkdocs-material is not installed"),
]


class Loaded(HTMLParser):
    """What a browser fetches for a page by itself, and what its links name."""

    def __init__(self):
        super().__init__()
        self.fetched, self.anchors = [], set()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.anchors.add(attrs["id"])
        if tag in ("script", "img", "iframe", "source") and attrs.get("src"):
            self.fetched.append(attrs["src"])
        if tag == "link" and attrs.get("rel") in ("stylesheet", "preload", "icon", "preconnect"):
            self.fetched.append(attrs["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(target)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return target


def load(path):
    page = Loaded()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_no_page_fetches_anything_from_a_network(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for path in pages:
        fetched = load(path).fetched
        assert fetched and not [name for name in fetched if re.match(r"(https?:)?//", name)], path.name
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\(\s*[\"']?(https?:)?//", styles)


def test_every_public_module_is_in_the_reference(site):
    anchors = {room.stem: load(room).anchors for room in (site / "reference").glob("*.html")}
    for path in sorted((ROOT / "espnet2_kd").glob("*/**/*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        room = name.split(".")[1]
        if path.name != "__init__.py" and room != "bin":
            assert name in anchors[room], name
    commands = (site / "reference/commands.html").read_text(encoding="utf-8")
    for path in (ROOT / "espnet2_kd/bin").glob("*.py"):
        if re.search(r"^def main\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert f"<code>{path.stem}</code>" in commands


def test_the_readme_is_the_first_page(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "make demo" in page and 'href="recipes/mini-asr1.html"' in page and 'href="concepts.html"' in page


def test_the_drawing_follows_the_page(site):
    assert '<div class="drawing"><svg' in (site / "concepts.html").read_text(encoding="utf-8")


def test_building_needs_no_torch(tmp_path):
    """The reference is read from the sources: neither torch nor ESPnet2 is imported."""
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    (tmp_path / "espnet2.py").write_text("raise ImportError('espnet2 was imported')")
    code = (
        "import sys; sys.path.insert(0, 'tools/docs')\n"
        "from pathlib import Path\n"
        "import config_names, gallery, notebooks, reference\n"
        "config_names.config_page(Path('.').resolve())\n"
        "assert not {'torch', 'espnet2', 'espnet2_kd'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
