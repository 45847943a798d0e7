"""nlu_home: what is said and labelled, from the published lists and from the TSV pack, and that it stays the same."""

import csv
import hashlib
import shutil
from pathlib import Path

import pytest
import soundfile

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
needs_pack = pytest.mark.skipif(not (SHARED / "text_nlu_home").is_dir(), reason="needs shared/data/text_nlu_home")
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
HEADER = "answerid;scenario;intent;answer_annotation;answer_from_anno;answer_from_user\n"


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def line(scenario, intent, text):
    return f'1;{scenario};{intent};"[x : {text}]";"{text}";"As typed: {text}!"\n'


@pytest.fixture
def published(tmp_path, local_module):
    """A clone of the repository with four intents, one test sentence of which is in training too."""
    clone = tmp_path / "clone"
    fold = clone / local_module("nlu_home", "texts", "slu1").FOLD
    for part in ("trainset", "testset/csv"):
        (fold / part).mkdir(parents=True)
    for intent in ("lamp_on", "lamp_off"):
        lines = [line("iot", intent, f"{intent[5:]} with lamp {word} now") for word in "abcdefghijklmnopqrstuvwxyz"]
        (fold / f"trainset/iot_{intent}.csv").write_text(HEADER + "".join(lines), encoding="utf-8")
        lines = [line("iot", intent, f"please {intent[5:]}"), line("iot", intent, f"{intent[5:]} with lamp c now")]
        (fold / f"testset/csv/iot_{intent}.csv").write_text(HEADER + "".join(lines), encoding="utf-8")
    odd = [line("email", "send", text) for text in ("Mail sam@home, it's \u2019urgent\u2019.", "call 911", "say #now")]
    odd.append(line("email", "send", "semicolon; inside"))
    (fold / "trainset/email_send.csv").write_text(HEADER + "".join(odd), encoding="utf-8")
    (fold / "testset/csv/email_send.csv").write_text(HEADER, encoding="utf-8")
    return clone


def test_published_lists(local_module, published):
    texts = local_module("nlu_home", "texts", "slu1")
    for place in (published, published / texts.FOLD):
        pools, num_passed = texts.sentence_pools(texts.read_sets(texts.find_texts(place)))
        said = {split: dict(pool) for split, pool in pools.items()}
        assert said["test"] == {
            "please on": "iot_lamp_on",
            "on with lamp c now": "iot_lamp_on",
            "please off": "iot_lamp_off",
            "off with lamp c now": "iot_lamp_off",
        }
        assert num_passed == 4 and sum(map(len, said.values())) == 2 * 26 + 2 + 2
        assert len(set().union(*said.values())) == 56
        rest = said["train"] | said["valid"]
        assert rest["mail sam at home it's urgent"] == rest["semicolon inside"] == "email_send"
        assert 0 < len(said["valid"]) < 15


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Turn_down the  speakers, please!", "turn down the speakers please"),
        ("sam@mail dot com", "sam at mail dot com"),
        ("what's 'on'?", "what's on"),
        ("s1, explain", None),
        ("caf\u00e9", None),
    ],
)
def test_spoken_words(local_module, written, said):
    spoken_words = local_module("nlu_home", "texts", "slu1").spoken_words
    if said is None:
        with pytest.raises(ValueError, match="may be said in several ways"):
            spoken_words(written)
    else:
        assert spoken_words(written) == said


def test_draw_covers_the_intents_first_and_grows_at_the_end(local_module):
    draw = local_module("nlu_home", "texts", "slu1").draw
    pool = [(f"{intent} {number}", intent) for intent in "abcd" for number in range({"a": 90}.get(intent, 3))]
    drawn = draw(pool, 200, 1, "train")
    assert sorted(drawn) == sorted(pool) and {intent for _, intent in drawn[:4]} == set("abcd")
    assert draw(pool, 30, 1, "train") == drawn[:30] and draw(pool, 30, 2, "train") != drawn[:30]


@needs_pack
def test_pack_of_the_default_size(local_module):
    texts, prepare = (local_module("nlu_home", module, "slu1") for module in ("texts", "prepare"))
    place = SHARED / "text_nlu_home"
    pools, num_passed = texts.sentence_pools(texts.read_sets(place))
    utterances = prepare.plan(pools, prepare.SIZES, 1)
    prepare.check_intents(utterances, place)
    by_split = {split: [u for u in utterances if u.split == split] for split in texts.SPLITS}
    assert len(by_split["train"]) == len({u.utt_id for u in by_split["train"]}) == 8000
    assert 950 < len(by_split["valid"]) <= 996 and len(by_split["test"]) == 1000 and num_passed < 150
    assert len({u.intent for u in by_split["train"]}) == len({u.intent for u in by_split["test"]}) == 64
    assert len({u.text for u in utterances}) == len(utterances)
    voices = [{u.voice.split("+")[1] for u in part} for part in by_split.values()]
    assert len(set.union(*voices)) == sum(map(len, voices))
    # The pack's lists, read with nothing but csv.
    for split, part in {"train": "train", "valid": "dev", "test": "test"}.items():
        with (place / f"{part}.tsv").open(newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t", quoting=3))
        plain = {row["text"]: row["intent"] for row in rows if row["text"].replace(" ", "").isalpha()}
        listed = {text.lower(): intent for text, intent in plain.items()}
        ours = {u.text: u.intent for u in by_split[split]}
        shared = set(ours) & set(listed)
        assert len(shared) > 0.7 * len(ours) and all(ours[text] == listed[text] for text in shared)


@needs_espeak
def test_data_stage(recipe, published):
    home = recipe("nlu_home", "slu1")
    options = ("--texts", published, "--num_train", 12, "--num_valid", 3, "--num_test", 9, "--nj", 2)
    done = home.data(*options)
    assert done.returncode == 0, done.stderr
    assert "4 lines that are repeated or could be said in several ways are left out" in done.stdout
    assert home.sets() == ["test", "train", "valid"]
    texts, speakers = {}, {}
    for name, size in {"train": 12, "valid": 3, "test": 4}.items():
        text, label, wav = (home.table(f"{name}/{table}") for table in ("text", "label", "wav.scp"))
        assert len(text) == size and set(text) == set(label) == set(wav)
        for utt in text:
            wanted = "email_send" if text[utt].startswith(("mail", "semi")) else f"iot_lamp_{text[utt].split()[0]}"
            if text[utt].startswith("please"):
                wanted = f"iot_lamp_{text[utt].split()[1]}"
            assert label[utt] == f"intent={wanted}"
            assert 0.5 < soundfile.info(home.path / wav[utt]).duration < 5
        texts[name], speakers[name] = set(text.values()), set(home.table(f"{name}/utt2spk").values())
    for tables in (texts, speakers):
        assert len(set.union(*tables.values())) == sum(map(len, tables.values()))
    first, data = digests(home.path / "downloads"), digests(home.path / "data")
    assert "already there" in home.data(*options).stdout
    lost = sorted((home.path / "downloads").rglob("*.flac"))[:3]
    for path in lost:
        path.unlink()
    assert home.data(*options[:-1], 1).returncode == 0
    assert digests(home.path / "downloads") == first and digests(home.path / "data") == data

    # Sentences without intents: none of a set, none twice, in voices of train; the sets stay as they are.
    lines = [
        "Play it, please!",
        "play it please",
        "dial 911",
        *sorted(texts["test"]),
        *(f"sing {x} song" for x in "abcdef"),
    ]
    (home.path / "more.txt").write_text("".join(f"{x}\n" for x in lines))
    more = ("--num_unlabelled", 5, "--unlabelled_text", home.path / "more.txt")
    assert home.data(*options, *more).returncode == 0
    said = list(home.table("unlabelled/text").values())
    assert len(said) == len(set(said)) == 5 and set(said) <= {"play it please", *(f"sing {x} song" for x in "abcdef")}
    assert not (home.path / "data/unlabelled/label").exists()
    throats = [set(home.table(f"{name}/utt2spk").values()) for name in ("unlabelled", "valid", "test")]
    assert not throats[0] & (throats[1] | throats[2])
    assert {name: value for name, value in digests(home.path / "data").items() if "unlabelled" not in name} == data
    done = home.data(*options, "--num_unlabelled", 5, "--unlabelled_text", "elsewhere.txt")
    assert done.returncode == 1 and "elsewhere.txt:0: -: is not there: give a file of sentences" in done.stderr


def test_faults_are_named(recipe, published, local_module, tmp_path):
    home = recipe("nlu_home", "slu1")
    done = home.data("--texts", tmp_path)
    assert done.returncode == 1 and f"{tmp_path}:0: -: has neither train.tsv nor CrossValidation/" in done.stderr
    assert "git clone https://github.com/xliuhw/NLU-Evaluation-Data" in done.stderr
    assert home.data("--num_train", 0).returncode == 2
    fold = published / local_module("nlu_home", "texts", "slu1").FOLD
    done = home.data("--texts", published, "--num_train", 1)
    assert done.returncode == 1 and "has intents that train has not: " in done.stderr and "--num_train 3" in done.stderr
    path = fold / "trainset/iot_lamp_on.csv"
    path.write_text(path.read_text() + "7;iot;lamp_on\n")
    (fold / "trainset/iot_lamp_off.csv").write_text("answerid;scenario\n1;iot\n")
    done = home.data("--texts", published)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{path}:28: 7: line has not the 6 cells of the header: fetch the corpus again" in done.stderr
    assert "iot_lamp_off.csv:1: -: header has no column intent, answer_from_anno" in done.stderr
    assert not (home.path / "data").exists()


@needs_espeak
def test_tiny_version(recipe):
    home = recipe("nlu_home", "slu1")
    done = home.data("--synthetic", "true")
    assert done.returncode == 0, done.stderr
    assert {name: len(home.table(f"{name}/label")) for name in home.sets()} == {"train": 48, "valid": 6, "test": 12}
    assert len(set(home.table("train/label").values())) == 6
