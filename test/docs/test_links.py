"""Links of the Markdown files, in the repository and in the site."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = (
    "README.md",
    "CONTRIBUTING.md",
    "doc/*.md",
    "egs2/*/*/README.md",
    "egs2/*/*/RESULTS*.md",
    "tools/bench/*.md",
)
FILES = sorted(path.relative_to(ROOT).as_posix() for pattern in PATTERNS for path in ROOT.glob(pattern))


@pytest.mark.parametrize("name", FILES)
def test_every_link_leads_somewhere(docs_module, name):
    assert docs_module("links").broken_links(ROOT, ROOT / name) == []


def test_links_of_notebooks_lead_somewhere(docs_module):
    links = docs_module("links")
    nbformat = pytest.importorskip("nbformat")
    for path in sorted(ROOT.glob("doc/tutorials/*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        for target in links.links_of("\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")):
            assert links.is_external(target) or (path.parent / target).exists(), f"{path.name}: {target}"


TEXT = """# A heading, with `code`

[good](other.md) [`code`](folder) [anchor](#a-heading-with-code) [far](https://example.org/x.md)
[gone](gone.md) [no anchor](other.md#gone) [outside](../outside.md) ![picture](gone.png)

    [not a link](in_code.md)

```md
[not a link](in_a_fence.md)
```
"""


def test_broken_links_are_found(docs_module, tmp_path):
    root = tmp_path / "repository"
    (root / "folder").mkdir(parents=True)
    (root / "other.md").write_text("# Other\n")
    (tmp_path / "outside.md").write_text("# Outside\n")
    (root / "page.md").write_text(TEXT)
    broken = docs_module("links").broken_links(root, root / "page.md")
    assert broken == [f"page.md: {target}" for target in ("gone.md", "other.md#gone", "../outside.md", "gone.png")]


def test_links_in_the_site(docs_module, tmp_path):
    """A file that is a page becomes a link to it, a folder a link to its README; anything else its name."""
    for name in ("egs2/digits/asr1/README.md", "egs2/digits/asr1/run.sh", "doc/far.md", "LICENSE"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    sources = {
        "index.md": "README.md",
        "far.md": "doc/far.md",
        "recipes/digits.md": "egs2/digits/asr1/README.md",
    }
    links = docs_module("links").Links(tmp_path, sources)
    text = (
        "[a](doc/far.md#here) [`b`](egs2/digits/asr1) [c](LICENSE) [`d`](egs2/digits/asr1/run.sh) [e](https://e.org) [f](gone.md)\n"
        "* one\n  * two\n\n      [a](doc/far.md)\n"
    )
    assert links.of_site(text, "index.md") == (
        "[a](far.md#here) [`b`](recipes/digits.md) c (`LICENSE`) `d` [e](https://e.org) [f](gone.md)\n"
        "* one\n    * two\n\n      [a](doc/far.md)\n"
    )
    assert links.of_site("[a](../../../doc/far.md) [x](../../../README.md)", "recipes/digits.md") == (
        "[a](../far.md) [x](../index.md)"
    )
