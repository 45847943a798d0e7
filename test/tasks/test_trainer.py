"""Pictures of CIF recognisers: on demand, and of a training's every epoch."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from matplotlib import image

from espnet2_kd.bin.plot_cif import main as plot_cif
from espnet2_kd.kd.student import compare_tokens
from espnet2_kd.tasks.asr import KDASRTask

WORDS = ["ab", "cd", "ef"]
TOKENS = ["<blank>", "<unk>", *WORDS, "<sos/eos>"]


def write_bert(folder):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=8, **sizes)).save_pretrained(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An experiment of one epoch on four utterances: its directory and the data."""
    folder = tmp_path_factory.mktemp("cif")
    for name in ("bert", "data", "exp"):
        (folder / name).mkdir()
    write_bert(folder / "bert")
    generator = np.random.default_rng(0)
    texts = {f"u{n}": text for n, text in enumerate(["ab cd ef", "cd", "ef ef ab", "ab cd"])}
    for utt in texts:
        soundfile.write(folder / f"data/{utt}.wav", generator.standard_normal(16000) * 0.1, 16000)
    tables = {
        "wav.scp": {utt: folder / f"data/{utt}.wav" for utt in texts},
        "text": texts,
        "utt2spk": dict.fromkeys(texts, "s"),
        "spk2utt": {"s": " ".join(texts)},
        "speech_shape": dict.fromkeys(texts, 16000),
    }
    for name, rows in tables.items():
        (folder / "data" / name).write_text("".join(f"{key} {value}\n" for key, value in rows.items()))
    data = {
        f"{part}_{key}": value
        for part in ("train", "valid")
        for key, value in {
            "data_path_and_name_and_type": [
                [str(folder / "data/wav.scp"), "speech", "sound"],
                [str(folder / "data/text"), "text", "text"],
            ],
            "shape_file": [str(folder / "data/speech_shape")],
        }.items()
    }
    config = {
        "model": "cif",
        "frontend": "default",
        "frontend_conf": {"fs": "16k", "n_fft": 512, "hop_length": 160, "center": False},
        "normalize": "utterance_mvn",
        "encoder": "chunk_conformer",
        "encoder_conf": {"output_size": 8, "attention_heads": 2, "linear_units": 8, "num_blocks": 1},
        "decoder": "cif",
        "decoder_conf": {"attention_heads": 2, "linear_units": 8},
        "token_list": TOKENS,
        "token_type": "word",
        "teacher": "hf_text",
        "teacher_conf": {"model": str(folder / "bert")},
        "kd_terms": [
            {
                **{"name": "acd", "student": "cif", "teacher": "encoder.layer.0", "head": "projection"},
                **{"loss": "contrastive", "per": "token", "weight": 1.0},
            }
        ],
        "batch_type": "unsorted",
        "batch_size": 2,
        "max_epoch": 1,
        "num_att_plot": 2,
        "num_workers": 0,
        "optim": "adam",
        "output_dir": str(folder / "exp"),
        "best_model_criterion": [["valid", "acc", "max"]],
        "ngpu": 0,
        "fold_length": [80000],
        **data,
    }
    (folder / "conf.yaml").write_text(yaml.safe_dump(config))
    KDASRTask.main(cmd=["--config", str(folder / "conf.yaml")])
    return folder


def is_picture(path: Path) -> bool:
    return len(np.unique(image.imread(path))) > 10


def test_training_draws_every_epoch(trained):
    found = sorted(str(path.relative_to(trained / "exp/att_ws")) for path in trained.glob("exp/att_ws/**/*.png"))
    assert found == ["u0/acd.1ep.png", "u0/firing.1ep.png", "u1/acd.1ep.png", "u1/firing.1ep.png"]
    assert all(is_picture(trained / "exp/att_ws" / name) for name in found)


def test_on_demand(trained, tmp_path, capsys):
    """With the teacher where the checkpoint still has its heads."""
    command = ["--exp", str(trained / "exp"), "--data_dir", str(trained / "data"), "--output_dir", str(tmp_path)]
    assert plot_cif([*command, "--model_file", "1epoch.pth", "--utts", "u2"]) == 0
    assert sorted(path.name for path in tmp_path.glob("u2/*")) == ["acd.1epoch.png", "firing.1epoch.png"]
    assert all(is_picture(path) for path in tmp_path.glob("u2/*"))
    from espnet2_kd.tasks.checkpoint import strip_averaged

    strip_averaged(trained / "exp")
    assert plot_cif([*command, "--model_file", "valid.acc.ave.pth", "--num_utts", "1"]) == 0
    assert sorted(path.name for path in tmp_path.glob("u0/*")) == ["firing.valid.acc.ave.png"]
    capsys.readouterr()
    assert plot_cif([*command, "--utts", "u7"]) == 1
    assert f"{trained / 'data'}: no utterance u7" in capsys.readouterr().err


def test_cosines_of_student_and_teacher(trained):
    from espnet2_kd.tasks.checkpoint import load_student

    model, _ = load_student(trained / "exp", "1epoch.pth")
    text = torch.tensor([[2, 3, 4], [3, -1, -1]])
    batch = {"speech": torch.randn(2, 16000), "speech_lengths": torch.tensor([16000, 9000])}
    batch |= {"text": text, "text_lengths": torch.tensor([3, 1])}
    (found,) = compare_tokens(model, batch).values()
    assert [matrix.shape for matrix in found] == [(4, 4), (2, 2)]
    with torch.no_grad():
        enc, lens = model.encode(batch["speech"], batch["speech_lengths"])
        student = model.kd.heads["acd"].linear(model.cif(enc, lens, torch.tensor([4, 2])).fired)
        bert = model.__dict__["teacher"].model
        ids = torch.tensor([[2, 5, 6, 7, 3]])  # [CLS] ab cd ef [SEP]
        teacher = bert(input_ids=ids).last_hidden_state[0, 1:]
    for i in range(4):
        for j in range(4):
            cosine = torch.cosine_similarity(student[0, i], teacher[j], dim=0)
            assert float(found[0][i, j]) == pytest.approx(float(cosine), abs=1e-4)
