from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import soundfile

from espnet2_kd.bin.import_tsv import main
from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.importer import ImportOptions, import_tsv
from espnet2_kd.data.problems import DataError

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"

SETS = {
    "an4_tiny": 40,
    "arctic_kathleen": 1362,
    "fsdd": 2500,
    "libri_testother100": 80,
    "libri_unlabelled251": 213,
    "mandarin_hsk": 7447,
    "mandarin_smoke": 3,
    "noise_babble": 32,
    "noise_esc10": 318,
    "picovoice_barista": 519,
    "so762": 4240,
}


def table(file: Path | str) -> dict[str, str]:
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    return {line.split(" ", 1)[0]: line.partition(" ")[2] for line in lines}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TSV of four utterances with every column, in an order of its own, in folder `corpus`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus/wavs").mkdir(parents=True)
    for name in "abcd":
        soundfile.write(f"corpus/wavs/{name}.wav", [0.0] * 1600, 16000)
    rows = [
        "path\ttext\tnote\tsplit\tspeaker\tintent\tutt_id",
        "wavs/a.wav\t turn\u00a0it  on \tx\ttrain\tann\tlamp on\tann-1",
        "wavs/b.wav\tturn it off\t\tdev\tbob\tlamp off\tu2",
        "wavs/c.wav\t\t\ttrain\tcy\tnone\tu3",
        "wavs/d.wav\tyes\t\ttrain\tann\tyes\tann-2",
    ]
    (tmp_path / "corpus/all.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Path("corpus/all.tsv")


@pytest.mark.parametrize("name", sorted(SETS))
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared/data beside the project")
def test_every_shared_set_is_read_as_it_lies_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = SHARED / name
    main([str(folder / "all.tsv"), "data"])
    with open(folder / "all.tsv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == SETS[name]
    assert {path.name for path in Path("data").glob("[!.]*")} == {row.get("split", "all") for row in rows}
    wav, text, label, speaker = {}, {}, {}, {}
    for made in Path("data").glob("[!.]*"):
        problems = check_data_dir(made, need_text="text" in rows[0])
        assert [str(problem) for problem in problems] == []
        wav |= table(made / "wav.scp")
        speaker |= table(made / "utt2spk")
        text |= table(made / "text") if "text" in rows[0] else {}
        label |= table(made / "label") if "intent" in rows[0] else {}
    assert len(wav) == len(rows)
    for row in rows:
        utt = row["utt_id"]
        key = utt if utt in wav else f"{row['speaker']}-{utt}"
        assert os.path.samefile(wav[key], folder / row["path"])
        assert speaker[key] == row["speaker"] and key.startswith(row["speaker"])
        assert text.get(key) == row.get("text")
        assert label.get(key) == (f"intent={row['intent']}" if "intent" in row else None)


def test_columns_in_any_order_become_tables(own):
    main([str(own), "data", "--rename", "dev=valid"])
    assert table("data/train/wav.scp") == {
        "ann-1": "corpus/wavs/a.wav",
        "ann-2": "corpus/wavs/d.wav",
        "cy-u3": "corpus/wavs/c.wav",
    }
    assert table("data/train/text") == {"ann-1": "turn it on", "ann-2": "yes", "cy-u3": ""}
    assert table("data/train/transcript") == table("data/train/text")
    assert table("data/train/label") == {
        "ann-1": "intent=lamp_on",
        "ann-2": "intent=yes",
        "cy-u3": "intent=none",
    }
    assert table("data/valid/utt2spk") == {"bob-u2": "bob"}
    assert sorted(path.name for path in Path("data").glob("[!.]*")) == ["train", "valid"]


def test_what_has_no_words_either_means_something_or_needs_them(own):
    """Without intents, an empty cell is no text: none for a whole set, or a line at fault."""
    lines = own.read_text().splitlines()
    cells = [line.split("\t") for line in lines]
    own.write_text("".join("\t".join(row[:5] + row[6:]) + "\n" for row in cells))
    with pytest.raises(
        DataError, match=r"all\.tsv:4: u3: no text, but other lines of set train have one: fill in text, or rem"
    ):
        import_tsv([own], "data", ImportOptions())
    own.write_text(
        "".join(
            "\t".join([row[0], row[1] if n == 0 else "", *row[2:5], *row[6:]]) + "\n" for n, row in enumerate(cells)
        )
    )
    made = import_tsv([own], "data", ImportOptions())
    assert [sorted(data.tables) for data in made] == [["utt2spk", "wav.scp"]] * 2


def test_selected_splits_other_root_and_several_slots(own):
    os.rename("corpus/wavs", "wavs")
    main([str(own), "data", "--audio_root", ".", "--only", "dev", "--intent_column", "intent speaker"])
    assert [path.name for path in Path("data").glob("[!.]*")] == ["dev"]
    assert table("data/dev/wav.scp") == {"bob-u2": "wavs/b.wav"}
    assert table("data/dev/label") == {"bob-u2": "intent=lamp_off speaker=bob"}


def test_table_without_split_text_or_intent(own):
    own.write_text("utt_id\tspeaker\tpath\nx\ty\twavs/a.wav\n")
    main([str(own), "data"])
    assert sorted(path.name for path in Path("data/all").iterdir()) == ["spk2utt", "utt2spk", "wav.scp"]
    main([str(own), "data", "--set", "eval"])
    assert check_data_dir("data/eval", need_text=False) == []


def test_missing_columns_are_named(own):
    own.write_text("utt_id\tspk\tfile\nx\ty\twavs/a.wav\n")
    with pytest.raises(
        DataError, match=r"all.tsv:1: -: header has no column speaker, path \(it has utt_id, spk, file\)"
    ):
        import_tsv([own], "data", ImportOptions())


def test_all_faulty_lines_are_named_and_nothing_is_written(own):
    own.write_text(
        "utt_id\tspeaker\tpath\ttext\tintent\n"
        "a b\tann\twavs/a.wav\thi\tx\n"
        "u\tann\twavs/none.wav\thi\tx\n"
        "v\tann\twavs/a.wav\n"
        "w\tann\twavs/a.wav\thi\tx\n"
        "w\tann\twavs/b.wav\thi\t\n"
    )
    with pytest.raises(DataError) as error:
        import_tsv([own], "data", ImportOptions())
    assert [(problem.line, problem.what) for problem in error.value.problems] == [
        (4, "3 cells, the header has 5"),
        (3, "file not found: corpus/wavs/none.wav"),
        (2, "unsafe utt_id 'ann-a b', it contains ' '"),
        (6, "duplicate id, first in line 5"),
        (6, "no intent, but other lines of set all have one"),
    ]
    assert not Path("data").exists()


def test_splits_that_no_line_has_are_named(own):
    with pytest.raises(DataError) as error:
        import_tsv([own], "data", ImportOptions(only=("train", "valid"), rename={"devel": "valid"}))
    assert [problem.what for problem in error.value.problems] == [
        "no line has the split devel; there are: dev, train",
        "no line has the split valid; there are: dev, train",
    ]
    assert not Path("data").exists()


def test_splits_that_nobody_would_read_are_named(own):
    own.write_text(
        own.read_text().replace("\tdev\t", "\t\t").replace("wavs/d.wav\tyes\t\ttrain", "wavs/d.wav\tyes\t\tTrain")
    )
    with pytest.raises(DataError) as error:
        import_tsv([own], "data", ImportOptions())
    assert [(problem.line, problem.what) for problem in error.value.problems] == [
        (3, "no split"),
        (5, "split Train, and above it is train"),
    ]
    assert not Path("data").exists()
    own.write_text(own.read_text().replace("Train", "train"))
    sets = import_tsv([own], "data", ImportOptions(default_set="rest"))
    assert {data.path.name for data in sets} == {"rest", "train"}


def test_labels_that_cannot_be_written_are_named(own):
    own.write_text(
        "utt_id\tspeaker\tpath\taction\tobject\n"
        "u\tann\twavs/a.wav\tswitch on\tlamp\n"
        "v\tann\twavs/b.wav\tset\tt=20\n"
        "w\tann\twavs/c.wav\t\tlamp\n"
    )
    with pytest.raises(DataError) as error:
        import_tsv([own], "data", ImportOptions(intent_columns=("action", "object")))
    assert [(problem.line, problem.utt, problem.what) for problem in error.value.problems] == [
        (3, "v", "label is not name=value ...: 'action=set object=t=20'"),
        (4, "w", "label names object, but action object in line 2"),
    ]


def test_one_utterance_in_two_splits_is_refused(own):
    own.write_text(own.read_text().replace("u2", "ann-1").replace("bob", "ann"))
    with pytest.raises(DataError, match="all.tsv:3: ann-1: duplicate id, first in line 2"):
        import_tsv([own], "data", ImportOptions())


def test_spreadsheet_line_ends_and_bom_do_not_matter(own):
    own.write_bytes(b"\xef\xbb\xbf" + own.read_bytes().replace(b"\n", b"\r\n"))
    main([str(own), "data"])
    assert table("data/dev/text") == {"bob-u2": "turn it off"}


def test_the_tables_are_remembered(own, capsys):
    """Stage 1 of a recipe looks whether they have changed since."""
    main([str(own), "data", "--only", "train"])
    main([str(own), "data", "--only", "dev"])
    assert Path("data/.sources").read_text().splitlines() == [str(own.absolute())]


def test_a_set_that_a_table_makes_no_more_is_removed(own, capsys):
    """Else a renamed split would leave the old one to be trained on; what other tables made stays."""
    more = own.with_name("more.tsv")
    more.write_text("utt_id\tspeaker\tpath\tsplit\nx\tdora\twavs/a.wav\ttest\ny\tdora\twavs/b.wav\tdev\n")
    main([str(own), "data"])
    main([str(more), "data"])
    own.write_text(own.read_text().replace("\ttrain\t", "\tTraining\t").replace("\tdev\t", "\tvalid\t"))
    capsys.readouterr()
    main([str(own), "data"])
    assert sorted(path.name for path in Path("data").glob("[!.]*")) == ["Training", "dev", "test", "valid"]
    assert "data/train: removed, since these tables make it no more" in capsys.readouterr().out
    main([str(own), "data", "--only", "valid"])
    assert sorted(path.name for path in Path("data").glob("[!.]*")) == ["Training", "dev", "test", "valid"]


def test_a_table_without_words_says_so(own, capsys):
    main([str(own), "data", "--text_column", "said"])
    assert (
        "data/dev: no transcripts: no table has a column said with words in it (--text_column names another)"
        in capsys.readouterr().out
    )


def test_data_that_is_a_file_is_refused(own, capsys):
    with pytest.raises(SystemExit):
        main([str(own), str(own)])
    assert f"{own}: is a file" in capsys.readouterr().err
