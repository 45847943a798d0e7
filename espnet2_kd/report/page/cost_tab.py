"""The tab that tells what the recipe cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from espnet2_kd.report.experiments import System
from espnet2_kd.report.page import figures
from espnet2_kd.report.page.blocks import Block, Details, Heading, Table, Text
from espnet2_kd.report.page.costs import Disk, StageCost, Step, format_bytes, format_seconds, read_costs
from espnet2_kd.report.page.curves import Curves
from espnet2_kd.report.results import NONE, format_duration, format_parameters

NOTE = (
    "Time: wall time of the run that ended a step; steps that run side by side are added up. Job time: of all its jobs "
    "together. Peak memory: the most that a single process had. What was made before these were written down is "
    "“not recorded”."
)
NUM_DISKS = 40


def cost_blocks(
    recipe: Path, systems: Sequence[System], curves: Mapping[Path, Curves], data_dirs: Iterable[Path]
) -> list[Block]:
    """Lay out stages, trainings and disk space, of `data` and wherever formatted speech and experiments are."""
    paths = [*data_dirs, *(experiment.path for system in systems for experiment in system.experiments)]
    roots = list(dict.fromkeys(["data", *(path.parts[0] for path in paths if not path.is_absolute() and path.parts)]))
    stages, disks = read_costs(recipe, roots)
    by_place = {Path(step.where).parent.as_posix(): step for stage in stages for step in stage.steps}
    sizes = {disk.where: disk for disk in disks}
    blocks: list[Block] = [Heading("Stages")]
    if stages:
        blocks += [_stages(stages), Text(NOTE), Details("Every step", [_steps(stages)])]
    else:
        blocks.append(Text("No stage has left a record here.", strong=True))
    blocks += [Heading("Trainings"), _trainings(systems, curves, by_place, sizes)]
    blocks.append(Heading("Disk space"))
    chart = figures.disk(disks, "disk")
    if chart:
        total = sum(disk.size for disk in disks)
        rows = [(disk.where, str(disk.num_files), format_bytes(disk.size)) for disk in disks[:NUM_DISKS]]
        blocks += [
            Text(f"{format_bytes(total)} in {', '.join(root for root in roots if (recipe / root).is_dir())}."),
            chart,
            Details("Every directory", [Table(("directory", "files", "size"), rows)]),
        ]
    else:
        blocks.append(Text("No directory of the recipe is here."))
    return blocks


def _stages(stages: Sequence[StageCost]) -> Table:
    rows = [
        (
            stage.stage,
            str(len(stage.steps)),
            format_seconds(stage.seconds)
            + (f" (+ {stage.unknown} not recorded)" if stage.unknown and stage.seconds else ""),
            NONE if stage.job_seconds is None else format_seconds(stage.job_seconds),
            NONE if stage.peak_kb is None else format_bytes(1024 * stage.peak_kb),
        )
        for stage in stages
    ]
    return Table(("stage", "steps", "time", "job time", "peak memory"), rows)


def _steps(stages: Sequence[StageCost]) -> Table:
    rows = [
        (
            step.where,
            stage.stage,
            format_seconds(step.seconds),
            str(step.num_jobs or NONE),
            NONE if step.job_seconds is None else format_seconds(step.job_seconds),
            NONE if step.peak_kb is None else format_bytes(1024 * step.peak_kb),
        )
        for stage in stages
        for step in stage.steps
    ]
    return Table(("step", "stage", "time", "jobs", "job time", "peak memory"), rows, left=2)


def _trainings(
    systems: Sequence[System],
    curves: Mapping[Path, Curves],
    steps: Mapping[str, Step],
    sizes: Mapping[str, Disk],
) -> Table:
    rows = []
    for system in systems:
        for experiment in system.experiments:
            where = experiment.path.as_posix()
            run, step, known = experiment.run, steps.get(where), curves.get(experiment.path)
            rows.append(
                (
                    where,
                    format_parameters(run.get("num_parameters")),
                    str(known.num_epochs) if known else NONE,
                    NONE if run.get("train_seconds") is None else format_duration(run["train_seconds"]),
                    NONE if step is None or step.peak_kb is None else format_bytes(1024 * step.peak_kb),
                    NONE if known is None or known.gpu_gb is None else f"{known.gpu_gb:.1f} GB",
                    format_bytes(sizes[where].size) if where in sizes else NONE,
                )
            )
    header = ("training", "parameters", "epochs", "time", "peak memory", "GPU memory", "disk")
    return Table(header, rows)
