"""Faults F4, F5, F12 and F15 are dropped at the filter, with counts and reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnet2_kd.bin.data_dir import main
from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.durations import durations
from espnet2_kd.data.problems import DataError

TARGET = Path("dump/raw/train")


def test_short_long_and_wordless_utterances_are_dropped_with_reasons(make_dir, capsys):
    folder = make_dir(utts=6)
    seconds = ["0.0", "0.05", "0.1", "20.0", "20.01", "5"]
    utts = DataDir.read(folder).utts
    (folder / "utt2dur").write_text("".join(f"{utt} {s}\n" for utt, s in zip(utts, seconds)))
    (folder / "text").write_text((folder / "text").read_text().replace(f"{utts[5]} turn on lamp 5", utts[5]))
    main(["filter", str(folder), str(TARGET)])
    assert DataDir.read(TARGET).utts == utts[2:4]
    assert check_data_dir(TARGET) == []
    printed = capsys.readouterr().out
    assert "dropped 4 of data/train" in printed
    assert f"2 shorter than 0.1 s: {utts[0]} {utts[1]} (to keep them: --min_wav_duration)\n" in printed
    assert f"1 longer than 20 s: {utts[4]} (to keep them: --max_wav_duration)\n" in printed
    assert f"1 empty text: {utts[5]} (to keep them: write their words)\n" in printed
    assert (TARGET / "dropped.tsv").read_text().splitlines() == [
        "utt_id\treason",
        f"{utts[0]}\tshorter than 0.1 s",
        f"{utts[1]}\tshorter than 0.1 s",
        f"{utts[4]}\tlonger than 20 s",
        f"{utts[5]}\tempty text",
    ]
    main(["filter", "--keep_empty_text", "--max_wav_duration", "30", str(folder), str(TARGET)])
    assert len(DataDir.read(TARGET, allow_empty_text=True).utts) == 4


def test_durations_come_from_segments_or_headers(make_dir):
    folder = make_dir(utts=2, seconds=0.75)
    data = DataDir.read(folder)
    assert durations(data) == {"spk0-u000": 0.75, "spk1-u001": 0.75}
    data.tables["utt2num_samples"] = {"spk0-u000": "4000", "spk1-u001": "8000"}
    assert durations(data, 8000) == {"spk0-u000": 0.5, "spk1-u001": 1.0}
    data.tables["segments"] = {"spk0-u000": "spk0-u000 0.25 0.5", "spk1-u001": "spk1-u001 0.5 -1"}
    assert durations(data) == {"spk0-u000": 0.25, "spk1-u001": 0.25}


def test_nothing_left_is_an_error_and_writes_nothing(make_dir):
    folder = make_dir()
    with pytest.raises(DataError, match=r"no utterance left \(4 shorter than 1 s\)"):
        main(["filter", "--min_wav_duration", "1", str(folder), str(TARGET)])
    assert not TARGET.exists()
