"""What the page shows of trainings: learning curves, and the pictures that they drew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet2_kd.report.experiments import System
from espnet2_kd.report.page.budget import Budget
from espnet2_kd.report.page.curves import Curves, read_curves
from espnet2_kd.report.page.pictures import find_pictures, read_picture

PICTURE = "pictures drawn while training"


def read_all_curves(systems: Sequence[System], missing: Sequence[Path]) -> dict[Path, Curves]:
    """Read the curves of every training, and of those that were begun and have no end."""
    paths = [experiment.path for system in systems for experiment in system.experiments]
    return {path: curves for path in [*paths, *missing] if (curves := read_curves(path)).num_epochs}


def curves_data(curves: Mapping[Path, Curves], systems: Sequence[System], order: Mapping[str, int]) -> dict[str, Any]:
    """The same for the page's program: trainings with their terms, as pairs (epoch, value)."""
    owners = {
        experiment.path: (system.name, experiment.seed) for system in systems for experiment in system.experiments
    }
    trainings = []
    for path, one in curves.items():
        name, seed = owners.get(path, (path.name, None))
        trainings.append(
            {
                "name": name if seed is None else f"{name}, seed {seed}",
                "system": order.get(name, len(order)),
                "seed": seed,
                "first": seed is not None and seed == min(s for n, s in owners.values() if n == name),
                "epochs": one.num_epochs,
                "planned": one.planned,
                "ended": seed is not None,
                **{
                    part: {term: sorted(values.items()) for term, values in getattr(one, part).items()}
                    for part in ("train", "valid")
                },
            }
        )
    terms = list(dict.fromkeys(term for one in curves.values() for term in one.terms))
    ranked = sorted(terms, key=lambda term: Curves(train={name: {} for name in terms}).terms.index(term))
    return {"trainings": trainings, "terms": ranked}


def pictures_data(systems: Sequence[System], budget: Budget) -> list[dict[str, Any]]:
    """Read pictures of the first seed of every system, as far as there is room."""
    found = []
    for system in systems:
        for experiment in system.experiments[:1]:
            names, more = find_pictures(experiment.path)
            budget.refuse(PICTURE, more)
            for name in names:
                picture = read_picture(*name)
                if picture is not None and budget.take(PICTURE, len(picture.data)):
                    found.append(
                        {
                            **{"system": system.name, "seed": experiment.seed, "utt": picture.utt},
                            **{"what": picture.what, "epoch": picture.epoch, "data": picture.data},
                        }
                    )
    return found
