"""The check of a data directory, which reads tables side by side in blocks, against a definition that holds them in memory."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from espnet2_kd.data import blocks, repair, scan, sorting
from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.entry import audio_path, is_command
from espnet2_kd.data.ids import all_safe, id_fault
from espnet2_kd.data.intents import LabelLine, form_problems
from espnet2_kd.data.problems import DataError, Problem
from espnet2_kd.data.repair import fix_data_dir
from espnet2_kd.data.sorting import sorted_lines
from espnet2_kd.data.table import read_rows

FIX = "python -m espnet2_kd.bin.data_dir fix"
BY_UTT = ("text", "transcript", "label", "segments", "utt2spk", "utt2dur", "utt2num_samples", "utt2uniq", "utt2lang")
TABLES = ("wav.scp", *BY_UTT, "spk2utt", "spk2gender")


def definition(
    path: Path, need_text: bool, need_audio: bool, allow_empty: bool, allow_pipes: bool
) -> Iterator[Problem]:
    """Every problem, in order, from dictionaries of all lines: what the check did before it read in blocks."""
    tables = {}
    for name in TABLES:
        if (path / name).is_file():
            found: list[Problem] = []
            rows = read_rows(path / name, found)
            yield from found
            yield from of_lines(path / name, rows)
            tables[name] = {}
            for row in rows:
                first = tables[name].setdefault(row.key, row)
                if first is not row:
                    same = "same" if first.value == row.value else "different"
                    what = f"duplicate id, lines {first.line} and {row.line} ({same} content)"
                    remedy = "remove one of the lines, or rename one of the ids in every file"
                    yield Problem(str(path / name), row.line, row.key, what, remedy)
    for name in ("wav.scp", "utt2spk", "spk2utt", *(["text"] if need_text else [])):
        if name not in tables:
            remedy = f"{FIX} {path}" if name == "spk2utt" and "utt2spk" in tables else f"write {path / name}"
            yield Problem(str(path / name), 0, "-", "file is missing", remedy)
        elif not tables[name]:
            yield Problem(str(path / name), 0, "-", "file is empty", "write at least one line")
    reference = "segments" if "segments" in tables else "wav.scp"
    for name in BY_UTT if reference in tables else ():
        if name != reference and name in tables:
            for here, there in ((reference, name), (name, reference)):
                for key, row in tables[here].items():
                    if key not in tables[there]:
                        what = f"in {path / here} but not in {path / there}"
                        remedy = f"add it to {path / there}, or drop it everywhere: {FIX} {path}"
                        yield Problem(str(path / here), row.line, key, what, remedy)
    yield from of_speakers(path, tables)
    if "segments" in tables:
        yield from of_segments(path, tables["segments"], tables.get("wav.scp", {}))
    for name in ("text", "transcript"):
        for utt, row in tables.get(name, {}).items():
            if not row.value:
                remedy = "write its words, or drop it: python -m espnet2_kd.bin.data_dir filter"
                yield Problem(str(path / name), row.line, utt, "empty transcript", remedy, fatal=not allow_empty)
            reserved = sorted({"<s>", "</s>", "#0", "<blank>", "<sos/eos>"} & set(row.value.split()))
            if reserved:
                what = f"reserved symbol {' '.join(reserved)}"
                yield Problem(str(path / name), row.line, utt, what, "remove it from the words")
    labels = tables.get("label", {}).items()
    yield from form_problems(LabelLine(str(path / "label"), row.line, utt, row.value) for utt, row in labels)
    for name in ("utt2dur", "utt2num_samples"):
        for utt, row in tables.get(name, {}).items():
            if not is_number(row.value):
                what = f"not a number: {row.value!r}"
                yield Problem(str(path / name), row.line, utt, what, "remove the file; it is derived from the audio")
    for key, row in tables.get("wav.scp", {}).items():
        file, entry = str(path / "wav.scp"), row.value.strip()
        if not entry:
            yield Problem(file, row.line, key, "no path", "write the path of the audio file")
        elif is_command(entry):
            remedy = "convert the audio to files, or allow commands: --allow_pipes true"
            if not allow_pipes:
                yield Problem(file, row.line, key, f"is a command, not a file: {entry}", remedy)
        elif need_audio and not audio_path(entry).is_file():
            remedy = f"correct the path (relative paths start at {Path.cwd()})"
            yield Problem(file, row.line, key, f"file not found: {audio_path(entry)}", remedy)


def of_lines(file: Path, rows: list) -> Iterator[Problem]:
    before, in_order, fix = "", True, f"{FIX} --normalise {file.parent}"
    for row in rows:
        if fault := id_fault(row.key):
            yield Problem(str(file), row.line, row.key, f"unsafe id, it {fault}", "rename it in every file")
        for odd in row.odd:
            yield Problem(str(file), row.line, row.key, f"{odd} in the line", fix)
        if not row.odd and file.name in ("text", "transcript", "label") and "  " in row.value:
            yield Problem(str(file), row.line, row.key, "repeated or trailing spaces", fix)
        if row.key < before and in_order:
            in_order = False
            remedy = f"LC_ALL=C sort -o {file} {file}, or: {FIX} {file.parent}"
            yield Problem(str(file), row.line, row.key, "not in LC_ALL=C order", remedy)
        before = row.key


def of_speakers(path: Path, tables: dict) -> Iterator[Problem]:
    utt2spk, file, loose = tables.get("utt2spk", {}), str(path / "utt2spk"), []
    for utt, row in utt2spk.items():
        if fault := id_fault(row.value):
            what = f"unsafe speaker id {row.value!r}, it {fault}"
            yield Problem(file, row.line, utt, what, "give one plain speaker id")
        elif not utt.startswith(row.value):
            loose.append(row)
    if loose:
        more = f" (and {len(loose) - 1} more)" if len(loose) > 1 else ""
        what = f"utterance id does not start with its speaker {loose[0].value!r}{more}"
        remedy = "harmless here; Kaldi's own tools want speaker-prefixed ids"
        yield Problem(file, loose[0].line, loose[0].key, what, remedy, fatal=False)
    if "spk2utt" in tables and utt2spk:
        remedy = f"python -m espnet2_kd.bin.data_dir spk2utt {path}"
        inverse = {utt: row for row in tables["spk2utt"].values() for utt in row.value.split()}
        for utt, row in utt2spk.items():
            spk = inverse[utt].key if utt in inverse else None
            if spk != row.value:
                what = f"speaker {row.value} here, {spk or 'none'} in {path / 'spk2utt'}"
                yield Problem(file, row.line, utt, what, remedy)
        for utt, row in inverse.items():
            if utt not in utt2spk:
                what = f"in {path / 'spk2utt'} but not in {file}"
                yield Problem(str(path / "spk2utt"), row.line, utt, what, remedy)


def of_segments(path: Path, segments: dict, recordings: dict) -> Iterator[Problem]:
    file = str(path / "segments")
    for utt, row in segments.items():
        fields = row.value.split()
        if len(fields) != 3 or not all(map(is_number, fields[1:])):
            what = f"not 'utterance recording start end': {row.value!r}"
            yield Problem(file, row.line, utt, what, "write times in seconds")
            continue
        start, end = map(float, fields[1:])
        if start < 0 or (end <= start and end != -1):
            what = f"ends at {end:g} s but starts at {start:g} s"
            yield Problem(file, row.line, utt, what, "write start < end (or -1: to the end)")
        if fields[0] not in recordings:
            what = f"recording {fields[0]} is not in {path / 'wav.scp'}"
            yield Problem(file, row.line, utt, what, f"add the recording, or: {FIX} {path}")
    used = {row.value.split()[0] for row in segments.values() if row.value}
    for key, row in recordings.items():
        if key not in used:
            what = f"recording without a line in {file}"
            yield Problem(str(path / "wav.scp"), row.line, key, what, f"harmless; {FIX} {path} drops it", fatal=False)


def is_number(field: str) -> bool:
    try:
        return abs(float(field)) < float("inf")
    except ValueError:
        return False


# What breaks a line: replaced in it, or put at its end.
NASTY = [
    " ",
    "  ",
    "\t",
    "\r",
    "\u00a0",
    "\ufeff",
    "\u3000",
    "\u200b",
    "\x00",
    "\x1c",
    "\x85",
    "中",
    "é",
    "𝒳",
    "|",
    "../",
    ";",
]
WORDS = [
    "",
    "-1",
    "nan",
    "1e999",
    "x",
    "0.5 0.1",
    "<s>",
    "#0",
    "<blank> <s>",
    "intent=a",
    "intent=b tone=c",
    "cat x |",
    ".",
]


def good_dir(rng: random.Random, path: Path, num: int) -> None:
    """Write `num` utterances, with a random choice of tables and of ways to name speakers."""
    style = rng.choice(["prefix", "loose", "same", "one"])
    utts, spk_of = [], {}
    for index in range(num):
        spk = {"prefix": f"s{index * 3 // max(num, 1)}", "loose": f"s{index % 3}", "same": f"u{index:03d}"}.get(
            style, "spk"
        )
        utt = f"{spk}-u{index:03d}" if style == "prefix" else f"u{index:03d}"
        utts.append(utt)
        spk_of[utt] = spk
    (path / "a.wav").touch()
    (path / "a.ark").touch()
    with_segments = rng.random() < 0.3
    wav = {f"r{index // 2:03d}" if with_segments else utt: f"{path}/a.wav" for index, utt in enumerate(utts)}
    wav = {key: value if rng.random() < 0.7 else f"{path}/a.ark:{n}" for n, (key, value) in enumerate(wav.items())}
    speakers: dict[str, list[str]] = {}
    for utt in utts:
        speakers.setdefault(spk_of[utt], []).append(utt)
    tables = {
        "wav.scp": wav,
        "text": {utt: f"turn on  {utt}".replace("  ", " ") for utt in utts},
        "utt2spk": spk_of,
        "spk2utt": {spk: " ".join(of) for spk, of in sorted(speakers.items())},
        "utt2dur": dict.fromkeys(utts, "1.25"),
        "utt2uniq": {utt: utt for utt in utts},
        "label": dict.fromkeys(utts, "intent=a"),
        "spk2gender": dict.fromkeys(sorted(speakers), "f"),
    }
    if with_segments:
        tables["segments"] = {utt: f"r{n // 2:03d} {n % 2} {n % 2 + 1}.5" for n, utt in enumerate(utts)}
    for name, table in tables.items():
        if name in ("wav.scp", "text", "utt2spk", "spk2utt", "segments") or rng.random() < 0.4:
            lines = "".join(f"{key} {value}\n" for key, value in table.items())
            (path / name).write_text(lines, encoding="utf-8")


def break_something(rng: random.Random, path: Path) -> None:
    """Do one thing to one table that users' scripts do to theirs."""
    file = path / rng.choice([name for name in TABLES if (path / name).is_file()] or ["text"])
    if not file.is_file():
        return
    lines = file.read_bytes().decode("utf-8", errors="replace").split("\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    key, _, value = lines[at].partition(" ")
    change = rng.choice(
        ["drop", "again", "move", "key", "value", "nasty", "empty", "shuffle", "swap", "utf8", "cut", "gone", "claim"]
    )
    if change == "drop":
        del lines[at]
    elif change == "again":
        lines.insert(rng.choice([at, other]), rng.choice([lines[at], f"{key} other", f"{key} {value} {value}"]))
    elif change == "move":
        lines.insert(other, lines.pop(at))
    elif change == "key":
        lines[at] = f"{rng.choice(['zz', 'u002', 's1', 'a/b', '.a', 'é', 'x' * 201, key + '_'])} {value}"
    elif change == "value":
        lines[at] = f"{key} {rng.choice([*WORDS, value + ' ' + value, 'u001 zz u000', lines[other]])}"
    elif change == "nasty":
        place = rng.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:place] + rng.choice(NASTY) + lines[at][place:]
    elif change == "claim":
        lines[other] = f"{lines[other]} {lines[at].split()[-1] if lines[at].split() else 'u003'}"
    elif change == "empty":
        lines.insert(at, rng.choice(["", " ", "\t", key]))
    elif change == "shuffle":
        rng.shuffle(lines)
    elif change == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    content = "\n".join(lines).encode()
    if change == "utf8":
        place = rng.randrange(len(content) + 1)
        content = content[:place] + b"\xe4" + content[place:]
    elif change == "cut":
        content = content[: rng.randrange(len(content) + 1)]
    file.write_bytes(content) if change != "gone" else file.unlink()


def make_blocks_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let , and more than a few lines are sorted by the program of that name."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr(blocks, "_BLOCK_LINES", 3)
    monkeypatch.setattr(scan, "_BLOCK_KEYS", 3)
    monkeypatch.setattr(repair, "_BLOCK_LINES", 3)
    monkeypatch.setattr(sorting, "IN_MEMORY", 40)


@settings(max_examples=400, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    num=st.integers(0, 25),
    breaks=st.integers(0, 5),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    tiny=st.booleans(),
)
def test_random_broken_directories_get_the_same_list(seed, num, breaks, flags, tiny):
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as folder:
        if tiny:
            make_blocks_tiny(monkeypatch)
        path = Path(folder)
        good_dir(rng, path, num)
        for _ in range(breaks):
            break_something(rng, path)
        names = ("need_text", "need_audio", "allow_empty_text", "allow_pipes")
        ours = check_data_dir(path, **dict(zip(names, flags)))
        assert list(map(str, ours)) == list(map(str, definition(path, *flags)))
        if breaks == 0 and num:
            assert not [problem for problem in ours if problem.fatal]


def keys_of(path: Path, name: str) -> set[str]:
    return {row.key for row in read_rows(path / name, [])}


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), num=st.integers(0, 25), breaks=st.integers(0, 3), tiny=st.booleans())
def test_fix_of_random_broken_directories_keeps_the_common_utterances(seed, num, breaks, tiny):
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as folder:
        if tiny:
            make_blocks_tiny(monkeypatch)
        path, before = Path(folder) / "ours", Path(folder) / "before"
        path.mkdir()
        good_dir(rng, path, num)
        for _ in range(breaks):
            break_something(rng, path)
        shutil.copytree(path, before)
        try:
            fix_data_dir(path, normalise=True)
        except DataError as error:
            if (path / ".backup").exists():
                # Only what no sorting, dropping or inverting can mend is left; a speaker of two words is two things in spk2utt.
                ours = ("but not in", "not in LC_ALL=C order", "duplicate id", "here, ", "is not in", "is empty")
                whats = [problem.what for problem in error.problems]
                if not any(what.startswith("unsafe speaker id") for what in whats):
                    assert not [what for what in whats if any(words in what for words in ours)]
            left = path if not (path / ".backup").exists() else path / ".backup"
            names = [name for name in TABLES if (before / name).is_file()]
            assert [(left / name).read_bytes() for name in names] == [(before / name).read_bytes() for name in names]
            return
        finally:
            assert not list(path.glob(".fix*"))
        names = [name for name in BY_UTT if (before / name).is_file()]
        common = set.intersection(*(keys_of(before, name) for name in names))
        if "segments" in names:
            rows = read_rows(before / "segments", [])
            recordings = {row.key: row.value.split()[0] for row in rows if row.value}
            common = {utt for utt in common if recordings.get(utt) in keys_of(before, "wav.scp")}
            assert keys_of(path, "wav.scp") == {recordings[utt] for utt in common}
        else:
            common &= keys_of(before, "wav.scp")
            names.append("wav.scp")
        for name in {*names, "utt2spk"}:
            assert [row.key for row in read_rows(path / name, [])] == sorted(common)
        values = {name: {row.key: row.value for row in read_rows(path / name, [])} for name in ("utt2spk", "spk2utt")}
        inverse: dict[str, list[str]] = {}
        for utt in sorted(common):
            inverse.setdefault(values["utt2spk"][utt], []).append(utt)
        assert values["spk2utt"] == {spk: " ".join(utts) for spk, utts in inverse.items()}


@pytest.mark.parametrize("num_speakers", [1, 40, None])
@pytest.mark.parametrize("shuffled", [False, True])
def test_memory_does_not_grow_with_the_directory(tmp_path, monkeypatch, num_speakers, shuffled):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(blocks, "_BLOCK_LINES", 50)
    monkeypatch.setattr(scan, "_BLOCK_KEYS", 50)
    monkeypatch.setattr(sorting, "IN_MEMORY", 100)

    def peak(num: int) -> int:
        path = tmp_path / str(num)
        path.mkdir()
        spk_of = {f"u{n:06d}": f"s{n % (num_speakers or num):06d}" for n in range(num)}
        speakers: dict[str, list[str]] = {}
        for utt, spk in spk_of.items():
            speakers.setdefault(spk, []).append(utt)
        order = random.Random(0).sample(list(spk_of), num) if shuffled else list(spk_of)
        for name, value in (("wav.scp", "a.wav"), ("text", "hi"), ("utt2spk", None), ("utt2dur", "1")):
            (path / name).write_text("".join(f"{utt} {value or spk_of[utt]}\n" for utt in order))
        (path / "spk2utt").write_text("".join(f"{spk} {' '.join(utts)}\n" for spk, utts in sorted(speakers.items())))
        tracemalloc.start()
        problems = check_data_dir(path, need_audio=False)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        whats = [problem.what for problem in problems if problem.fatal]
        assert whats == ["not in LC_ALL=C order"] * 4 * shuffled
        return used

    assert peak(4_000) < 1.2 * peak(800) + 20_000


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"x") + b"\n"), max_size=60))
@example([b"b\n", b"a b\n", b"a-b\n", b"A\n", b"\xc3\xa9\n", b"\xff\n", b"\n"] * 10)
@settings(max_examples=30, deadline=None)
def test_lines_are_sorted_by_their_bytes(lines):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sorting, "IN_MEMORY", 10)
        assert list(sorted_lines(lines)) == sorted(lines, key=lambda line: line[:-1])


def test_a_sort_that_fails_is_an_error(monkeypatch):
    monkeypatch.setattr(sorting, "IN_MEMORY", 10)
    monkeypatch.setattr(sorting, "_BUFFER", "nothing")
    with pytest.raises(DataError, match="sort failed, see above: make room there, or set TMPDIR"):
        list(sorted_lines([b"a\n"] * 100_000))


@given(st.lists(st.text("ab.-_/|é中\\;'x", max_size=6) | st.just("x" * 201), max_size=5))
def test_many_ids_are_safe_where_each_one_is(ids):
    assert all_safe([key.encode() for key in ids]) == (not any(map(id_fault, ids)))


def test_a_validation_loads_neither_numpy_nor_torch(make_dir):
    make_dir()
    code = (
        "import sys\n"
        "from espnet2_kd.bin.data_dir import main\n"
        "status = main(['validate', 'data/train'])\n"
        "print(sorted({'numpy', 'soundfile', 'torch', 'espnet2'} & set(sys.modules)), status)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert done.stdout == "[] 0\n", done.stderr
