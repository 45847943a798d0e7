"""Links of the repository's Markdown files: where they lead, and what becomes of them in the site."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path

# Fenced and indented blocks hold no links.
BLOCK = re.compile(r"^(?P<fence>`{3,}|~{3,})[^\n]*\n.*?^(?P=fence)[ ]*$|^ {4}[^\n]*$", re.M | re.S)
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:`[^`]*`|[^\]`])*)\]\((?P<target>[^)\s]+)\)")
NESTED = re.compile(r"^ {2,3}([-*] )", re.M)
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.M)


def outside_blocks(text: str, change: Callable[[str], str]) -> str:
    """Apply `change` to what is not a block of code."""
    parts, end = [], 0
    for block in BLOCK.finditer(text):
        parts += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, change(text[end:])])


def links_of(text: str) -> list[str]:
    """The targets of all links of a Markdown text."""
    return [match["target"] for match in LINK.finditer(BLOCK.sub("", text))]


def is_external(target: str) -> bool:
    """Whether a link leaves the repository."""
    return bool(re.match(r"[a-z][a-z0-9+.-]*:", target))


def anchors_of(text: str) -> set[str]:
    """The anchors that headings of a Markdown text get, as repositories show them."""
    headings = HEADING.findall(BLOCK.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


class Links:
    """Rewrites the links of a page.

    Args:
        root: the repository.
        sources: page -> the file of the repository that it shows.
    """

    def __init__(self, root: Path, sources: Mapping[str, str]) -> None:
        self.root, self.sources = root, sources
        self.page_of = {source: page for page, source in sources.items()}

    def of_site(self, text: str, page: str) -> str:
        """The text with links to pages of the site; a link to a file that is no page becomes its name."""
        folder = posixpath.dirname(self.sources[page])

        def rewrite(match: re.Match[str]) -> str:
            target, _, anchor = match["target"].partition("#")
            if is_external(match["target"]) or not target:
                return match[0]
            source = posixpath.normpath(posixpath.join(folder, target))
            found = self._page(source)
            if match["picture"]:
                return self._picture(source) or match[0]
            if found:
                where = posixpath.relpath(found, posixpath.dirname(page) or ".")
                return f"[{match['text']}]({where}{'#' + anchor if anchor else ''})"
            if not (self.root / source).exists():
                return match[0]  # MkDocs complains about it
            return match["text"] if match["text"].startswith("`") else f"{match['text']} (`{source}`)"

        # Python-Markdown nests a list that is indented by four spaces, not by two as elsewhere.
        return outside_blocks(text, lambda part: NESTED.sub(r"    \1", LINK.sub(rewrite, part)))

    def _page(self, source: str) -> str | None:
        """The page that shows a file, or the README of a folder."""
        return self.page_of.get(source) or self.page_of.get(f"{source}/README.md")

    def _picture(self, source: str) -> str | None:
        """A drawing becomes part of the page, so that it follows the page's colours."""
        path = self.root / source
        if path.suffix != ".svg" or not path.is_file():
            return None
        drawing = path.read_text(encoding="utf-8").strip()
        return '<div class="drawing">' + re.sub(r"\n\s*", " ", drawing) + "</div>"


def broken_links(root: Path, file: Path) -> list[str]:
    """Links of a Markdown file that lead nowhere, as `file: target`."""
    text = file.read_text(encoding="utf-8")
    broken = []
    for target in links_of(text):
        if is_external(target):
            continue
        path, _, anchor = target.partition("#")
        place = Path(os.path.normpath(file.parent / path)) if path else file
        exists = place.exists() and place.is_relative_to(root)
        if exists and anchor and place.suffix == ".md":
            exists = anchor in anchors_of(place.read_text(encoding="utf-8"))
        if not exists:
            broken.append(f"{file.relative_to(root)}: {target}")
    return broken
