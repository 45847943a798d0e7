"""Packing: what ESPnet2's own unpacker reads, the same bytes each time, and nothing about the machine."""

import getpass
import shutil
import zipfile

import pytest
import torch
import yaml
from espnet2.main_funcs.pack_funcs import unpack

from espnet2_kd.asr.load import load_model
from espnet2_kd.asr.model_pack import PackError
from espnet2_kd.asr.pack_writer import write_pack
from espnet2_kd.bin.pack import main
from espnet2_kd.data.tokenizer import HuggingFaceTokenizer

NAME = "valid.loss_transducer.ave.pth"
STATS = "exp/asr_stats/train/feats_stats.npz"


@pytest.fixture(scope="module")
def made(tiny_experiment):
    return tiny_experiment("asr_to_pack")


@pytest.fixture
def exp(made, tmp_path, monkeypatch):
    """A copy below the working directory, with statistics."""
    recipe = tmp_path / "recipe"
    for name in (f"exp/{made.name}", "exp/asr_stats"):
        shutil.copytree(made.parents[1] / name, recipe / name)
    monkeypatch.chdir(recipe)
    return recipe / "exp" / made.name


def edit(exp, **changes):
    config = yaml.safe_load((exp / "config.yaml").read_text())
    (exp / "config.yaml").write_text(yaml.safe_dump({**config, **changes}))


def test_espnets_unpacker_and_ours_read_it(exp, tmp_path, capsys):
    edit(exp, normalize_conf={"stats_file": str(exp.parents[1] / STATS)}, output_dir=str(exp), dist_master_addr="node7")
    main(["--exp", f"exp/{exp.name}", "--option", STATS, "--outpath", str(tmp_path / "m.zip")])
    printed = capsys.readouterr().out
    for name in ("meta.yaml", f"exp/{exp.name}/config.yaml", f"exp/{exp.name}/{NAME}", STATS):
        assert f"  {name}\n" in printed
    files = unpack(tmp_path / "m.zip", tmp_path / "theirs")
    config = yaml.safe_load(open(files["asr_train_config"]))
    assert config["normalize_conf"]["stats_file"] == str(tmp_path / "theirs" / STATS)
    assert config["dist_master_addr"] is None and config["output_dir"] is None
    expected, _ = load_model(exp, NAME)
    model, _ = load_model(tmp_path / "m.zip", "none.pth")
    states = model.state_dict(), expected.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    again = tmp_path / "again/m.zip"  # of the same name, which is in its card
    main(["--exp", f"exp/{exp.name}", "--option", STATS, "--outpath", str(again)])
    assert again.read_bytes() == (tmp_path / "m.zip").read_bytes()


def test_what_the_configuration_names_comes_along(exp, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "texts/bert"
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("[UNK]\na\n")
    edit(exp, token_type="hugging_face", bpemodel=str(folder))
    assert main(["--exp", f"exp/{exp.name}", "--outpath", str(tmp_path / "m.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "m.zip") as bundle:
        assert {STATS, "files/bert/vocab.txt"} <= set(bundle.namelist())
    load_model(tmp_path / "m.zip", "none.pth")
    monkeypatch.chdir(tmp_path)
    assert main(["--exp", str(exp), "--outpath", str(tmp_path / "n.zip")]) == 1
    assert (
        f"stats_file: {STATS}: not found from here: pack it in the directory of its recipe" in capsys.readouterr().err
    )
    assert not (tmp_path / "n.zip").exists()


def test_what_only_distillation_needs_is_left_out(exp, tmp_path):
    state = torch.load(exp / NAME)
    torch.save({**state, "kd.heads.l4.weight": torch.ones(3)}, exp / NAME)
    edit(
        exp, kd_terms=[{"name": "l4", "student": "encoder", "teacher": "encoder"}], teacher_conf={"exp": "exp/teacher"}
    )
    assert main(["--exp", f"exp/{exp.name}", "--option", STATS, "--outpath", str(tmp_path / "m.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "m.zip") as bundle:
        bundle.extractall(tmp_path / "out")
    packed = torch.load(tmp_path / "out/exp" / exp.name / NAME)
    assert packed.keys() == state.keys() and all(torch.equal(packed[key], state[key]) for key in state)
    config = yaml.safe_load((tmp_path / "out/exp" / exp.name / "config.yaml").read_text())
    assert config["kd_terms"] == [] and config["teacher_conf"] == {}


def test_a_tokenizer_from_elsewhere_comes_with_the_model(exp, tmp_path, monkeypatch):
    """What its configuration names is found in the pack; the text model beside the tokenizer is not in it."""
    folder = tmp_path / "texts/bert"
    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##b", "/usr/lib"]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (folder / "model.safetensors").write_bytes(b"large")
    edit(exp, token_type="hugging_face", bpemodel=str(folder))
    options = [
        "--exp",
        f"exp/{exp.name}",
        "--option",
        STATS,
        "--tokenizer",
        str(folder),
        "--outpath",
        str(tmp_path / "m.zip"),
    ]
    assert main(options) == 0
    with zipfile.ZipFile(tmp_path / "m.zip") as bundle:
        assert [name for name in bundle.namelist() if name.startswith("files/")] == [
            "files/bert/tokenizer_config.json",
            "files/bert/vocab.txt",
        ]
    shutil.rmtree(folder)
    monkeypatch.chdir(tmp_path)
    _, args = load_model(tmp_path / "m.zip", "none.pth")
    assert HuggingFaceTokenizer(args.bpemodel).tokens2text(["a", "##b"]) == "ab"
    with pytest.raises(PackError, match="no folder with the files of a Hugging Face tokenizer"):
        write_pack(tmp_path / "m.zip", {"m": exp / NAME}, {"c": exp / "config.yaml"}, tokenizer=folder)


@pytest.mark.parametrize("word", ["/home/me/x", "(/scratch/y)", f"{getpass.getuser()}@node7"])
def test_texts_are_looked_through_too(exp, word, tmp_path):
    edit(exp, normalize=None, normalize_conf={})
    files = {"m": exp / NAME}, {"c": exp / "config.yaml"}
    good = "See https://example.org/a/b, egs2/mini/asr1 and 3/4, and the root mean square.\n"
    write_pack(tmp_path / "m.zip", *files, texts={"README.md": good})
    with pytest.raises(PackError, match="README.md: line 2: .*write it without"):
        write_pack(tmp_path / "n.zip", *files, texts={"README.md": f"{good}made with {word}, today\n"})


def test_files_outside_the_recipe_lie_in_a_folder_of_the_pack(exp, tmp_path):
    outside = tmp_path / "elsewhere/feats_stats.npz"
    outside.parent.mkdir()
    shutil.copy(STATS, outside)
    edit(exp, normalize_conf={"stats_file": str(outside)})
    main(["--exp", f"exp/{exp.name}", "--option", str(outside), "--outpath", str(tmp_path / "m.zip")])
    with zipfile.ZipFile(tmp_path / "m.zip") as bundle:
        assert "files/feats_stats.npz" in bundle.namelist()
        assert str(tmp_path).encode() not in b"".join(bundle.read(name) for name in bundle.namelist())
    load_model(tmp_path / "m.zip", "none.pth")


@pytest.mark.parametrize(
    "changes",
    [
        {"non_linguistic_symbols": "/scratch/me/nlsyms.txt"},
        {"encoder_conf": {"deep": [{"er": "see /home/me/x"}]}},
        {"cleaner": "~me/clean"},
        {"cleaner": "file:///home/me/x"},
        {"cleaner": "/data"},
        {"cleaner": f"{getpass.getuser()}@host:x"},
    ],
)
def test_what_tells_of_the_machine_is_named_and_not_packed(exp, changes, tmp_path, capsys):
    edit(exp, **changes)
    assert main(["--exp", f"exp/{exp.name}", "--outpath", str(tmp_path / "m.zip")]) == 1
    error = capsys.readouterr().err
    assert "config.yaml: " in error and next(iter(changes)) in error and "this machine" in error
    assert not (tmp_path / "m.zip").exists()


def test_words_that_are_no_places_are_packed(exp, tmp_path):
    tokens = ["<blank>", "<unk>", "<space>", *"abcdefghijklmno", "/usr/lib/x", "<sos/eos>"]
    edit(exp, token_list=tokens, cleaner="a/b and http://example.org/a/b, 1/2/3", lang=getpass.getuser())
    assert main(["--exp", f"exp/{exp.name}", "--outpath", str(tmp_path / "m.zip")]) == 0


def test_missing_and_telling_files_are_named(exp, tmp_path):
    with pytest.raises(PackError, match=r"nothing.npz: no such file"):
        write_pack(tmp_path / "m.zip", {"m": exp / NAME}, {"c": exp / "config.yaml"}, [exp / "nothing.npz"])
    (exp / "bpe.model").write_bytes(b"\x00" + str(exp.parents[1]).encode() + b"/x")
    with pytest.raises(PackError, match=r"bpe.model: holds the path"):
        write_pack(tmp_path / "m.zip", {"m": exp / NAME}, {"c": exp / "config.yaml"}, [exp / "bpe.model"])
    assert not (tmp_path / "m.zip").exists()
