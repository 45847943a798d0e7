"""What a page is asked to show."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet2_kd.data.problems import one_problem


@dataclass(frozen=True)
class PageOptions:
    """How much goes into a page.

    data_dirs: formatted speech by test set, for sound; sets without one stay silent.
    num_utts: utterances of each set that can be looked at.
    num_sounds: utterances, of all sets together, that can be heard and seen.
    megabytes: size of the page, which nothing makes larger but tables and charts.
    """

    data_dirs: Mapping[str, Path] = field(default_factory=dict)
    num_utts: int = 200
    num_sounds: int = 40
    megabytes: float = 15.0


def add_page_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the page to a report's parser."""
    group = parser.add_argument_group("web page")
    group.add_argument("--page", help="the same and more as one web page, as exp/report/index.html; without it none")
    group.add_argument("--data_dirs", help='formatted speech of the test sets, for sound, as "dump/raw/test"')
    group.add_argument("--page_utts", type=int, default=PageOptions.num_utts, help="utterances of each set on the page")
    group.add_argument(
        "--page_sounds", type=int, default=PageOptions.num_sounds, help="utterances of all sets together with sound"
    )
    group.add_argument("--page_mb", type=float, default=PageOptions.megabytes, help="size that sounds keep to, in MB")


def page_options(args: argparse.Namespace, test_sets: Sequence[str]) -> PageOptions:
    """Read them; raises DataError for as many directories as there are not sets."""
    folders = [Path(word) for word in (args.data_dirs or "").split()]
    if folders and len(folders) != len(test_sets):
        what = f"{len(folders)} directories for {len(test_sets)} test sets"
        raise one_problem("--data_dirs", what, "give one for each, in the order of --test_sets")
    if args.page_mb <= 0 or args.page_utts < 0 or args.page_sounds < 0:
        raise one_problem("--page_mb, --page_utts, --page_sounds", "cannot be negative", "give 0 or more")
    return PageOptions(dict(zip(test_sets, folders, strict=False)), args.page_utts, args.page_sounds, args.page_mb)
