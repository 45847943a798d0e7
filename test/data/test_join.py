from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_kd.bin.import_tsv import main
from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.join import join_tsv
from espnet2_kd.data.problems import DataError

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"

HEADER = "string_id\tspeaker\ttext\tutt_ids\tgaps_ms\n"


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Recordings d0, d1 and d2 of `ann`, listed in digits.tsv; returns their samples."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    samples = {f"d{i}": rng.integers(-9999, 9999, 500 * (i + 1)).astype(np.int16) for i in range(3)}
    for name, values in samples.items():
        soundfile.write(f"{name}.wav", values, 16000)
    rows = "".join(f"{name}\tann\t{name}.wav\n" for name in samples)
    Path("digits.tsv").write_text(f"utt_id\tspeaker\tpath\n{rows}")
    return samples


def test_recordings_follow_each_other_with_silence_before_each(digits):
    Path("strings.tsv").write_text(HEADER + "s1\tann\tzero two zero\td0 d2 d0\t10 0 25\ns2\tann\tone\td1\t0\n")
    main(["digits.tsv", "data", "--strings", "strings.tsv", "--set", "train", "--joined_dir", "joined", "--nj", "2"])
    assert check_data_dir("data/train") == []
    assert Path("data/train/text").read_text() == "ann-s1 zero two zero\nann-s2 one\n"
    wav = dict(line.split() for line in Path("data/train/wav.scp").read_text().splitlines())
    zeros = {ms: np.zeros(16 * ms, dtype=np.int16) for ms in (10, 25)}
    expected = np.concatenate([zeros[10], digits["d0"], digits["d2"], zeros[25], digits["d0"]])
    np.testing.assert_array_equal(soundfile.read(wav["ann-s1"], dtype="int16")[0], expected)
    np.testing.assert_array_equal(soundfile.read(wav["ann-s2"], dtype="int16")[0], digits["d1"])


def test_second_run_changes_nothing_and_a_new_recording_is_noticed(digits):
    Path("strings.tsv").write_text(HEADER + "s1\tann\tzero two\td0 d2\t10 0\n")
    arguments = ("strings.tsv", ["digits.tsv"], "data", "train", "joined")
    join_tsv(*arguments)
    file = Path("joined/join.1/s1.flac")
    before = file.stat().st_mtime_ns, file.read_bytes()
    join_tsv(*arguments)
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before
    soundfile.write("d2.wav", digits["d1"], 16000)
    join_tsv(*arguments)
    assert soundfile.info(file).frames == 160 + 500 + 1000


def test_every_faulty_line_is_named(digits):
    Path("strings.tsv").write_text(
        HEADER
        + "s1\tann\tx\td0 d9 d8\t1 1 1\n"
        + "s2\tann\tx\td0 d1\t1\n"
        + "s3\tann\tx\td0\t-5\n"
        + "s/4\tann\tx\td0\t5\n"
        + "s5\tann\tx\td0\t5\n"
        + "s5\tann\tx\td1\t5\n"
    )
    with pytest.raises(DataError) as error:
        join_tsv("strings.tsv", ["digits.tsv"], "data", "train", "joined")
    assert [(problem.line, problem.utt, problem.what) for problem in error.value.problems] == [
        (2, "s1", "recordings not in the TSV: d9 d8"),
        (3, "s2", "1 gaps for 2 recordings: '1'"),
        (4, "s3", "1 gaps for 1 recordings: '-5'"),
        (5, "s/4", "unsafe string_id, it contains '/'"),
        (7, "s5", "duplicate string_id, lines 6 and 7"),
    ]
    assert not Path("joined").exists() and not Path("data").exists()


def test_unreadable_recording_is_named(digits):
    Path("strings.tsv").write_text(HEADER + "s1\tann\tx\td0 d1\t1 1\n")
    Path("d1.wav").write_bytes(b"no audio")
    with pytest.raises(DataError, match=r"strings.tsv:2: s1: not readable as audio .*: d1.wav: replace the file"):
        join_tsv("strings.tsv", ["digits.tsv"], "data", "train", "joined")
    assert not Path("data").exists()


@pytest.mark.parametrize("name", ["fsdd", "mandarin_hsk"])
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared/data beside the project")
def test_shared_lists_have_the_length_of_their_parts(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = (SHARED / name / "strings_dev.tsv").read_text(encoding="utf-8").splitlines()[:12]
    Path("strings.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = join_tsv("strings.tsv", [SHARED / name / "all.tsv"], "data", "dev", "joined")
    assert check_data_dir("data/dev") == []
    rows = {line.split("\t")[0]: line.split("\t") for line in (SHARED / name / "all.tsv").read_text().splitlines()}
    path = rows["utt_id"].index("path")
    for line in lines[1:]:
        string_id, speaker, text, utts, gaps = line.split("\t")
        num = sum(soundfile.info(SHARED / name / rows[utt][path]).frames for utt in utts.split())
        num += sum(16 * int(gap) for gap in gaps.split())
        assert soundfile.info(data.tables["wav.scp"][f"{speaker}-{string_id}"]).frames == num
        assert data.tables["text"][f"{speaker}-{string_id}"] == text
