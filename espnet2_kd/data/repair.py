"""Repair of a data directory: order, keys that do not match, spk2utt, odd characters. It is sorted on disk, not in memory."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby, islice
from os import PathLike
from pathlib import Path

from espnet2_kd.data.blocks import Block, read_blocks
from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.data_dir import SPK_TABLES, UTT_TABLES
from espnet2_kd.data.key_join import Keys, side_by_side
from espnet2_kd.data.problems import Problem, one_problem, raise_if_fatal
from espnet2_kd.data.scan import TableScan
from espnet2_kd.data.scratch import scratch_folder
from espnet2_kd.data.sorting import sorted_lines
from espnet2_kd.data.table import normalise_spaces

_BLOCK_LINES = 4096
_SHOWN = 5
_FIXED = ".fixed"  # new tables, all of them, on their way into place


def fix_data_dir(path: str | PathLike, *, normalise: bool = False, allow_pipes: bool = False) -> list[str]:
    """Sort every table, keep the utterances that all tables have, rebuild spk2utt; say what was dropped and why.

    With `normalise`, CRLF, BOM, NBSP, tabs and repeated spaces become single spaces. The old files go to
    `path/.backup`. Raises DataError, leaving the directory as it was, where only its owner can decide:
    missing files, different lines with one id, odd characters without `normalise`.
    """
    path = Path(path)
    if not path.is_dir():
        raise one_problem(path, "no such data directory", "give a data directory")
    _finish(path)
    # On the same file system, so that the new tables can be renamed into place.
    with scratch_folder(path / "fix") as work:
        names = _sort_tables(path, work, normalise)
        if "segments" in names:
            _drop_unrecorded(work)
        report = _drop_unmatched(work, [name for name in names if name not in SPK_TABLES])
        _write_speakers(work)
        _back_up(path, work)
        for file in work.iterdir():
            if file.name not in (*names, "spk2utt"):
                file.unlink()
        os.rename(work, path / _FIXED)
    _finish(path)
    raise_if_fatal(
        check_data_dir(path, need_text=False, need_audio=False, allow_empty_text=True, allow_pipes=allow_pipes)
    )
    return report


def _finish(path: Path) -> None:
    """Put the tables of a fix into place, also those of one that was killed meanwhile; wav.scp comes last and marks the end."""
    fixed = path / _FIXED
    if not fixed.is_dir():
        return
    if (fixed / "wav.scp").is_file():
        (path / "wav.scp").unlink(missing_ok=True)
        for file in sorted(fixed.iterdir(), key=lambda file: file.name == "wav.scp"):
            os.replace(file, path / file.name)
    fixed.rmdir()


def _sort_tables(path: Path, work: Path, normalise: bool) -> list[str]:
    """Write all tables but spk2utt to `work`, in order and each key once; give their names, or raise DataError."""
    problems: list[Problem] = []
    names = []
    for name in ("wav.scp", "spk2utt", *UTT_TABLES, *SPK_TABLES):
        if (path / name).is_file() and not (name == "spk2utt" and _is_sound(path / name)):
            _write(work / name, _sorted_table(path / name, normalise, problems))
            names.append(name)
    names = [name for name in names if name != "spk2utt"]
    if "utt2spk" not in names and (path / "spk2utt").is_file():
        _write(work / "utt2spk", _turned_around(path / "spk2utt"))
        names.append("utt2spk")
    for name in ("wav.scp", "utt2spk"):
        if name not in names:
            problems.append(Problem(str(path / name), 0, "-", "file is missing", f"write {path / name}"))
    raise_if_fatal(problems)
    return [name for name in ("wav.scp", *UTT_TABLES, *SPK_TABLES) if name in names]


def _is_sound(spk2utt: Path) -> bool:
    """Tell whether a spk2utt, whose lines may be longer than memory allows, has neither odd characters nor unclear speakers."""
    scan = TableScan(spk2utt)
    for _ in scan.check():
        pass
    scan.finish()
    return scan.plain and not any("different content" in problem.what for problem in scan.duplicates)


def _sorted_table(file: Path, normalise: bool, problems: list[Problem]) -> Iterator[bytes]:
    """Give the lines of a table in order, without those that say a thing again; what is wrong is added to `problems`."""
    found: list[Problem] = []
    odd: list[Problem] = []
    first: list[bytes] = [b""]
    for record in sorted_lines(_numbered(file, normalise, found, odd)):
        key, line, value = record[:-1].split(b" ", 2)
        if key != first[0]:
            first = [key, line, value]
            yield b"%s %s\n" % (key, value) if value else key + b"\n"
        elif value != first[2]:
            what = f"duplicate id, lines {int(first[1])} and {int(line)} differ"
            odd.append(Problem(str(file), int(line), key.decode(), what, "remove the wrong line"))
    problems += [problem for problem in found if "newline" not in problem.what and "empty line" not in problem.what]
    problems += sorted(odd, key=lambda problem: problem.line)


def _numbered(file: Path, normalise: bool, found: list[Problem], odd: list[Problem]) -> Iterator[bytes]:
    """Give `key line value` for every line of a table."""
    for block in read_blocks(file, found):
        if block.rows is not None:
            block = _as_wanted(file, block, normalise, odd)
        for number, key, value in zip(block.numbers, block.keys, block.values):
            yield b"%s %012d %s\n" % (key, number, value)


def _as_wanted(file: Path, block: Block, normalise: bool, odd: list[Problem]) -> Block:
    values = []
    for row in block.as_rows():
        value = row.value
        if row.odd and not normalise:
            what = f"{', '.join(row.odd)} in the line"
            odd.append(Problem(str(file), row.line, row.key, what, "add --normalise"))
        if normalise:
            # A path may contain spaces of its own; the other tables are made of words.
            value = value.strip(" \t\r\ufeff\u00a0") if file.name == "wav.scp" else normalise_spaces(value)
        values.append(value.encode())
    return Block(block.numbers, block.keys, tuple(values))


def _turned_around(spk2utt: Path) -> Iterator[bytes]:
    """Give the lines of the utt2spk that a spk2utt stands for; of several speakers of one utterance the last has it."""
    scan = TableScan(spk2utt)
    for _ in scan.check():
        pass
    scan.finish()
    claims = ((utt, number, piece.speaker) for number, piece in enumerate(scan.pieces()) for utt in piece.utts)
    records = sorted_lines(b"%s %012d %s\n" % claim for claim in claims)
    for utt, group in groupby(records, key=lambda record: record.split(b" ", 1)[0]):
        *_, last = group
        yield b"%s %s" % (utt, last.split(b" ", 2)[2])


def _drop_unrecorded(work: Path) -> None:
    """Keep the lines of segments whose recording is in wav.scp."""
    records = sorted_lines(b"%s %s" % pair for pair in _recordings(work / "segments"))
    kept = (record.split(b" ", 1)[1] for record in _known(records, work / "wav.scp"))
    _write(work / "kept", sorted_lines(kept))
    os.replace(work / "kept", work / "segments")


def _recordings(segments: Path) -> Iterator[tuple[bytes, bytes]]:
    """Give recording and line of each line that names one."""
    with open(segments, "rb") as stream:
        for line in stream:
            words = line.split(None, 2)
            if len(words) > 1:
                yield words[1], line


def _known(lines: Iterable[bytes], table: Path) -> Iterator[bytes]:
    """Give those of sorted lines whose key is one of a sorted table."""
    with open(table, "rb") as stream:
        keys = map(_key, stream)
        known = next(keys, None)
        for line in lines:
            key = _key(line)
            while known is not None and known < key:
                known = next(keys, None)
            if known == key:
                yield line


def _drop_unmatched(work: Path, names: list[str]) -> list[str]:
    """Cut the tables of utterances to their common keys; say how many each one lost, and which others lack them."""
    reference = "segments" if "segments" in names else "wav.scp"
    names = [reference, *(name for name in names if name not in ("wav.scp", reference))]
    lost: dict[str, list[str]] = {name: [] for name in names}
    num_lost = dict.fromkeys(names, 0)
    lacking: dict[str, set[str]] = {name: set() for name in names}
    num_kept = 0
    with ExitStack() as stack:
        tables = [_blocks(stack.enter_context(open(work / name, "rb"))) for name in names]
        targets = [stack.enter_context(open(work / f"{name}.kept", "wb")) for name in names]
        for parts in side_by_side(tables):
            if all(keys == parts[0][1] for _, keys in parts):
                common = None
                num_kept += len(parts[0][1])
            else:
                sets = [set(keys) for _, keys in parts]
                common = set.intersection(*sets)
                num_kept += len(common)
            for name, target, (lines, keys) in zip(names, targets, parts):
                if common is None:
                    target.writelines(lines)
                    continue
                target.writelines(line for line, key in zip(lines, keys) if key in common)
                gone = [key for key in keys if key not in common]
                num_lost[name] += len(gone)
                lost[name] += [key.decode() for key in gone[: _SHOWN - len(lost[name])]]
                lacking[name] |= {other for other, there in zip(names, sets) if not there.issuperset(gone)}
    if not num_kept:
        raise one_problem(work.parent, "no utterance is in every file", "compare the ids of the files")
    for name in names:
        os.replace(work / f"{name}.kept", work / name)
    if reference == "segments":
        used = (recording + b"\n" for recording, _ in groupby(r for r, _ in _recordings(work / "segments")))
        _write(work / "used", sorted_lines(used))
        _keep_known(work / "wav.scp", work / "used")
    return [
        f"{name}: dropped {num_lost[name]} not in {', '.join(other for other in names if other in lacking[name])}: "
        f"{' '.join(lost[name])}{' ...' if num_lost[name] > _SHOWN else ''}"
        for name in names
        if num_lost[name]
    ]


def _keep_known(table: Path, known: Path) -> None:
    with open(table, "rb") as stream:
        _write(table.with_name("kept"), _known(stream, known))
    os.replace(table.with_name("kept"), table)


def _write_speakers(work: Path) -> None:
    """Write spk2utt from utt2spk, an utterance at a time, and leave other speakers out of the tables of speakers."""
    with open(work / "utt2spk", "rb") as stream, open(work / "spk2utt", "wb") as target:
        # A tab, which no id has, sorts before whatever they have.
        pairs = (line[:-1].partition(b" ") for line in stream)
        records = sorted_lines(b"%s\t%s\n" % (spk, utt) for utt, _, spk in pairs)
        for spk, group in groupby((record[:-1].split(b"\t", 1) for record in records), key=lambda record: record[0]):
            target.write(spk)
            target.writelines(b" " + utt for _, utt in group)
            target.write(b"\n")
    for name in SPK_TABLES:
        if (work / name).is_file():
            _keep_known(work / name, work / "spk2utt")


def _blocks(stream: Iterator[bytes]) -> Iterator[Keys]:
    """Give lines and their keys."""
    while lines := list(islice(stream, _BLOCK_LINES)):
        yield lines, tuple(map(_key, lines))


def _key(line: bytes) -> bytes:
    return line[:-1].partition(b" ")[0]


def _write(file: Path, lines: Iterable[bytes]) -> None:
    with open(file, "wb") as stream:
        stream.writelines(lines)


def _back_up(path: Path, work: Path) -> None:
    """Copy all tables, unless the new ones are the same: a fix of what is fixed leaves the copies of the first alone."""
    names = [name for name in ("wav.scp", "spk2utt", *UTT_TABLES, *SPK_TABLES) if (path / name).is_file()]
    if filecmp.cmpfiles(path, work, names, shallow=False)[0] == names:
        return
    backup = path / ".backup"
    backup.mkdir(exist_ok=True)
    for name in names:
        shutil.copy2(path / name, backup / name)
