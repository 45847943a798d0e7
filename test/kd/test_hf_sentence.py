"""A text encoder from [CLS] to [SEP], against the encoder itself, alone with every sentence."""

import json
import shutil

import pytest
import torch
from torch import nn

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.student import distill
from espnet2_kd.kd.teachers.hf_sentence import HFSentenceTeacher

transformers = pytest.importorskip("transformers")

LAYER = "encoder.layer.1"
WEIGHTS, SCORES = f"{LAYER}.attention.self:weights", f"{LAYER}.attention.self:scores"
LENS = [5, 2, 7]


@pytest.fixture(scope="module")
def bert(make_bert):
    """Directory of a random BERT of two layers that reads 12 word pieces; its dropout is heavy."""
    rates = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5, "initializer_range": 0.5}
    return make_bert("abcdefgh", max_position_embeddings=12, **rates)


def batch(lens=LENS):
    text = torch.randint(5, 13, (len(lens), max(lens)), generator=torch.Generator().manual_seed(1))
    text[:, 0] = 2
    for b, n in enumerate(lens):
        text[b, n - 1], text[b, n:] = 3, -1  # [SEP], and ESPnet2's padding
    return {"text": text, "text_lengths": torch.tensor(lens), "utt_id": [f"utt{b}" for b in range(len(lens))]}


def by_itself(bert, ids):
    """States of layer 2 (N, D), mean attention weights and scores (N, N) of one sentence, in float64."""
    model = transformers.AutoModel.from_pretrained(bert, attn_implementation="eager", dtype=torch.float64).eval()
    with torch.no_grad():
        out = model(input_ids=ids[None], output_hidden_states=True, output_attentions=True)
        attention = model.encoder.layer[1].attention.self
        below = out.hidden_states[1][0]
        q, k = (linear(below).reshape(len(ids), 2, 8) for linear in (attention.query, attention.key))
    scores = torch.einsum("qhd,khd->hqk", q, k) / 8**0.5
    return out.hidden_states[2][0].float(), out.attentions[1][0].mean(0).float(), scores.mean(0).float()


def test_states_and_attention_are_the_models_own(bert):
    teacher = HFSentenceTeacher(str(bert))
    teacher.watch({LAYER, WEIGHTS, SCORES})
    data = batch()
    found = teacher.observe(data, {})
    for b, n in enumerate(LENS):
        states, weights, scores = by_itself(bert, data["text"][b, :n])
        for path, expected in ((LAYER, states), (WEIGHTS, weights), (SCORES, scores)):
            assert found[path].lens.tolist() == LENS
            row = found[path].x[b, :n]
            torch.testing.assert_close(row if path == LAYER else row[:, :n], expected, rtol=1e-4, atol=1e-5)
        assert found[WEIGHTS].x[b, :n, n:].eq(0).all()
        assert found[SCORES].x[b, :n, n:].eq(0).all()


def test_a_text_is_read_once(bert, monkeypatch):
    """Sentences come again in every epoch, in other batches; memory is bounded."""
    teacher = HFSentenceTeacher(str(bert))
    teacher.watch({LAYER, WEIGHTS, SCORES})
    read = []
    run = teacher.encoder.run
    monkeypatch.setattr(teacher.encoder, "run", lambda rows, *more: (read.append(len(rows)), run(rows, *more))[1])
    data = batch()
    first = teacher.observe(data, {})
    part = {"text": data["text"][[2, 0]], "text_lengths": data["text_lengths"][[2, 0]]}
    second = teacher.observe(part, {})
    assert read == [3]
    for path in (LAYER, WEIGHTS, SCORES):
        torch.testing.assert_close(second[path].x[0], first[path].x[2])
        assert second[path].lens.tolist() == [7, 5]
    monkeypatch.setattr("espnet2_kd.kd.teachers.hf_sentence.MEMORY", teacher.num_bytes - 1)
    third = teacher.observe(part, {})
    assert read == [3, 2]
    torch.testing.assert_close(third[LAYER].x, second[LAYER].x)


class Listener(nn.Module):
    """A student whose frames are what it is given."""

    def __init__(self, width=6):
        super().__init__()
        self.token_list = ["intent=a", "<unk>"]
        self.body = nn.Linear(2, width)

    def forward(self, speech, speech_lengths, **kwargs):
        x = self.body(speech)
        return x.mean(), {}, torch.tensor(len(x))


def test_padded_and_cut_to_the_frames_of_the_student(bert, caplog):
    """As the paper has it: PAD positions up to the batch's longest utterance; a longer text loses all but its [SEP]."""
    teacher = HFSentenceTeacher(str(bert), pad_to="body")
    teacher.join(Listener())
    teacher.watch({LAYER})
    data = batch()
    assert teacher.shared_paths(Listener()) == {"body"}
    longer = teacher.observe(data, {"body": torch.zeros(3, 10, 6)})[LAYER]
    assert longer.x.shape[1] == 10
    assert longer.lens.tolist() == LENS
    shorter = teacher.observe(data, {"body": torch.zeros(3, 4, 6)})[LAYER]
    assert shorter.x.shape[1] == 4
    assert shorter.lens.tolist() == [4, 2, 4]
    assert "so far 1 texts had more word pieces than frames" in caplog.text and teacher.cut.num == 2
    ids = torch.cat((data["text"][2, :3], torch.tensor([3])))
    torch.testing.assert_close(shorter.x[2], by_itself(bert, ids)[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="pad_to: 13 frames, and .* reads 12 word pieces"):
        teacher.observe(data, {"body": torch.zeros(3, 13, 6)})
    with pytest.raises(ConfigError, match="pad_to: no submodule 'bodi' in Listener; did you mean body"):
        HFSentenceTeacher(str(bert), pad_to="bodi").join(Listener())


def test_official_code_compat(bert):
    """BERT's dropout is on, and its states go through a matrix of 512 columns that stays as it is."""
    teacher = HFSentenceTeacher(str(bert), official_code_compat=True)
    teacher.watch({LAYER, SCORES})
    data = batch()
    first, second = (teacher.observe(data, {})[LAYER].x for _ in range(2))
    assert first.shape == (3, 7, 512)
    assert not torch.allclose(first, second)
    again = HFSentenceTeacher(str(bert), official_code_compat=True)
    assert torch.equal(teacher.projection, again.projection)
    state = torch.get_rng_state()
    torch.manual_seed(torch.initial_seed() + 1)
    other = HFSentenceTeacher(str(bert), official_code_compat=True)
    torch.manual_seed(torch.initial_seed() - 1)
    torch.set_rng_state(state)
    assert not torch.equal(teacher.projection, other.projection)
    assert 0.9 < teacher.projection.abs().max() * 4 <= 1.0


def test_weights_that_are_not_there(bert, tmp_path):
    """transformers would put random numbers in their place, and these would teach."""
    shutil.copytree(bert, tmp_path / "half")
    config = json.loads((bert / "config.json").read_text())
    config["num_hidden_layers"] += 1
    (tmp_path / "half/config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"teacher hf_sentence: .*half has no weights for encoder.layer"):
        HFSentenceTeacher(str(tmp_path / "half"))


def test_what_is_too_long_or_has_other_spans(bert):
    teacher = HFSentenceTeacher(str(bert))
    teacher.watch({LAYER})
    with pytest.raises(ConfigError, match="utterance utt1 has 13 word pieces, and .* reads 12"):
        teacher.observe(batch([3, 13]), {})
    data = {**batch(), "spans": torch.zeros(3, 7, 2), "spans_lengths": torch.tensor([5, 3, 7])}
    with pytest.raises(ConfigError, match="utterance utt1 has 2 word pieces and 3 spans"):
        teacher.observe(data, {})
    assert teacher.observe({**data, "spans_lengths": torch.tensor(LENS)}, {})[LAYER].spans is data["spans"]
    assert teacher.observe({"speech": torch.zeros(1, 2)}, {}) == {}
    with pytest.raises(ConfigError, match="teacher tap: no submodule 'encoder.layer.7"):
        teacher.watch({"encoder.layer.7.attention.self:weights"})


def test_a_student_learns_what_the_text_says(bert):
    """Hidden states, position by position: the loss falls to the part that no linear map of the frames can tell."""
    data = batch()
    torch.manual_seed(0)
    frames = torch.randn(3, 9, 2)
    batch_of_both = {**data, "speech": frames, "speech_lengths": torch.tensor([9, 9, 9])}

    class Tapped(Listener):
        def forward(self, speech, speech_lengths, **kwargs):
            loss, stats, weight = super().forward(speech, speech_lengths)
            self.encoder(self.body(speech), speech_lengths)
            return loss * 0.0, stats, weight

    class Encoder(nn.Module):
        def forward(self, x, lens):
            return x, lens, None

    student = Tapped()
    student.encoder = Encoder()
    terms = [
        {"name": "h", "student": "encoder", "teacher": LAYER, "match": "pad_text", "head": "projection", "per": "token"}
    ]
    terms[0]["losses"] = {"mse": {"weight": 1.0, "reduction": "sum"}}
    teacher = HFSentenceTeacher(str(bert))
    distill(student, teacher, terms, batch_of_both)
    targets = torch.cat([teacher.observe(data, {})[LAYER].x[b, :n] for b, n in enumerate(LENS)])
    inputs = torch.cat([frames[b, :n] for b, n in enumerate(LENS)])
    inputs = torch.cat((inputs, torch.ones(len(inputs), 1)), 1)
    best = (inputs @ torch.linalg.lstsq(inputs, targets).solution - targets).square().mean()
    optimiser = torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        loss, stats, _ = student(**batch_of_both)
        loss.backward()
        optimiser.step()
    torch.testing.assert_close(stats["loss_kd_h_mse"].reshape(()), best, rtol=1e-2, atol=0)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_what_a_text_model_answers(bert, tmp_path, pooling):
    """`classes` are the logits of the fine-tuned model itself; other classes than the student's are refused."""
    from espnet2_kd.slu.text_model import TextIntentModel

    classes = ["room=hall", "light=on", "room=none", "light=off", "light=none"]
    torch.manual_seed(3)
    model = TextIntentModel.from_encoder(str(bert), classes, pooling=pooling).eval()
    model.save(tmp_path / "text")
    student = Listener()
    student.token_list = [*classes, "<unk>"]
    teacher = HFSentenceTeacher(str(tmp_path / "text"))
    teacher.join(student)
    teacher.watch({"classes", LAYER})
    data = batch()
    found = teacher.observe(data, {})["classes"]
    assert found.lens is None
    assert found.slots == [[0, 2], [1, 3, 4]]
    with torch.no_grad():
        torch.testing.assert_close(
            found.x, model(data["text"].clamp(min=0), data["text_lengths"]), rtol=1e-4, atol=1e-5
        )
    student.token_list = [*classes[::-1], "<unk>"]
    teacher.join(student)
    with pytest.raises(ConfigError, match="are not those of the student's token list"):
        teacher.watch({"classes"})
    with pytest.raises(ConfigError, match="has not learned intents"):
        HFSentenceTeacher(str(bert)).watch({"classes"})
