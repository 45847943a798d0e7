"""Validation of a Kaldi data directory: every problem of every file, in memory that does not grow with the directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, zip_longest
from os import PathLike
from pathlib import Path

from espnet2_kd.data.intents import LabelLine, form_problems
from espnet2_kd.data.key_join import differences
from espnet2_kd.data.problems import Problem
from espnet2_kd.data.scan import FIX, TableScan, first_rows
from espnet2_kd.data.sorting import sorted_lines
from espnet2_kd.data.values import AudioEntryCheck, NumberCheck, SegmentCheck, SpeakerCheck, WordCheck, segment

_WORD_TABLES = ("text", "transcript")
_NUMBER_TABLES = ("utt2dur", "utt2num_samples")
_UTT_TABLES = (*_WORD_TABLES, "label", "segments", "utt2spk", *_NUMBER_TABLES, "utt2uniq", "utt2lang")
_ALL = ("wav.scp", *_UTT_TABLES, "spk2utt", "spk2gender")


def check_data_dir(
    path: str | PathLike,
    *,
    need_text: bool = True,
    need_audio: bool = True,
    allow_empty_text: bool = False,
    allow_pipes: bool = False,
) -> list[Problem]:
    """List everything wrong with the directory `path`, file by file and line by line.

    `need_audio` looks for every audio file; entries of wav.scp are relative to the working directory, as in Kaldi.
    The tables are read side by side, a block of lines at a time; where one is not in order, its keys are sorted on disk.
    """
    path = Path(path)
    if not path.is_dir():
        others = sorted(other.parent.name for other in path.parent.glob("*/wav.scp"))
        there = f"; in {path.parent} there are: {', '.join(others)}" if others else ""
        what, remedy = (
            f"no such data directory{there}",
            "give a directory, or let the data stage write one of this name",
        )
        return [Problem(str(path), 0, "-", what, remedy)]
    values = {
        "wav.scp": (AudioEntryCheck, {"need_audio": need_audio, "allow_pipes": allow_pipes}),
        "segments": (SegmentCheck, {}),
        "utt2spk": (SpeakerCheck, {}),
        **{name: (WordCheck, {"allow_empty": allow_empty_text}) for name in _WORD_TABLES},
        **{name: (NumberCheck, {}) for name in _NUMBER_TABLES},
    }
    scans: dict[str, TableScan] = {}
    for name in _ALL:
        if (path / name).is_file():
            value_check, options = values.get(name, (None, {}))
            scans[name] = TableScan(path / name, *([value_check] if value_check else []), **options)
    unmatched = _check_keys(path, scans)
    problems = [problem for scan in scans.values() for problem in scan.problems()]
    required = ["wav.scp", "utt2spk", "spk2utt", *(["text"] if need_text else [])]
    for name in required:
        if name not in scans:
            remedy = f"{FIX} {path}" if name == "spk2utt" and "utt2spk" in scans else f"write {path / name}"
            problems.append(Problem(str(path / name), 0, "-", "file is missing", remedy))
        elif not scans[name].num_rows:
            problems.append(Problem(str(path / name), 0, "-", "file is empty", "write at least one line"))
    problems += unmatched
    problems += _values(scans, "utt2spk") + _check_speakers(path, scans)
    problems += _check_segments(path, scans)
    problems += _values(scans, *_WORD_TABLES)
    labels = first_rows(scans["label"]) if "label" in scans else ()
    problems += form_problems(LabelLine(str(path / "label"), row.line, row.key, row.value) for row in labels)
    problems += _values(scans, *_NUMBER_TABLES, "wav.scp")
    return problems


def _values(scans: dict[str, TableScan], *names: str) -> list[Problem]:
    return [problem for name in names if name in scans for problem in scans[name].values.all_problems()]


def _check_keys(path: Path, scans: dict[str, TableScan]) -> list[Problem]:
    """Check every table and give what is in one but not in another."""
    reference = "segments" if "segments" in scans else "wav.scp"
    names = [name for name in _UTT_TABLES if name in scans and name != reference] if reference in scans else []
    checks = {name: scan.check() for name, scan in scans.items()}

    def in_order() -> bool:
        return all(scan.in_order for scan in scans.values())

    found = differences(checks.get(reference, iter(())), {name: checks[name] for name in names}, in_order)
    for rest in checks.values():
        for _ in rest:
            pass
    for scan in scans.values():
        scan.finish()
    if names and not in_order():
        found = differences(scans[reference].keys(), {name: scans[name].keys() for name in names})
    problems: list[Problem] = []
    for name, difference in found.items():
        for here, there, lines in ((reference, name, difference.missing), (name, reference, difference.extra)):
            for line, key in sorted(lines):
                what = f"in {path / here} but not in {path / there}"
                remedy = f"add it to {path / there}, or drop it everywhere: {FIX} {path}"
                problems.append(Problem(str(path / here), line, key.decode(), what, remedy))
    return problems


def _check_speakers(path: Path, scans: dict[str, TableScan]) -> list[Problem]:
    """Compare utt2spk with spk2utt."""
    if "spk2utt" not in scans or "utt2spk" not in scans or not scans["utt2spk"].num_rows:
        return []
    utt2spk, spk2utt = scans["utt2spk"], scans["spk2utt"]
    if _agree(utt2spk, spk2utt):
        return []
    file, remedy = str(path / "utt2spk"), f"python -m espnet2_kd.bin.data_dir spk2utt {path}"
    differing: list[Problem] = []
    unknown: list[tuple[bytes, Problem]] = []
    for _, group in groupby(
        sorted_lines(_speaker_records(utt2spk, spk2utt)), key=lambda record: record.split(b" ", 1)[0]
    ):
        records = [record[:-1].split(b" ", 4) for record in group]
        key, utt = records[0][1], records[0][0].decode()
        # The last speaker who claims an utterance has it.
        claims = [(int(line), spk.decode()) for _, kind, _, line, spk in records if kind == b"1"]
        if key == b"0":
            line, speaker = int(records[0][3]), records[0][4].decode()
            claimed = claims[-1][1] if claims else None
            if claimed != speaker:
                what = f"speaker {speaker} here, {claimed or 'none'} in {path / 'spk2utt'}"
                differing.append(Problem(file, line, utt, what, remedy))
        else:
            what = f"in {path / 'spk2utt'} but not in {file}"
            unknown.append((records[0][2], Problem(str(path / "spk2utt"), claims[-1][0], utt, what, remedy)))
    differing.sort(key=lambda problem: problem.line)
    return [*differing, *(problem for _, problem in sorted(unknown, key=lambda pair: pair[0]))]


def _agree(utt2spk: TableScan, spk2utt: TableScan) -> bool:
    """Tell whether spk2utt, turned around, is utt2spk byte for byte, if need be after sorting."""
    if utt2spk.repeated or spk2utt.repeated or not utt2spk.in_order:
        return False
    ends = ((piece.utts, b" " + piece.speaker + b"\n") for piece in spk2utt.pieces() if piece.utts)
    if _is_content((end.join(utts) + end for utts, end in ends), utt2spk.path):
        return True
    # Utterances in order need not be in the order of their speakers.
    ends = ((piece.utts, b" " + piece.speaker + b"\n") for piece in spk2utt.pieces())
    return _is_content(sorted_lines(utt + end for utts, end in ends for utt in utts), utt2spk.path)


def _is_content(parts: Iterable[bytes], path: Path) -> bool:
    with open(path, "rb") as stream:
        return all(stream.read(len(part)) == part for part in parts) and not stream.read(1)


def _speaker_records(utt2spk: TableScan, spk2utt: TableScan) -> Iterator[bytes]:
    """Give `utterance 0 line line speaker` of utt2spk and `utterance 1 position line speaker` of spk2utt."""
    for block in utt2spk.blocks():
        for line, utt, spk in zip(block.numbers, block.keys, block.values):
            yield b"%s 0 %015d %d %s\n" % (utt, line, line, spk)
    position = 0
    for piece in spk2utt.pieces():
        for utt in piece.utts:
            position += 1
            yield b"%s 1 %015d %d %s\n" % (utt, position, piece.number, piece.speaker)


def _check_segments(path: Path, scans: dict[str, TableScan]) -> list[Problem]:
    """Give what is wrong with the times of segments, and compare their recordings with those of wav.scp."""
    if "segments" not in scans:
        return []
    unknown, unused = [], []
    if not _same_recordings(scans):
        records = sorted_lines(_recording_records(scans))
        for recording, group in groupby(records, key=lambda record: record.split(b" ", 1)[0]):
            lines = [record.split() for record in group]
            if lines[0][1] == b"0":
                if len(lines) == 1:
                    unused.append((int(lines[0][2]), recording.decode()))
                continue
            what = f"recording {recording.decode()} is not in {path / 'wav.scp'}"
            remedy = f"add the recording, or: {FIX} {path}"
            for _, kind, line, utt in lines:
                if kind == b"1":
                    unknown.append(Problem(str(path / "segments"), int(line), utt.decode(), what, remedy))
    # Of one line, what is wrong with its times comes first.
    problems = sorted([*_values(scans, "segments"), *unknown], key=lambda problem: problem.line)
    what, remedy = f"recording without a line in {path / 'segments'}", f"harmless; {FIX} {path} drops it"
    wav = str(path / "wav.scp")
    return [*problems, *(Problem(wav, line, key, what, remedy, fatal=False) for line, key in sorted(unused))]


def _same_recordings(scans: dict[str, TableScan]) -> bool:
    """Tell whether segments name the recordings of wav.scp, in their order."""
    if "wav.scp" not in scans or not scans["wav.scp"].in_order:
        return False
    values = (value for block in scans["segments"].blocks() for value in block.values)
    used = (recording for recording, _ in groupby(value.split(b" ", 1)[0] for value in values))
    there = (key for _, keys in scans["wav.scp"].keys() for key in keys)
    return all(recording == key for recording, key in zip_longest(used, there))


def _recording_records(scans: dict[str, TableScan]) -> Iterator[bytes]:
    """Give `recording 0 line` of wav.scp, and of segments `recording 1 line utterance`, 2 where the line is malformed."""
    if "wav.scp" in scans:
        for block in scans["wav.scp"].blocks():
            for line, key in zip(block.numbers, block.keys):
                yield b"%s 0 %015d\n" % (key, line)
    for row in first_rows(scans["segments"]):
        if row.value:
            kind = 2 if segment(row.value) is None else 1
            fields = row.value.split()[0].encode(), kind, row.line, row.key.encode()
            yield b"%s %d %015d %s\n" % fields
