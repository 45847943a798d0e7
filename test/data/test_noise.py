"""Noise mixing: the SNR measured on what was written, draws, repetition, resumption, and everything that is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_kd.bin.add_noise import main
from espnet2_kd.data import noise
from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.noise import NoiseOptions, add_noise, noise_files
from espnet2_kd.data.problems import DataError

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
needs_packs = pytest.mark.skipif(not (SHARED / "noise_babble").is_dir(), reason="needs shared/data")
TARGET = Path("data/noisy")


def table(path):
    return dict(line.split(maxsplit=1) for line in path.read_text().splitlines())


def drawn(folder=TARGET):
    with (folder / "noise.tsv").open(newline="") as stream:
        return {row["utt_id"]: row for row in csv.DictReader(stream, delimiter="\t")}


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def measured_snr(clean_path, noisy_path, scale):
    """SNR in dB of a written copy: what is left without the scaled clean utterance is the noise."""
    clean, fs = soundfile.read(clean_path)
    noisy, noisy_fs = soundfile.read(noisy_path)
    assert fs == noisy_fs and len(clean) == len(noisy)
    return 10 * np.log10(np.var(scale * clean) / np.var(noisy - scale * clean))


@pytest.fixture
def noises(tmp_path):
    """A folder of two recordings: 0.2 s, which has to be repeated, and 2 s at another rate with silence around it."""
    folder = tmp_path / "noises"
    (folder / "far").mkdir(parents=True)
    rng = np.random.default_rng(5)
    soundfile.write(folder / "short.wav", 0.1 * rng.standard_normal(3200) + 0.02, 16000)
    padded = np.pad(0.1 * rng.standard_normal(16000), 8000)
    soundfile.write(folder / "far/long.flac", padded, 8000)
    return folder


@pytest.mark.parametrize("snr", [20.0, 0.0, -5.0])
@pytest.mark.parametrize("kind", ["white", "recorded"])
def test_snr_of_what_is_written(make_dir, noises, kind, snr):
    folder = make_dir(utts=12)
    add_noise(folder, TARGET, NoiseOptions(snr, "white" if kind == "white" else str(noises)))
    assert check_data_dir(TARGET) == []
    clean, noisy, rows = table(folder / "wav.scp"), table(TARGET / "wav.scp"), drawn()
    assert list(clean) == list(noisy)
    for utt in clean:
        scale = float(rows[utt]["scale"])
        assert measured_snr(clean[utt], noisy[utt], scale) == pytest.approx(snr, abs=0.1)
        assert np.max(np.abs(soundfile.read(noisy[utt])[0])) <= 0.9901
        # Only what would clip is scaled.
        assert scale == 1.0 or np.max(np.abs(soundfile.read(noisy[utt])[0])) > 0.985
    names = {row["noise"] for row in rows.values()}
    assert names == ({"white"} if kind == "white" else {"short.wav", "far/long.flac"})
    assert snr == 0.0 or {float(row["scale"]) < 1 for row in rows.values()} == {snr < 0}
    for name in ("text", "utt2spk", "spk2utt"):
        assert (TARGET / name).read_bytes() == (folder / name).read_bytes()
    assert set(table(TARGET / "utt2num_samples").values()) == {"8000"}


@needs_packs
@pytest.mark.parametrize("pack", ["noise_babble", "noise_esc10"])
def test_snr_on_real_recordings(tmp_path, monkeypatch, pack):
    monkeypatch.chdir(tmp_path)
    source = Path("data/real")
    source.mkdir(parents=True)
    with (SHARED / "an4_tiny/test.tsv").open(newline="") as stream:
        rows = {row["utt_id"]: row for row in csv.DictReader(stream, delimiter="\t", quoting=3)}
    pairs = {utt: SHARED / "an4_tiny" / row["path"] for utt, row in rows.items()}
    (source / "wav.scp").write_text("".join(f"{utt} {pairs[utt]}\n" for utt in sorted(pairs)))
    (source / "utt2spk").write_text("".join(f"{utt} {utt}\n" for utt in sorted(pairs)))
    (source / "spk2utt").write_text("".join(f"{utt} {utt}\n" for utt in sorted(pairs)))
    add_noise(source, TARGET, NoiseOptions(5.0, str(SHARED / pack), "test"))
    listed = {line.split("\t")[0] for line in (SHARED / pack / "test.tsv").read_text().splitlines()[1:]}
    noisy = table(TARGET / "wav.scp")
    for utt, row in drawn().items():
        assert row["noise"] in listed
        assert measured_snr(pairs[utt], noisy[utt], float(row["scale"])) == pytest.approx(5.0, abs=0.1)


@needs_packs
@pytest.mark.parametrize("pack", ["noise_babble", "noise_esc10"])
def test_noise_of_training_is_not_that_of_the_test(pack):
    train, test = (noise_files(SHARED / pack, split) for split in ("train", "test"))
    assert train and test and not set(train) & set(test) and not set(train.values()) & set(test.values())
    assert all(Path(entry).is_file() for entry in (*train.values(), *test.values()))
    with pytest.raises(DataError, match="has the splits test train: choose one, as train: --noise_split"):
        noise_files(SHARED / pack)


def test_a_tone_keeps_its_level_where_it_is_repeated():
    rng = np.random.default_rng(0)
    short = rng.standard_normal(4000)
    long = noise.looped(short, 40000, 320)
    assert len(long) == 40000
    np.testing.assert_array_equal(long[:3680], short[:3680])
    # The beginning returns after one period, whose end is faded into it.
    np.testing.assert_array_equal(long[3680 + 320 : 3680 + 3680], short[320:3680])
    joints = np.concatenate([long[start : start + 320] for start in range(3680, 40000 - 320, 3680)])
    assert np.var(joints) == pytest.approx(1.0, abs=0.15)
    assert np.max(np.abs(np.diff(noise.looped(np.sin(np.arange(1000) * 0.1), 9000, 320)))) < 0.2


def test_padding_is_cut_but_not_a_pause():
    rng = np.random.default_rng(0)
    bark = rng.standard_normal(1600)
    clip = np.concatenate([np.zeros(3200), bark, 1e-3 * rng.standard_normal(3200), bark, np.zeros(8000)])
    kept = noise.without_padding(clip, 16000)
    np.testing.assert_array_equal(kept, clip[3200 : 3200 + 1600 + 3200 + 1600])


def test_another_seed_snr_or_utterance_draws_other_noise(make_dir, noises):
    folder = make_dir(utts=12)
    add_noise(folder, TARGET, NoiseOptions(10.0, str(noises)))
    add_noise(folder, "data/seed", NoiseOptions(10.0, str(noises), seed=1))
    add_noise(folder, "data/snr", NoiseOptions(5.0, str(noises)))
    draws = [
        {utt: (row["noise"], row["offset"]) for utt, row in drawn(Path(f"data/{name}")).items()}
        for name in ("noisy", "seed", "snr")
    ]
    for one, other in [(0, 1), (0, 2)]:
        assert sum(draws[one][utt] == draws[other][utt] for utt in draws[0]) < 4
    assert len({offset for _, offset in draws[0].values()}) > 8


def test_same_bytes_whatever_jobs_order_place_and_interruptions(make_dir, noises, tmp_path, monkeypatch):
    monkeypatch.setattr(noise, "PART_SIZE", 3)
    folder = make_dir(utts=10)
    options = NoiseOptions(10.0, str(noises))
    add_noise(folder, TARGET, options, nj=2)
    first = snapshot(TARGET)
    times = {path: path.stat().st_mtime_ns for path in TARGET.rglob("*") if path.name != "noise.tsv"}
    add_noise(folder, TARGET, options)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    (TARGET / "data/noise.2.json").unlink()
    (TARGET / "data/noise.3/spk0-u006.flac").unlink(missing_ok=True)
    next(iter((TARGET / "data/noise.3").iterdir())).write_bytes(b"cut")
    (TARGET / "wav.scp").unlink()
    add_noise(folder, TARGET, options, nj=1)
    assert snapshot(TARGET) == first
    moved = tmp_path / "elsewhere"
    noises.rename(moved)
    add_noise(folder, "data/moved", NoiseOptions(10.0, str(moved)))
    sounds = {name: content for name, content in first.items() if name.endswith(".flac")}
    assert len(sounds) == 10
    assert {name: content for name, content in snapshot(Path("data/moved")).items() if name.endswith(".flac")} == sounds


def test_changed_noise_is_mixed_again(make_dir, noises):
    folder = make_dir(utts=4)
    listing = Path("noise.scp")
    listing.write_text(f"hum {noises}/short.wav\n")
    add_noise(folder, TARGET, NoiseOptions(10.0, str(listing)))
    before = snapshot(TARGET / "data")
    soundfile.write(noises / "short.wav", 0.1 * np.random.default_rng(6).standard_normal(3300), 16000)
    add_noise(folder, TARGET, NoiseOptions(10.0, str(listing)))
    after = snapshot(TARGET / "data")
    assert set(before) == set(after) and all(before[name] != after[name] for name in before)


def test_segments_labels_and_archives(make_dir, noises):
    folder = make_dir(utts=1, seconds=2.0)
    (folder / "segments").write_text("spk0-a spk0-u000 0.25 0.75\nspk0-b spk0-u000 0.5 -1\n")
    for name, value in (("text", "hi"), ("utt2spk", "spk0"), ("label", "intent=greet")):
        (folder / name).write_text("".join(f"spk0-{x} {value}\n" for x in "ab"))
    (folder / "spk2utt").write_text("spk0 spk0-a spk0-b\n")
    add_noise(folder, TARGET, NoiseOptions(10.0, str(noises), audio_format="flac.ark"))
    assert check_data_dir(TARGET) == [] and not (TARGET / "segments").exists()
    assert table(TARGET / "label") == {"spk0-a": "intent=greet", "spk0-b": "intent=greet"}
    assert table(TARGET / "utt2num_samples") == {"spk0-a": "8000", "spk0-b": "24000"}


def test_silent_speech_and_silent_noise_are_named(make_dir, tmp_path):
    folder = make_dir()
    soundfile.write("downloads/train/spk0-u002.wav", np.full(8000, 0.25), 16000)
    with pytest.raises(DataError) as error:
        add_noise(folder, TARGET, NoiseOptions(10.0))
    assert str(error.value).splitlines()[0] == (
        "data/train/wav.scp:2: spk0-u002: digital silence, which has no signal-to-noise ratio: "
        "downloads/train/spk0-u002.wav: record it again, or drop the utterance"
    )
    assert not (TARGET / "wav.scp").exists()
    silent = tmp_path / "silent"
    silent.mkdir()
    soundfile.write(silent / "nothing.wav", np.zeros(16000), 16000)
    with pytest.raises(DataError) as error:
        add_noise(folder, TARGET, NoiseOptions(10.0, str(silent)))
    lines = str(error.value).splitlines()
    assert lines[0] == f"{silent}/nothing.wav:0: spk0-u000: digital silence: take this recording out of the noise"
    assert len(lines) == 5 and "wav.scp:2: spk0-u002" in lines[1]
    # Mended, only the parts that failed are made.
    soundfile.write(silent / "nothing.wav", 0.1 * np.random.default_rng(0).standard_normal(900), 16000)
    soundfile.write("downloads/train/spk0-u002.wav", 0.1 * np.sin(np.arange(8000)), 16000)
    add_noise(folder, TARGET, NoiseOptions(10.0, str(silent)))
    assert check_data_dir(TARGET) == []


def test_a_damaged_recording_is_used_up_to_the_damage(make_dir, tmp_path, caplog):
    folder = make_dir()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    soundfile.write(damaged / "hum.flac", 0.1 * np.random.default_rng(0).standard_normal(48000), 16000)
    whole = (damaged / "hum.flac").read_bytes()
    (damaged / "hum.flac").write_bytes(whole[: len(whole) * 2 // 3])
    noise.read_noise.cache_clear()
    add_noise(folder, TARGET, NoiseOptions(10.0, str(damaged)))
    noise.read_noise.cache_clear()  # as if other recordings had been read in between
    add_noise(folder, "data/noisier", NoiseOptions(5.0, str(damaged)))
    assert caplog.text.count("hum.flac: only the first") == 1 and "lost sync" in caplog.text
    assert max(float(row["offset"]) for row in drawn().values()) < 1.6
    (damaged / "hum.flac").write_bytes(whole[: len(whole) // 10])
    with pytest.raises(DataError, match="hum.flac:0: spk0-u000: truncated or damaged"):
        add_noise(folder, TARGET, NoiseOptions(10.0, str(damaged)))


def test_stretches_of_silence_are_not_drawn():
    padded = np.concatenate([np.ones(100) * 0.5, -np.ones(100) * 0.5, np.zeros(8000), np.sin(np.arange(200))])
    for seed in range(20):
        try:
            segment, _ = noise.draw_segment(padded, 400, 16000, np.random.default_rng(seed))
        except noise.AudioFault as fault:
            assert fault.what == "no sound in any 0.03 s of it"
        else:
            assert not noise.is_silent(segment)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "nowhere:0: -: no such folder or scp file: give a folder"),
        ("empty", "empty:0: -: no recordings: give .wav, .flac"),
        ("pipe.scp", "pipe.scp:0: hum: is a command, not a file: sox x.wav - |"),
        ("lost.scp", "away.wav:0: spk0-u000: file not found: away.wav"),
    ],
)
def test_noise_that_is_not_there(make_dir, place, message):
    folder = make_dir()
    Path("empty").mkdir()
    Path("pipe.scp").write_text("hum sox x.wav - |\n")
    Path("lost.scp").write_text("hum away.wav\n")
    with pytest.raises(DataError) as error:
        add_noise(folder, TARGET, NoiseOptions(10.0, place))
    assert message in str(error.value) and not (TARGET / "wav.scp").exists()


def test_command(make_dir, noises, capsys):
    folder = make_dir()
    main([str(folder), str(TARGET), "--snr", "-5", "--noise", str(noises), "--seed", "3", "--nj", "2", "--fs", "8k"])
    assert capsys.readouterr().out == "data/noisy: 4 utterances at -5 dB\n"
    assert soundfile.info(table(TARGET / "wav.scp")["spk0-u000"]).samplerate == 8000
    with pytest.raises(DataError, match="the same directory"):
        main([str(folder), "data/../data/train", "--snr", "5", "--noise", "white"])


@pytest.mark.parametrize(
    "options",
    [
        ["--snr", "nan", "--noise", "white"],
        ["--snr", "5"],
        ["--snr", "5", "--noise", "white", "--noise_split", "test"],
        ["--snr", "5", "--noise", "white", "--ref_channel", "-1"],
    ],
)
def test_wrong_options_are_refused_before_anything_happens(make_dir, options):
    with pytest.raises(SystemExit) as error:
        main([str(make_dir()), str(TARGET), *options])
    assert error.value.code == 2 and not TARGET.exists()
