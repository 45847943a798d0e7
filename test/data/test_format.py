"""Formatting of audio: values against plain definitions, faults F1 to F8 and F19, resumption after a kill (F34, F35)."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_kd.bin.format_audio import main
from espnet2_kd.data.audio import AudioFault, read_audio
from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.format import FormatOptions, format_audio
from espnet2_kd.data.integrity import truncation
from espnet2_kd.data.problems import DataError
from espnet2_kd.data.resample import resample, to_pcm16
from espnet2_kd.data.reshape import combine, split

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / "../shared/data"
TARGET = Path("dump/raw/train")


def tone(seconds: float, fs: int, hz: float = 440.0) -> np.ndarray:
    """A float64 sine `(T,)` of amplitude 0.5."""
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * fs)) / fs)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(name: str, folder: Path = TARGET) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in (folder / name).read_text().splitlines())


def peak_hz(samples: np.ndarray, fs: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * fs / len(samples))


@pytest.mark.parametrize("audio_format", ["flac", "wav"])
def test_sixteen_bit_audio_passes_bit_by_bit(make_dir, audio_format):
    folder = make_dir()
    format_audio(folder, TARGET, FormatOptions(audio_format=audio_format))
    assert check_data_dir(TARGET) == []
    for utt, path in table("wav.scp").items():
        ours, fs = soundfile.read(path, dtype="int16")
        source, _ = soundfile.read(f"downloads/train/{utt}.wav", dtype="int16")
        assert fs == 16000 and path.endswith(f"{utt}.{audio_format}")
        np.testing.assert_array_equal(ours, source)
        assert table("utt2num_samples")[utt] == str(len(source))
        assert float(table("utt2dur")[utt]) == len(source) / 16000
    assert (TARGET / "feats_type").read_text() == "raw\n"
    assert (TARGET / "audio_format").read_text() == f"{audio_format}\n"
    for name in ("text", "utt2spk", "spk2utt"):
        assert (TARGET / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("audio_format", ["flac.ark", "wav.ark"])
def test_archives_hold_the_same_sound(make_dir, audio_format):
    import kaldiio

    format_audio(make_dir(), TARGET, FormatOptions(audio_format=audio_format))
    for utt, entry in table("wav.scp").items():
        fs, ours = kaldiio.load_mat(entry)
        source, _ = soundfile.read(f"downloads/train/{utt}.wav")
        assert fs == 16000
        np.testing.assert_array_equal(ours, source)


def test_archives_can_be_formatted_again(make_dir):
    format_audio(make_dir(), TARGET, FormatOptions(audio_format="flac.ark"))
    format_audio(TARGET, "dump/again", FormatOptions())
    source, _ = soundfile.read("downloads/train/spk0-u000.wav", dtype="int16")
    ours, _ = soundfile.read(table("wav.scp", Path("dump/again"))["spk0-u000"], dtype="int16")
    np.testing.assert_array_equal(ours, source)


@pytest.mark.parametrize(("rate", "speed"), [(8000, 1.0), (44100, 1.0), (16000, 0.9), (16000, 1.1), (22050, 1.1)])
def test_resampled_tone_is_the_tone_of_the_formula(rate, speed):
    ours = resample(tone(1.0, rate, 1000.0).astype(np.float32), rate, 16000, speed)
    expected = 0.5 * np.sin(2 * np.pi * 1000.0 * speed * np.arange(len(ours)) / 16000)
    assert len(ours) == round(rate * 16000 / (rate * speed))
    inner = slice(800, len(ours) - 800)
    np.testing.assert_allclose(ours[inner], expected[inner], atol=2e-4)


def test_resampling_down_leaves_nothing_folded_over():
    high = resample(tone(1.0, 48000, 12000.0).astype(np.float32), 48000, 16000)
    assert np.sqrt(np.mean(high[800:-800] ** 2)) < 1e-4


def test_pcm16_rounds_and_clips_instead_of_wrapping():
    samples = np.array([0.0, 1.0, -1.0, 1.7, -1.7, 1 / 32768, 0.4 / 32768, -0.6 / 32768], dtype=np.float32)
    assert to_pcm16(samples).tolist() == [0, 32767, -32768, 32767, -32768, 1, 0, -1]


def test_another_rate_is_resampled_and_reported(make_dir, caplog):
    caplog.set_level("INFO")
    format_audio(make_dir(fs=8000), TARGET, FormatOptions())
    message = (
        "dump/raw/train: 4 utterances (spk0-u000 ...) resampled from 8000 to 16000 Hz: nothing above 4000 Hz is in them"
    )
    assert message in caplog.text and "--fs 8000" in caplog.text
    for path in table("wav.scp").values():
        ours, fs = soundfile.read(path)
        assert fs == 16000 and len(ours) == 8000
        assert abs(peak_hz(ours, fs) - 440) < 3


def test_speed_perturbation_names_durations_and_pitch(make_dir):
    folder = make_dir()
    (folder / "spk2gender").write_text("spk0 f\nspk1 m\n")
    format_audio(folder, TARGET, FormatOptions(speed_perturb_factors=("0.9", "1.0", "1.1")))
    assert check_data_dir(TARGET) == []
    wav = table("wav.scp")
    assert len(wav) == 12
    for factor, prefix in ((0.9, "sp0.9-"), (1.0, ""), (1.1, "sp1.1-")):
        utt = f"{prefix}spk0-u000"
        ours, fs = soundfile.read(wav[utt])
        assert abs(len(ours) - 8000 / factor) <= 1
        assert abs(peak_hz(ours, fs) - 440 * factor) < 3
        assert table("utt2spk")[utt] == f"{prefix}spk0"
        assert table("utt2uniq")[utt] == "spk0-u000"
        assert table("text")[utt] == "turn on lamp 0"
        assert table("spk2gender")[f"{prefix}spk0"] == "f"


def test_segments_are_cut_out(make_dir):
    folder = make_dir(utts=1, seconds=2.0)
    (folder / "segments").write_text("spk0-a spk0-u000 0.25 0.75\nspk0-b spk0-u000 0.5 -1\nspk0-c spk0-u000 1.5 2.3\n")
    for name, value in (("text", "hi"), ("utt2spk", "spk0")):
        (folder / name).write_text("".join(f"spk0-{x} {value}\n" for x in "abc"))
    (folder / "spk2utt").write_text("spk0 spk0-a spk0-b spk0-c\n")
    format_audio(folder, TARGET, FormatOptions())
    source, _ = soundfile.read("downloads/train/spk0-u000.wav", dtype="int16")
    for utt, first, last in (("spk0-a", 4000, 12000), ("spk0-b", 8000, 32000), ("spk0-c", 24000, 32000)):
        np.testing.assert_array_equal(soundfile.read(table("wav.scp")[utt], dtype="int16")[0], source[first:last])
    assert not (TARGET / "segments").exists()
    assert check_data_dir(TARGET) == []


def test_segment_outside_the_recording_is_named(make_dir):
    folder = make_dir(utts=1, seconds=1.0)
    (folder / "segments").write_text("spk0-u000 spk0-u000 0.5 1.6\n")
    with pytest.raises(DataError, match=r"segment 0.5 to 1.6 s is outside the recording of 1.000 s"):
        format_audio(folder, TARGET, FormatOptions())


def damage(folder: Path) -> dict[str, str]:
    """Put one fault of each kind into a directory of ten utterances; give the message that names each."""
    audio = Path("downloads/train")
    garbage, cut_wav, cut_flac, no_samples, stereo, missing, not_finite, cut_ogg = [
        audio / f"{line.split()[0]}.wav" for line in (folder / "wav.scp").read_text().splitlines()[:8]
    ]
    garbage.write_bytes(b"this is no audio at all" * 100)
    cut_wav.write_bytes(cut_wav.read_bytes()[: cut_wav.stat().st_size // 2])
    samples, fs = soundfile.read(cut_flac)
    soundfile.write(cut_flac, samples, fs, format="FLAC")
    cut_flac.write_bytes(cut_flac.read_bytes()[: cut_flac.stat().st_size // 2])
    soundfile.write(no_samples, samples[:0], fs)
    soundfile.write(stereo, np.stack([samples, 0.5 * samples], axis=1), fs)
    missing.unlink()
    soundfile.write(not_finite, np.full(800, np.nan), fs, subtype="FLOAT")
    soundfile.write(cut_ogg, np.tile(samples, 4), fs, format="OGG")
    cut_ogg.write_bytes(cut_ogg.read_bytes()[: cut_ogg.stat().st_size // 2])
    expected = {
        garbage: "not readable as audio",
        cut_wav: "truncated: header promises 16000 bytes of audio, 7978 are there",
        cut_flac: "truncated or damaged",
        no_samples: "no samples",
        stereo: "2 channels: choose one with --ref_channel 0 (to 1), or --ref_channel mix",
        missing: "file not found: downloads/train/",
        not_finite: "samples that are not finite",
        cut_ogg: "truncated: ",
    }
    return {path.stem: what for path, what in expected.items()}


def test_all_bad_audio_is_listed_at_once_and_nothing_is_left(make_dir, capsys):
    folder = make_dir(utts=10)
    expected = damage(folder)
    with pytest.raises(DataError) as error:
        format_audio(folder, TARGET, FormatOptions())
    found = error.value.problems
    assert [problem.line for problem in found] == list(range(1, 9))
    for problem in found:
        assert re.match(rf"data/train/wav.scp:{problem.line}: {problem.utt}: ", str(problem))
        assert expected[problem.utt] in str(problem)
    assert not (TARGET / "wav.scp").exists() and not (TARGET / "text").exists()


def test_bad_audio_may_be_left_out_up_to_a_number(make_dir):
    folder = make_dir(utts=10)
    expected = damage(folder)
    with pytest.raises(DataError):
        main([str(folder), str(TARGET), "--skip_bad_audio", "7"])
    main([str(folder), str(TARGET), "--skip_bad_audio", "8", "--speed_perturb_factors", "1.0 1.1"])
    assert sorted(table("wav.scp")) == ["sp1.1-spk1-u007", "sp1.1-spk1-u009", "spk1-u007", "spk1-u009"]
    assert check_data_dir(TARGET) == []
    report = (TARGET / "bad_audio.txt").read_text().splitlines()
    assert [line.split(": ")[1] for line in report] == list(expected)


def test_repaired_file_is_the_only_part_done_again(make_dir, monkeypatch):
    monkeypatch.setattr("espnet2_kd.data.format.PART_SIZE", 2)
    folder = make_dir(utts=6)
    good = Path("downloads/train/spk0-u004.wav").read_bytes()
    Path("downloads/train/spk0-u004.wav").write_bytes(good[:-100])
    with pytest.raises(DataError, match="spk0-u004: truncated"):
        format_audio(folder, TARGET, FormatOptions())
    before = {path: path.stat().st_mtime_ns for path in TARGET.rglob("*.flac")}
    Path("downloads/train/spk0-u004.wav").write_bytes(good)
    format_audio(folder, TARGET, FormatOptions())
    after = {path: path.stat().st_mtime_ns for path in TARGET.rglob("*.flac")}
    changed = {path.stem for path in after if before.get(path) != after[path]}
    assert changed == {"spk0-u004", "spk1-u001"}


@pytest.mark.parametrize(("channel", "weights"), [("0", (1, 0)), ("1", (0, 1)), ("mix", (0.5, 0.5))])
def test_channels_are_chosen_or_mixed(make_dir, channel, weights):
    folder = make_dir(utts=1)
    both = np.random.default_rng(0).integers(-9000, 9000, (800, 2)).astype(np.int16)
    soundfile.write("downloads/train/spk0-u000.wav", both, 16000)
    format_audio(folder, TARGET, FormatOptions(ref_channel=channel))
    ours, _ = soundfile.read(table("wav.scp")["spk0-u000"], dtype="int16")
    np.testing.assert_array_equal(ours, np.rint(both @ np.array(weights)).astype(np.int16))


def test_the_sum_of_the_audio_tells_what_paths_and_lengths_do_not(make_dir, monkeypatch):
    folder = make_dir(utts=5)
    for utt in table("wav.scp", folder):
        both = np.random.default_rng(len(utt)).integers(-9000, 9000, (800, 2)).astype(np.int16)
        soundfile.write(f"downloads/train/{utt}.wav", both, 16000)
    found = {}
    for channel in "01":
        data = format_audio(folder, TARGET, FormatOptions(ref_channel=channel))
        found[channel] = {name: (TARGET / name).read_bytes() for name in ("wav.scp", "utt2num_samples", "audio_sum")}
        expected = 0
        for utt, path in table("wav.scp").items():
            samples = soundfile.read(path, dtype="int16")[0]
            expected += int(hashlib.sha256(utt.encode() + b"\0" + samples.astype("<i2").tobytes()).hexdigest(), 16)
        assert data.notes["audio_sum"] == f"{expected % 2**256:064x}"
    assert found["0"]["wav.scp"] == found["1"]["wav.scp"]
    assert found["0"]["utt2num_samples"] == found["1"]["utt2num_samples"]
    assert found["0"]["audio_sum"] != found["1"]["audio_sum"]
    # However the work is cut.
    monkeypatch.setattr("espnet2_kd.data.format.PART_SIZE", 2)
    format_audio(folder, Path("dump/other"), FormatOptions(ref_channel="1"))
    assert Path("dump/other/audio_sum").read_bytes() == found["1"]["audio_sum"]
    parts = split(folder, 2)
    for number, part in enumerate(parts):
        format_audio(part.path, Path(f"dump/parts/{number}"), FormatOptions(ref_channel="1"))
    whole, _ = combine([f"dump/parts/{number}" for number in range(2)], "dump/whole")
    assert whole.notes["audio_sum"] == data.notes["audio_sum"]


def test_commands_run_only_when_allowed(make_dir):
    folder = make_dir(utts=2)
    scp = (
        (folder / "wav.scp")
        .read_text()
        .replace(" downloads", " touch ran; cat downloads", 1)
        .replace(".wav", ".wav |", 1)
    )
    (folder / "wav.scp").write_text(scp)
    with pytest.raises(DataError, match="wav.scp:1: spk0-u000: is a command, not a file"):
        format_audio(folder, TARGET, FormatOptions())
    assert not Path("ran").exists()
    format_audio(folder, TARGET, FormatOptions(allow_pipes=True))
    source, _ = soundfile.read("downloads/train/spk0-u000.wav", dtype="int16")
    np.testing.assert_array_equal(soundfile.read(table("wav.scp")["spk0-u000"], dtype="int16")[0], source)
    (folder / "wav.scp").write_text(scp.replace("cat downloads", "cat nowhere"))
    with pytest.raises(DataError, match="command ended with status 1"):
        format_audio(folder, TARGET, FormatOptions(allow_pipes=True))


def test_pickle_in_an_archive_is_not_run(make_dir):
    import pickle

    class Touch:
        def __reduce__(self):
            return (os.mkdir, ("ran",))

    folder = make_dir(utts=1)
    Path("evil.ark").write_bytes(b"spk0-u000 PKL" + pickle.dumps(Touch()))
    (folder / "wav.scp").write_text("spk0-u000 evil.ark:10\n")
    with pytest.raises(DataError, match=r"no readable sound at byte 10 \(there is no sound\): evil.ark"):
        format_audio(folder, TARGET, FormatOptions())
    assert not Path("ran").exists()


@pytest.mark.parametrize("kind", ["flac", "wav", "kaldi_wav"])
def test_archive_cut_anywhere_is_noticed(make_dir, kind):
    import kaldiio

    folder = make_dir(utts=1)
    samples = np.random.default_rng(0).integers(-9000, 9000, 400).astype(np.int16)
    kwargs = {} if kind == "kaldi_wav" else {"write_function": "soundfile", "write_kwargs": {"format": kind}}
    kaldiio.save_ark("a.ark", {"x": (16000, samples)}, **kwargs)
    whole = Path("a.ark").read_bytes()
    np.testing.assert_array_equal(to_pcm16(read_audio("a.ark:2")[0]), samples)
    for size in range(2, len(whole), 3):
        Path("a.ark").write_bytes(whole[:size])
        with pytest.raises(AudioFault, match="no readable sound at byte 2"):
            read_audio("a.ark:2")
    (folder / "wav.scp").write_text("spk0-u000 a.ark:2\n")
    with pytest.raises(DataError, match="wav.scp:1: spk0-u000: no readable sound at byte 2"):
        format_audio(folder, TARGET, FormatOptions())


@pytest.mark.parametrize("size", ["04 6ce280a8", "06 6ce280a8007f", "ff" + "ff" * 255])
def test_archive_that_promises_more_than_memory_holds(tmp_path, size):
    """Found by fuzzing: room was made for what the archive promises before it was looked at."""
    (tmp_path / "a.ark").write_bytes(b"a AUDIO" + bytes.fromhex(size) + b"RIFF0000WAVE")
    with pytest.raises(AudioFault, match=r"truncated: \d+ bytes promised, 12 are there"):
        read_audio(f"{tmp_path}/a.ark:2")


def test_flac_that_promises_more_than_memory_holds(tmp_path):
    """Found by fuzzing: the number of samples has 36 bits, and a float32 for each was asked for."""
    path = tmp_path / "x.flac"
    soundfile.write(path, tone(0.5, 16000), 16000)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # the upper four bits: 64 thousand million samples
    path.write_bytes(content)
    with pytest.raises(AudioFault, match=r"(truncated|not readable).*x\.flac"):
        read_audio(str(path))


def test_sound_is_read_in_pieces(tmp_path, monkeypatch):
    from espnet2_kd.data import integrity

    samples = np.random.default_rng(0).integers(-9000, 9000, (1000, 2)).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", samples, 16000)
    for piece in (1, 7, 999, 1000, 2000, 2001, 10**6):
        monkeypatch.setattr(integrity, "PIECE", piece)
        for start, num in ((0, None), (0, 1000), (0, 10), (990, 10), (400, 0), (0, 5000)):
            with soundfile.SoundFile(tmp_path / "x.wav") as sound:
                sound.seek(start)
                found = integrity.read_samples(sound, num)
            wanted = samples[start:] if num is None else samples[start : start + num]
            np.testing.assert_array_equal(found, wanted.astype(np.float32) / 32768)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared/data beside the project")
def test_no_good_file_is_taken_for_a_truncated_one():
    files = [path for kind in ("opus", "flac") for path in sorted(SHARED.glob(f"*/audio/**/*.{kind}"))[::40]]
    assert len(files) > 300
    for path in files:
        with open(path, "rb") as stream:
            assert truncation(stream) is None


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "OGG", "FLAC"])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
def test_cut_files_of_every_kind_are_noticed(tmp_path, kind, kept):
    path = tmp_path / "x"
    soundfile.write(path, tone(3.0, 16000), 16000, format=kind)
    assert len(read_audio(str(path))[0]) == 48000
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(AudioFault, match=r"truncated|not readable"):
        read_audio(str(path))


def test_wav_of_a_program_that_could_not_seek_is_accepted(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(0.5, 16000), 16000)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[4:8] = content[at : at + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    assert len(read_audio(str(path))[0]) == 8000


def test_finished_run_is_left_alone_and_damage_to_it_is_noticed(make_dir, monkeypatch):
    monkeypatch.setattr("espnet2_kd.data.format.PART_SIZE", 3)
    folder = make_dir(utts=8)
    format_audio(folder, TARGET, FormatOptions())
    good = snapshot(TARGET)
    times = {path: path.stat().st_mtime_ns for path in TARGET.rglob("*")}
    format_audio(folder, TARGET, FormatOptions())
    assert {path: path.stat().st_mtime_ns for path in TARGET.rglob("*")} == times
    hurt = Path(table("wav.scp")["spk1-u005"])
    hurt.write_bytes(hurt.read_bytes()[:-50])
    format_audio(folder, TARGET, FormatOptions())
    assert snapshot(TARGET) == good


def test_number_of_processes_and_older_runs_do_not_show(make_dir, monkeypatch):
    monkeypatch.setattr("espnet2_kd.data.format.PART_SIZE", 2)
    folder = make_dir(utts=9)
    format_audio(folder, TARGET, FormatOptions(), nj=3)
    many = snapshot(TARGET)
    (TARGET / "data/format.77").mkdir()
    (TARGET / "data/format.77/stale.flac").write_bytes(b"x")
    (TARGET / "data/.format.1.ark.99.tmp").write_bytes(b"x")
    format_audio(folder, TARGET, FormatOptions(), nj=1)
    assert snapshot(TARGET) == many
    format_audio(folder, TARGET, FormatOptions(audio_format="flac.ark"), nj=2)
    assert {path.suffix for path in (TARGET / "data").iterdir()} == {".ark", ".json"}
    format_audio(folder, TARGET, FormatOptions(), nj=1)
    assert snapshot(TARGET) == many


def test_user_files_beside_the_parts_stay(make_dir):
    folder = make_dir()
    (TARGET / "data").mkdir(parents=True)
    (TARGET / "data/notes.txt").write_text("mine")
    format_audio(folder, TARGET, FormatOptions())
    assert (TARGET / "data/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("audio_format", ["flac", "flac.ark"])
def test_killed_and_resumed_run_gives_the_same_bytes(make_dir, audio_format):
    folder = make_dir(utts=160, seconds=4.0)
    command = [sys.executable, "-m", "espnet2_kd.bin.format_audio", "--nj", "2", "--audio_format", audio_format]
    command += ["--speed_perturb_factors", "0.9 1.0 1.1", str(folder)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen([*command, str(TARGET)], env=env, stderr=subprocess.DEVNULL)
    while killed.poll() is None and not list(TARGET.glob("data/*.json")):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in TARGET.glob("data/*.json")}
    assert 0 < len(done) < 10 and not (TARGET / "wav.scp").exists()
    subprocess.run([*command, str(TARGET)], env=env, capture_output=True, check=True)
    assert len(list(TARGET.glob("data/*.json"))) == 10
    assert {path: path.stat().st_mtime_ns for path in done} == done
    whole = Path("dump/raw/whole/../train2")
    format_audio(folder, whole, FormatOptions(audio_format=audio_format, speed_perturb_factors=("0.9", "1.0", "1.1")))
    one, other = snapshot(TARGET / "data"), snapshot(whole / "data")
    assert one == other
    tables = {
        name: (TARGET / name).read_bytes() for name in ("text", "utt2spk", "spk2utt", "utt2num_samples", "utt2uniq")
    }
    assert tables == {name: (whole / name).read_bytes() for name in tables}
    assert (TARGET / "wav.scp").read_text() == (whole / "wav.scp").read_text().replace(str(whole), str(TARGET))


def test_workers_end_with_their_killed_parent(make_dir, all_end):
    folder = make_dir(utts=200, seconds=6.0)
    command = [sys.executable, "-m", "espnet2_kd.bin.format_audio", "--nj", "2", str(folder), str(TARGET)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    while parent.poll() is None and not list(TARGET.glob("data/*")):
        time.sleep(0.01)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert children
    parent.kill()
    parent.wait()
    assert all_end(children)


def test_source_and_target_must_differ(make_dir):
    with pytest.raises(DataError, match="the same directory"):
        format_audio(make_dir(), "data/train", FormatOptions())


@pytest.mark.parametrize(
    "options",
    [
        ["--fs", "16kHz"],
        ["--speed_perturb_factors", "fast"],
        ["--speed_perturb_factors", "1.0 1"],
        ["--ref_channel", "-1"],
    ],
)
def test_wrong_options_are_refused_before_anything_happens(make_dir, options):
    with pytest.raises(SystemExit) as error:
        main([str(make_dir()), str(TARGET), *options])
    assert error.value.code == 2 and not TARGET.exists()
