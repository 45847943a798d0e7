"""Lhotse's reader of Kaldi directories sees what we wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from espnet2_kd.bin.import_tsv import main as import_tsv
from espnet2_kd.data.format import FormatOptions, format_audio

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"

lhotse = pytest.importorskip("lhotse")


def compare(folder: Path) -> None:
    recordings, supervisions, _ = lhotse.kaldi.load_kaldi_data_dir(folder, sampling_rate=16000)
    text = dict(line.split(" ", 1) for line in (folder / "text").read_text().splitlines())
    speaker = dict(line.split() for line in (folder / "utt2spk").read_text().splitlines())
    seconds = dict(line.split() for line in (folder / "utt2dur").read_text().splitlines())
    assert [supervision.id for supervision in supervisions] == sorted(text)
    for supervision in supervisions:
        assert supervision.text == text[supervision.id]
        assert supervision.speaker == speaker[supervision.id]
        assert abs(supervision.duration - float(seconds[supervision.id])) < 1e-3
        # Lhotse keeps milliseconds.
        assert abs(recordings[supervision.recording_id].duration - float(seconds[supervision.id])) < 1e-3


def test_formatted_directory_with_speed_perturbation(make_dir):
    format_audio(make_dir(), "dump/raw/train", FormatOptions(speed_perturb_factors=("0.9", "1.0")))
    compare(Path("dump/raw/train"))


def test_segments_mean_the_same_to_lhotse(make_dir):
    folder = make_dir(utts=2, seconds=2.0)
    (folder / "segments").write_text("spk0-u000 spk0-u000 0.25 0.75\nspk1-u001 spk1-u001 0.5 2.0\n")
    format_audio(folder, "dump/raw/train", FormatOptions())
    recordings, supervisions, _ = lhotse.kaldi.load_kaldi_data_dir(folder, sampling_rate=16000)
    wav = dict(line.split() for line in Path("dump/raw/train/wav.scp").read_text().splitlines())
    for supervision in supervisions:
        theirs = recordings[supervision.recording_id].load_audio(
            offset=supervision.start, duration=supervision.duration
        )[0]
        ours, _ = soundfile.read(wav[supervision.id], dtype="float32")
        assert len(ours) == len(theirs)
        assert abs(ours - theirs).max() == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared/data beside the project")
def test_imported_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import_tsv([str(SHARED / "an4_tiny/all.tsv"), "data"])
    format_audio("data/test", "dump/raw/test", FormatOptions())
    compare(Path("dump/raw/test"))
