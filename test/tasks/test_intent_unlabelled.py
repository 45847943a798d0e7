"""Sentences of which nobody knows the intent teach a classifier, through its distillation terms alone."""

import kaldiio
import numpy as np
import pytest
import torch
import yaml
from espnet2.train.distributed_utils import DistributedOption

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.slu.sentence import SentenceReader
from espnet2_kd.tasks.intent import KDIntentTask

TEXTS = {
    "known": ("turn the lamp on", "switch the radio off please", "heat up", "put it down", "lamp off", "radio on now"),
    "more": ("could you turn it up", "is it on", "a bit of light please", "the kitchen"),
}
TERM = {"student": "decoder.layers.0", "teacher": "encoder.layer.1", "head": "projection", "per": "token"}
SIZE = 16  # of frames


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of the tables of frames in `known`, with intents, and `more`, without."""
    folder = tmp_path_factory.mktemp("frames")
    rng = np.random.default_rng(0)
    for name, texts in TEXTS.items():
        (folder / name).mkdir()
        lines = {"text": texts, "frames_shape": [], "label": [f"lamp={'on' if 'on' in t else 'off'}" for t in texts]}
        frames = {}
        for n in range(len(texts)):
            frames[f"{name}{n}"] = rng.standard_normal((int(rng.integers(9, 14)), SIZE)).astype(np.float32)
            lines["frames_shape"].append(f"{len(frames[f'{name}{n}'])},{SIZE}")
        kaldiio.save_ark(str(folder / name / "frames.ark"), frames, scp=str(folder / name / "frames.scp"))
        for table, values in lines.items():
            (folder / name / table).write_text("".join(f"{name}{n} {value}\n" for n, value in enumerate(values)))
    return folder


@pytest.fixture(scope="session")  # workers may come back to a module
def ears(tiny_experiment):
    return tiny_experiment("asr_ears_of_few_words")


@pytest.fixture
def config(data, tiny_bert, ears, tmp_path):
    """Function: match of the term, tables of the sentences without intents -> options of a training."""

    def write(match="pad_text", more=("frames.scp,speech,kaldi_ark", "text,text,text")):
        both = ["frames.scp,speech,kaldi_ark", "label,label,text", "text,text,text"]
        sources = {"train": ("known", both), "valid": ("known", both), "unlabelled": ("more", more)}
        options = {
            "token_list": ["lamp=on", "lamp=off", "<unk>"],
            "acoustic_exp": str(ears),
            "decoder": "speech_transformer",
            "decoder_conf": {
                **{"size": 8, "attention_heads": 2, "linear_units": 8, "num_blocks": 1, "dropout_rate": 0.0}
            },
            "teacher": "hf_sentence",
            "teacher_conf": {"model": str(tiny_bert)},
            "kd_terms": [{"name": "hidden", **TERM, "match": match, "loss": "mse", "weight": 0.5}],
            "unlabelled_ratio": 0.5,
            **{"batch_type": "sorted", "batch_size": 2, "max_epoch": 1, "optim": "adam", "num_workers": 0},
            **{"num_att_plot": 0, "best_model_criterion": [["valid", "acc", "max"]]},
        }
        for name, (folder, tables) in sources.items():
            options[f"{name}_data_path_and_name_and_type"] = [
                [f"{data}/{folder}/{path}", kind, reader]
                for path, kind, reader in (table.split(",") for table in tables)
            ]
            options[f"{name}_shape_file"] = [f"{data}/{folder}/frames_shape"]
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump(options))
        return ["--config", str(path), "--output_dir", str(tmp_path / "exp")]

    return write


def batch(name, tiny_bert, length):
    """Frames, padded with what must not count, and word pieces."""
    generator = torch.Generator().manual_seed(len(name))
    rows = [torch.from_numpy(SentenceReader(tiny_bert).ids(text)) for text in TEXTS[name][:2]]
    frames = torch.randn(2, length, SIZE, generator=generator)
    return {
        "speech": frames,
        "speech_lengths": torch.tensor([length, length - 2]),
        "text": torch.nn.utils.rnn.pad_sequence(rows, True, -1),
        "text_lengths": torch.tensor([len(row) for row in rows]),
    }


def joined(one, other):
    """Both batches as one."""

    def pad(x, size, value):
        return torch.nn.functional.pad(x, (0, 0) * (x.dim() - 2) + (0, size - x.shape[1]), value=value)

    both = {}
    for key in one:
        x, y, value = one[key], other[key], -1 if key == "text" else 0
        size = max(x.shape[1], y.shape[1]) if x.dim() > 1 else 0
        both[key] = torch.cat([pad(x, size, value), pad(y, size, value)] if size else [x, y])
    return both


@pytest.mark.parametrize("match", ["pad_text", "interpolate"])
def test_they_count_as_the_others_do_in_the_terms_and_not_in_the_loss(config, tiny_bert, match):
    torch.manual_seed(0)
    model = KDIntentTask.build_model(KDIntentTask.get_parser().parse_args(config(match))).train()
    known, more = batch("known", tiny_bert, 12), batch("more", tiny_bert, 15)
    label, lens = torch.tensor([[0], [1]]), torch.ones(2, dtype=torch.long)
    unlabelled = {f"unlabelled_{key}": value for key, value in more.items()}
    loss, stats, _ = model(**known, **unlabelled, label=label, label_lengths=lens)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    task, _, _ = model.forward_task(**known, label=label, label_lengths=lens)
    torch.testing.assert_close(stats["loss_task"], task.detach())
    _, of_all, _ = model(**joined(known, more), label=label.repeat(2, 1), label_lengths=lens.repeat(2))
    torch.testing.assert_close(stats["loss_kd_hidden"], of_all["loss_kd_hidden"])
    _, of_known, _ = model(**known, label=label, label_lengths=lens)
    assert not torch.allclose(stats["loss_kd_hidden"], of_known["loss_kd_hidden"], rtol=1e-3)
    # Gradients too: of the sentences with intents alone, and of the term on all.
    all_loss, _, _ = model(**joined(known, more), label=label.repeat(2, 1), label_lengths=lens.repeat(2))
    all_task, _, _ = model.forward_task(**joined(known, more), label=label.repeat(2, 1), label_lengths=lens.repeat(2))
    model.zero_grad()
    (task + all_loss - all_task).backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys() and any(name.startswith("kd.") for name in found)
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6, msg=name)


def test_without_their_words_they_teach_nothing(config):
    args = KDIntentTask.get_parser().parse_args(config(more=("frames.scp,speech,kaldi_ark",)))
    with pytest.raises(ConfigError, match=r"unlabelled speech teaches nothing: every term \(hidden\)"):
        KDIntentTask.build_model(args)


def test_a_whole_training(config, tmp_path):
    KDIntentTask.main(cmd=[*config(), "--ngpu", "0"])
    stats = torch.load(tmp_path / "exp/checkpoint.pth", weights_only=False)["reporter"]["stats"][1]
    assert {"loss_task", "loss_kd_hidden", "acc"} <= stats["train"].keys() & stats["valid"].keys()


def test_what_is_cached_is_prepared_once(config, monkeypatch):
    args = KDIntentTask.get_parser().parse_args([*config(), "--max_cache_size", "1MB"])
    args.num_workers = 0
    factory = KDIntentTask.build_iter_factory(args, DistributedOption(), "train")
    first = {utts[0]: batch for utts, batch in factory.build_iter(1, shuffle=False)}
    for part in (factory.factory.labelled, factory.factory.unlabelled):
        assert isinstance(part.dataset.cache.cache, dict)  # and not what asks another process
        monkeypatch.setattr(part.dataset, "preprocess", None)
        monkeypatch.setattr(part.dataset, "loader_dict", {})
    again = {utts[0]: batch for utts, batch in factory.build_iter(2, shuffle=False)}
    assert first.keys() == again.keys() and len(first) == 3
    for utt, batch in first.items():
        for name in ("speech", "text", "label"):
            assert torch.equal(again[utt][name], batch[name])
