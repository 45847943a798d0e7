"""What the pages of recognisers and of intent classifiers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet2_kd.report.experiments import System
from espnet2_kd.report.page.about_tab import about_blocks
from espnet2_kd.report.page.blocks import Block
from espnet2_kd.report.page.budget import Budget
from espnet2_kd.report.page.cost_tab import cost_blocks
from espnet2_kd.report.page.document import Page, room_for_media
from espnet2_kd.report.page.media import Media
from espnet2_kd.report.page.options import PageOptions
from espnet2_kd.report.page.trainings import curves_data, pictures_data, read_all_curves
from espnet2_kd.report.results import SYNTHETIC_NOTE


class Frame:
    """Trainings, costs and limits of a page, around what it says of the results.

    order: place of every system, by name, for its colour.
    """

    def __init__(self, systems: Sequence[System], missing: Sequence[Path], options: PageOptions, recipe: Path) -> None:
        self.systems, self.missing, self.options, self.recipe = systems, missing, options, recipe
        self.order = {system.name: n for n, system in enumerate(systems)}
        self.curves = read_all_curves(systems, missing)
        self.budget = Budget(room_for_media(options.megabytes))
        # Pictures first: they are few, and sound takes what is left.
        self.pictures = pictures_data(systems, self.budget)
        self.media = Media(self.budget)

    def page(
        self,
        kind: str,
        title: str,
        synthetic: bool,
        score_file: str,
        summary: Sequence[Block],
        errors: Sequence[Block],
        sets: Sequence[dict[str, Any]],
        **more: Any,
    ) -> Page:
        """Put the page together; `more` goes to its programs."""
        return Page(
            title=title,
            synthetic=SYNTHETIC_NOTE if synthetic else "",
            tabs={
                "summary": summary,
                "errors": errors,
                "costs": cost_blocks(self.recipe, self.systems, self.curves, self.options.data_dirs.values()),
                "about": about_blocks(
                    self.systems, self.missing, score_file, self.budget, self.options, self.media.faults
                ),
            },
            pictures=self.pictures,
            data={
                "kind": kind,
                "systems": [{"name": system.name, "role": system.role} for system in self.systems],
                "curves": curves_data(self.curves, self.systems, self.order),
                "sets": sets,
                "clips": self.media.clips,
                **more,
            },
        )
