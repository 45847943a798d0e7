"""AISHELL-1 from its exact layout, the archives of speakers in it included, read back with lhotse's own recipe."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_kd.data.espeak import EspeakError

ROOT = Path(__file__).resolve().parents[2]
SPEAKERS = {"train": ("S0002", "S0003"), "dev": ("S0724",), "test": ("S0764",)}
PACKED = "S0003"
SENTENCES = ["而 对 楼市 成交", "甚至 出现 交易 几乎 停滞 的 情况", "一 二 线 城市"]


def recording(speaker, number):
    return f"BAC009{speaker}W{121 + number:04d}"


@pytest.fixture
def corpus(tmp_path):
    """`data_aishell/`, one speaker of train an archive still, the recording 0124 of S0002 without a transcript."""
    root = tmp_path / "corpus"
    wav, lines = root / "data_aishell/wav", []
    for name, speakers in SPEAKERS.items():
        for speaker in speakers:
            folder = wav / name / speaker
            folder.mkdir(parents=True)
            for number in range(len(SENTENCES) + (speaker == "S0002")):
                samples = 0.1 * np.sin(np.arange(1600 * (number + 2)) * 0.05)
                soundfile.write(folder / f"{recording(speaker, number)}.wav", samples, 16000)
            lines += [f"{recording(speaker, n)} {sentence}\n" for n, sentence in enumerate(SENTENCES)]
    pack_speaker(wav, "train", PACKED)
    (root / "data_aishell/transcript").mkdir()
    transcript(root).write_text("".join(lines), encoding="utf-8")
    return root


def transcript(corpus):
    return corpus / "data_aishell/transcript/aishell_transcript_v0.8.txt"


def pack_speaker(wav, name, speaker):
    with tarfile.open(wav / f"{speaker}.tar.gz", "w:gz") as bundle:
        bundle.add(wav / name / speaker, f"{name}/{speaker}")
    for path in (wav / name / speaker).iterdir():
        path.unlink()
    (wav / name / speaker).rmdir()


def test_layout(recipe, corpus):
    aishell = recipe("aishell")
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    for folder in (corpus, corpus / "data_aishell"):
        done = aishell.data("--corpus", folder)
        assert done.returncode == 0, done.stderr
        assert "1 recordings without a transcript, left out\n0 transcripts with letters" in done.stdout
        assert "data/train: 6 utterances, 0.00 h, 2 speakers" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    assert aishell.sets() == ["dev", "test", "train"]
    for name, speakers in SPEAKERS.items():
        text, paths = aishell.table(f"{name}/text"), aishell.table(f"{name}/wav.scp")
        assert aishell.table(f"{name}/utt2spk") == {recording(s, n): s for s in speakers for n in range(3)}
        for utt, speaker in aishell.table(f"{name}/utt2spk").items():
            assert text[utt] == SENTENCES[int(utt[-4:]) - 121].replace(" ", "")
            path = aishell.path / paths[utt]
            assert path.parts[-3:] == (name, speaker, f"{utt}.wav") and path.is_file()
            assert path.is_relative_to(corpus) == (speaker != PACKED)


def test_lhotse_reads_the_same(recipe, corpus):
    prepare_aishell = pytest.importorskip("lhotse.recipes").prepare_aishell
    aishell = recipe("aishell")
    assert aishell.data("--corpus", corpus).returncode == 0
    wav = corpus / "data_aishell/wav"
    subprocess.run(["tar", "-xzf", wav / f"{PACKED}.tar.gz", "-C", wav], check=True)
    manifests = prepare_aishell(corpus)
    ours = {
        name: [aishell.table(f"{name}/{file}") for file in ("text", "utt2spk")] for name in ("train", "dev", "test")
    }
    for name, (text, utt2spk) in ours.items():
        theirs = {(s.id, s.speaker, s.text) for s in manifests[name]["supervisions"]}
        assert theirs == {(utt, utt2spk[utt], text[utt]) for utt in text}
    # Somebody who unpacks the archives, and keeps them, has each recording once.
    assert aishell.data("--corpus", corpus).returncode == 0
    assert aishell.table("train/text") == ours["train"][0]
    assert all(Path(path).is_relative_to(corpus) for path in aishell.table("train/wav.scp").values())


def test_archives_are_unpacked_once_unless_they_change(recipe, corpus):
    aishell = recipe("aishell")
    assert aishell.data("--corpus", corpus).returncode == 0
    paths = aishell.table("train/wav.scp")
    made = {path: path.stat().st_mtime_ns for path in aishell.path.glob("downloads/speakers/*/*/*/*.wav")}
    assert len(made) == 3 and aishell.data("--corpus", corpus).returncode == 0
    assert made == {path: path.stat().st_mtime_ns for path in aishell.path.glob("downloads/speakers/*/*/*/*.wav")}
    wav = corpus / "data_aishell/wav"
    (wav / "train" / PACKED).mkdir()
    for number in range(3):
        soundfile.write(wav / "train" / PACKED / f"{recording(PACKED, number)}.wav", np.zeros(8000), 16000)
    pack_speaker(wav, "train", PACKED)
    assert aishell.data("--corpus", corpus).returncode == 0
    mended = aishell.table("train/wav.scp")
    assert {utt for utt in paths if mended[utt] != paths[utt]} == {recording(PACKED, n) for n in range(3)}
    assert soundfile.info(aishell.path / mended[recording(PACKED, 0)]).frames == 8000


@pytest.mark.parametrize("member", ["../../../../evil.wav", "/tmp/aishell_evil.wav"])
def test_hostile_archive(recipe, corpus, member):
    with tarfile.open(corpus / "data_aishell/wav/S0003.tar.gz", "w:gz") as bundle:
        good, bad = tarfile.TarInfo("train/S0003/BAC009S0003W0121.wav"), tarfile.TarInfo(member)
        good.size = bad.size = 4
        bundle.addfile(good, io.BytesIO(b"good"))
        bundle.addfile(bad, io.BytesIO(b"evil"))
    aishell = recipe("aishell")
    done = aishell.data("--corpus", corpus)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"S0003.tar.gz: {member!r} leads outside the target directory: nothing was unpacked" in done.stderr
    assert not list(corpus.parent.rglob("evil.wav")) and not Path("/tmp/aishell_evil.wav").exists()
    assert not list(aishell.path.glob("downloads/speakers/*")) and not (aishell.path / "data").exists()


def test_all_faults_are_listed(recipe, corpus):
    (corpus / "data_aishell/wav/dev/S0724/BAC009S0724W0122.wav").unlink()
    lines = transcript(corpus).read_text().splitlines()
    lines[0], lines[5] = "BAC009S0002W0121", lines[1]
    transcript(corpus).write_text("\n".join(lines) + "\n")
    aishell = recipe("aishell")
    done = aishell.data("--corpus", corpus)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    file = transcript(corpus)
    assert f"{file}:1: BAC009S0002W0121: no words: unpack the archive again" in done.stderr
    assert f"{file}:6: BAC009S0002W0122: duplicate id, first in line 2: unpack" in done.stderr
    assert f"{file}:8: BAC009S0724W0122: no BAC009S0724W0122.wav: unpack the archive again" in done.stderr
    assert "3 problem(s)" in done.stderr and not (aishell.path / "data").exists()
    transcript(corpus).write_bytes("BAC009S0002W0121 而\n".encode("gb18030"))
    done = aishell.data("--corpus", corpus)
    assert done.returncode == 1 and f"{file}:0: -: not UTF-8 at byte 18" in done.stderr


def test_what_is_not_the_corpus(recipe, corpus, tmp_path):
    aishell = recipe("aishell")
    done = aishell.data("--corpus", tmp_path)
    assert done.returncode == 1
    remedy = "give the folder that holds data_aishell/, or leave --corpus out to download"
    assert f"{tmp_path}:0: -: holds no transcript/aishell_transcript_v0.8.txt: {remedy}" in done.stderr
    for name in ("dev", "test"):
        (corpus / "data_aishell/wav" / name).rename(tmp_path / name)
    done = aishell.data("--corpus", corpus)
    assert done.returncode == 1 and "holds no recordings of dev, test, unpacked or in an archive" in done.stderr


def test_letters_and_digits_are_kept_and_counted(recipe, corpus):
    """The published transcripts hold a few full-width letters: `黑色ｔ恤`, `ｃ罗`."""
    said = transcript(corpus).read_text()
    for old, new in (("而 对", "黑色 ｔ恤"), ("一 二 线", "mp3 ，")):
        said = said.replace(old, new, 1)
    transcript(corpus).write_text(said)
    aishell = recipe("aishell")
    done = aishell.data("--corpus", corpus)
    assert done.returncode == 0 and "2 transcripts with letters or digits, kept as they are" in done.stdout
    text = aishell.table("train/text")
    assert text["BAC009S0002W0121"] == "黑色ｔ恤楼市成交" and text["BAC009S0002W0123"] == "mp3，城市"


def test_the_usual_place_comes_before_a_download(recipe, corpus):
    aishell = recipe("aishell")
    done = aishell.data(KD_DATA=str(corpus))
    assert done.returncode == 0, done.stderr
    assert f"AISHELL-1: {corpus}/data_aishell" in done.stdout and len(aishell.table("train/text")) == 6


def test_download_is_verified(local_module, corpus, tmp_path, monkeypatch):
    prepare = local_module("aishell", "prepare")
    monkeypatch.setattr(prepare, "usual_places", lambda names: [])
    served = tmp_path / "served.tgz"
    with tarfile.open(served, "w:gz") as bundle:
        bundle.add(corpus / "data_aishell", "data_aishell")
    content = served.read_bytes()
    published = {"size": prepare.ARCHIVE.size, "md5": prepare.ARCHIVE.md5}

    def serve(**known):
        archive = prepare.RemoteFile((served.as_uri(),), "data_aishell.tgz", **(published | known))
        monkeypatch.setattr(prepare, "ARCHIVE", archive)

    serve()
    with pytest.raises(prepare.DownloadError, match="bytes instead of 15582913665: removed"):
        prepare.find_corpus(None, tmp_path / "d")
    serve(size=len(content))
    with pytest.raises(prepare.DownloadError, match="MD5 .* instead of 2f494334227864a8a8fec932999db9d8: removed"):
        prepare.find_corpus(None, tmp_path / "d")
    assert not list((tmp_path / "d").iterdir())
    serve(size=len(content), md5=hashlib.md5(content).hexdigest())
    found = prepare.find_corpus(None, tmp_path / "d")
    assert found == tmp_path / "d/aishell/data_aishell"
    served.unlink()
    assert prepare.find_corpus(None, tmp_path / "d") == found
    problems = []
    utterances, num_without = prepare.read_corpus(found, tmp_path / "d/speakers", problems)
    assert (len(utterances), num_without, problems) == (12, 1, [])


def test_synthetic_copy(recipe):
    aishell = recipe("aishell")
    done = aishell.data("--synthetic", "true")
    if "espeak-ng: not found" in done.stderr:
        pytest.skip("espeak-ng is not installed")
    assert done.returncode == 0, done.stderr
    assert "1 recordings without a transcript" in done.stdout and "0 transcripts with letters" in done.stdout
    assert {name: len(aishell.table(f"{name}/text")) for name in aishell.sets()} == {"train": 74, "dev": 16, "test": 16}
    speakers = [set(aishell.table(f"{name}/utt2spk").values()) for name in aishell.sets()]
    assert len(set.union(*speakers)) == sum(map(len, speakers))
    known = set("".join(aishell.table("train/text").values()))
    assert all(set("".join(aishell.table(f"{name}/text").values())) <= known for name in ("dev", "test"))
    assert all("\u4e00" <= char <= "\u9fff" for char in known)
    waves = list(aishell.path.rglob("*.wav"))
    assert len(waves) == 107 and all(0.5 < soundfile.info(path).duration < 5 for path in waves)
    for name in aishell.sets():
        check = [sys.executable, "-m", "espnet2_kd.bin.data_dir", "validate", f"data/{name}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        checked = subprocess.run(check, cwd=aishell.path, env=environment, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_the_same_copy_each_time(local_module, tmp_path, monkeypatch):
    synthetic = local_module("aishell", "synthetic")
    monkeypatch.setattr(synthetic, "SENTENCES", synthetic.SENTENCES[:2])
    monkeypatch.setattr(synthetic, "NUM_EVALUATION", 1)
    contents = []
    for number in range(2):
        try:
            root = synthetic.make_corpus(tmp_path / str(number))
        except EspeakError:
            pytest.skip("espeak-ng is not installed")
        wav = root / "data_aishell/wav"
        subprocess.run(["tar", "-xzf", wav / "S0003.tar.gz", "-C", wav], check=True)
        files = [path for path in root.rglob("*") if path.suffix in (".wav", ".txt")]
        contents.append({path.relative_to(root): path.read_bytes() for path in files})
    assert contents[0] == contents[1] and len(contents[0]) == 11
