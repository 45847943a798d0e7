"""Connected digits from the two layouts of the Free Spoken Digit Dataset; the digits here are tones one can measure."""

import csv
import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SPLIT = {"nicolas": "train", "theo": "train", "yweweler": "train", "george": "valid", "jackson": "test"}
SIZES = ("--num_train", 9, "--num_valid", 4, "--num_test", 5, "--num_test_lucas", 3)
PACK = Path(__file__).resolve().parents[2] / "../shared/data/fsdd"


def hertz(digit):
    return 300 + 150 * digit


def tone(digit, seconds, fs):
    return 0.5 * np.sin(2 * np.pi * hertz(digit) * np.arange(round(seconds * fs)) / fs)


def seconds_of(digit, index):
    return 0.2 + 0.01 * digit + 0.05 * index


@pytest.fixture
def public(tmp_path):
    """The public repository with two takes of each digit by each of the six speakers, at 8 kHz."""
    folder = tmp_path / "free-spoken-digit-dataset" / "recordings"
    folder.mkdir(parents=True)
    for speaker in [*SPLIT, "lucas"]:
        for digit in range(10):
            for index in range(2):
                sound = tone(digit, seconds_of(digit, index), 8000)
                soundfile.write(folder / f"{digit}_{speaker}_{index}.wav", sound, 8000, subtype="PCM_16")
    (folder.parent / "README.md").write_text("Free Spoken Digit Dataset\n")
    return folder.parent


def rows(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def heard_digits(samples, gaps, lengths, fs):
    """The digits by the strongest frequency of each stretch, after checking that each gap is silent."""
    position, digits = 0, []
    for gap, length in zip(gaps, lengths):
        assert not np.any(samples[position + 40 : position + gap - 40])
        piece = samples[position + gap : position + gap + length]
        spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 16 * len(piece)))
        digits.append(round((np.argmax(spectrum) * fs / (16 * len(piece)) - 300) / 150))
        position += gap + length
    assert position == len(samples)
    return digits


def test_public_layout(recipe, public):
    fsdd = recipe("fsdd")
    done = fsdd.data("--corpus", public, *SIZES)
    assert done.returncode == 0, done.stderr
    sizes = {"train": 9, "valid": 4, "test": 5, "test_lucas": 3}
    assert fsdd.sets() == sorted(sizes)
    speakers = {name: set(fsdd.table(f"{name}/utt2spk").values()) for name in sizes}
    assert speakers == {
        "train": {"nicolas", "theo", "yweweler"},
        "valid": {"george"},
        "test": {"jackson"},
        "test_lucas": {"lucas"},
    }
    for name, size in sizes.items():
        text, wav = fsdd.table(f"{name}/text"), fsdd.table(f"{name}/wav.scp")
        strings = {row["string_id"]: row for row in rows(fsdd.path / f"downloads/lists/strings_{name}.tsv")}
        assert len(text) == len(strings) == size and set(text) == set(wav) == set(strings)
        for utt, words in text.items():
            row = strings[utt]
            samples, fs = soundfile.read(fsdd.path / wav[utt])
            parts = [stem.split("_") for stem in row["utt_ids"].split()]
            assert {speaker for _, speaker, _ in parts} == {row["speaker"]} <= speakers[name]
            assert fs == 16000 and 3 <= len(parts) <= 8 and utt.startswith(row["speaker"] + "_")
            gaps = [int(gap) for gap in row["gaps_ms"].split()]
            assert min(gaps) >= 20 and max(gaps) <= 190
            lengths = [2 * round(8000 * seconds_of(int(digit), int(index))) for digit, _, index in parts]
            digits = heard_digits(samples, [gap * 16 for gap in gaps], lengths, fs)
            assert words == " ".join(WORDS[digit] for digit in digits)


def test_same_strings_for_the_same_seed(recipe, public):
    fsdd = recipe("fsdd")
    assert fsdd.data("--corpus", public, *SIZES).returncode == 0

    def state():
        files = [
            path
            for path in fsdd.path.rglob("*")
            if path.suffix in (".flac", ".tsv") or path.parent.parent.name == "data"
        ]
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    first = state()
    times = {path: path.stat().st_mtime_ns for path in first if path.suffix == ".flac"}
    assert len(times) == 21
    assert fsdd.data("--corpus", public, *SIZES).returncode == 0
    assert state() == first and times == {path: path.stat().st_mtime_ns for path in times}
    assert fsdd.data("--corpus", public, *SIZES, "--seed", 2).returncode == 0
    text = fsdd.path / "data/train/text"
    assert state()[text] != first[text]


def test_missing_speakers_are_named(recipe, public):
    for path in [*public.glob("recordings/*_jackson_*"), *public.glob("recordings/*_theo_*")]:
        path.unlink()
    fsdd = recipe("fsdd")
    done = fsdd.data("--corpus", public, *SIZES)
    assert done.returncode == 1 and "no recordings of theo, jackson named" in done.stderr
    assert "Traceback" not in done.stderr and not (fsdd.path / "data").exists()


def test_every_string_with_a_damaged_recording_is_named(recipe, public):
    for digit in range(10):
        (public / "recordings" / f"{digit}_george_0.wav").write_bytes(b"not audio")
    fsdd = recipe("fsdd")
    done = fsdd.data("--corpus", public, *SIZES)
    strings = rows(fsdd.path / "downloads/lists/strings_valid.tsv")
    bad = {row["string_id"] for row in strings if "_george_0" in row["utt_ids"]}
    assert len(bad) >= 3 and done.returncode == 1 and "Traceback" not in done.stderr
    assert {row["string_id"] for row in strings if f" {row['string_id']}: " in done.stderr} == bad
    assert not (fsdd.path / "data/valid").exists()


def test_folder_without_the_corpus(recipe, tmp_path):
    done = recipe("fsdd").data("--corpus", tmp_path)
    assert done.returncode == 1
    assert "is not the Free Spoken Digit Dataset: give the clone of the public repository" in done.stderr


@pytest.fixture
def pack(tmp_path):
    """A TSV pack of 16 kHz recordings with its lists of strings."""
    folder = tmp_path / "fsdd"
    table = []
    for speaker, split in SPLIT.items():
        (folder / "audio" / speaker).mkdir(parents=True)
        for digit in range(10):
            name = f"fsdd_{speaker}_{digit}_00"
            soundfile.write(folder / f"audio/{speaker}/{name}.flac", tone(digit, seconds_of(digit, 0), 16000), 16000)
            part = {"valid": "dev"}.get(split, split)
            table.append([name, speaker, part, "0.2", WORDS[digit], str(digit), part, f"audio/{speaker}/{name}.flac"])
    header = ["utt_id", "speaker", "split", "dur", "text", "intent", "orig_split", "path"]
    (folder / "all.tsv").write_text("".join("\t".join(line) + "\n" for line in [header, *table]))
    for part, speakers in {"train": ["theo", "nicolas"], "dev": ["george"], "test": ["jackson"]}.items():
        lines = ["string_id\tspeaker\ttext\tutt_ids\tgaps_ms"]
        for number, speaker in enumerate(speakers):
            ids = " ".join(f"fsdd_{speaker}_{digit}_00" for digit in (9, number, 4))
            lines.append(f"{part}_{speaker}_{number:05d}\t{speaker}\tnine {WORDS[number]} four\t{ids}\t50 20 100")
        (folder / f"strings_{part}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("how", ["--corpus", "KD_DATA"])
def test_tsv_pack(recipe, pack, how):
    fsdd = recipe("fsdd")
    done = fsdd.data("--corpus", pack) if how == "--corpus" else fsdd.data(KD_DATA=str(pack.parent))
    assert done.returncode == 0, done.stderr
    assert fsdd.sets() == ["test", "train", "valid"]
    assert list(fsdd.table("train/text").values()) == ["nine one four", "nine zero four"]
    assert set(fsdd.table("valid/utt2spk").values()) == {"george"}
    for name in fsdd.sets():
        for utt, path in fsdd.table(f"{name}/wav.scp").items():
            samples, fs = soundfile.read(fsdd.path / path)
            words = fsdd.table(f"{name}/text")[utt]
            lengths = [round(seconds_of(WORDS.index(word), 0) * fs) for word in words.split()]
            assert [WORDS[d] for d in heard_digits(samples, [800, 320, 1600], lengths, fs)] == words.split()


def test_unknown_recordings_of_a_pack_are_listed(recipe, pack):
    strings = pack / "strings_train.tsv"
    strings.write_text(
        strings.read_text().replace("fsdd_theo_9_00", "fsdd_theo_9_77").replace("fsdd_nicolas_4", "gone")
    )
    done = recipe("fsdd").data("--corpus", pack)
    assert done.returncode == 1
    assert "fsdd_theo_9_77" in done.stderr and "gone_00" in done.stderr and f"{strings}:2:" in done.stderr


@pytest.mark.skipif(not PACK.is_dir(), reason="needs shared/data/fsdd")
def test_real_pack(recipe, tmp_path):
    (tmp_path / "audio").symlink_to((PACK / "audio").resolve())
    (tmp_path / "all.tsv").write_bytes((PACK / "all.tsv").read_bytes())
    for part in ("train", "dev", "test"):
        lines = (PACK / f"strings_{part}.tsv").read_text().splitlines(keepends=True)
        (tmp_path / f"strings_{part}.tsv").write_text("".join(lines[:21]))
    fsdd = recipe("fsdd")
    done = fsdd.data("--corpus", tmp_path)
    assert done.returncode == 0, done.stderr
    seconds = {row["utt_id"]: float(row["dur"]) for row in rows(PACK / "all.tsv")}
    speakers = []
    for name, part in {"train": "train", "valid": "dev", "test": "test"}.items():
        expected = {row["string_id"]: row for row in rows(tmp_path / f"strings_{part}.tsv")}
        text, wav = fsdd.table(f"{name}/text"), fsdd.table(f"{name}/wav.scp")
        assert len(text) == len(expected) == 20
        for utt, words in text.items():
            row = expected[utt.split("-", 1)[1]]
            assert words == row["text"]
            wanted = sum(seconds[u] for u in row["utt_ids"].split()) + sum(map(int, row["gaps_ms"].split())) / 1000
            assert soundfile.info(fsdd.path / wav[utt]).duration == pytest.approx(
                wanted, abs=0.001 * len(words.split())
            )
        speakers.append(set(fsdd.table(f"{name}/utt2spk").values()))
    assert len(set.union(*speakers)) == sum(map(len, speakers)) == 5


def archive_of(corpus, commit):
    bundle = io.BytesIO()
    with tarfile.open(fileobj=bundle, mode="w:gz") as archive:
        archive.add(corpus, f"free-spoken-digit-dataset-{commit}")
    return bundle.getvalue()


def test_download(local_module, public, tmp_path, monkeypatch):
    prepare = local_module("fsdd", "prepare")
    served = tmp_path / "served.tar.gz"
    served.write_bytes(archive_of(public, prepare.COMMIT))
    shell = "LC_ALL=C sha256sum *.wav | sha256sum"
    listed = subprocess.run(
        ["bash", "-c", shell], cwd=public / "recordings", capture_output=True, text=True, check=True
    )
    monkeypatch.setattr(prepare, "usual_places", lambda names: [])
    monkeypatch.setattr(prepare, "ARCHIVE", prepare.RemoteFile((served.as_uri(),), prepare.ARCHIVE.name))
    with pytest.raises(prepare.DownloadError, match="recordings have SHA-256"):
        prepare.find_corpus(None, tmp_path / "d")
    assert os.listdir(tmp_path / "d") == []
    monkeypatch.setattr(prepare, "RECORDINGS_SHA256", listed.stdout.split()[0])
    corpus = prepare.find_corpus(None, tmp_path / "d")
    assert len(list((corpus / "recordings").glob("*.wav"))) == 120
    served.unlink()
    assert prepare.find_corpus(None, tmp_path / "d") == corpus


def test_synthetic_copy(recipe):
    fsdd = recipe("fsdd")
    done = fsdd.data("--synthetic", "true")
    if "espeak-ng: not found" in done.stderr:
        pytest.skip("espeak-ng is not installed")
    assert done.returncode == 0, done.stderr
    assert {name: len(fsdd.table(f"{name}/text")) for name in fsdd.sets()} == {
        "train": 48,
        "valid": 12,
        "test": 12,
        "test_lucas": 12,
    }
    infos = [soundfile.info(path) for path in (fsdd.path / "downloads/synthetic/recordings").glob("*.wav")]
    assert len(infos) == 180 and {info.samplerate for info in infos} == {8000}
