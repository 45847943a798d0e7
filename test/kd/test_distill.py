"""The class swap on a small model of ESPnet2's calling convention (no espnet import)."""

import copy

import pytest
import torch
from torch import nn

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import length_mask
from espnet2_kd.kd.student import distill, student_state, use_autocast
from espnet2_kd.kd.teachers.espnet import ModelTeacher


class Layer(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.self_attn = nn.Module()
        for name in ("linear_q", "linear_k", "linear_v"):
            setattr(self.self_attn, name, nn.Linear(size, size))

    def forward(self, x, mask):
        q, k, v = (getattr(self.self_attn, f"linear_{n}")(x) for n in "qkv")
        return x + torch.tanh(q + k + v), mask


class Encoder(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.embed = nn.Linear(2, size)
        self.encoders = nn.ModuleList([Layer(size), Layer(size)])

    def forward(self, x, lens):
        x, mask = self.embed(x), length_mask(lens, x.shape[1]).unsqueeze(1)
        for layer in self.encoders:
            x, mask = layer(x, mask)
        return x, lens, None


class Model(nn.Module):
    """`(loss, stats, weight) = model(speech, speech_lengths, text, text_lengths)`."""

    def __init__(self, size, num_classes=5):
        super().__init__()
        self.encoder = Encoder(size)
        self.output = nn.Linear(size, num_classes)
        self.unused = nn.Linear(1, 1)
        self.error_calculator = lambda *args: pytest.fail("a teacher must not decode")

    def encode(self, speech, speech_lengths):
        return self.encoder(speech, speech_lengths)[:2]

    def forward(self, speech, speech_lengths, text, text_lengths, **kwargs):
        x, _ = self.encode(speech, speech_lengths)
        loss = self.output(x).float().square().mean()
        return loss, {"loss": loss.detach()}, torch.tensor(len(speech))


def batch(n=3, t=6):
    generator = torch.Generator().manual_seed(5)
    return {
        "speech": torch.randn(n, t, 2, generator=generator),
        "speech_lengths": torch.tensor([t, t - 2, 2][:n]),
        "text": torch.ones(n, 2, dtype=torch.long),
        "text_lengths": torch.full((n,), 2),
    }


def student_and_teacher(student_size=4, teacher_size=6):
    torch.manual_seed(1)
    return Model(student_size), ModelTeacher(Model(teacher_size))


AUX = {
    "name": "aux2",
    "student": "encoder.encoders.1",
    "head": {"nonstreaming": {"num_heads": 2, "dropout": 0.0}},
    "losses": {
        "distance": {"weight": 0.1},
        "relation": {"weight": 0.2, "num_heads": 2},
        "future": {"weight": 0.3, "shift": 2},
    },
}
PLAIN = {"name": "hid", "student": "encoder.encoders.0", "head": "projection", "loss": "mse", "weight": 0.5}
OUT = {"name": "out", "student": "output", "loss": {"output_kl": {"temperature": 2}}, "weight": 1.0}


def test_loss_is_the_task_plus_the_weighted_terms():
    model, teacher = student_and_teacher()
    plain = copy.deepcopy(model)
    distill(model, teacher, [AUX, PLAIN, OUT], batch())
    loss, stats, _ = model(**batch())
    expected = plain(**batch())[0]
    torch.testing.assert_close(stats["loss_task"], expected.detach())
    for name, weight in {
        "aux2_distance": 0.1,
        "aux2_relation": 0.2,
        "aux2_future": 0.3,
        "hid": 0.5,
        "out": 1.0,
    }.items():
        assert stats[f"weight_kd_{name}"] == pytest.approx(weight)
        expected = expected + weight * stats[f"loss_kd_{name}"]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(stats["loss"], loss.detach())


def test_per_token():
    """Summed over the tokens of the batch and divided by their number, which is no mean of the utterances' means."""
    model, teacher = student_and_teacher()
    terms = [
        {**PLAIN, "loss": {"mse": {"reduction": "sum"}}, "per": per, "name": per} for per in ("utterance", "token")
    ]
    distill(model, teacher, terms, batch())
    model.kd.heads["token"].load_state_dict(model.kd.heads["utterance"].state_dict())
    _, stats, _ = model(**batch())
    torch.testing.assert_close(stats["loss_kd_token"] * (6 + 4 + 2), stats["loss_kd_utterance"] * 3)
    with pytest.raises(ConfigError, match=r"per: 'frame'; .*utterance"):
        distill(*student_and_teacher(), [{**PLAIN, "per": "frame"}], batch())


def test_the_term_is_computed_from_both_models():
    model, teacher = student_and_teacher()
    distill(model, teacher, [PLAIN], batch())
    _, stats, _ = model(**batch())
    data = batch()
    with torch.no_grad():
        s = model.encoder.encoders[0](model.encoder.embed(data["speech"]), None)[0]
        t = teacher.model.encoder.encoders[0](teacher.model.encoder.embed(data["speech"]), None)[0]
        error = (model.kd.heads["hid"].linear(s) - t).square().mean(-1)
    expected = torch.stack([error[b, :n].mean() for b, n in enumerate(data["speech_lengths"])]).mean()
    torch.testing.assert_close(stats["loss_kd_hid"], expected)


def test_names_stay_and_the_teacher_stays_outside():
    model, teacher = student_and_teacher()
    before = set(model.state_dict())
    distill(model, teacher, [AUX], batch())
    assert isinstance(model, Model)
    assert all(key.startswith("kd.") for key in set(model.state_dict()) - before)
    assert set(student_state(model.state_dict())) == before
    teacher_ids = {id(p) for p in teacher.model.parameters()}
    assert not teacher_ids & {id(p) for p in model.parameters()}
    assert not any(p.requires_grad for p in teacher.model.parameters())
    model.train()
    assert not teacher.model.training


def test_the_branch_does_not_change_the_student():
    model, teacher = student_and_teacher()
    plain = copy.deepcopy(model)
    distill(model, teacher, [AUX], batch())
    data = batch()
    assert torch.equal(
        model.encode(data["speech"], data["speech_lengths"])[0], plain.encode(data["speech"], data["speech_lengths"])[0]
    )


def test_every_head_parameter_and_the_tapped_layers_learn():
    model, teacher = student_and_teacher()
    distill(model, teacher, [AUX, PLAIN], batch())
    model.train()
    model(**batch())[0].backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None and not n.startswith("unused")]
    assert missing == []
    assert all(p.grad is None for p in teacher.model.parameters())


def test_building_does_not_touch_the_random_numbers_or_the_mode():
    model, teacher = student_and_teacher()
    model.train()
    state = torch.random.get_rng_state()
    distill(model, teacher, [OUT], batch())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training


def test_schedule_follows_training_steps_and_survives_a_resume():
    model, teacher = student_and_teacher()
    distill(model, teacher, [{**PLAIN, "weight": {"warmup": {"weight": 1.0, "steps": 4}}}], batch())
    seen = []
    for _ in range(6):
        model.train()
        seen.append(float(model(**batch())[1]["weight_kd_hid"]))
        model.eval()
        model(**batch())
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert model.state_dict()["kd.step"] == 6


def test_autocast_keeps_losses_in_float32():
    model, teacher = student_and_teacher()
    use_autocast(model, "bfloat16")
    distill(model, teacher, [AUX], batch())
    seen = {}
    model.encoder.encoders[0].self_attn.linear_q.register_forward_hook(
        lambda m, i, o: seen.__setitem__("dtype", o.dtype)
    )
    loss, stats, _ = model(**batch())
    assert seen["dtype"] == torch.bfloat16
    assert loss.dtype == torch.float32
    assert all(v.dtype == torch.float32 for k, v in stats.items() if k.startswith("loss_kd"))
    assert set(model.state_dict()) >= {"encoder.embed.weight"}


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ({**PLAIN, "student": "encoder.encoder.0"}, ["encoder.encoder.0", "encoder.encoders.0"]),
        ({**PLAIN, "teacher": "encoder.encoders.9"}, ["encoder.encoders.9", "encoder.encoders"]),
        ({**PLAIN, "head": "identity"}, ["4 student and 6 teacher dimensions", "projection"]),
        ({**PLAIN, "student": "unused", "teacher": "unused"}, ["never run", "unused"]),
        ({**PLAIN, "heads": "projection"}, ["heads", "head"]),
        ({k: v for k, v in PLAIN.items() if k != "weight"}, ["weight"]),
        ({**PLAIN, "losses": {"mse": {"weight": 1}}}, ["either `loss`"]),
        ({**PLAIN, "losses": {"future": {"weight": 1}}, "loss": None}, ["either `loss`"]),
        ({**PLAIN, "name": "a b"}, ["underscores"]),
        ({**PLAIN, "loss": "future"}, ["nonstreaming"]),
        ({**PLAIN, "weight": {"warmup": {"weight": 1}}}, ["steps"]),
    ],
)
def test_a_wrong_term_fails_when_the_model_is_built(term, words):
    model, teacher = student_and_teacher()
    with pytest.raises(ConfigError) as error:
        distill(model, teacher, [term], batch())
    assert all(word in str(error.value) for word in words)


def test_two_terms_of_one_name_are_refused():
    model, teacher = student_and_teacher()
    with pytest.raises(ConfigError, match="two terms are named 'hid'"):
        distill(model, teacher, [PLAIN, PLAIN], batch())


def test_another_frame_rate_is_refused():
    model, teacher = student_and_teacher()

    class Halved(Encoder):
        def forward(self, x, lens):
            return super().forward(x[:, ::2], (lens + 1) // 2)

    teacher.model.encoder = Halved(6)
    with pytest.raises(ConfigError, match="same frame rate"):
        distill(model, teacher, [PLAIN], batch())


def test_lengths_that_differ_by_a_frame_are_cut_to_the_shorter():
    model, teacher = student_and_teacher()
    distill(model, teacher, [PLAIN], batch())
    same = float(model(**batch())[1]["loss_kd_hid"])
    original = teacher.observe

    def longer(data, shared):
        # A stock encoder that counts one frame more in utterances that the batch pads.
        return {
            path: type(seq)(seq.x, torch.where(seq.lens < seq.x.shape[1], seq.lens + 1, seq.lens))
            for path, seq in original(data, shared).items()
        }

    teacher.observe = longer
    assert float(model(**batch())[1]["loss_kd_hid"]) == pytest.approx(same)
