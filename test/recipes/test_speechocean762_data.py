"""speechocean762 from the OpenSLR layout and from the TSV pack, read back with lhotse and with nothing but csv."""

import csv
import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
needs_pack = pytest.mark.skipif(not (SHARED / "so762").is_dir(), reason="needs shared/data/so762")
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
SENTENCES = ["WE CALL IT BEAR", "I'M NOT SO SURE, IS IT?", "  'TWAS   THE NIGHT\u2019S END. "]
NORMAL = ["we call it bear", "i'm not so sure is it", "twas the night's end"]


def sound(number):
    return 0.1 * np.sin(np.arange(1600 * (number % 7 + 2)) * 0.05 * (number + 1))


@pytest.fixture
def openslr(tmp_path):
    """The layout of OpenSLR resource 101: 8 speakers in train and 4 in test, alternately children and adults."""
    root = tmp_path / "slr" / "speechocean762"
    number = 0
    for part, speakers in {"train": range(1, 16, 2), "test": range(2, 9, 2)}.items():
        files = {name: "" for name in ("wav.scp", "text", "utt2spk", "spk2utt", "spk2age", "spk2gender")}
        for speaker in (f"{index:04d}" for index in speakers):
            folder = root / "WAVE" / f"SPEAKER{speaker}"
            folder.mkdir(parents=True)
            utts = [f"{speaker}{index:05d}" for index in (11, 35, 53)]
            for utt, sentence in zip(utts, SENTENCES):
                soundfile.write(folder / f"{utt}.WAV", sound(number), 16000, format="WAV", subtype="PCM_16")
                files["wav.scp"] += f"{utt}\tWAVE/SPEAKER{speaker}/{utt}.WAV\n"
                files["text"] += f"{utt}\t{sentence}\n"
                files["utt2spk"] += f"{utt} {speaker}\n"
                number += 1
            files["spk2utt"] += f"{speaker} {' '.join(utts)}\n"
            files["spk2age"] = f"{speaker}\t{6 + int(speaker) % 4 // 2 * 20}\n" + files["spk2age"]
            files["spk2gender"] += f"{speaker}\tm\n"
        (root / part).mkdir()
        for name, content in files.items():
            (root / part / name).write_text(content)
    return root


def test_openslr_layout(recipe, openslr):
    so762 = recipe("speechocean762")
    for corpus in (openslr, openslr.parent):
        done = so762.data("--corpus", corpus, "--num_valid_speakers", 2)
        assert done.returncode == 0, done.stderr
    assert so762.sets() == ["test", "train", "valid"]
    speakers = {name: set(so762.table(f"{name}/utt2spk").values()) for name in so762.sets()}
    assert speakers["train"] | speakers["valid"] == {f"{index:04d}" for index in range(1, 16, 2)}
    assert not speakers["train"] & speakers["valid"]
    assert speakers["test"] == {"0002", "0004", "0006", "0008"}
    ages = dict(line.split() for line in (openslr / "train/spk2age").read_text().splitlines())
    assert sorted(int(ages[speaker]) < 16 for speaker in speakers["valid"]) == [False, True]
    for name in so762.sets():
        text, utt2spk = so762.table(f"{name}/text"), so762.table(f"{name}/utt2spk")
        assert len(text) == 3 * len(speakers[name])
        for utt, words in text.items():
            speaker, original = utt.split("-")
            assert speaker == utt2spk[utt] == original[:4]
            assert words == NORMAL[["00011", "00035", "00053"].index(original[4:])]
            path = Path(so762.table(f"{name}/wav.scp")[utt])
            assert path == openslr / f"WAVE/SPEAKER{speaker}/{original}.WAV"


def test_lhotse_reads_the_same(recipe, openslr):
    kaldi = pytest.importorskip("lhotse.kaldi")
    so762 = recipe("speechocean762")
    assert so762.data("--corpus", openslr, "--num_valid_speakers", 2).returncode == 0
    recordings, supervisions, _ = kaldi.load_kaldi_data_dir(so762.path / "data/test", 16000)
    assert len(recordings) == len(supervisions) == 12
    assert {(s.id, s.speaker, s.text) for s in supervisions} == {
        (f"{n:04d}-{n:04d}{suffix}", f"{n:04d}", words)
        for n in (2, 4, 6, 8)
        for suffix, words in zip(("00011", "00035", "00053"), NORMAL)
    }
    assert [recordings[f"0002-0002{suffix}"].num_samples for suffix in ("00011", "00035", "00053")] == [
        len(sound(number)) for number in (24, 25, 26)
    ]


def test_held_out_speakers_do_not_depend_on_the_order(local_module):
    prepare = local_module("speechocean762", "prepare")
    ages = {f"{n:04d}": str(8 if n % 2 else 30) for n in range(125)}
    chosen = prepare.valid_speakers(ages, 12)
    assert len(chosen) == 12 and sum(ages[speaker] == "8" for speaker in chosen) == 6
    assert chosen == prepare.valid_speakers(dict(reversed(ages.items())), 12)
    assert prepare.valid_speakers(ages, 4) < chosen


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("ZERO THREE", "zero three"),
        ("it\u2019s - 'fine'", "it's fine"),
        ("a,b", "a b"),
        ("...", ""),
        ("Na\u00efve", None),
        ("4 U", None),
    ],
)
def test_normalise(local_module, written, normal):
    normalise = local_module("speechocean762", "prepare").normalise
    if normal is None:
        with pytest.raises(ValueError, match="neither an English letter nor punctuation"):
            normalise(written)
    else:
        assert normalise(written) == normal


def test_all_faulty_lines_are_listed(recipe, openslr):
    text = openslr / "train/text"
    lines = text.read_text().splitlines(keepends=True)
    lines[1] = lines[1].split("\t")[0] + "\tROOM 101\n"
    lines[4] = lines[4].split("\t")[0] + "\t?!\n"
    text.write_text("".join(lines))
    (openslr / "WAVE/SPEAKER0002/000200035.WAV").unlink()
    so762 = recipe("speechocean762")
    done = so762.data("--corpus", openslr, "--num_valid_speakers", 2)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{text}:2: 000100035: '1' is neither" in done.stderr
    assert f"{text}:5: 000300035: no words" in done.stderr
    assert "test/text:2: 000200035: file not found: " in done.stderr
    assert "3 problem(s)" in done.stderr and not (so762.path / "data").exists()


def test_tables_that_disagree(recipe, openslr):
    lines = (openslr / "train/utt2spk").read_text().splitlines(keepends=True)
    (openslr / "train/utt2spk").write_text("".join(lines[1:]))
    done = recipe("speechocean762").data("--corpus", openslr)
    assert done.returncode == 1 and "000100011: is not in all of wav.scp, text and utt2spk" in done.stderr


def test_folder_without_the_corpus(recipe, tmp_path):
    done = recipe("speechocean762").data("--corpus", tmp_path)
    assert done.returncode == 1 and "is not speechocean762: give the folder that holds WAVE/" in done.stderr


def write_pack(folder, columns, parts, first_speaker):
    for number, (part, count) in enumerate(parts.items()):
        lines = ["\t".join(columns)]
        for index in range(count):
            speaker = f"{first_speaker}{number}"
            path = f"audio/{speaker}/{speaker}_{index}.flac"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / path, sound(index), 16000)
            cells = {
                "utt_id": f"{speaker}_{index}",
                "speaker": speaker,
                "text": NORMAL[index % 3],
                "path": path,
                "split": part,
            }
            lines.append("\t".join(cells.get(column, "x") for column in columns))
        (folder / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "all.tsv").write_text(lines[0] + "\n")


COLUMNS = ["utt_id", "speaker", "split", "dur", "text", "gender", "path"]


def test_tsv_packs(recipe, tmp_path):
    write_pack(tmp_path / "so762", COLUMNS, {"train": 5, "dev": 3, "test": 4}, "so762_000")
    write_pack(tmp_path / "arctic_kathleen", COLUMNS, {"train": 6, "test": 2}, "kath")
    write_pack(tmp_path / "libri_testother100", COLUMNS, {"test": 2}, "1688")
    so762 = recipe("speechocean762")
    done = so762.data(KD_DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert {name: len(so762.table(f"{name}/text")) for name in so762.sets()} == {"train": 5, "valid": 3, "test": 4}
    done = so762.data("--corpus", tmp_path / "so762", "--arctic", "true", "--libri", "true")
    assert done.returncode == 0, done.stderr
    sizes = {"train": 11, "valid": 3, "test": 4, "test_arctic": 2, "test_libri": 2}
    assert {name: len(so762.table(f"{name}/text")) for name in so762.sets()} == sizes
    assert so762.table("train/text")["so762_0000_1"] == NORMAL[1]
    assert all(Path(path).is_file() for name in sizes for path in so762.table(f"{name}/wav.scp").values())


def test_missing_pack_is_named(recipe, openslr, monkeypatch, local_module):
    prepare = local_module("speechocean762", "prepare")
    monkeypatch.setattr(prepare, "usual_places", lambda names: [])
    with pytest.raises(prepare.DataError, match="arctic_kathleen:0: -: pack not found: put its folder beside"):
        prepare.collect(openslr, 2, arctic=True, libri=False)


def test_speech_without_transcripts(recipe, tmp_path):
    """A pack without a text column, and training speakers whose transcripts are hidden: in one set or the other."""
    write_pack(tmp_path / "libri_unlabelled251", [c for c in COLUMNS if c != "text"], {"train": 5}, "1034")
    write_pack(tmp_path / "so762", COLUMNS, {"train": 6, "dev": 3, "test": 4}, "so762_000")
    lists = tmp_path / "so762/train.tsv"
    head, *lines = lists.read_text().splitlines()
    lines = [line.replace("\tso762_0000\t", f"\tspeaker{number % 4}\t") for number, line in enumerate(lines)]
    lists.write_text("\n".join([head, *lines]) + "\n")
    so762 = recipe("speechocean762")
    done = so762.data("--corpus", tmp_path / "so762", "--libri_unlabelled", "true", "--hidden", "0.5")
    assert done.returncode == 0, done.stderr
    assert not (so762.path / "data/unlabelled/text").exists()
    speakers = {name: set(so762.table(f"{name}/utt2spk").values()) for name in ("train", "unlabelled")}
    assert not speakers["train"] & speakers["unlabelled"]
    ours = {speaker for speaker in speakers["unlabelled"] if speaker.startswith("speaker")}
    assert len(speakers["train"]) == len(ours) == 2 and speakers["train"] | ours == {f"speaker{n}" for n in range(4)}
    heard = so762.table("unlabelled/wav.scp")
    assert sum(utt.startswith("1034") for utt in heard) == 5
    assert len(so762.table("train/text")) + len(heard) == 6 + 5
    assert so762.data("--corpus", tmp_path / "so762", "--hidden", "1").returncode == 2


@needs_espeak
def test_speech_by_espeak_joins_the_training_set_only(recipe, openslr, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("turn on the light\nroom 101\nyes\nIT'S  Time, to GO!\n")
    so762 = recipe("speechocean762")
    options = ("--corpus", openslr, "--num_valid_speakers", 2, "--spoken", 5)
    assert so762.data(*options, "--spoken_text", texts).returncode == 0
    spoken = {utt: words for utt, words in so762.table("train/text").items() if "_train0" in utt}
    # Lines with digits or a single word are passed over; what is left comes again.
    assert len(spoken) == 5 and set(spoken.values()) == {"turn on the light", "it's time to go"}
    assert sorted(list(spoken.values()).count(words) for words in set(spoken.values())) == [2, 3]
    assert len(so762.table("train/text")) == 6 * 3 + 5
    assert not any("_train0" in utt for name in ("valid", "test") for utt in so762.table(f"{name}/text"))
    for utt in spoken:
        samples, rate = soundfile.read(so762.path / so762.table("train/wav.scp")[utt])
        assert rate == 16000 and 0.8 < len(samples) / rate < 4 and np.abs(samples).max() > 0.05
    first = {utt: (so762.path / so762.table("train/wav.scp")[utt]).stat().st_mtime_ns for utt in spoken}
    assert so762.data(*options, "--spoken_text", texts).returncode == 0
    assert first == {utt: (so762.path / so762.table("train/wav.scp")[utt]).stat().st_mtime_ns for utt in spoken}
    # Without texts the training set's own sentences are spoken.
    assert so762.data(*options).returncode == 0
    spoken = {utt: words for utt, words in so762.table("train/text").items() if "_train0" in utt}
    assert len(spoken) == 5 and set(spoken.values()) <= set(NORMAL)


def test_texts_that_cannot_be_spoken(recipe, openslr, tmp_path):
    so762 = recipe("speechocean762")
    options = ("--corpus", openslr, "--num_valid_speakers", 2, "--spoken", 5, "--spoken_text")
    done = so762.data(*options, tmp_path / "none.txt")
    assert done.returncode == 2 and "none.txt: no such file" in done.stderr
    (tmp_path / "digits.txt").write_text("room 101\n")
    done = so762.data(*options, tmp_path / "digits.txt")
    assert done.returncode == 1 and "digits.txt" in done.stderr and "one sentence per line" in done.stderr
    assert not (so762.path / "data").exists()


@needs_pack
def test_real_pack(recipe):
    so762 = recipe("speechocean762")
    done = so762.data("--corpus", SHARED / "so762", "--arctic", "true", "--libri", "true")
    assert done.returncode == 0, done.stderr
    sources = {
        "train": ["so762/train", "arctic_kathleen/train"],
        "valid": ["so762/dev"],
        "test": ["so762/test"],
        "test_arctic": ["arctic_kathleen/test"],
        "test_libri": ["libri_testother100/test"],
    }
    for name, lists in sources.items():
        expected = {}
        for source in lists:
            with (SHARED / f"{source}.tsv").open(newline="") as stream:
                expected |= {row["utt_id"]: row["text"] for row in csv.DictReader(stream, delimiter="\t", quoting=3)}
        text = {utt.removeprefix("kathleen-"): words for utt, words in so762.table(f"{name}/text").items()}
        assert text == expected
    speakers = [set(so762.table(f"{name}/utt2spk").values()) for name in ("train", "valid", "test", "test_libri")]
    assert len(set.union(*speakers)) == sum(map(len, speakers))


def test_download(local_module, openslr, tmp_path, monkeypatch):
    prepare = local_module("speechocean762", "prepare")
    bundle = io.BytesIO()
    with tarfile.open(fileobj=bundle, mode="w:gz") as archive:
        archive.add(openslr, "speechocean762")
    served = tmp_path / "served.tar.gz"
    served.write_bytes(bundle.getvalue())
    monkeypatch.setattr(prepare, "usual_places", lambda names: [])

    def remote(size):
        return prepare.RemoteFile((served.as_uri(),), "speechocean762.tar.gz", size=size)

    monkeypatch.setattr(prepare, "ARCHIVE", remote(size=prepare.ARCHIVE.size))
    with pytest.raises(prepare.DownloadError, match="bytes instead of 520810923: removed"):
        prepare.find_corpus(None, tmp_path / "d")
    assert os.listdir(tmp_path / "d") == []
    monkeypatch.setattr(prepare, "ARCHIVE", remote(size=len(bundle.getvalue())))
    corpus = prepare.find_corpus(None, tmp_path / "d")
    assert (corpus / "train/text").read_bytes() == (openslr / "train/text").read_bytes()
    served.unlink()
    assert prepare.find_corpus(None, tmp_path / "d") == corpus


def test_synthetic_copy(recipe):
    so762 = recipe("speechocean762")
    done = so762.data("--synthetic", "true")
    if "espeak-ng: not found" in done.stderr:
        pytest.skip("espeak-ng is not installed")
    assert done.returncode == 0, done.stderr
    assert {name: len(so762.table(f"{name}/text")) for name in so762.sets()} == {"train": 48, "valid": 24, "test": 24}
    assert all(0.5 < soundfile.info(path).duration < 5 for path in so762.path.rglob("*.WAV"))
