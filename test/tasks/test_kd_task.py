"""`with_kd` on ESPnet2's own task: names, resume, stock inference, dumped teachers."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.student import student_state
from espnet2_kd.tasks.asr import ASRTask, KDASRTask
from espnet2_kd.tasks.checkpoint import strip_averaged

TOKENS = ["<blank>", "<unk>", "a", "b", "c", "<sos/eos>"]


def config(size: int, **options) -> dict:
    return {
        "frontend_conf": {"n_fft": 256, "hop_length": 160, "n_mels": 20, "center": False, "frontend_conf": None},
        "normalize": None,
        "encoder": "chunk_conformer",
        "encoder_conf": {
            "output_size": size,
            "attention_heads": 2,
            "linear_units": 32,
            "num_blocks": 2,
            "cnn_module_kernel": 3,
            **options.pop("encoder_conf", {}),
        },
        "decoder": "transducer",
        "decoder_conf": {"hidden_size": 16},
        "joint_net_conf": {"joint_space_size": 16},
        "model_conf": {"ctc_weight": 0.3, "report_cer": False, "report_wer": False},
        "token_type": "char",
        **options,
    }


def parse(task, directory: Path, conf: dict, *extra: str) -> argparse.Namespace:
    directory.mkdir(exist_ok=True, parents=True)
    (directory / "tokens.txt").write_text("\n".join(TOKENS) + "\n")
    (directory / "conf.yaml").write_text(yaml.safe_dump({**conf, "token_list": str(directory / "tokens.txt")}))
    return task.get_parser().parse_args(
        ["--config", str(directory / "conf.yaml"), "--output_dir", str(directory), *extra]
    )


def save(directory: Path, args: argparse.Namespace, model: torch.nn.Module, name: str = "valid.loss.ave.pth") -> None:
    (directory / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    torch.save(model.state_dict(), directory / name)


def batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    return {
        "speech": torch.randn(2, 8000, generator=generator),
        "speech_lengths": torch.tensor([8000, 6000]),
        "text": torch.tensor([[2, 3, 4], [3, 2, -1]]),
        "text_lengths": torch.tensor([3, 2]),
    }


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    directory = tmp_path_factory.mktemp("recipe") / "exp" / "teacher"
    torch.manual_seed(0)
    args = parse(ASRTask, directory, config(16))
    save(directory, args, ASRTask.build_model(args))
    return directory


TERMS = [
    {
        "name": "l2",
        "student": "encoder.encoders.1",
        "head": {"nonstreaming": {"num_heads": 2, "mask": "hole", "shift": 2}},
        "losses": {
            "distance": {"weight": 0.01},
            "relation": {"weight": 0.0005, "num_heads": 2},
            "future": {"weight": 0.005, "shift": 2},
        },
    },
    {"name": "token", "student": "joint_network", "loss": "output_kl", "weight": 0.1},
    {"name": "late", "student": "joint_network", "loss": {"output_kl": {"collapsed": True, "shift": 1}}, "weight": 0.1},
    {"name": "ctc", "student": "ctc.ctc_lo", "loss": {"output_kl": {"temperature": 2.0}}, "weight": 0.1},
    {"name": "qkv", "student": "encoder.encoders.0", "loss": {"relation": {"num_heads": 2}}, "weight": 0.1},
]
STREAMING = {"chunk_ms": 160, "left_ms": 320}


def student_args(directory: Path, teacher: Path, *extra: str, terms=TERMS, **options) -> argparse.Namespace:
    conf = config(8, encoder_conf=dict(STREAMING), teacher="espnet", kd_terms=terms, **options)
    conf["teacher_conf"] = {"exp": str(teacher), "checkpoint": "valid.loss.ave.pth"}
    return parse(KDASRTask, directory, conf, *extra)


@pytest.fixture(scope="module")
def student(tmp_path_factory, teacher):
    directory = tmp_path_factory.mktemp("recipe") / "exp" / "student"
    torch.manual_seed(1)
    args = student_args(directory, teacher)
    return directory, args, KDASRTask.build_model(args)


def test_every_term_is_logged_and_learns(student):
    _, _, model = student
    model.train()
    loss, stats, weight = model(**batch())
    loss.backward()
    names = {"l2_distance", "l2_relation", "l2_future", "token", "late", "ctc", "qkv"}
    assert {key.removeprefix("loss_kd_") for key in stats if key.startswith("loss_kd_")} == names
    weighted = sum(stats[f"weight_kd_{n}"] * stats[f"loss_kd_{n}"] for n in names)
    torch.testing.assert_close(stats["loss"], stats["loss_task"] + weighted)
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def outcome(model: torch.nn.Module) -> tuple[dict, list[torch.Tensor]]:
    """Stats and gradients of a batch, the same dropout every time."""
    model.train().zero_grad()
    torch.manual_seed(5)
    loss, stats, _ = model(**batch())
    loss.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return {key: value for key, value in stats.items() if value is not None}, gradients


def test_bfloat16_autocast_with_taps(tmp_path, teacher):
    torch.manual_seed(1)
    exact, exact_gradients = outcome(KDASRTask.build_model(student_args(tmp_path / "exact", teacher)))
    torch.manual_seed(1)
    model = KDASRTask.build_model(student_args(tmp_path / "half", teacher, autocast="bfloat16"))
    dtypes = []
    model.encoder.encoders[1].feed_forward.register_forward_hook(lambda m, args, out: dtypes.append(out.dtype))
    stats, gradients = outcome(model)
    assert set(dtypes) == {torch.bfloat16}
    assert stats.keys() == exact.keys()
    for key, value in stats.items():
        assert float(value) == pytest.approx(float(exact[key]), rel=0.05), key
    norms = [torch.cat([g.flatten() for g in some]).norm() for some in (gradients, exact_gradients)]
    difference = torch.cat([(a - b).flatten() for a, b in zip(gradients, exact_gradients)]).norm()
    assert 0 < difference < 0.1 * norms[1]


def test_layers_are_compiled_but_those_with_a_tap_inside(tmp_path, teacher):
    """Term `qkv` reads projections of the first layer, others the output of the second, which is compiled."""
    torch.manual_seed(1)
    eager = KDASRTask.build_model(student_args(tmp_path / "eager", teacher))
    torch.manual_seed(1)
    model = KDASRTask.build_model(student_args(tmp_path / "compiled", teacher, compile="aot_eager"))
    assert ["forward" in layer.__dict__ for layer in model.encoder.encoders] == [False, True]
    assert model.state_dict().keys() == eager.state_dict().keys()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()  # of tests before, which may break graphs
    expected, actual = outcome(eager), outcome(model)
    for key, value in expected[0].items():
        assert float(actual[0][key]) == pytest.approx(float(value), rel=1e-4), key
    for a, b in zip(actual[1], expected[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("distilled", [True, False])
def test_parts_can_start_as_the_teachers(tmp_path, teacher, distilled):
    parts = ["decoder", "joint_network.lin_dec", "joint_network.lin_out"]
    terms = [{"name": "l2", "student": "encoder.encoders.1", "head": "projection", "loss": "distance", "weight": 0.1}]
    terms = terms if distilled else []
    torch.manual_seed(1)
    plain = KDASRTask.build_model(student_args(tmp_path / "plain", teacher))
    torch.manual_seed(1)
    model = KDASRTask.build_model(student_args(tmp_path / "init", teacher, terms=terms, teacher_init=parts))
    weights = torch.load(teacher / "valid.loss.ave.pth", weights_only=True)
    inherited = 0
    for name, parameter in model.named_parameters():
        if any(name.startswith(part + ".") for part in parts):
            inherited += 1
            assert torch.equal(parameter, weights[name]) and parameter.requires_grad
        elif not name.startswith("kd."):
            assert torch.equal(parameter, plain.get_parameter(name))
    assert inherited == 9  # an embedding, four of an LSTM, two of each linear layer
    model(**batch())[0].backward()
    assert model.decoder.embed.weight.grad.abs().sum() > 0
    torch.optim.SGD(model.parameters(), 0.1).step()
    again = torch.load(teacher / "valid.loss.ave.pth", weights_only=True)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["decodr"], "teacher_init: no submodule 'decodr'.*did you mean decoder"),
        (
            ["decoder", "joint_network.lin_enc"],
            r"joint_network.lin_enc.weight is \(16, 8\) in the student and \(16, 16\)",
        ),
    ],
)
def test_parts_that_cannot_be_the_teachers(tmp_path, teacher, parts, message):
    with pytest.raises(ConfigError, match=message):
        KDASRTask.build_model(student_args(tmp_path, teacher, teacher_init=parts))


def test_only_an_espnet_teacher_has_weights_to_give(tmp_path):
    conf = config(8, encoder_conf=dict(STREAMING), teacher="dual", teacher_init=["decoder"])
    conf["kd_terms"] = [{"name": "token", "student": "joint_network", "loss": "output_kl", "weight": 0.1}]
    with pytest.raises(ConfigError, match="from an espnet teacher, not from dual"):
        KDASRTask.build_model(parse(KDASRTask, tmp_path, conf))


def test_teacher_stops_at_its_lattice(student, monkeypatch):
    """Its rows are those of the whole forward pass, and its own loss, which nobody reads, is not computed."""
    _, _, model = student
    teacher = model.__dict__["teacher"]
    expected = {}
    hook = teacher.model.joint_network.register_forward_hook(lambda m, i, out: expected.setdefault("logits", out))
    with torch.no_grad():
        teacher.model(**batch())
    hook.remove()
    monkeypatch.setattr(teacher.model, "criterion_transducer", None)
    rows = teacher.observe(batch(), {})["joint_network"]
    torch.testing.assert_close(rows.x[:], expected["logits"])
    assert rows.label_lens.tolist() == [4, 3] and rows.x.shape == expected["logits"].shape


DUAL = [
    {"name": "token", "student": "joint_network", "loss": "output_kl", "weight": 0.1},
    {"name": "l2", "student": "encoder.encoders.1", "loss": "mse", "weight": 0.2},
]


def dual_model(tmp_path, **options):
    conf = config(8, encoder_conf={**STREAMING, "dropout_rate": 0.0, "positional_dropout_rate": 0.0}, **options)
    conf |= {"teacher": "dual", "teacher_conf": {"weight": 0.5}, "kd_terms": DUAL}
    conf["decoder_conf"] |= {"dropout": 0.0, "dropout_embed": 0.0}
    torch.manual_seed(2)
    return KDASRTask.build_model(parse(KDASRTask, tmp_path / "dual", conf))


def test_dual_mode_is_both_losses_and_the_divergence_between_them(tmp_path):
    """Against a plain model with the same weights, run twice: in chunks, and with its context set to full."""
    model = dual_model(tmp_path).train()
    plain = ASRTask.build_model(parse(ASRTask, tmp_path / "plain", config(8, encoder_conf=dict(STREAMING)))).eval()
    plain.load_state_dict(student_state(model.state_dict()))
    found = {}
    plain.joint_network.register_forward_hook(lambda m, i, out: found.setdefault("logits", []).append(out))
    plain.encoder.encoders[1].register_forward_hook(lambda m, i, out: found.setdefault("l2", []).append(out[0]))
    losses = [plain(**batch())[0]]
    plain.encoder.set_context(None)
    losses.append(plain(**batch())[0])
    loss, stats, _ = model(**batch())
    torch.testing.assert_close(stats["loss_task"], losses[0].detach())
    torch.testing.assert_close(stats["loss_teacher"], 0.5 * losses[1].detach())
    (stream, full), (l2_stream, l2_full) = found["logits"], found["l2"]
    log_s, log_t = stream.log_softmax(-1), full.detach().log_softmax(-1)
    kl = (log_t.exp() * (log_t - log_s)).sum(-1)
    frames = plain.encode(batch()["speech"], batch()["speech_lengths"])[1]
    token = torch.stack([kl[b, : frames[b], : u + 1].mean() for b, u in enumerate(batch()["text_lengths"])]).mean()
    square = ((l2_stream - l2_full.detach()) ** 2).mean(-1)
    l2 = torch.stack([square[b, : frames[b]].mean() for b in range(2)]).mean()
    expected = losses[0] + 0.5 * losses[1] + 0.1 * token + 0.2 * l2
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    grads = {name: p.grad for name, p in plain.named_parameters()}
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, grads[name], rtol=1e-3, atol=1e-5, msg=name)
    assert model.encoder.context.chunk == 4  # as before


def test_dual_mode_hears_the_same_masked_features(tmp_path):
    specaug = {"apply_time_warp": False, "apply_time_mask": False, "freq_mask_width_range": [3, 9]}
    model = dual_model(tmp_path, specaug="specaug", specaug_conf=specaug).train()
    heard = []
    model.encoder.register_forward_pre_hook(lambda m, inputs: heard.append(inputs[0]))
    model(**batch())
    stream, full = heard
    assert torch.equal(stream, full) and (stream == 0).any()


def test_dual_mode_needs_an_encoder_that_can_hear_everything(tmp_path):
    conf = config(8, teacher="dual", kd_terms=DUAL) | {"encoder": "rnn", "encoder_conf": {"hidden_size": 8}}
    with pytest.raises(ConfigError, match="cannot change its context; use `encoder: chunk_conformer`"):
        KDASRTask.build_model(parse(KDASRTask, tmp_path, conf))


def test_stock_programs_load_the_student(student, tmp_path):
    _, args, model = student
    plain_args = parse(ASRTask, tmp_path / "plain", config(8, encoder_conf=dict(STREAMING)))
    plain = ASRTask.build_model(plain_args)
    stripped = {k for k in model.state_dict() if not k.startswith("kd.")}
    assert stripped == set(plain.state_dict())
    directory = tmp_path / "exp"
    directory.mkdir()
    save(directory, args, model)
    assert [p.name for p in strip_averaged(directory)] == ["valid.loss.ave.pth"]
    assert strip_averaged(directory) == []
    state = torch.load(directory / "valid.loss.ave.pth", weights_only=True)
    assert set(state) == stripped
    stock, _ = ASRTask.build_model_from_file(directory / "config.yaml", directory / "valid.loss.ave.pth", "cpu")
    assert type(stock).__name__ == "ESPnetASRModel"
    model.eval()
    stock.eval()
    data = batch()
    expected = model.encode(data["speech"], data["speech_lengths"])[0]
    assert torch.equal(stock.encode(data["speech"], data["speech_lengths"])[0], expected)


def test_the_mean_of_one_epoch_becomes_a_file_without_training_parameters(student, tmp_path):
    """ESPnet2 links it to the epoch's file, from which training must be able to go on."""
    _, args, model = student
    save(tmp_path, args, model)
    (tmp_path / "valid.loss.ave.pth").rename(tmp_path / "1epoch.pth")
    (tmp_path / "valid.loss.ave_1best.pth").symlink_to("1epoch.pth")
    (tmp_path / "valid.loss.ave.pth").symlink_to("valid.loss.ave_1best.pth")
    assert [p.name for p in strip_averaged(tmp_path)] == ["valid.loss.ave_1best.pth"]
    epoch = torch.load(tmp_path / "1epoch.pth", weights_only=True)
    assert epoch.keys() == model.state_dict().keys()
    averaged = torch.load(tmp_path / "valid.loss.ave.pth", weights_only=True)
    assert averaged.keys() == {key for key in epoch if not key.startswith("kd.")} < epoch.keys()
    assert (tmp_path / "valid.loss.ave.pth").is_symlink()


def test_stock_inference_decodes_the_student(student, tmp_path):
    from espnet2.bin.asr_inference import Speech2Text

    _, args, model = student
    save(tmp_path, args, model)
    strip_averaged(tmp_path)
    speech2text = Speech2Text(
        asr_train_config=str(tmp_path / "config.yaml"),
        asr_model_file=str(tmp_path / "valid.loss.ave.pth"),
        token_type="char",
        beam_size=1,
    )
    text = speech2text(np.random.default_rng(0).standard_normal(8000).astype(np.float32))[0][0]
    assert isinstance(text, str)


def test_without_terms_it_is_the_stock_model(tmp_path):
    torch.manual_seed(2)
    distillable = KDASRTask.build_model(parse(KDASRTask, tmp_path / "a", config(8)))
    torch.manual_seed(2)
    stock = ASRTask.build_model(parse(ASRTask, tmp_path / "b", config(8)))
    assert type(distillable) is type(stock)
    distillable.eval()
    stock.eval()
    assert torch.equal(distillable(**batch())[0], stock(**batch())[0])


def test_statistics_are_collected_without_a_teacher(tmp_path, teacher):
    args = student_args(tmp_path, teacher, "--collect_stats", "true")
    assert "kd" not in dict(KDASRTask.build_model(args).named_children())


def test_the_teacher_hears_clean_audio_or_the_students(student, teacher, tmp_path):
    mask = {"apply_time_warp": False, "time_mask_width_range": [5, 10], "num_time_mask": 2}
    heard = {}
    for kind in ("clean", "same"):
        args = student_args(tmp_path / kind, teacher, terms=TERMS[1:2], specaug="specaug", specaug_conf=mask)
        args.teacher_conf["input"] = kind
        model = KDASRTask.build_model(args).train()
        source = model.__dict__["teacher"].model
        source.encoder.register_forward_pre_hook(lambda m, a, kind=kind: heard.__setitem__(kind, a[0]))
        seen = {}
        # Cloned: SpecAugment masks in place.
        model.specaug.register_forward_pre_hook(lambda m, a, seen=seen: seen.update(clean=a[0].clone()))
        model.specaug.register_forward_hook(lambda m, a, o, seen=seen: seen.update(masked=o[0].clone()))
        model(**batch())
        # No normalisation in these models: what specaug gives is what the encoder hears.
        torch.testing.assert_close(heard[kind], seen["masked" if kind == "same" else "clean"])
    assert not torch.equal(seen["masked"], seen["clean"])


def test_dumped_features_replace_the_teacher(teacher, tmp_path):
    import kaldiio

    model = ASRTask.build_model_from_file(teacher / "config.yaml", teacher / "valid.loss.ave.pth", "cpu")[0].eval()
    data = batch()
    captured = {}
    model.encoder.encoders[1].register_forward_hook(lambda m, a, o: captured.__setitem__("x", o[0]))
    with torch.no_grad():
        lens = model.encode(data["speech"], data["speech_lengths"])[1]
    features = captured["x"]
    kaldiio.save_ark(str(tmp_path / "t.ark"), {"u": features[0].numpy()}, scp=str(tmp_path / "t.scp"))
    term = {"name": "l2", "student": "encoder.encoders.1", "head": "projection", "loss": "mse", "weight": 1.0}
    live = KDASRTask.build_model(student_args(tmp_path / "live", teacher, terms=[term]))
    conf = config(8, encoder_conf=dict(STREAMING), teacher="dumped", kd_terms=[term])
    conf["teacher_conf"] = {"taps": {"encoder.encoders.1": "teacher_1"}}
    args = parse(
        KDASRTask,
        tmp_path / "dumped",
        conf,
        "--train_data_path_and_name_and_type",
        f"{tmp_path / 't.scp'},teacher_1,kaldi_ark",
    )
    dumped = KDASRTask.build_model(args)
    dumped.load_state_dict(live.state_dict())
    dumped.eval()
    live.eval()
    value = dumped(**data, teacher_1=features, teacher_1_lengths=lens)[1]["loss_kd_l2"]
    torch.testing.assert_close(value, live(**data)[1]["loss_kd_l2"])
    with pytest.raises(ConfigError, match="teacher_1"):
        dumped(**data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teacher": None, "teacher_conf": {}}, "no teacher"),
        ({"kd_terms": []}, "no kd_terms"),
        ({"teacher": "espnat"}, "did you mean espnet"),
        ({"teacher_conf": {"expp": "x"}}, "did you mean exp"),
        ({"autocast": "float16"}, "bfloat16 is what can be; for float16 on a GPU set `use_amp: true`"),
        ({"compile": "inducter"}, "did you mean inductor"),
        ({"kd_terms": [{**TERMS[4], "loss": {"relation": {"num_heads": 3}}}]}, "does not split into 3 heads"),
        ({"kd_terms": [{**TERMS[3], "loss": {"output_kl": {"collapsed": True}}}]}, "needs the lattice of a transducer"),
        ({"kd_terms": [{**TERMS[4], "name": "values"}]}, "'values' is a name that torch keeps for itself"),
        ({"kd_terms": [TERMS[0], {**TERMS[3], "name": "l2_future"}]}, "would be that of term 'l2', too"),
        ({"kd_terms": [{**TERMS[0], "losses": {"future": {"weight": 1.0, "shift": 1}}}]}, "give both the same `shift`"),
        ({"kd_terms": [{**TERMS[4], "loss": {"relation": {"num_heads": 0}}}]}, "num_heads 0 must be at least 1"),
        ({"kd_terms": [{**TERMS[0], "head": {"nonstreaming": {"num_heads": 0}}}]}, "does not split into 0 heads"),
        ({"kd_terms": [{**TERMS[4], "head": {"frame_rate": {"up": 0}}}]}, "2 or more"),
    ],
)
def test_contradicting_options_are_refused(teacher, tmp_path, change, words):
    args = student_args(tmp_path, teacher)
    for key, value in change.items():
        setattr(args, key, value)
    with pytest.raises(ConfigError, match=words):
        KDASRTask.build_model(args)


def test_a_teacher_of_other_tokens_is_heard_but_not_read(teacher, tmp_path, monkeypatch):
    """What it says of labels would be of others; its encoder is as good as any."""
    args = student_args(tmp_path, teacher, terms=TERMS[:1])
    swapped = ["<blank>", "<unk>", "c", "b", "a", "<sos/eos>"]
    (tmp_path / "tokens.txt").write_text("\n".join(swapped) + "\n")
    KDASRTask.build_model(args)
    args = student_args(tmp_path, teacher, terms=TERMS[1:2])
    (tmp_path / "tokens.txt").write_text("\n".join(swapped) + "\n")
    with pytest.raises(ConfigError, match="teacher taps joint_network: the teacher has other tokens than the student"):
        KDASRTask.build_model(args)


@pytest.mark.parametrize("kind", ["espnet", "dual"])
def test_error_rates_of_the_transducer_do_not_disturb_its_lattice(teacher, tmp_path, caplog, kind):
    """In evaluation mode ESPnet2 decodes with the joint network after the lattice, whose tap would keep that call."""
    args = student_args(tmp_path, teacher, terms=TERMS[1:2])
    args.model_conf = {"ctc_weight": 0.3}  # report_cer and report_wer are ESPnet2's defaults: true
    if kind == "dual":
        args.teacher, args.teacher_conf = "dual", {}
    model = KDASRTask.build_model(args)
    assert "cer_transducer and wer_transducer are not reported" in caplog.text
    stats = model.eval()(**batch())[1]
    assert float(stats["loss_kd_token"]) > 0


def test_a_student_of_a_dual_teacher_is_compiled_around_its_taps(tmp_path):
    relation = {"name": "r", "student": "encoder.encoders.0", "loss": {"relation": {"num_heads": 2}}, "weight": 0.1}
    head = {"nonstreaming": {"num_heads": 2}}
    args = student_args(tmp_path, tmp_path, terms=[{**relation, "head": head}], compile="aot_eager")
    args.teacher, args.teacher_conf = "dual", {}
    model = KDASRTask.build_model(args)
    # The student's side is the branch, the teacher's are the projections inside the layer.
    assert ["forward" in layer.__dict__ for layer in model.encoder.encoders] == [False, True]
    torch._dynamo.reset()
    assert outcome(model)[0]["loss_kd_r"] > 0


def test_layers_as_wide_as_the_blocks_of_attention_are_compiled(tmp_path, teacher):
    """Torch makes one symbol of sizes that are equal by chance."""
    args = student_args(tmp_path, teacher, terms=[{**TERMS[3], "weight": 0.1}], compile="aot_eager")
    args.encoder_conf = {**args.encoder_conf, "output_size": 16, "left_ms": 640}
    model = KDASRTask.build_model(args).train()
    torch._dynamo.reset()
    for length in (24000, 31000, 40000):
        data = batch() | {"speech": torch.randn(2, length), "speech_lengths": torch.tensor([length, length // 2])}
        model(**data)[0].backward()


def test_another_subsampling_is_refused(teacher, tmp_path):
    conf_terms = TERMS[:1]
    args = student_args(tmp_path, teacher, terms=conf_terms)
    args.encoder_conf = {**args.encoder_conf, "input_layer": "conv2d2"}
    with pytest.raises(ConfigError, match="same frame rate"):
        KDASRTask.build_model(args)


@pytest.mark.parametrize("kind", ["espnet", "dual"])
def test_relations_in_every_stage_of_an_encoder_that_pools(tiny_experiment, write_student, tmp_path, kind):
    """Projections carry no lengths, and each stage has its own: those of the tapped layer count."""
    pools = {"input_layer": "conv2d2", "num_blocks": 3, "pool_after": [1, 2]}
    teacher = tiny_experiment(f"asr_pools_{kind}", encoder_conf=pools)
    loss = {"relation": {"num_heads": 2}}
    terms = [{"name": f"l{n}", "student": f"encoder.encoders.{n}", "loss": loss, "weight": 0.1} for n in range(3)]
    more = {} if kind == "espnet" else {"teacher": "dual", "teacher_conf": {}}
    path = write_student(tmp_path / "student.yaml", teacher, kd_terms=terms, **more)
    config = yaml.safe_load(path.read_text())
    config["encoder_conf"] |= {"chunk_ms": 160, "left_ms": 160}
    path.write_text(yaml.safe_dump(config))
    args = KDASRTask.get_parser().parse_args(["--config", str(path), "--output_dir", str(tmp_path / "out")])
    model = KDASRTask.build_model(args).train()
    lens = torch.tensor([16000, 9000])
    labels = {"text": torch.tensor([[3, 4], [5, -1]]), "text_lengths": torch.tensor([2, 1])}
    loss, stats, _ = model(speech=torch.randn(2, 16000), speech_lengths=lens, **labels)
    loss.backward()
    # What the first layer projects is the same in both modes of one model.
    assert all((stats[f"loss_kd_l{n}"] > 0) == (kind == "espnet" or n > 0) for n in range(3))
    assert all(model.encoder.encoders[n].self_attn.linear_q.weight.grad.abs().sum() > 0 for n in range(3))
