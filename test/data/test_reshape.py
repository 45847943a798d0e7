from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from espnet2_kd.bin.data_dir import main
from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.problems import DataError
from espnet2_kd.data.repair import fix_data_dir
from espnet2_kd.data.reshape import combine, copy, select, split, subset

ROOT = Path(__file__).resolve().parents[2]


def keys(folder: Path | str, name: str = "text") -> list[str]:
    return [line.split()[0] for line in (Path(folder) / name).read_text().splitlines()]


def test_fix_keeps_the_common_utterances_sorted_and_says_what_it_dropped(make_dir):
    folder = make_dir(utts=6)
    lines = (folder / "text").read_text().splitlines()
    (folder / "text").write_text("\n".join(reversed(lines[1:])) + "\n")
    (folder / "utt2spk").write_text("".join((folder / "utt2spk").read_text().splitlines(keepends=True)[:-1]))
    (folder / "spk2utt").unlink()
    before = {name: (folder / name).read_bytes() for name in ("wav.scp", "text", "utt2spk")}
    report = fix_data_dir(folder)
    assert check_data_dir(folder) == []
    assert keys(folder) == keys(folder, "wav.scp") == keys(folder, "utt2spk") == lines_keys(lines)[1:-1]
    assert any(line.startswith("wav.scp: dropped 2 not in text, utt2spk: spk0-u000 spk1-u005") for line in report)
    assert {name: (folder / ".backup" / name).read_bytes() for name in before} == before
    again = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert fix_data_dir(folder) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == again


def test_a_fix_that_is_killed_at_any_moment_is_finished_by_the_next(make_dir):
    """All that it leaves is what one fix leaves, the old files in .backup too."""
    folder = make_dir(utts=6)
    for name in ("text", "utt2spk"):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(reversed(lines[1:])))
    shutil.copytree(folder, "broken")
    fix_data_dir(folder)
    expected = contents(folder)
    for step in itertools.count(1):
        shutil.rmtree(folder)
        shutil.copytree("broken", folder)
        child = multiprocessing.get_context("fork").Process(target=fix_killed_at, args=(folder, step))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        fix_data_dir(folder)
        assert contents(folder) == expected
    assert step > 10


def fix_killed_at(folder: Path, step: int) -> None:
    """Fix, and kill oneself before a certain one of the calls that change what is in the folder."""
    calls = itertools.count(1)

    def counted(function):
        def call(*args, **kwargs):
            if next(calls) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for module, name in ((os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir"), (shutil, "copy2")):
        setattr(module, name, counted(getattr(module, name)))
    fix_data_dir(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if not path.is_dir()}


def lines_keys(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


def test_fix_drops_equal_duplicates_and_refuses_different_ones(make_dir):
    folder = make_dir()
    good = (folder / "text").read_bytes()
    (folder / "text").write_bytes(good + b"spk0-u000 turn on lamp 0\n")
    fix_data_dir(folder)
    assert (folder / "text").read_bytes() == good
    (folder / "text").write_bytes(good + b"spk0-u000 turn off lamp\n")
    with pytest.raises(DataError, match=r"text:5: spk0-u000: duplicate id, lines 1 and 5 differ: remove"):
        fix_data_dir(folder)
    assert (folder / "text").read_bytes() == good + b"spk0-u000 turn off lamp\n"


def test_combine_is_the_union(make_dir):
    make_dir("a")
    copy(make_dir("b"), "data/c", utt_prefix="c-", spk_prefix="c-")
    (Path("data/a") / "utt2dur").write_text("".join(f"{key} 0.5\n" for key in keys("data/a")))
    data, left_out = combine(["data/a", "data/c"], "data/all")
    assert check_data_dir("data/all") == []
    assert keys("data/all") == sorted(keys("data/a") + [f"c-{key}" for key in keys("data/b")])
    assert left_out == ["utt2dur"]
    assert "c-spk0 c-spk0-u000 c-spk0-u002\n" in (Path("data/all") / "spk2utt").read_text()
    assert data.tables["wav.scp"]["c-spk0-u000"] == "downloads/b/spk0-u000.wav"


def test_combine_refuses_one_id_with_two_meanings(make_dir):
    make_dir("a")
    make_dir("b")
    with pytest.raises(DataError, match=r"data/b/wav.scp:0: spk0-u000: also in data/a/wav.scp, with another value"):
        combine(["data/a", "data/b"], "data/all")
    assert not Path("data/all").exists()


def test_combine_completes_segments(make_dir):
    make_dir("a")
    copy(make_dir("b"), "data/c", utt_prefix="c-", spk_prefix="c-")
    (Path("data/a") / "segments").write_text("".join(f"{key} {key} 0.1 0.3\n" for key in keys("data/a")))
    combine(["data/a", "data/c"], "data/all")
    assert check_data_dir("data/all") == []
    assert (Path("data/all") / "segments").read_text().splitlines()[0] == "c-spk0-u000 c-spk0-u000 0 -1"


@pytest.mark.parametrize("num", [1, 2, 3, 7, 10])
def test_split_is_contiguous_and_as_equal_as_can_be(make_dir, num):
    folder = make_dir(utts=10)
    parts = [keys(data.path) for data in split(folder, num)]
    assert [key for part in parts for key in part] == keys(folder)
    assert len(parts) == num and max(map(len, parts)) - min(map(len, parts)) <= 1
    assert check_data_dir(folder / f"split{num}utt" / "1") == []


def test_split_into_more_parts_than_utterances_is_refused(make_dir):
    with pytest.raises(DataError, match="cannot split 4 utterances into 5: use at most 4 parts"):
        split(make_dir(), 5)


@pytest.mark.parametrize(
    ("by", "num", "expected"),
    [
        ("first", 2, [0, 2]),
        ("last", 2, [3, 5]),
        ("speakers", 4, [0, 2, 4, 1]),
        ("per_spk", 1, [0, 1]),
        ("shortest", 2, [2, 3]),
    ],
)
def test_subset(make_dir, by, num, expected):
    folder = make_dir(utts=6)
    seconds = {0: 5, 2: 1, 4: 3, 1: 6, 3: 2, 5: 4}
    (folder / "utt2dur").write_text("".join(f"{key} {seconds[int(key[-1])]}\n" for key in keys(folder)))
    subset(folder, "data/part", num, by)
    assert keys("data/part") == sorted(f"spk{index % 2}-u{index:03d}" for index in expected)
    assert check_data_dir("data/part") == []


def test_random_subset_depends_on_the_seed_only(make_dir):
    folder = make_dir(utts=20)
    chosen = [subset(folder, f"data/p{n}", 5, "random", seed).utts for n, seed in enumerate((1, 1, 2))]
    assert chosen[0] == chosen[1] != chosen[2]


def test_select_by_list_names_unknown_ids(make_dir):
    folder = make_dir()
    Path("list").write_text("spk0-u002 anything\nspk1-u001\n")
    assert select(folder, "data/part", "list").utts == ["spk0-u002", "spk1-u001"]
    Path("list").write_text("spk1\n")
    assert select(folder, "data/part", "list", by_speaker=True).utts == ["spk1-u001", "spk1-u003"]
    Path("list").write_text("spk1\nspk7\n")
    with pytest.raises(DataError, match="list:2: spk7: not in data/train"):
        select(folder, "data/part", "list", by_speaker=True)


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read"), (b"spk1\n\xff", "not UTF-8 at byte 6")])
def test_a_list_that_cannot_be_read_is_named(make_dir, content, message):
    folder = make_dir()
    if content is not None:
        Path("list").write_bytes(content)
    with pytest.raises(DataError, match=f"list:0: -: {message}"):
        select(folder, "data/part", "list")
    assert not Path("data/part").exists()


def test_a_note_that_is_no_text_is_named(make_dir):
    folder = make_dir()
    (Path(folder) / "feats_type").write_bytes(b"\xffraw")
    with pytest.raises(DataError, match="feats_type:0: -: not UTF-8 at byte 1"):
        copy(folder, "data/new")


def test_writing_removes_tables_of_an_older_version(make_dir):
    folder = make_dir()
    Path("data/new").mkdir()
    (Path("data/new") / "segments").write_text("stale x 0 1\n")
    copy(folder, "data/new")
    assert check_data_dir("data/new") == []


def test_kaldi_names_work_in_a_shell(make_dir, tmp_path):
    make_dir("a", utts=6)

    def shell(command: str) -> str:
        env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
        done = subprocess.run(command, shell=True, env=env, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout

    u = ROOT / "utils"
    assert shell(f"{u}/utt2spk_to_spk2utt.sh data/a/utt2spk") == Path("data/a/spk2utt").read_text()
    assert shell(f"cat data/a/spk2utt | {u}/spk2utt_to_utt2spk.sh") == Path("data/a/utt2spk").read_text()
    shell(f"{u}/subset_data_dir.sh --first data/a 2 data/b && {u}/validate_data_dir.sh --no-feats data/b")
    shell(f"{u}/copy_data_dir.sh --utt-prefix x- --spk-prefix x- data/b data/c")
    shell(f"{u}/combine_data.sh data/d data/b data/c && {u}/fix_data_dir.sh data/d && {u}/split_data.sh data/d 2")
    assert keys("data/d") == ["spk0-u000", "spk0-u002", "x-spk0-u000", "x-spk0-u002"]
    assert keys("data/d/split2utt/2") == ["x-spk0-u000", "x-spk0-u002"]


def test_spk2utt_command_rewrites_the_file(make_dir):
    folder = make_dir()
    good = (folder / "spk2utt").read_text()
    (folder / "spk2utt").unlink()
    main(["spk2utt", "data/train"])
    assert (folder / "spk2utt").read_text() == good
