"""The tab that tells how the results and the page were made, and what is not on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espnet2_kd.report.environment import environments, relative_command
from espnet2_kd.report.experiments import System
from espnet2_kd.report.page.blocks import Block, Bullets, Code, Details, Heading, Text
from espnet2_kd.report.page.budget import Budget
from espnet2_kd.report.page.options import PageOptions

NUM_FAULTS = 10


def about_blocks(
    systems: Sequence[System],
    missing: Sequence[Path],
    score_file: str,
    budget: Budget,
    options: PageOptions,
    faults: Sequence[str],
) -> list[Block]:
    """Lay out what is missing, the environment and the commands."""
    blocks: list[Block] = [Heading("What is on this page")]
    kept = [f"{count} {kind}" for kind, count in sorted(budget.kept.items())]
    left_out = [f"{count} {kind}" for kind, count in sorted(budget.left_out.items())]
    blocks.append(Text(f"Shown: {', '.join(kept) or 'tables and charts only'}."))
    blocks.append(
        Text(
            f"Left out: {', '.join(left_out) or 'nothing'}. The limits: --page_utts {options.num_utts} (utterances of a "
            f"set), --page_sounds {options.num_sounds} (with sound, in all), --page_mb {options.megabytes:g} (size)."
        )
    )
    if faults:
        more = f" {len(faults) - NUM_FAULTS} more not listed." if len(faults) > NUM_FAULTS else ""
        blocks += [Text(f"Sound that could not be read:{more}", strong=True), Bullets(list(faults)[:NUM_FAULTS])]
    blocks.append(Text("Nothing on this page comes from the network, and nothing goes there."))
    if missing:
        blocks += [Heading("Asked for, but not run"), Bullets([path.as_posix() for path in missing])]
    environment = environments(systems, score_file).removeprefix("## Environments").strip().replace("`", "")
    blocks += [Heading("Environment"), Code(environment), Heading("Training commands")]
    for system in systems:
        commands = [
            relative_command(experiment.run["command"]) if experiment.run.get("command") else "command unknown"
            for experiment in system.experiments
        ]
        blocks.append(Details(system.name, [Code("\n".join(commands) or "not run")]))
    return blocks
