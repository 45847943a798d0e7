"""Lists of noise for ESPnet2's `noise_scp`: equal shares, files that can be opened anywhere, no recording of a test."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import soundfile

from espnet2_kd.bin.noise_list import main
from espnet2_kd.data.noise_list import WHITE_SECONDS, write_noise_list
from espnet2_kd.data.problems import DataError


@pytest.fixture
def packs(tmp_path):
    """Three recordings of which one is for the test, and a folder of one without lists, at another rate and in stereo."""
    rng = np.random.default_rng(7)
    for name in ("a", "b", "c"):
        (tmp_path / "street").mkdir(exist_ok=True)
        soundfile.write(
            tmp_path / f"street/{name}.ogg", 0.1 * rng.standard_normal(16000), 16000, "VORBIS", format="OGG"
        )
    rows = {"train": "ab", "test": "c"}
    for split, names in rows.items():
        lines = ["utt_id\tpath", *(f"{name}\t{name}.ogg" for name in names)]
        (tmp_path / f"street/{split}.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "rain").mkdir()
    soundfile.write(tmp_path / "rain/x.wav", 0.1 * rng.standard_normal((8000, 2)), 8000)
    return [f"street={tmp_path}/street", f"rain={tmp_path}/rain", "white"]


def lines(folder):
    return [line.split(maxsplit=1) for line in (folder / "wav.scp").read_text().splitlines()]


def test_every_noise_has_the_same_share_of_the_lines_and_only_its_training_recordings(packs, tmp_path):
    assert write_noise_list(tmp_path / "noise", packs) == 4
    rows = lines(tmp_path / "noise")
    assert [key for key, _ in rows] == sorted({key for key, _ in rows})
    assert Counter(key.split("-")[0] for key, _ in rows) == {"street": 2, "rain": 2, "white": 2}
    assert len({path for key, path in rows if key.startswith("street")}) == 2
    heard = {key.split("-")[0]: soundfile.info(path) for key, path in rows}
    assert {(info.samplerate, info.channels, info.subtype) for info in heard.values()} == {(16000, 1, "PCM_16")}
    assert heard["rain"].frames == 16000  # a second, at the new rate
    assert heard["white"].frames == WHITE_SECONDS * 16000
    c, _ = soundfile.read(tmp_path / "street/c.ogg")
    for key, path in rows:
        sound, _ = soundfile.read(path)
        assert not key.startswith("street") or abs(np.corrcoef(sound[: len(c)], c[: len(sound)])[0, 1]) < 0.1


def test_espnet_mixes_from_it(packs, tmp_path):
    from espnet2.train.preprocessor import CommonPreprocessor

    write_noise_list(tmp_path / "noise", packs)
    scp = str(tmp_path / "noise/wav.scp")
    process = CommonPreprocessor(
        train=True, noise_scp=scp, noise_apply_prob=1.0, noise_db_range="10", force_single_channel=True
    )
    speech = 0.3 * np.sin(np.arange(24000) / 10)
    noise = process("utt", {"speech": speech})["speech"] - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.3)


def test_bad_recordings_are_named_together_and_nothing_is_listed(packs, tmp_path):
    (tmp_path / "street/a.ogg").write_text("no sound")
    (tmp_path / "street/b.ogg").unlink()
    with pytest.raises(DataError, match=r"(?s)a\.ogg.*b\.ogg"):
        write_noise_list(tmp_path / "noise", packs)
    assert not (tmp_path / "noise/wav.scp").exists()


@pytest.mark.parametrize(
    ("sources", "what"),
    [
        ([], "no noises"),
        (["white", "white"], "two noises are called white"),
        (["fan=/nowhere"], "no such folder"),
        (["/nowhere"], "is no noise"),
    ],
)
def test_what_cannot_be_listed(tmp_path, sources, what):
    with pytest.raises(DataError, match=what):
        write_noise_list(tmp_path / "noise", sources)


def test_command(packs, tmp_path, capsys):
    main([*packs[:2], "--fs", "8k", "--output", str(tmp_path / "noise")])
    assert "3 recordings of 2 noises" in capsys.readouterr().out
    assert soundfile.info(lines(tmp_path / "noise")[0][1]).samplerate == 8000
