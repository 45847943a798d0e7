"""MkDocs hooks: pages from the project's own READMEs, results, notebooks and docstrings, so that nothing is said twice."""

from __future__ import annotations

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))  # MkDocs loads a hook as a lone file

from config_names import config_page
from gallery import Recipe, find_recipes, gallery_page, gallery_rows
from links import Links
from notebooks import find_notebooks, to_markdown
from reference import command_page, find_rooms, room_page

ROOT = Path(__file__).resolve().parents[2]
# Page -> the file of the repository that it shows.
SHOWN = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "benchmarks.md": "tools/bench/RESULTS.md",
    "faults.md": "test/faults/RESULTS.md",
}


class Site:
    """What one build has collected: where its pages come from, and the lists in the navigation."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.sources: dict[str, str] = {}

    def show(self, page: str, source: str) -> None:
        """Let `page` show a file of the repository."""
        self.texts[page] = (ROOT / source).read_text(encoding="utf-8")
        self.sources[page] = source

    def show_recipe(self, recipe: Recipe) -> list:
        """Pages of a recipe and their place in the navigation."""
        self.show(f"recipes/{recipe.stem}.md", f"{recipe.path}/README.md")
        entries = [{"About": f"recipes/{recipe.stem}.md"}]
        for report in recipe.reports(ROOT):
            page = f"recipes/{recipe.stem}-{report.stem.lower()}.md"
            self.show(page, f"{recipe.path}/{report.name}")
            # A report without a title of its own does not say whose it is.
            text = self.texts[page].replace("\n# RESULTS", f"\n# {recipe.name}: results", 1)
            self.texts[page] = f"---\nhide: [toc]\n---\n\n{text}"
            entries.append({report.stem.replace("RESULTS", "Results").replace("_", ", "): page})
        return entries


_site = Site()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and their names to the navigation."""
    global _site
    _site = site = Site()
    for page, source in SHOWN.items():
        site.show(page, source)
    recipes = find_recipes(ROOT)
    lists = {"recipes": [{"All recipes": "recipes/index.md"}], "tutorials": [], "reference": []}
    for recipe in recipes:
        entries = site.show_recipe(recipe)
        lists["recipes"].append({recipe.name: entries if len(entries) > 1 else entries[0]["About"]})
    site.texts["recipes/index.md"] = gallery_page(gallery_rows(ROOT, recipes))
    site.texts["config.md"] = config_page(ROOT)
    for notebook in find_notebooks(ROOT):
        page = f"tutorials/{notebook.stem}.md"
        site.texts[page] = to_markdown(notebook)
        site.sources[page] = str(notebook.relative_to(ROOT))
        lists["tutorials"].append(page)
    site.texts["reference/commands.md"] = command_page(ROOT)
    lists["reference"].append("reference/commands.md")
    for room in find_rooms(ROOT):
        site.texts[f"reference/{room.name}.md"] = room_page(room)
        lists["reference"].append({room.title: f"reference/{room.name}.md"})
    for page, text in site.texts.items():
        files.append(File.generated(config, page, content=text))
    for file in files.documentation_pages():
        site.sources.setdefault(file.src_uri, f"doc/{file.src_uri}")
    config.nav = [_filled(entry, lists) for entry in config.nav or []]
    named = set(_pages(config.nav))
    unnamed = sorted(file.src_uri for file in files.documentation_pages() if file.src_uri not in named)
    for entry in config.nav:
        if "Guides" in entry:
            entry["Guides"] += unnamed
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that hold in the repository hold in the site."""
    return Links(ROOT, _site.sources).of_site(markdown, page.file.src_uri)


def _filled(entry, lists: dict[str, list]):
    if isinstance(entry, dict):
        ((title, value),) = entry.items()
        return {title: lists.get(value, value) if isinstance(value, str) else list(value)}
    return entry


def _pages(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in _pages(part)]
