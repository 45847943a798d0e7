"""Faults F8 to F12 and F16 to F19 are named where they are, all at once, by `data_dir validate`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from espnet2_kd.bin.data_dir import main
from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.ids import id_fault, with_speaker_prefix
from espnet2_kd.data.problems import DataError


def edit(file: Path, old: str, new: str) -> None:
    content = file.read_bytes().decode()
    assert old in content
    file.write_bytes(content.replace(old, new, 1).encode())


def lines(folder: Path, **options: bool) -> list[str]:
    return [str(problem) for problem in check_data_dir(folder, **options)]


def test_a_good_directory_has_no_problems(make_dir):
    assert lines(make_dir()) == []
    assert main(["validate", "data/train"]) == 0


def test_a_missing_directory_is_named_with_those_that_are_there(make_dir):
    make_dir()
    (problem,) = lines(Path("data/valid"))
    assert problem.startswith("data/valid:0: -: no such data directory; in data there are: train: ")
    (problem,) = lines(Path("nowhere/valid"))
    assert problem.startswith("nowhere/valid:0: -: no such data directory: ")


def test_missing_audio_is_named_with_line_utterance_and_path(make_dir, tmp_path):
    folder = make_dir()
    Path("downloads/train/spk0-u002.wav").unlink()
    assert lines(folder) == [
        (
            "data/train/wav.scp:2: spk0-u002: file not found: downloads/train/spk0-u002.wav: "
            f"correct the path (relative paths start at {tmp_path})"
        )
    ]
    assert lines(folder, need_audio=False) == []
    # A name that no file can have, as where a line has lost its end.
    edit(folder / "wav.scp", "downloads/train/spk0-u002.wav", "spk0-u002.wav " * 40)
    (problem,) = lines(folder)
    assert problem.startswith("data/train/wav.scp:2: spk0-u002: file not found: spk0-u002.wav spk0-u002.wav ")


def test_key_mismatch_names_both_files_and_every_key(make_dir):
    folder = make_dir()
    edit(folder / "text", "spk0-u000 turn on lamp 0\n", "")
    edit(folder / "text", "spk1-u003", "spk1-u009")
    found = lines(folder)
    assert len(found) == 3
    assert found[0].startswith("data/train/wav.scp:1: spk0-u000: in data/train/wav.scp but not in data/train/text: add")
    assert found[1].startswith("data/train/wav.scp:4: spk1-u003: in data/train/wav.scp but not in data/train/text: add")
    assert found[2].startswith("data/train/text:3: spk1-u009: in data/train/text but not in data/train/wav.scp: add")


@pytest.mark.parametrize("name", ["wav.scp", "text", "utt2spk"])
def test_duplicate_names_both_lines(make_dir, name):
    folder = make_dir()
    first = (folder / name).read_text().splitlines()[1]
    (folder / name).write_text((folder / name).read_text() + first + "\n")
    found = [line for line in lines(folder) if "duplicate" in line]
    assert len(found) == 1
    assert found[0].startswith(f"data/train/{name}:5: spk0-u002: duplicate id, lines 2 and 5 (same content): remove")


def test_empty_transcript_fails_or_warns(make_dir):
    folder = make_dir()
    edit(folder / "text", "spk0-u002 turn on lamp 2", "spk0-u002")
    assert lines(folder)[0].startswith("data/train/text:2: spk0-u002: empty transcript: write its words, or drop it")
    assert main(["validate", "data/train"]) == 1
    assert lines(folder, allow_empty_text=True)[0].startswith("data/train/text:2: spk0-u002: warning: empty transcript")
    assert main(["validate", "--allow_empty_text", "data/train"]) == 0


def test_unsorted_file_comes_with_the_command_that_sorts_it(make_dir):
    folder = make_dir()
    content = (folder / "text").read_text().splitlines()
    (folder / "text").write_text("\n".join(reversed(content)) + "\n")
    found = lines(folder)
    assert len(found) == 1
    assert found[0].startswith("data/train/text:2: spk1-u001: not in LC_ALL=C order: LC_ALL=C sort -o")
    command = found[0].split(": ")[3].split(", or")[0]
    subprocess.run(command, shell=True, check=True)
    assert lines(folder) == []


def test_our_order_is_that_of_sort(tmp_path):
    keys = ["a", "a-1", "a_1", "aB", "ab", "B", "é", "z", "中", "𝒳", "a.b", "a1", "10", "9", "ａ"]
    from espnet2_kd.data.table import write_table

    write_table(tmp_path / "ours", dict.fromkeys(keys, "x y"))
    shuffled = tmp_path / "theirs"
    shuffled.write_text("".join(f"{key} x y\n" for key in reversed(keys)), encoding="utf-8")
    subprocess.run(["sort", "-o", shuffled, shuffled], env={**os.environ, "LC_ALL": "C"}, check=True)
    assert (tmp_path / "ours").read_bytes() == shuffled.read_bytes()


def test_speaker_that_is_no_prefix_is_a_warning_only(make_dir):
    folder = make_dir()
    for name in ("utt2spk", "spk2utt"):
        (folder / name).write_text((folder / name).read_text().replace(" spk0", " anna").replace("spk0 ", "anna "))
    (folder / "utt2spk").write_text("".join(f"{u} {'anna' if '0-' in u else 'spk1'}\n" for u in _utts(folder)))
    (folder / "spk2utt").write_text("anna spk0-u000 spk0-u002\nspk1 spk1-u001 spk1-u003\n")
    assert lines(folder) == [
        (
            "data/train/utt2spk:1: spk0-u000: warning: utterance id does not start with its speaker 'anna' (and 1 more): "
            "harmless here; Kaldi's own tools want speaker-prefixed ids"
        )
    ]
    assert main(["validate", "data/train"]) == 0


def _utts(folder: Path) -> list[str]:
    return [line.split()[0] for line in (folder / "text").read_text().splitlines()]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("turn on lamp 2\n", "turn on lamp 2\r\n", "CRLF line end"),
        ("lamp 2", "lamp\u00a02", "NBSP (U+00A0)"),
        ("lamp 2", "lamp\t2", "tab"),
        ("lamp 2", "lamp\u30002", "character U+3000"),
        ("lamp 2", "lamp\u200b2", "character U+200B"),
    ],
)
def test_odd_characters_are_named_and_normalised_on_request(make_dir, old, new, named):
    folder = make_dir()
    good = (folder / "text").read_bytes()
    edit(folder / "text", old, new)
    assert lines(folder) == [
        (
            f"data/train/text:2: spk0-u002: {named} in the line: "
            "python -m espnet2_kd.bin.data_dir fix --normalise data/train"
        )
    ]
    with pytest.raises(DataError, match="add --normalise"):
        main(["fix", "data/train"])
    main(["fix", "--normalise", "data/train"])
    assert (folder / "text").read_bytes() == good


def test_bom_does_not_hide_the_first_utterance(make_dir):
    folder = make_dir()
    (folder / "text").write_bytes(b"\xef\xbb\xbf" + (folder / "text").read_bytes())
    assert [line.split(": ")[2] for line in lines(folder)] == ["BOM (U+FEFF) in the line"]


def test_bytes_that_are_not_utf8_and_a_cut_off_end_are_named(make_dir):
    folder = make_dir()
    content = (folder / "text").read_bytes().replace(b"lamp 2", b"l\xe4mp 2")
    (folder / "text").write_bytes(content[:-1])
    found = lines(folder)
    assert any(line.startswith("data/train/text:2: -: not UTF-8 at byte 20") for line in found)
    assert any(line.startswith("data/train/text:4: -: no newline at the end") for line in found)


def test_pipe_is_refused_unless_allowed(make_dir):
    folder = make_dir()
    edit(folder / "wav.scp", "downloads/train/spk0-u002.wav", "touch ran; cat downloads/train/spk0-u002.wav |")
    assert lines(folder) == [
        (
            "data/train/wav.scp:2: spk0-u002: is a command, not a file: touch ran; cat downloads/train/spk0-u002.wav |: "
            "convert the audio to files, or allow commands: --allow_pipes true"
        )
    ]
    assert main(["validate", "--allow_pipes", "true", "data/train"]) == 0
    assert not Path("ran").exists()


def test_all_problems_of_all_files_come_at_once(make_dir, capsys):
    folder = make_dir()
    Path("downloads/train/spk0-u000.wav").unlink()
    edit(folder / "text", "spk0-u002 turn", "spk0-u002 <blank> turn")
    edit(folder / "utt2spk", "spk1-u003 spk1", "spk1-u003 spk/1")
    (folder / "spk2utt").unlink()
    (folder / "utt2dur").write_text("spk0-u000 x\nspk0-u002 1\nspk1-u001 1\nspk1-u003 1\n")
    assert main(["validate", "data/train"]) == 1
    printed = capsys.readouterr().err
    for part in (
        "wav.scp:1: spk0-u000: file not found",
        "text:2: spk0-u002: reserved symbol <blank>",
        "utt2spk:4: spk1-u003: unsafe speaker id 'spk/1', it contains '/'",
        "spk2utt:0: -: file is missing: python -m espnet2_kd.bin.data_dir fix data/train",
        "utt2dur:1: spk0-u000: not a number: 'x'",
        "data/train: 5 problem(s), 0 warning(s)",
    ):
        assert part in printed


def test_segments_are_checked(make_dir):
    folder = make_dir()
    (folder / "segments").write_text(
        "spk0-u000 spk0-u000 0.1 0.4\nspk0-u002 spk0-u002 0.4 0.1\nspk1-u001 nowhere 0 -1\nspk1-u003 spk1-u003 0 x\n"
    )
    found = [line for line in lines(folder) if "segments" in line.split(":")[0]]
    assert [line.split(": ")[2] for line in found] == [
        "ends at 0.1 s but starts at 0.4 s",
        "recording nowhere is not in data/train/wav.scp",
        "not 'utterance recording start end'",
    ]


def test_spk2utt_must_agree_with_utt2spk(make_dir):
    folder = make_dir()
    edit(folder / "spk2utt", "spk0-u002", "spk0-u009")
    assert [line.split(": ", 2)[2].split(": ")[0] for line in lines(folder)] == [
        "speaker spk0 here, none in data/train/spk2utt",
        "in data/train/spk2utt but not in data/train/utt2spk",
    ]


@pytest.mark.parametrize("key", ["a b", "a(b", "a)b", "a/b", "a..b", ".a", "-a", "", "a\tb", "a;b", "x" * 201])
def test_unsafe_ids(key):
    assert id_fault(key)


@pytest.mark.parametrize(
    ("utt", "spk", "expected"),
    [
        ("1688-142285-0000", "1688", "1688-142285-0000"),
        ("1688-1", "16", "16-1688-1"),
        ("kath_1", "kathleen", "kathleen-kath_1"),
        ("a", "a", "a"),
    ],
)
def test_speaker_prefix(utt, spk, expected):
    assert id_fault(utt) is None
    assert with_speaker_prefix(utt, spk) == expected


def test_reading_a_bad_directory_raises_with_everything(make_dir):
    folder = make_dir()
    (folder / "utt2spk").unlink()
    edit(folder / "text", "spk0-u000 ", "spk0-u008 ")
    with pytest.raises(DataError) as error:
        DataDir.read(folder)
    assert {problem.file for problem in error.value.problems} >= {"data/train/utt2spk", "data/train/text"}
