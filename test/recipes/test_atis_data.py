"""ATIS: public texts in both layouts, LDC's recordings by name wherever the discs were copied to, and spoken texts."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_kd.data.espeak import EspeakError
from espnet2_kd.data.problems import DataError

ROOT = Path(__file__).resolve().parents[2]
LISTS = {
    "train": "atis-2.train.w-intent.iob.w-audiopath",
    "valid": "atis-2.dev.w-intent.iob.w-audiopath",
    "test": "atis.test.w-intent.iob.w-audiopath",
}
# Text, intents and the recording as the lists name it: a rare intent, two intents, no recording, one recording twice.
SENTENCES = {
    "train": [
        (
            "what's a flight to st. louis at 838 am",
            "atis_flight",
            "atis2/12_2_1/atis2/spon/train/mit/4e0/1/4e0011ss.wav",
        ),
        ("flights to rome", "atis_flight", "atis2/12_2_1/atis2/spon/train/mit/4e0/1/4e0021ss.wav"),
        ("flights to rome", "atis_flight", "atis2/12_2_1/atis2/spon/train/mit/4e0/1/4e0021ss.wav"),
        ("a fare to rome", "atis_airfare", "atis3/17_2.1/atis3/sp_trn/cmu/9a2/1/9a2011sc.wav"),
        ("a fare and a flight", "atis_flight#atis_airfare", "atis3/17_2.1/atis3/sp_trn/cmu/9a2/1/9a2021sc.wav"),
        ("a rule", "atis_restriction", "atis3/17_2.1/atis3/sp_trn/cmu/9a2/1/9a2031sc.wav"),
        ("a fare nobody said", "atis_airfare", "<UNMATCHED>"),
    ],
    "valid": [("a fare", "atis_airfare", "atis2/12_2_1/atis2/spon/train/mit/4e0/1/4e0031ss.wav")],
    "test": [
        (
            "flights",
            "atis_flight",
            "atis3/17_3.1/atis3/sp_tst/nov93/x20/2/x20012ss.wav atis2/spon/train/nist/x20/2/x20012ss.wav",
        ),
        ("a day", "atis_day_name", "atis3/17_3.1/atis3/sp_tst/nov93/x20/2/x20022ss.wav"),
    ],
}


def write_lists(folder, sentences=SENTENCES):
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in sentences.items():
        content = "".join(f"BOS {text} EOS\tO O \t{intents}\t{path}\n" for text, intents, path in lines)
        (folder / LISTS[name]).write_text(content, encoding="utf-8")
    return folder


def write_folders(folder, valid="valid"):
    for name, lines in SENTENCES.items():
        (folder / (valid if name == "valid" else name)).mkdir(parents=True)
        for file, column in (("seq.in", 0), ("label", 1)):
            path = folder / (valid if name == "valid" else name) / file
            path.write_text("".join(f"{line[column]} \n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture
def discs(tmp_path):
    """The recordings, uncompressed SPHERE files of 0.1 s and more, in the folders that the lists name."""
    root = tmp_path / "discs"
    paths = {path for lines in SENTENCES.values() for *_, field in lines for path in field.split() if "/" in path}
    for number, path in enumerate(sorted(paths)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        samples = 0.1 * np.sin(np.arange(1600 * (number + 1)) * 0.05)
        soundfile.write(root / path, samples, 16000, format="NIST", subtype="PCM_16")
    return root


def test_recordings_and_texts(recipe, discs, tmp_path):
    atis = recipe("atis", "slu1")
    done = atis.data("--corpus", discs, "--texts", write_lists(tmp_path / "texts"), "--num_intents", 2)
    assert done.returncode == 0, done.stderr
    assert "1 texts of several intents and 2 rare ones left out" in done.stdout
    assert "1 texts without a recording and 1 with that of another one, left out" in done.stdout
    assert atis.sets() == ["test", "train", "valid"]
    assert atis.table("train/text") == {
        "4e0-4e0011ss": "what's a flight to st louis at 838 am",
        "4e0-4e0021ss": "flights to rome",
        "9a2-9a2011sc": "a fare to rome",
    }
    flight, airfare = "intent=atis_flight", "intent=atis_airfare"
    assert list(atis.table("train/label").values()) == [flight, flight, airfare]
    assert atis.table("valid/label") == {"4e0-4e0031ss": airfare} and atis.table("test/label") == {
        "x20-x20012ss": flight
    }
    assert atis.table("train/utt2spk")["9a2-9a2011sc"] == "9a2"
    for name, lines in SENTENCES.items():
        listed = {path.split()[0].split("/")[-1][:-4]: path.split()[0] for *_, path in lines}
        for utt, path in atis.table(f"{name}/wav.scp").items():
            assert os.path.samefile(atis.path / path, discs / listed[utt.split("-")[1]])


def test_rare_and_several_intents_on_request(recipe, discs, tmp_path):
    atis = recipe("atis", "slu1")
    texts = write_lists(tmp_path / "texts")
    done = atis.data("--corpus", discs, "--texts", texts, "--multi_intent", "first")
    assert done.returncode == 0, done.stderr
    assert "0 texts of several intents and 1 rare ones left out" in done.stdout
    assert atis.table("train/label")["9a2-9a2021sc"] == "intent=atis_flight"
    assert atis.table("train/label")["9a2-9a2031sc"] == "intent=atis_restriction"
    # An intent of the test set that training never saw cannot be kept.
    assert list(atis.table("test/label")) == ["x20-x20012ss"]


def test_discs_copied_otherwise(recipe, discs, tmp_path):
    """Names decide, in any case; of two files of one name, the one in the folder that agrees best."""
    for path in list(discs.rglob("*.wav")):
        target = tmp_path / "other" / Path(*path.relative_to(discs).parts[1:]).as_posix().upper()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    atis = recipe("atis", "slu1")
    done = atis.data("--corpus", tmp_path / "other", "--texts", write_lists(tmp_path / "texts"))
    assert done.returncode == 0, done.stderr
    assert len(atis.table("train/text")) == 4
    assert atis.table("test/wav.scp")["x20-x20012ss"].endswith("ATIS3/SP_TST/NOV93/X20/2/X20012SS.WAV")


def test_all_faults_are_listed(recipe, discs, tmp_path):
    texts = write_lists(tmp_path / "texts")
    train = texts / LISTS["train"]
    lines = train.read_text().splitlines()
    lines[1] = "BOS flights to rome EOS\tatis_flight"
    lines[3] = "BOS  EOS\tO\tatis_airfare\tx.wav"
    lines[4] = lines[4].replace("atis_flight#", "#")
    train.write_text("\n".join(lines) + "\n")
    next(discs.rglob("4e0031ss.wav")).unlink()
    atis = recipe("atis", "slu1")
    done = atis.data("--corpus", discs, "--texts", texts)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{train}:2: train00002: 2 cells, not text, slots, intents and recording: fetch the file" in done.stderr
    assert f"{train}:4: train00004: no words: fetch the file again, or remove the line" in done.stderr
    assert f"{train}:5: train00005: no intent: fetch the file again, or remove the line" in done.stderr
    file = texts / LISTS["valid"]
    assert f"{file}:1: valid00001: no recording 4e0031ss.wav below {discs}: copy all of ATIS-2" in done.stderr
    assert "4 problem(s)" in done.stderr and not (atis.path / "data").exists()


def test_compressed_recordings_are_refused_with_the_way_out(recipe, discs, tmp_path):
    for name in ("4e0011ss.wav", "4e0021ss.wav"):
        path = next(discs.rglob(name))
        path.write_bytes(
            path.read_bytes().replace(b"sample_coding -s3 pcm", b"sample_coding -s26 pcm,embedded-shorten-v2.00", 1)
        )
        assert b"shorten" in path.read_bytes()
    atis = recipe("atis", "slu1")
    done = atis.data("--corpus", discs, "--texts", write_lists(tmp_path / "texts"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "4e0011ss.wav:0: -: compressed with shorten, as are 2 others: nothing here reads that" in done.stderr
    assert "sph2pipe -f wav IN OUT" in done.stderr


def test_what_is_not_the_corpus(recipe, tmp_path):
    atis = recipe("atis", "slu1")
    (tmp_path / "else").mkdir()
    done = atis.data("--corpus", tmp_path / "else", "--texts", write_lists(tmp_path / "texts"))
    assert done.returncode == 1
    assert f"{tmp_path / 'else'}:0: -: holds none of the " in done.stderr and "LDC93S5" in done.stderr
    done = atis.data("--corpus", tmp_path / "none")
    assert done.returncode == 1 and f"{tmp_path / 'none'}:0: -: no such folder: give the folder" in done.stderr
    done = atis.data("--synthesize", "true", "--texts", tmp_path / "else")
    assert done.returncode == 1 and "holds neither atis-2.train.w-intent.iob.w-audiopath" in done.stderr
    done = atis.data("--corpus", tmp_path, "--synthesize", "true")
    assert done.returncode == 2 and "not allowed with argument --corpus" in done.stderr
    done = atis.data("--corpus", tmp_path, "--texts", write_folders(tmp_path / "folders"))
    assert done.returncode == 1 and "seq.in:0: -: names no recordings: leave out --texts, or give lists" in done.stderr
    assert not (atis.path / "data").exists()


def test_without_recordings_it_says_how_to_get_some(local_module, monkeypatch):
    prepare = local_module("atis", "prepare", "slu1")
    monkeypatch.setattr(prepare, "usual_places", lambda names: [])
    with pytest.raises(
        prepare.DataError, match="licensed by LDC and cannot be downloaded: get ATIS-2 .* --synthesize true"
    ):
        prepare.find_corpus(None)


@pytest.mark.parametrize("valid", ["valid", "dev"])
def test_both_layouts_hold_the_same_texts(local_module, tmp_path, valid):
    texts = local_module("atis", "texts", "slu1")
    problems = []
    listed = texts.read_texts(write_lists(tmp_path / "lists"), tmp_path, problems)
    folders = texts.read_texts(write_folders(tmp_path / "atis", valid).parent, tmp_path, problems)
    assert problems == []
    assert [(s.set, s.text, s.intents) for s in listed] == [(s.set, s.text.strip(), s.intents) for s in folders]
    assert [s.recording for s in folders] == [None] * 10


def test_folders_whose_files_do_not_match(local_module, tmp_path):
    texts = local_module("atis", "texts", "slu1")
    folder = write_folders(tmp_path / "atis")
    (folder / "train/label").write_text("atis_flight\n")
    (folder / "test/seq.in").write_text("flights\n \n")
    problems = []
    texts.read_texts(folder, tmp_path, problems)
    assert [str(p).split(": ", 1)[1] for p in problems] == [
        f"-: 1 lines, but 7 in {folder / 'train/seq.in'}: fetch both files again",
        "test00002: no words: fetch the file again, or remove the line",
    ]
    for content, what in ((b"", "is empty"), (b"\xff\n", "not UTF-8 at byte 1")):
        (folder / "valid/label").write_bytes(content)
        with pytest.raises(DataError, match=f"label:0: -: {what}: fetch it again"):
            texts.read_texts(folder, tmp_path, [])
    (folder / "valid/label").unlink()
    with pytest.raises(DataError, match="label:0: -: no such file"):
        texts.read_texts(folder, tmp_path, [])


def test_downloaded_lists_are_verified(local_module, tmp_path, monkeypatch):
    texts = local_module("atis", "texts", "slu1")
    assert [remote.name for remote in texts.LISTS.values()] == list(LISTS.values())
    assert all(remote.urls[0].startswith("https://") and len(remote.sha256) == 64 for remote in texts.LISTS.values())
    served = write_lists(tmp_path / "served")

    def serve(**known):
        for name, file in LISTS.items():
            content = (served / file).read_bytes()
            facts = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} | known
            monkeypatch.setitem(texts.LISTS, name, texts.RemoteFile(((served / file).as_uri(),), file, **facts))

    serve(sha256="0" * 64)
    with pytest.raises(RuntimeError, match=f"SHA-256 .* instead of {'0' * 64}: removed"):
        texts.read_texts(None, tmp_path / "d", [])
    serve()
    assert len(texts.read_texts(None, tmp_path / "d", [])) == 10
    shutil.rmtree(served)
    assert len(texts.read_texts(None, tmp_path / "d", [])) == 10


def test_spoken_texts(recipe, tmp_path):
    atis = recipe("atis", "slu1")
    options = ("--synthesize", "true", "--texts", write_folders(tmp_path / "atis"), "--num_intents", 2, "--nj", 1)
    done = atis.data(*options)
    if "espeak-ng: not found" in done.stderr:
        pytest.skip("espeak-ng is not installed")
    assert done.returncode == 0, done.stderr
    assert "spoken by espeak-ng, which is not the corpus: results cannot be compared with published ones" in done.stdout
    assert {name: len(atis.table(f"{name}/text")) for name in atis.sets()} == {"test": 1, "train": 5, "valid": 1}
    speakers = [set(atis.table(f"{name}/utt2spk").values()) for name in atis.sets()]
    assert len(set.union(*speakers)) == sum(map(len, speakers))
    assert "what's a flight to st louis at 838 am" in atis.table("train/text").values()
    audio = {path: path.read_bytes() for path in atis.path.rglob("*.flac")}
    assert len(audio) == 7 and all(soundfile.info(path).samplerate == 16000 for path in audio)
    assert json.loads((atis.path / "downloads/spoken/info.json").read_text())["espeak_ng"]
    assert (atis.path / "data/synthetic").is_file()  # which reports say
    shutil.rmtree(atis.path / "downloads")
    assert atis.data(*options).returncode == 0
    assert audio == {path: path.read_bytes() for path in atis.path.rglob("*.flac")}


def test_synthetic_copy(recipe):
    atis = recipe("atis", "slu1")
    done = atis.data("--synthetic", "true")
    if "espeak-ng: not found" in done.stderr:
        pytest.skip("espeak-ng is not installed")
    assert done.returncode == 0, done.stderr
    assert "7 texts of several intents and 0 rare ones left out" in done.stdout
    assert {name: len(atis.table(f"{name}/text")) for name in atis.sets()} == {"train": 30, "valid": 20, "test": 20}
    speakers = [set(atis.table(f"{name}/utt2spk").values()) for name in atis.sets()]
    assert len(set.union(*speakers)) == sum(map(len, speakers)) == 7
    labels = [set(atis.table(f"{name}/label").values()) for name in atis.sets()]
    assert labels[0] == labels[1] == labels[2] and len(labels[0]) == 6
    waves = list(atis.path.glob("downloads/synthetic/audio/**/*.wav"))
    assert len(waves) == 77 and all(path.read_bytes().startswith(b"NIST_1A") for path in waves)
    assert all(0.5 < soundfile.info(path).duration < 5 for path in waves)
    for name in atis.sets():
        check = [sys.executable, "-m", "espnet2_kd.bin.data_dir", "validate", f"data/{name}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        checked = subprocess.run(check, cwd=atis.path, env=environment, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_the_same_copy_each_time(local_module, tmp_path, monkeypatch):
    synthetic = local_module("atis", "synthetic", "slu1")
    monkeypatch.setattr(synthetic, "SENTENCES", synthetic.SENTENCES[:2])
    contents = []
    for number in range(2):
        try:
            root = synthetic.make_corpus(tmp_path / str(number))
        except EspeakError:
            pytest.skip("espeak-ng is not installed")
        contents.append({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()})
    assert contents[0] == contents[1] and len(contents[0]) == 14 + 3
