"""LibriSpeech from its exact layout, read back with lhotse's own recipe and torchaudio's data set."""

import io
import itertools
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

PARTS = {
    "train-clean-100": {"103": "1240", "32": "21625"},
    "train-clean-360": {"14": "208"},
    "train-other-500": {"20": "205"},
    "dev-clean": {"1272": "128104"},
    "dev-other": {"116": "288045"},
    "test-clean": {"1089": "134686"},
    "test-other": {"367": "130732"},
}
SENTENCES = ["CHAPTER ONE", "MISSUS RACHEL LYNDE IS SURPRISED", "IT'S A LONG WAY"]


def write_part(root, part):
    """`LibriSpeech/<part>/<reader>/<chapter>/<reader>-<chapter>-<number>.flac` with one transcript file per chapter."""
    for reader, chapter in PARTS[part].items():
        folder = root / "LibriSpeech" / part / reader / chapter
        folder.mkdir(parents=True)
        lines = []
        for number, sentence in enumerate(SENTENCES):
            utt = f"{reader}-{chapter}-{number:04d}"
            samples = 0.1 * np.sin(np.arange(1600 * (number + 2)) * 0.05)
            soundfile.write(folder / f"{utt}.flac", samples, 16000)
            lines.append(f"{utt} {sentence}\n")
        (folder / f"{reader}-{chapter}.trans.txt").write_text("".join(lines))


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "corpus"
    for part in PARTS:
        write_part(root, part)
    return root


@pytest.mark.parametrize(("subset", "readers"), [("960", {"103", "32", "14", "20"}), ("clean_100", {"103", "32"})])
def test_layout(recipe, corpus, subset, readers):
    libri = recipe("librispeech")
    for folder in (corpus, corpus / "LibriSpeech"):
        done = libri.data("--corpus", folder, "--subset", subset)
        assert done.returncode == 0, done.stderr
    assert libri.sets() == ["dev", "test_clean", "test_other", f"train_{subset}"]
    assert set(libri.table(f"train_{subset}/utt2spk").values()) == readers
    assert set(libri.table("dev/utt2spk").values()) == {"1272", "116"}
    for name in libri.sets():
        for utt, path in libri.table(f"{name}/wav.scp").items():
            reader, chapter, number = utt.split("-")
            assert Path(path).parts[-3:] == (reader, chapter, f"{utt}.flac") and Path(path).is_file()
            assert libri.table(f"{name}/text")[utt] == SENTENCES[int(number)]


def test_lhotse_and_torchaudio_read_the_same(recipe, corpus):
    prepare_librispeech = pytest.importorskip("lhotse.recipes").prepare_librispeech
    datasets = pytest.importorskip("torchaudio.datasets")
    libri = recipe("librispeech")
    assert libri.data("--corpus", corpus, "--subset", "clean_100").returncode == 0
    parts = {"train_clean_100": "train-clean-100", "test_other": "test-other"}
    manifests = prepare_librispeech(corpus / "LibriSpeech", dataset_parts=list(parts.values()))
    for name, part in parts.items():
        text, utt2spk = libri.table(f"{name}/text"), libri.table(f"{name}/utt2spk")
        supervisions = manifests[part]["supervisions"]
        assert {(s.id, s.speaker, s.text) for s in supervisions} == {(u, utt2spk[u], text[u]) for u in text}
        metadata = datasets.LIBRISPEECH(corpus, url=part)
        found = (metadata.get_metadata(index) for index in range(len(metadata)))
        assert {(f"{s}-{c}-{u:04d}", str(s), words) for _, _, words, s, c, u in found} == {
            (u, utt2spk[u], text[u]) for u in text
        }


def test_all_faults_are_listed(recipe, corpus):
    chapter = corpus / "LibriSpeech/test-clean/1089/134686"
    (chapter / "1089-134686-0001.flac").unlink()
    transcripts = chapter / "1089-134686.trans.txt"
    transcripts.write_text("1089-134686-0000\n1089-134686-0001 X Y\n")
    libri = recipe("librispeech")
    done = libri.data("--corpus", corpus)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{transcripts}:1: 1089-134686-0000: no words" in done.stderr
    assert f"{transcripts}:2: 1089-134686-0001: no 1089-134686-0001.flac" in done.stderr
    assert f"{transcripts}: 1089-134686-0002: has audio and no transcript" in done.stderr.replace(":0:", ":")
    assert not (libri.path / "data").exists()


def test_missing_parts_are_named(recipe, tmp_path):
    write_part(tmp_path, "dev-clean")
    done = recipe("librispeech").data("--corpus", tmp_path, "--subset", "clean_100")
    assert done.returncode == 1
    assert "holds no train-clean-100, dev-other, test-clean, test-other: give the folder that" in done.stderr


def test_what_is_missing_is_downloaded_and_verified(local_module, tmp_path, monkeypatch):
    """Parts that lie there are used; the others come as archives, whose checksum must be the published one."""
    prepare = local_module("librispeech", "prepare")
    monkeypatch.setattr(prepare, "usual_places", lambda names: [])
    archives = tmp_path / "mirror"
    archives.mkdir()
    write_part(tmp_path / "made", "dev-clean")
    with tarfile.open(archives / "dev-clean.tar.gz", "w:gz") as bundle:
        bundle.add(tmp_path / "made/LibriSpeech", "LibriSpeech")
        readme = tarfile.TarInfo("LibriSpeech/README.TXT")
        bundle.addfile(readme, io.BytesIO(b""))
    monkeypatch.setattr(prepare, "MIRRORS", (f"{archives.as_uri()}/",))
    downloads = tmp_path / "downloads"
    write_part(downloads, "dev-other")
    with pytest.raises(prepare.DownloadError, match="SHA-256 .* instead of 76f87d09"):
        prepare.find_parts(None, downloads, ["dev-clean", "dev-other"])
    from espnet2_kd.data.download import file_sha256

    monkeypatch.setitem(prepare.SHA256, "dev-clean", file_sha256(archives / "dev-clean.tar.gz"))
    found = prepare.find_parts(None, downloads, ["dev-clean", "dev-other"])
    assert found["dev-other"] == downloads / "LibriSpeech/dev-other"
    assert sorted(path.name for path in found["dev-clean"].glob("*/*/*.flac")) == [
        f"1272-128104-{number:04d}.flac" for number in range(3)
    ]
    assert prepare.find_parts(None, downloads, ["dev-clean", "dev-other"]) == found


def librilight(root, **speakers):
    """`small/<speaker>/<book>/<file>.flac` with `.json`: speaker -> voice activity in seconds, in a recording of 60 s."""
    for speaker, speech in speakers.items():
        folder = root / "small" / speaker / "a book"
        folder.mkdir(parents=True)
        soundfile.write(folder / "it's_01.flac", np.zeros(60 * 16000), 16000)
        (folder / "it's_01.json").write_text(json.dumps({"speaker": speaker, "voice_activity": speech}))
    return root


def test_speech_without_transcripts(recipe, corpus, tmp_path):
    libri = recipe("librispeech")
    speech = {"s7": [[0.5, 9.0], [9.5, 19.0], [19.2, 30.0], [31.0, 59.996]], "s8": [[3.25, 4.0]], "s9": []}
    root = librilight(tmp_path / "light", **speech)
    for folder in (root, root / "small"):
        done = libri.data("--corpus", corpus, "--librilight", folder)
        assert done.returncode == 0, done.stderr
        assert "data/unlabelled: 5 utterances" in done.stdout
        assert libri.table("unlabelled/segments") == {
            "s7-a_book-it_s_01-0000050": "s7-a_book-it_s_01 0.500 19.000",
            "s7-a_book-it_s_01-0001920": "s7-a_book-it_s_01 19.200 30.000",
            "s7-a_book-it_s_01-0003100": "s7-a_book-it_s_01 31.000 45.498",
            "s7-a_book-it_s_01-0004550": "s7-a_book-it_s_01 45.498 59.996",
            "s8-a_book-it_s_01-0000325": "s8-a_book-it_s_01 3.250 4.000",
        }
    assert set(libri.table("unlabelled/utt2spk").values()) == {"s7", "s8"}
    assert not (libri.path / "data/unlabelled/text").exists()
    check = ["-m", "espnet2_kd.bin.data_dir", "validate"]
    checked = [
        subprocess.run(
            [sys.executable, *check, *more, libri.path / "data/unlabelled"], capture_output=True, check=False
        )
        for more in ([], ["--no_text"])
    ]
    assert [done.returncode for done in checked] == [1, 0], checked[1].stderr


def test_joined_speech_loses_nothing(local_module):
    """Every stretch lies in the pieces, no piece is longer than asked for or starts or ends in a pause."""
    cut = local_module("librispeech", "librilight").cut
    rng = np.random.default_rng(0)
    for _ in range(200):
        times = np.cumsum(rng.exponential(rng.choice([1.0, 8.0, 30.0]), size=2 * rng.integers(1, 30)))
        speech = list(zip(times[::2].tolist(), times[1::2].tolist()))
        pieces = cut(speech, 20.0)
        assert all(0 < end - start <= 20.0 + 1e-9 for start, end in pieces)
        assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(pieces))
        covered = sum(max(0.0, min(e, b) - max(s, a)) for s, e in speech for a, b in pieces)
        assert covered == pytest.approx(sum(e - s for s, e in speech))
        inside = [any(s - 1e-9 <= t <= e + 1e-9 for s, e in speech) for piece in pieces for t in piece]
        assert all(inside)


def test_libri_lights_faults_are_listed(recipe, corpus, tmp_path):
    libri = recipe("librispeech")
    root = librilight(tmp_path / "light", s1=[[5, 4]], s2=[[1]], s3=[[1, 2]])
    (root / "small/s3/a book/it's_01.flac").unlink()
    done = libri.data("--corpus", corpus, "--librilight", root)
    assert done.returncode == 1 and not (libri.path / "data/unlabelled").exists()
    for words in ("s1", "not in order", "s2", "no `voice_activity", "s3", "no it's_01.flac beside it"):
        assert words in done.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no <speaker>/<book>/*.json" in libri.data("--corpus", corpus, "--librilight", empty).stderr
