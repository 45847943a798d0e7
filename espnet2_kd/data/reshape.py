"""New data directories from old ones: combine, copy with prefixes, subset, split."""

from __future__ import annotations

import random
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from espnet2_kd.data.data_dir import AUDIO_SUM, NOTES, SPK_TABLES, UTT_TABLES, DataDir
from espnet2_kd.data.documents import read_text
from espnet2_kd.data.durations import durations
from espnet2_kd.data.problems import DataError, Problem, one_problem, require_two_places
from espnet2_kd.data.sound_files import joint_sum

ORDERS = ("first", "last", "random", "shortest", "speakers", "per_spk")


def _read(path: str | PathLike) -> DataDir:
    return DataDir.read(path, need_text=False, allow_empty_text=True, allow_pipes=True)


def combine(sources: Sequence[str | PathLike], target: str | PathLike) -> tuple[DataDir, list[str]]:
    """Write the union of `sources` to `target`; give it and the names of the tables that not all of them had.

    utt2uniq and segments are completed where only some have them. Raises DataError for ids that mean different things.
    """
    parts = [_read(source) for source in sources]
    for name in ("utt2uniq", "segments"):
        if any(name in part.tables for part in parts):
            for part in parts:
                whole = {utt: utt if name == "utt2uniq" else f"{utt} 0 -1" for utt in part.utts}
                part.tables.setdefault(name, whole)
    problems: list[Problem] = []
    tables: dict[str, dict[str, str]] = {}
    left_out = []
    for name in ("wav.scp", *UTT_TABLES, *SPK_TABLES):
        owners = [part for part in parts if name in part.tables]
        if owners and len(owners) < len(parts):
            left_out.append(name)
        elif owners:
            tables[name] = _union(name, owners, problems)
    if problems:
        raise DataError(problems)
    shared = {name: {part.notes.get(name) for part in parts} for name in NOTES}
    notes = {name: parts[0].notes[name] for name in NOTES if len(shared[name]) == 1 and shared[name] != {None}}
    notes.pop(AUDIO_SUM, None)
    if None not in shared[AUDIO_SUM]:
        notes[AUDIO_SUM] = joint_sum(part.notes[AUDIO_SUM] for part in parts)
    return DataDir(Path(target), tables, notes).write(target), left_out


def _union(name: str, parts: Sequence[DataDir], problems: list[Problem]) -> dict[str, str]:
    union: dict[str, str] = {}
    owner: dict[str, Path] = {}
    for part in parts:
        for key, value in part.tables[name].items():
            if union.setdefault(key, value) != value:
                what = f"also in {owner[key] / name}, with another value"
                problems.append(Problem(str(part.path / name), 0, key, what, "copy one directory with --utt_prefix"))
            owner.setdefault(key, part.path)
    return union


def copy(source: str | PathLike, target: str | PathLike, utt_prefix: str = "", spk_prefix: str = "") -> DataDir:
    """Copy a directory, putting prefixes before utterance and speaker ids; recordings keep their names with segments."""
    require_two_places(source, target)
    data = _read(source)
    by_prefix = {name: utt_prefix for name in UTT_TABLES} | {name: spk_prefix for name in SPK_TABLES}
    by_prefix["wav.scp"] = "" if "segments" in data.tables else utt_prefix
    tables = {
        name: {f"{by_prefix[name]}{key}": value for key, value in table.items()} for name, table in data.tables.items()
    }
    tables["utt2spk"] = {utt: f"{spk_prefix}{spk}" for utt, spk in tables["utt2spk"].items()}
    return DataDir(data.path, tables, data.notes).write(target)


def subset(source: str | PathLike, target: str | PathLike, num: int, by: str = "first", seed: int = 0) -> DataDir:
    """Keep `num` utterances: the first, last or shortest, a random choice, whole speakers up to `num`, or `num` per speaker."""
    require_two_places(source, target)
    data = _read(source)
    utts, spk_of = data.utts, data.tables["utt2spk"]
    if num < 1 or (by != "per_spk" and num > len(utts)):
        raise one_problem(source, f"cannot choose {num} of {len(utts)} utterances", f"give a number up to {len(utts)}")
    if by == "random":
        utts = random.Random(seed).sample(utts, num)
    elif by == "shortest":
        seconds = durations(data)
        utts = sorted(utts, key=lambda utt: (seconds[utt], utt))[:num]
    elif by == "speakers":
        utts = sorted(utts, key=lambda utt: (spk_of[utt], utt))[:num]
    elif by == "per_spk":
        seen: dict[str, int] = {}
        utts = [utt for utt in utts if seen.setdefault(spk_of[utt], 0) < num and not _count(seen, spk_of[utt])]
    elif by in ("first", "last"):
        utts = utts[:num] if by == "first" else utts[-num:]
    else:
        raise ValueError(f"unknown choice {by!r}; one of {', '.join(ORDERS)}")
    return data.only(utts).write(target)


def _count(seen: dict[str, int], spk: str) -> None:
    seen[spk] += 1


def select(source: str | PathLike, target: str | PathLike, keys: str | PathLike, by_speaker: bool = False) -> DataDir:
    """Keep the utterances (or all of the speakers) whose ids are the first words of the lines of file `keys`."""
    require_two_places(source, target)
    data = _read(source)
    lines = read_text(keys).splitlines()
    wanted = {line.split()[0]: number for number, line in enumerate(lines, 1) if line.split()}
    known = set(data.tables["utt2spk"].values()) if by_speaker else set(data.utts)
    unknown = [
        Problem(str(keys), n, key, f"not in {data.path}", "remove the line")
        for key, n in wanted.items()
        if key not in known
    ]
    if unknown:
        raise DataError(unknown)
    if not wanted:
        raise one_problem(keys, "no ids in the file", "write one id per line")
    spk_of = data.tables["utt2spk"]
    return data.only([utt for utt in data.utts if (spk_of[utt] if by_speaker else utt) in wanted]).write(target)


def split(source: str | PathLike, num: int, target: str | PathLike | None = None) -> list[DataDir]:
    """Cut a directory into `num` runs of neighbouring utterances, equal but for one, at `target/1` to `target/num`.

    `target` defaults to `source/split<num>utt`, Kaldi's name. Raises DataError when there are fewer utterances.
    """
    data = _read(source)
    utts = data.utts
    if num < 1 or num > len(utts):
        raise one_problem(source, f"cannot split {len(utts)} utterances into {num}", f"use at most {len(utts)} parts")
    folder = Path(target) if target else Path(source) / f"split{num}utt"
    bounds = [len(utts) * part // num for part in range(num + 1)]
    return [data.only(utts[bounds[i] : bounds[i + 1]]).write(folder / str(i + 1)) for i in range(num)]
