"""Sound and spectrogram of the utterances that are shown, as far as the page has room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet2_kd.data.audio import AudioFault
from espnet2_kd.data.table import read_rows
from espnet2_kd.report.page.budget import Budget
from espnet2_kd.report.page.options import PageOptions
from espnet2_kd.report.page.sound import make_clip

SOUND = "utterances with sound"


class Media:
    """Makes clips in the order in which they are asked for; `clips` is what the page holds."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.clips: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self._tables: dict[Path, dict[str, str]] = {}

    def add(self, data_dir: Path | None, utt: str) -> int | None:
        """Put an utterance into the page and give its place among the clips; None where that cannot be."""
        if data_dir is None:
            return None
        entry = self._entries(data_dir).get(utt)
        if entry is None:
            self.faults.append(f"{data_dir / 'wav.scp'}: {utt:.80}: no such recording")
            return None
        try:
            clip = make_clip(entry)
        except AudioFault as fault:
            self.faults.append(f"{data_dir / 'wav.scp'}: {utt:.80}: {fault.what}")
            return None
        if not self.budget.take(SOUND, clip.size):
            return None
        self.clips.append({"sound": clip.sound, "picture": clip.picture, "seconds": clip.seconds, "shown": clip.shown})
        return len(self.clips) - 1

    def _entries(self, data_dir: Path) -> dict[str, str]:
        if data_dir not in self._tables:
            path = data_dir / "wav.scp"
            rows = read_rows(path, []) if path.is_file() else []
            self._tables[data_dir] = {row.key: row.value for row in rows}
        return self._tables[data_dir]


def add_sound(
    media: Media,
    sets: Sequence[dict[str, Any]],
    options: PageOptions,
    heard_first: Callable[[dict[str, Any]], Sequence[dict[str, Any]]] = lambda one: one["utts"],
) -> None:
    """Give the utterances of all sets in turn their `clip`, those that `heard_first` puts first before others."""
    wanted = [(options.data_dirs.get(one["name"]), [utt["id"] for utt in heard_first(one)]) for one in sets]
    for one, places in zip(sets, add_in_turn(media, wanted, options.num_sounds), strict=True):
        one["silent"] = "no speech of this set was given" if options.data_dirs.get(one["name"]) is None else ""
        for utt in one["utts"]:
            utt["clip"] = places.get(utt["id"])


def add_in_turn(
    media: Media, wanted: Sequence[tuple[Path | None, Sequence[str]]], count: int
) -> list[Mapping[str, int]]:
    """Give every set its turn until `count` utterances have sound; places of clips by utterance, for each set."""
    places: list[dict[str, int]] = [{} for _ in wanted]
    for n in range(max((len(utts) for _, utts in wanted), default=0)):
        for (data_dir, utts), found in zip(wanted, places, strict=True):
            if n >= len(utts) or data_dir is None:
                continue
            if sum(map(len, places)) >= count:
                media.budget.refuse(SOUND)
                continue
            place = media.add(data_dir, utts[n])
            if place is not None:
                found[utts[n]] = place
    return places
