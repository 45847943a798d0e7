"""The four rows of HieraDist: their settings as published, and a training step of narrow copies of their models."""

from pathlib import Path

import pytest
import torch
import yaml
from espnet2.tasks.abs_task import optim_classes, scheduler_classes

from espnet2_kd.asr.decode_config import DecodeConfig
from espnet2_kd.tasks.asr import KDASRTask
from espnet2_kd.tasks.config import load_config

pytest.importorskip("transformers")

CONF = Path(__file__).resolve().parents[2] / "egs2/aishell/asr1/conf"
ACD = ("cif", {"contrastive": {"temperature": 0.02, "num_negatives": 700, "reduction": "sum"}}, 1.0)
LRD = ("decoder.state", {"mse": {"dims": "sum", "reduction": "sum"}}, 0.01)
ROWS = {"cif": {}, "cif_acd": {"acd": ACD}, "cif_lrd": {"lrd": LRD}, "cif_hkd": {"acd": ACD, "lrd": LRD}}


def row(name):
    return load_config(CONF / f"train_{name}.yaml")


def args_of(config, folder, characters, **more):
    (folder / "tokens.txt").write_text("\n".join(["<blank>", "<unk>", *characters, "<sos/eos>"]) + "\n")
    config = config | {"token_list": str(folder / "tokens.txt"), "token_type": "char", **more}
    (folder / "conf.yaml").write_text(yaml.safe_dump(config))
    command = ["--config", str(folder / "conf.yaml"), "--output_dir", str(folder), "--normalize", "utterance_mvn"]
    return KDASRTask.get_parser().parse_args(command)


def test_there_are_four_rows():
    assert {path.stem for path in CONF.glob("train_cif*.yaml")} == {f"train_{name}" for name in ROWS}


def test_settings_are_the_papers():
    config = row("cif")
    assert [config["frontend_conf"][key] for key in ("n_mels", "win_length", "hop_length")] == [80, 400, 160]
    augment = config["specaug_conf"]
    assert augment["freq_mask_width_range"] == [0, 27] and augment["time_mask_width_range"] == [0, 50]
    assert [augment[key] for key in ("num_freq_mask", "num_time_mask", "apply_time_warp")] == [2, 2, False]
    assert config["model_conf"]["cif_conf"]["tail"] == 0.5
    assert [config[key] for key in ("grad_clip", "max_epoch", "patience", "keep_nbest_models")] == [1.0, 248, 40, 10]
    assert config["use_amp"] is True and config["best_model_criterion"] == [["valid", "acc", "max"]]
    # 60 000 frames of 10 ms, in samples; texts, which this kind of batch counts too, are not worth mentioning.
    assert config["batch_type"] == "length" and config["batch_bins"] == 60_000 * 16_000 // 100
    decoding = DecodeConfig.read(CONF / "decode.yaml")
    assert (decoding.search, decoding.beam_size, decoding.tail, decoding.lm) == ("beam", 10, 0.4, None)


def test_the_model_is_the_papers(tmp_path):
    """4 230 characters; of the parameters in the paper's log, each difference is known."""
    args = args_of(row("cif"), tmp_path, [chr(0x4E00 + n) for n in range(4230)])
    model = KDASRTask.build_model(args)
    differences = {
        "the second convolution of conv2d2, after which 37 instead of 39 bands are left": 128 * 128 * 9 + 128,
        "which are projected": -128 * 2 * 256,
        "a linear layer after that": -(256 * 256 + 256),
        "biases in convolution modules": 15 * 4 * 256,
        "a normalisation after the last block": 2 * 256,
        "a padding label, embedded, written and in the CTC's layer": -(256 + 256 + 256 + 1),
    }
    assert sum(p.numel() for p in model.parameters()) == 47_208_587 + sum(differences.values())
    encoder, decoder, cif = model.encoder, model.decoder, model.cif
    assert (encoder.output_size(), len(encoder.encoders), encoder.frame_ms) == (256, 15, 80.0)
    assert encoder.context.full and not encoder.causal_conv
    block = encoder.encoders[0]
    assert (block.self_attn.num_heads, block.dropout.p, block.conv_module.depthwise_conv.kernel_size) == (4, 0.1, (15,))
    assert isinstance(block.conv_module.norm, torch.nn.BatchNorm1d)
    assert (cif.conv.kernel_size, cif.dropout.p) == ((3,), 0.2)
    assert isinstance(cif.activation, torch.nn.Identity) and not cif.residual
    assert len(decoder.decoders) == 2 and decoder.autoregressive
    layer = decoder.decoders[0]
    assert [layer.dropout.p, layer.self_attn.dropout.p, layer.feed_forward.dropout.p] == [0.2] * 3
    assert (layer.self_attn.h, layer.feed_forward.w_1.out_features, decoder.position.dropout.p) == (4, 2048, 0.1)
    assert (model.ctc_weight, model.quantity_weight, model.cif_eos) == (0.5, 1.0, True)
    # Over all 4 233 labels, which is 0.1 over the wrong ones.
    assert model.label_smoothing == pytest.approx(0.1 * 4233 / 4232)


def test_the_schedule_is_the_papers():
    config = row("cif")
    weights = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = optim_classes[config["optim"]](weights, **config["optim_conf"])
    assert isinstance(optimizer, torch.optim.AdamW)  # whose weight decay is decoupled
    group = optimizer.param_groups[0]
    assert (tuple(group["betas"]), group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-8, 0.01)
    schedule = scheduler_classes[config["scheduler"]](optimizer, **config["scheduler_conf"])
    expected = {0: 3e-6, 15_000: 1.515e-4, 30_000: 3e-4, 119_999: 3e-4, 180_000: 3e-5, 240_000: 3e-6}
    for update, rate in expected.items():
        schedule.last_epoch = update - 1
        assert schedule.get_lr()[0] == pytest.approx(rate), update


@pytest.mark.parametrize("name", ROWS)
def test_terms_are_the_papers(name):
    config, baseline = row(name), row("cif")
    assert {key: config[key] for key in baseline} == baseline
    if not ROWS[name]:
        assert not config.keys() & {"teacher", "teacher_conf", "kd_terms"}
        return
    assert config["teacher"] == "hf_text"
    assert config["teacher_conf"] == {"model": "google-bert/bert-base-chinese"}
    for term, (student, loss, weight) in zip(config["kd_terms"], ROWS[name].values(), strict=True):
        assert (term["student"], term["loss"], term["weight"]) == (student, loss, weight)
        assert (term["teacher"], term["head"], term["per"]) == ("encoder.layer.11", "projection", "token")
    assert [term["name"] for term in config["kd_terms"]] == list(ROWS[name])


@pytest.fixture
def sentences(local_module):
    """What the synthetic copy of the corpus says."""
    return [sentence.replace(" ", "") for sentence in local_module("aishell", "synthetic").SENTENCES]


@pytest.fixture
def bert(chinese_bert, sentences):
    return chinese_bert(sentences)


@pytest.mark.parametrize("name", ROWS)
def test_row_learns(name, bert, sentences, tmp_path):
    config = row(name)
    config["encoder_conf"] |= {"output_size": 16, "linear_units": 16, "input_channels": 4}
    config["decoder_conf"]["linear_units"] = 16
    more = {"teacher_conf": {"model": str(bert)}} if ROWS[name] else {}
    args = args_of(config, tmp_path, sorted(set("".join(sentences))), **more)
    torch.manual_seed(1)
    model = KDASRTask.build_model(args).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    said = [[model.token_list.index(char) for char in sentence] for sentence in sentences[:2]]
    batch = {
        "speech": torch.randn(2, 20000),
        "speech_lengths": torch.tensor([20000, 16000]),
        "text": torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in said], True, -1),
        "text_lengths": torch.tensor([len(ids) for ids in said]),
    }
    loss, stats, weight = model(**{key: value.clone() for key, value in batch.items()})
    assert int(weight) == sum(len(ids) + 1 for ids in said)
    terms = {key: float(value) for key, value in stats.items() if key.startswith("loss_kd_")}
    assert terms.keys() == {f"loss_kd_{term}" for term in ROWS[name]} and all(value > 0 for value in terms.values())
    task = stats["loss_ce"] + stats["loss_quantity"] + 0.5 * stats["loss_ctc"]
    total = float(task) + sum(terms[f"loss_kd_{term}"] * weight for term, (_, _, weight) in ROWS[name].items())
    assert float(loss.detach()) == pytest.approx(total, rel=1e-5)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    optimizer.step()
    assert any(not torch.equal(before[key], value) for key, value in model.named_parameters() if key.startswith("cif."))
