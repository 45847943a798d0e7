"""Hugging Face speech encoders as teachers: tiny random models, saved and loaded like real ones."""

import pytest
import torch
from torch import nn

from espnet2_kd.kd.heads.frame_rate import FrameRate
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq, length_mask
from espnet2_kd.kd.student import distill
from espnet2_kd.kd.teachers.hf_speech import HFSpeechTeacher

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8, 8, 8, 8, 8, 8, 8),
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 7,
}
KINDS = {
    "wav2vec2_group": ("Wav2Vec2", {"feat_extract_norm": "group"}),
    "wav2vec2_layer": ("Wav2Vec2", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "hubert": ("Hubert", {"feat_extract_norm": "group"}),
    "wavlm": ("WavLM", {"feat_extract_norm": "layer", "num_buckets": 8, "max_bucket_distance": 16}),
    "whisper": ("Whisper", {}),
}
LENS = [9000, 16000, 4321]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Function: kind -> directory with config.json, weights and preprocessor_config.json."""
    made = {}

    def save(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            name, options = KINDS[kind]
            torch.manual_seed(0)
            if name == "Whisper":
                sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
                sizes |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "vocab_size": 60}
                special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
                model = transformers.WhisperModel(transformers.WhisperConfig(**sizes, **special))
                extractor = transformers.WhisperFeatureExtractor()
            else:
                config = getattr(transformers, f"{name}Config")(**SMALL, **options)
                model = getattr(transformers, f"{name}Model")(config)
                extractor = transformers.Wav2Vec2FeatureExtractor(
                    do_normalize=True, return_attention_mask=options["feat_extract_norm"] == "layer"
                )
            model.save_pretrained(folder)
            extractor.save_pretrained(folder)
            made[kind] = folder
        return made[kind]

    return save


def batch(lens=LENS):
    generator = torch.Generator().manual_seed(3)
    speech = torch.randn(len(lens), max(lens), generator=generator) * 0.1
    # Padding that must not matter.
    speech = speech.masked_fill(~length_mask(torch.tensor(lens), max(lens)), 7.0)
    return {"speech": speech, "speech_lengths": torch.tensor(lens)}


def taps_of(kind):
    prefix = "layers" if kind == "whisper" else "encoder.layers"
    return [f"{prefix}.0", f"{prefix}.1"]


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_the_models_own_for_each_utterance_alone(saved, kind):
    """Against transformers' documented way: extractor, model, `output_hidden_states`, one utterance at a time."""
    folder, data = saved(kind), batch()
    teacher = HFSpeechTeacher(str(folder))
    first, second = taps_of(kind)
    teacher.watch({first, second})
    observed = teacher.observe(data, {})
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    for b, num in enumerate(LENS):
        inputs = extractor([data["speech"][b, :num].numpy()], sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            if kind == "whisper":
                hidden = model.encoder(inputs.input_features, output_hidden_states=True).hidden_states
                frames = -(-num // 320)
            else:
                hidden = model(**inputs, output_hidden_states=True).hidden_states
                frames = hidden[0].shape[1]
        value = observed[first]
        assert int(value.lens[b]) == frames
        torch.testing.assert_close(value.x[b, :frames], hidden[1][0, :frames], rtol=1e-4, atol=1e-4)
    assert observed[second].x.shape == observed[first].x.shape
    assert not observed[first].x.requires_grad


class Student(nn.Module):
    """ESPnet2's calling convention with a frame per 40 ms."""

    def __init__(self, hop=640):
        super().__init__()
        self.hop = hop
        self.encoder = Frames(hop)

    def encode(self, speech, speech_lengths):
        return self.encoder(speech, speech_lengths)[:2]

    def forward(self, speech, speech_lengths, **kwargs):
        x, _ = self.encode(speech, speech_lengths)
        loss = x.square().mean().reshape(1)
        return loss, {"loss": loss.detach()}, torch.tensor([len(speech)])


class Frames(nn.Module):
    def __init__(self, hop):
        super().__init__()
        self.linear = nn.Linear(hop, 12)

    def forward(self, speech, lens):
        hop = self.linear.in_features
        num = speech.shape[1] // hop
        return self.linear(speech[:, : num * hop].unflatten(1, (num, hop))), lens // hop, None


def term(kind, **more):
    return [{"name": "l1", "student": "encoder", "teacher": taps_of(kind)[1], "loss": "mse", "weight": 1.0, **more}]


@pytest.mark.parametrize("kind", ["wav2vec2_layer", "whisper"])
def test_a_student_at_half_the_rate_learns_through_a_head(saved, kind):
    torch.manual_seed(1)
    data = batch()
    teacher = HFSpeechTeacher(str(saved(kind)))
    model = distill(Student(), teacher, term(kind, head={"frame_rate": {"up": 2}}), batch([16000, 16000]))
    loss, stats, _ = model(**data)
    target = teacher.observe(data, {})[taps_of(kind)[1]]
    linear, expected = model.kd.heads["l1"].linear, []
    hidden, hidden_lens = model.encode(data["speech"], data["speech_lengths"])
    for b in range(len(LENS)):
        frames = linear(hidden[b, : hidden_lens[b]]).reshape(-1, 16)  # each frame becomes two
        num = min(len(frames), int(target.lens[b]))
        assert num >= len(frames) - 2
        expected.append((frames[:num] - target.x[b, :num]).square().mean())
    torch.testing.assert_close(stats["loss_kd_l1"].squeeze(), torch.stack(expected).mean().detach())
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(("hop", "head"), [(640, "projection"), (160, "projection"), (160, {"frame_rate": {"up": 2}})])
def test_another_frame_rate_without_the_right_head_is_refused(saved, hop, head):
    teacher = HFSpeechTeacher(str(saved("wav2vec2_layer")))
    with pytest.raises(ConfigError, match=r"same frame rate.*frame_rate: \{up: 2\}"):
        distill(Student(hop), teacher, term("wav2vec2_layer", head=head), batch([16000, 16000]))


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "whisper"])
def test_attention_relations_read_the_encoders_own_projections(saved, kind):
    teacher = HFSpeechTeacher(str(saved(kind)))
    suffixes = dict(teacher.attention)
    names = dict(teacher.model.named_modules())
    assert all(isinstance(names[taps_of(kind)[0] + suffix], nn.Linear) for suffix in suffixes.values())
    head = {"nonstreaming": {"num_heads": 2}}
    terms = [{**term(kind, head=head)[0], "loss": {"relation": {"num_heads": 2}}}]
    model = distill(Student(320), teacher, terms, batch([16000, 16000]))
    loss, stats, _ = model(**batch())
    loss.backward()
    assert stats["loss_kd_l1"] > 0


@pytest.mark.parametrize("stable", [False, True])
def test_wavlms_projections_are_those_of_its_attention(tmp_path, stable):
    """It computes attention in one function; what is tapped must be what that function computes inside."""
    torch.manual_seed(0)
    config = transformers.WavLMConfig(**SMALL, **KINDS["wavlm"][1], do_stable_layer_norm=stable)
    transformers.WavLMModel(config).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    teacher = HFSpeechTeacher(str(tmp_path))
    paths = [f"encoder.layers.1{suffix}" for suffix in teacher.attention.values()]
    teacher.watch({*paths, "encoder.layers.0"})
    data = {"speech": batch()["speech"][1:2], "speech_lengths": torch.tensor([16000])}
    observed = teacher.observe({**data, "speech": data["speech"][:, :16000]}, {})
    layer = teacher.model.encoder.layers[1].double()
    entering = observed["encoder.layers.0"].x[0].double()
    if stable:
        entering = layer.layer_norm(entering)
    for path, name in zip(paths, "qkv", strict=True):
        linear = getattr(layer.attention, f"{name}_proj")
        expected = entering @ linear.weight.T + linear.bias
        torch.testing.assert_close(observed[path].x[0].double(), expected, rtol=1e-4, atol=1e-5)


def test_the_non_streaming_branch_runs_at_the_teachers_rate(saved):
    teacher = HFSpeechTeacher(str(saved("hubert")))
    head = {"nonstreaming": {"num_heads": 2, "up": 2, "shift": 3, "mask": "hole"}}
    losses = {"distance": {"weight": 1.0}, "relation": {"weight": 1.0, "num_heads": 2}}
    losses["future"] = {"weight": 1.0, "shift": 3}
    entry = {"name": "l1", "student": "encoder", "teacher": taps_of("hubert")[0], "head": head, "losses": losses}
    model = distill(Student(), teacher, [entry], batch([16000, 16000])).eval()
    data = batch()
    together = {key: value.squeeze() for key, value in model(**data)[1].items() if key.startswith("loss_kd")}
    assert len(together) == 3
    alone = []
    for b, n in enumerate(LENS):
        one = {"speech": data["speech"][b : b + 1, :n], "speech_lengths": torch.tensor([n])}
        alone.append(model(**one)[1])
    for key, value in together.items():
        torch.testing.assert_close(
            value, torch.stack([stats[key].squeeze() for stats in alone]).mean(), rtol=1e-4, atol=1e-4
        )
    (sum(model.train()(**data)[0])).backward()
    assert all(p.grad is not None for p in model.parameters())
    x, lens = model.encode(data["speech"], data["speech_lengths"])
    out = model.kd.heads["l1"](Seq(x, lens))
    assert all(seq.x.shape[1] == 2 * x.shape[1] and seq.lens.tolist() == (2 * lens).tolist() for seq in out.values())


def test_whisper_hears_half_a_minute(saved):
    teacher = HFSpeechTeacher(str(saved("whisper")))
    teacher.watch({"layers.1"})
    data = {"speech": torch.zeros(2, 30 * 16000 + 1), "speech_lengths": torch.tensor([16000, 30 * 16000 + 1])}
    with pytest.raises(ConfigError, match=r"utt7 has 30.0 s and Whisper hears 30; lower --max_wav_duration"):
        teacher.observe({**data, "utt_id": ["utt3", "utt7"]}, {})


def test_a_checkpoint_in_half_precision_is_heard_in_float32(saved, tmp_path):
    model = transformers.AutoModel.from_pretrained(saved("whisper"))
    model.half().save_pretrained(tmp_path)
    transformers.WhisperFeatureExtractor().save_pretrained(tmp_path)
    teacher = HFSpeechTeacher(str(tmp_path))
    teacher.watch({"layers.1"})
    speech = torch.randn(2, 16000) * 0.1
    values = teacher.observe({"speech": speech, "speech_lengths": torch.tensor([16000, 9000])}, {})
    assert values["layers.1"].x.dtype == torch.float32 and values["layers.1"].x.isfinite().all()


def test_wrong_models_are_named(saved, tmp_path):
    with pytest.raises(ConfigError, match="is no directory here"):
        HFSpeechTeacher(str(tmp_path / "none"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        HFSpeechTeacher(str(tmp_path))
    teacher = HFSpeechTeacher(str(saved("hubert")))
    with pytest.raises(ConfigError, match=r"did you mean encoder.layers.\d"):
        teacher.watch({"encoder.layer.1"})
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained(tmp_path / "bert")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="is a bert, which does not hear audio"):
        HFSpeechTeacher(str(tmp_path / "bert"))


def test_frames_down():
    torch.manual_seed(0)
    head = FrameRate(in_size=3, teacher_size=4, down=2)
    x = torch.randn(2, 5, 3)
    out = head(Seq(x, torch.tensor([5, 3])))["x"]
    assert out.x.shape == (2, 2, 4) and out.lens.tolist() == [2, 1]
    torch.testing.assert_close(out.x[1, 0], head.linear((x[1, 0] + x[1, 1]) / 2))


@pytest.mark.parametrize("keywords", [{}, {"up": 1}, {"up": 2, "down": 2}])
def test_one_direction_only(keywords):
    with pytest.raises(ConfigError, match="`up: n` or `down: n`"):
        FrameRate(3, 4, **keywords)
