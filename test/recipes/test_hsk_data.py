"""Mandarin words in a row, joined from a tiny copy of the pack's layout; the words here are noise one can compare."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_kd.data.check import check_data_dir

PACK = Path(__file__).resolve().parents[2] / "../shared/data/mandarin_hsk"
FS = 16000
PARTS = {"train": "train", "valid": "dev", "test": "test"}
WORDS = {"train": ["火", "车", "天气", "中国", "水"], "dev": ["火车", "国"], "test": ["气车", "水火天"]}
# Words of a string, by their place in the split, and the gaps before them.
STRINGS = {
    "train": [((0, 2, 4), (30, 0, 150)), ((3, 3, 1, 0, 4, 2), (10, 20, 0, 0, 50, 60)), ((1, 2), (0, 0))],
    "dev": [((0, 1), (140, 5)), ((1, 0, 1), (0, 7, 0))],
    "test": [((1, 0), (33, 0))],
}


def rows(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def write_tsv(path, table):
    lines = [list(table[0]), *(row.values() for row in table)]
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture
def pack(tmp_path):
    """The layout of the pack: Opus files in two folders, lists of words and of strings."""
    folder, noise, words = tmp_path / "mandarin_hsk", np.random.default_rng(1), []
    for split, texts in WORDS.items():
        for text in texts:
            utt, place = f"hsk_{len(words):05d}", f"{len(words) % 2:02d}"
            (folder / "audio" / place).mkdir(parents=True, exist_ok=True)
            samples = noise.uniform(-0.3, 0.3, 4000 + 517 * len(words))
            path = f"audio/{place}/{utt}.opus"
            soundfile.write(folder / path, samples, FS, format="OGG", subtype="OPUS")
            head = {
                "utt_id": utt,
                "speaker": "yue_tan",
                "split": split,
                "dur": f"{len(samples) / FS:.3f}",
                "text": text,
            }
            words.append(head | {"pinyin": "-", "n_char": len(text), "orig_name": text, "path": path})
        mine = [word for word in words if word["split"] == split]
        write_tsv(folder / f"{split}.tsv", mine)
        strings = []
        for number, (places, gaps) in enumerate(STRINGS[split]):
            head = {"string_id": f"{split}_{number:05d}", "speaker": "yue_tan"}
            head["text"] = "".join(texts[place] for place in places)
            head["utt_ids"] = " ".join(mine[place]["utt_id"] for place in places)
            strings.append(head | {"gaps_ms": " ".join(map(str, gaps))})
        write_tsv(folder / f"strings_{split}.tsv", strings)
    write_tsv(folder / "all.tsv", words)
    return folder


def check_sets(hsk, corpus, with_words=True):
    """Compare every table and every sample with the lists and the recordings; train has its words by themselves, too."""
    words = {row["utt_id"]: row for row in rows(corpus / "all.tsv")}
    assert hsk.sets() == sorted(PARTS)
    for name, part in PARTS.items():
        strings = {f"{row['speaker']}-{row['string_id']}": row for row in rows(corpus / f"strings_{part}.tsv")}
        for utt, row in words.items() if name == "train" and with_words else ():
            if row["split"] == part:
                alone = {"speaker": row["speaker"], "text": row["text"], "utt_ids": utt, "gaps_ms": "0"}
                strings[f"{row['speaker']}-word_{utt}"] = alone
        text, wav = hsk.table(f"{name}/text"), hsk.table(f"{name}/wav.scp")
        assert list(text) == list(wav) == sorted(strings)
        assert hsk.table(f"{name}/utt2spk") == {utt: row["speaker"] for utt, row in strings.items()}
        for utt, row in strings.items():
            utts = row["utt_ids"].split()
            assert text[utt] == row["text"] == "".join(words[u]["text"] for u in utts)
            assert {words[u]["split"] for u in utts} == {part}
            pieces = []
            for u, gap in zip(utts, row["gaps_ms"].split(), strict=True):
                pieces += [np.zeros(FS * int(gap) // 1000), soundfile.read(corpus / words[u]["path"])[0]]
            samples, fs = soundfile.read(hsk.path / wav[utt])
            assert fs == FS
            # FLAC of 16 bits: off by a rounding.
            np.testing.assert_allclose(samples, np.concatenate(pieces), atol=1 / 32768)


@pytest.mark.parametrize("how", ["--corpus", "KD_DATA"])
def test_pack(recipe, pack, how, monkeypatch):
    hsk = recipe("hsk")
    done = hsk.data("--corpus", pack, "--nj", 1) if how == "--corpus" else hsk.data(KD_DATA=str(pack.parent))
    assert done.returncode == 0, done.stderr
    assert "data/train: 8 utterances, 0.00 h, 23 characters, 7 different" in done.stdout
    check_sets(hsk, pack)
    monkeypatch.chdir(hsk.path)
    assert [problem for name in PARTS for problem in check_data_dir(f"data/{name}")] == []
    assert hsk.data("--corpus", pack, "--nj", 1, "--words", "false").returncode == 0
    check_sets(hsk, pack, with_words=False)


def change(path, before, after):
    content = path.read_text(encoding="utf-8")
    assert before in content
    path.write_text(content.replace(before, after), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        ("strings_test.tsv", "气车\thsk_00008 hsk_00007", "天气\thsk_00008 hsk_00002", "2: test_00000: recordings of another split than test: hsk_00002 (train): "),
        ("strings_dev.tsv", "国火车国", "国火国", "3: dev_00001: text is 国火国, but its recordings say 国火车国: "),
        ("strings_train.tsv", "hsk_00003 hsk_00003", "hsk_00003 hsk_00077", "3: train_00001: recordings not in all.tsv: hsk_00077: "),
        ("strings_train.tsv", "gaps_ms", "gaps", "1: -: header has no column gaps_ms (it has string_id, "),
        ("all.tsv", "气车\t-", "火车\t-", "9: hsk_00007: 火车 is in test and, line 7, in dev: "),
        ("all.tsv", "hsk_00001\t", "hsk_00000\t", "3: hsk_00000: duplicate utt_id, lines 2 and 3: "),
        ("strings_dev.tsv", "140 5", "140", "2: dev_00000: 1 gaps for 2 recordings: '140': "),
    ],
)  # fmt: skip
def test_fault_is_named(local_module, pack, tmp_path, monkeypatch, file, before, after, message):
    change(pack / file, before, after)
    prepare = local_module("hsk", "prepare")
    places = ["--data", tmp_path / "data", "--downloads", tmp_path / "downloads"]
    monkeypatch.setattr("sys.argv", list(map(str, ["prepare.py", "--corpus", pack, "--nj", 1, *places])))
    with pytest.raises(SystemExit) as stop:
        prepare.main()
    assert f"{pack / file}:{message}" in str(stop.value)


def test_missing_recording_stops_the_stage(recipe, pack):
    (pack / "audio/00/hsk_00006.opus").unlink()
    hsk = recipe("hsk")
    done = hsk.data("--corpus", pack, "--nj", 1)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [f"{pack}/strings_dev.tsv:{line}: dev_0000{line - 2}: " in done.stderr for line in (2, 3)] == [True, True]
    assert "hsk_00006.opus" in done.stderr and not (hsk.path / "data/valid").exists()


def test_folders_without_the_pack(local_module, pack, tmp_path, monkeypatch):
    prepare = local_module("hsk", "prepare")
    (pack / "strings_dev.tsv").unlink()
    with pytest.raises(prepare.DataError, match="mandarin_hsk:0: -: lacks strings_dev.tsv: give the folder of the TSV"):
        prepare.find_corpus(pack)
    monkeypatch.setattr(prepare, "usual_places", lambda names: [tmp_path / name for name in names])
    with pytest.raises(prepare.DataError, match="lacks strings_dev.tsv"):
        prepare.find_corpus(None)
    monkeypatch.setattr(prepare, "usual_places", lambda names: [])
    with pytest.raises(prepare.DataError, match="mandarin_hsk:0: -: is in no usual place: put it below .* KD_DATA"):
        prepare.find_corpus(None)


@pytest.mark.skipif(not PACK.is_dir(), reason="needs shared/data/mandarin_hsk")
def test_real_pack(recipe, local_module, tmp_path):
    """What README.md says of its lists, and the first strings of each."""
    local_module("hsk", "prepare").check_pack(PACK)
    used, chars = {}, {}
    for part in PARTS.values():
        strings = rows(PACK / f"strings_{part}.tsv")
        used[part] = {utt for row in strings for utt in row["utt_ids"].split()}
        chars[part] = "".join(row["text"] for row in strings)
        (tmp_path / f"strings_{part}.tsv").write_text(
            "".join((PACK / f"strings_{part}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)[:9])
        )
    assert [len(used[part]) for part in used] == [6177, 416, 633]
    assert len(set.union(*used.values())) == 6177 + 416 + 633
    seen = set(chars["train"])
    unseen = {part: sorted(char for char in chars[part] if char not in seen) for part in ("dev", "test")}
    assert unseen == {"dev": list("拟拟拟辆辆"), "test": []}
    (tmp_path / "audio").symlink_to((PACK / "audio").resolve())
    (tmp_path / "all.tsv").write_bytes((PACK / "all.tsv").read_bytes())
    hsk = recipe("hsk")
    done = hsk.data("--corpus", tmp_path, "--nj", 1)
    assert done.returncode == 0, done.stderr
    check_sets(hsk, tmp_path)


def test_synthetic_copy(recipe):
    hsk = recipe("hsk")
    done = hsk.data("--synthetic", "true", "--nj", 1)
    if "espeak-ng: not found" in done.stderr:
        pytest.skip("espeak-ng is not installed")
    assert done.returncode == 0, done.stderr
    check_sets(hsk, hsk.path / "downloads/synthetic")
    assert [len(hsk.table(f"{name}/text")) for name in PARTS] == [40 + 22, 10, 10]
    known = set("".join(hsk.table("train/text").values()))
    assert all(set("".join(hsk.table(f"{name}/text").values())) <= known for name in ("valid", "test"))
    waves = list((hsk.path / "downloads/synthetic").rglob("*.opus"))
    assert len(waves) == 32 and all(0.2 < soundfile.info(path).duration < 2 for path in waves)
