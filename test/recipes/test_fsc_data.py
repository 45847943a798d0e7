"""Fluent Speech Commands from its exact layout, compared with what torchaudio's reader of it makes of the same files."""

import csv
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
NAME = "fluent_speech_commands_dataset"
COLUMNS = ["", "path", "speakerId", "transcription", "action", "object", "location"]
SPEAKERS = {"train": ("2BqVo8kVB2Skwgyb", "4BrX8aDqK2cLZRYl"), "valid": ("NgQEvO2x7Vh3xy2xz",), "test": ("4aGjX3AG",)}
COMMANDS = [
    ("Change language", "change language", "none", "none"),
    ("It's cold, heat up the \u2018washroom\u2019!", "increase", "heat", "washroom"),
    ("Lights off", "deactivate", "lights", "none"),
]


def read(path):
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def write(path, lines):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(lines)


@pytest.fixture
def corpus(tmp_path):
    """The folder that holds `fluent_speech_commands_dataset/`: four speakers who say three commands each."""
    root = tmp_path / "corpus"
    (root / NAME / "data").mkdir(parents=True)
    for name, speakers in SPEAKERS.items():
        lines = [COLUMNS]
        for speaker in speakers:
            (root / NAME / "wavs/speakers" / speaker).mkdir(parents=True)
            for number, (text, *slots) in enumerate(COMMANDS):
                path = f"wavs/speakers/{speaker}/{speaker[:2]}{number}-452c-11e9.wav"
                soundfile.write(root / NAME / path, 0.1 * np.sin(np.arange(3200) * 0.05), 16000)
                lines.append([len(lines) - 1, path, speaker, text, *slots])
        write(table(root, name), lines)
    write(root / NAME / "data/speaker_demographics.csv", [["speakerId", "gender"]])
    return root


def table(corpus, name):
    return corpus / NAME / f"data/{name}_data.csv"


def test_layout(recipe, corpus):
    fsc = recipe("fsc", "slu1")
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    for folder in (corpus, corpus / NAME):
        done = fsc.data("--corpus", folder)
        assert done.returncode == 0, done.stderr
        assert "data/train: 6 utterances, 0.00 h, 2 speakers, 3 intents" in done.stdout
        assert "warning: not the published numbers of utterances" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    assert fsc.sets() == ["test", "train", "valid"]
    for name, speakers in SPEAKERS.items():
        utt2spk = fsc.table(f"{name}/utt2spk")
        assert utt2spk == {f"{s}-{s[:2]}{n}-452c-11e9": s for s in speakers for n in range(3)}
        for file, expected in {
            "text": ["change language", "it's cold heat up the washroom", "lights off"],
            "label": [
                "action=change_language object=none location=none",
                "action=increase object=heat location=washroom",
                "action=deactivate object=lights location=none",
            ],
        }.items():
            assert list(fsc.table(f"{name}/{file}").values()) == expected * len(speakers)


def test_torchaudio_reads_the_same(recipe, corpus):
    datasets = pytest.importorskip("torchaudio.datasets")
    fsc = recipe("fsc", "slu1")
    assert fsc.data("--corpus", corpus).returncode == 0
    for name in SPEAKERS:
        theirs = datasets.FluentSpeechCommands(corpus, name)
        speakers, wavs, labels = (fsc.table(f"{name}/{file}") for file in ("utt2spk", "wav.scp", "label"))
        assert len(theirs) == len(wavs)
        for path, _, stem, speaker, _, *slots in (theirs.get_metadata(n) for n in range(len(theirs))):
            utt = f"{speaker}-{stem}"
            assert speakers[utt] == speaker and os.path.samefile(fsc.path / wavs[utt], corpus / NAME / path)
            assert [pair.split("=")[1] for pair in labels[utt].split()] == [slot.replace(" ", "_") for slot in slots]


def test_all_faults_are_listed(recipe, corpus):
    train, valid, test = (read(table(corpus, name)) for name in ("train", "valid", "test"))
    train[1][3], train[2][5], train[4][1] = "?!", "", "../../../etc/passwd"
    valid[1][4] = "a=b"
    valid[2][2] = SPEAKERS["train"][0]
    test[1][4] = "unheard of"
    for name, lines in (("train", train), ("valid", valid), ("test", test)):
        write(table(corpus, name), lines)
    (corpus / NAME / test[3][1]).unlink()
    fsc = recipe("fsc", "slu1")
    done = fsc.data("--corpus", corpus / NAME)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    file = {name: table(corpus, name) for name in SPEAKERS}
    for expected in (
        f"{file['train']}:2: 2B0-452c-11e9: no words: write the words said",
        f"{file['train']}:3: 2B1-452c-11e9: no object: fill it in, none where there is none",
        f"{file['train']}:5: passwd: path '../../../etc/passwd' leads outside the corpus: do not use this copy",
        f"{file['valid']}:2: Ng0-452c-11e9: label is not name=value ...: 'action=a=b object=none location=none': write",
        f"{file['valid']}:3: Ng1-452c-11e9: speaker {SPEAKERS['train'][0]} is also in train ({file['train']}:2): the",
        f"{file['test']}:2: 4a0-452c-11e9: action=unheard_of never occurs in the training set: correct it",
        f"{file['test']}:4: 4a2-452c-11e9: file not found: {corpus / NAME / test[3][1]}: unpack the archive again",
    ):
        assert expected in done.stderr
    assert "7 problem(s)" in done.stderr and not (fsc.path / "data").exists()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b",path,speakerId,transcription,action,object\n", ":1: -: header has no column location (it has , path, spe"),
        (b"", ":1: -: header has no column path, speakerId"),
        (b",path,speakerId,transcription,action,object,location\n", ":0: -: no lines below the header"),
        (b",path,speakerId,transcription,action,object,location\n7,a,b\n", ":2: 7: 3 cells, the header has 7"),
        (b',path,speakerId,transcription,action,object,location\n7,"a,b\n', "not a table of comma-separated values"),
        (",path,speakerId,transcription,action,object,location\n\u00e9".encode("latin-1"), ":0: -: not UTF-8 at byte"),
    ],
)
def test_tables_that_cannot_be_read(recipe, corpus, broken, message):
    table(corpus, "valid").write_bytes(broken)
    fsc = recipe("fsc", "slu1")
    done = fsc.data("--corpus", corpus)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert str(table(corpus, "valid")) in done.stderr and message in done.stderr
    assert not (fsc.path / "data").exists()


def test_what_is_not_the_corpus(recipe, corpus, tmp_path):
    fsc = recipe("fsc", "slu1")
    table(corpus, "test").rename(tmp_path / "test_data.csv")
    done = fsc.data("--corpus", corpus)
    assert done.returncode == 1
    what = "holds no data/train_data.csv, valid_data.csv and test_data.csv"
    assert f"{corpus}:0: -: {what}: give the folder that holds {NAME}/, or leave --corpus out" in done.stderr


def test_the_usual_place_comes_before_a_download(recipe, corpus):
    fsc = recipe("fsc", "slu1")
    done = fsc.data(KD_DATA=str(corpus))
    assert done.returncode == 0, done.stderr
    assert f"Fluent Speech Commands: {corpus}/{NAME}" in done.stdout


@pytest.fixture
def prepare(local_module, monkeypatch, tmp_path):
    """The module, which finds no corpus and knows one dead mirror and one archive on this machine."""
    module = local_module("fsc", "prepare", "slu1")
    monkeypatch.setattr(module, "usual_places", lambda names: [])
    mirrors = ((tmp_path / "dead.tar.gz").as_uri(), (tmp_path / "served.tar.gz").as_uri())
    monkeypatch.setattr(module, "ARCHIVE", module.RemoteFile(mirrors, "fluent.tar.gz"))
    return module


def serve(corpus, tmp_path):
    with tarfile.open(tmp_path / "served.tar.gz", "w:gz") as bundle:
        bundle.add(corpus / NAME, NAME)


def test_a_download_must_have_the_published_utterances(prepare, corpus, tmp_path, monkeypatch):
    assert prepare.PUBLISHED == {"train": 23132, "valid": 3118, "test": 3793}
    serve(corpus, tmp_path)
    with pytest.raises(prepare.DownloadError, match=r"holds \{'train': 6, .* utterances, not \{'train': 23132,"):
        prepare.find_corpus(None, tmp_path / "d")
    with pytest.raises(prepare.DownloadError, match="fsc.unchecked: exists already: remove it"):
        prepare.find_corpus(None, tmp_path / "d")
    assert not (tmp_path / "d/fsc").exists()
    monkeypatch.setattr(prepare, "PUBLISHED", {"train": 6, "valid": 3, "test": 3})
    found = prepare.find_corpus(None, tmp_path / "e")
    assert found == tmp_path / "e/fsc" / NAME and not (tmp_path / "e/fsc.unchecked").exists()
    (tmp_path / "served.tar.gz").unlink()
    assert prepare.find_corpus(None, tmp_path / "e") == found
    problems = []
    assert len(prepare.read_corpus(found, problems)) == 12 and problems == []


def test_dead_mirrors_are_named_and_the_way_by_hand(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--downloads", str(tmp_path / "d"), "--data", str(tmp_path / "o")])
    with pytest.raises(SystemExit) as error:
        prepare.main()
    message = str(error.value)
    assert "dead.tar.gz" in message and "served.tar.gz" in message and "https://www.kaggle.com/datasets/" in message
    assert f"put it at {tmp_path / 'd/fluent.tar.gz'}" in message and message.endswith("--corpus DIR")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("member", ["../../fsc_evil.wav", "/tmp/fsc_evil.wav"])
def test_hostile_archive(prepare, tmp_path, member):
    with tarfile.open(tmp_path / "served.tar.gz", "w:gz") as bundle:
        for name in (f"{NAME}/readme.md", member):
            info = tarfile.TarInfo(name)
            info.size = 4
            bundle.addfile(info, io.BytesIO(b"evil"))
    with pytest.raises(prepare.DownloadError, match="leads outside the target directory: nothing was unpacked"):
        prepare.find_corpus(None, tmp_path / "d")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["fluent.tar.gz"]
    assert not list(tmp_path.rglob("fsc_evil.wav")) and not Path("/tmp/fsc_evil.wav").exists()


def test_synthetic_copy(recipe):
    fsc = recipe("fsc", "slu1")
    done = fsc.data("--synthetic", "true")
    if "espeak-ng: not found" in done.stderr:
        pytest.skip("espeak-ng is not installed")
    assert done.returncode == 0, done.stderr
    assert {name: len(fsc.table(f"{name}/text")) for name in fsc.sets()} == {"train": 36, "valid": 24, "test": 24}
    speakers = [set(fsc.table(f"{name}/utt2spk").values()) for name in fsc.sets()]
    assert len(set.union(*speakers)) == sum(map(len, speakers)) == 7
    labels = [set(fsc.table(f"{name}/label").values()) for name in fsc.sets()]
    assert labels[0] == labels[1] == labels[2] and len(labels[0]) == 12
    folder = next(fsc.path.glob(f"downloads/synthetic/{NAME}"))
    assert len(read(folder / "data/speaker_demographics.csv")) == 8
    waves = list(folder.glob("wavs/speakers/*/*.wav"))
    assert len(waves) == 84 and all(0.4 < soundfile.info(path).duration < 5 for path in waves)
    for name in fsc.sets():
        check = [sys.executable, "-m", "espnet2_kd.bin.data_dir", "validate", f"data/{name}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        checked = subprocess.run(check, cwd=fsc.path, env=environment, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_the_same_copy_each_time(local_module, tmp_path, monkeypatch):
    synthetic = local_module("fsc", "synthetic", "slu1")
    monkeypatch.setattr(synthetic, "COMMANDS", synthetic.COMMANDS[:2])
    contents = []
    for number in range(2):
        try:
            root = synthetic.make_corpus(tmp_path / str(number))
        except EspeakError:
            pytest.skip("espeak-ng is not installed")
        contents.append({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()})
    assert contents[0] == contents[1] and len(contents[0]) == 14 + 4
