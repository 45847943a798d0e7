"""Token lists and tokenizers against ESPnet2's own; faults F13 and F14."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espnet2_kd.bin.check_labels import main as check_labels
from espnet2_kd.bin.make_tokens import main
from espnet2_kd.data.problems import DataError
from espnet2_kd.data.tokenizer import TokenSet

TRAIN = [
    "turn on the lamp",
    "turn off the lamp in the hall",
    "what's the time",
    "  打开 灯  ",
    "<noise> turn it on",
] * 4
OUT = Path("data/token_list")


@pytest.fixture(autouse=True)
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train").write_text("".join(f"u{i:02d} {line}\n" for i, line in enumerate(TRAIN)), encoding="utf-8")
    Path("valid").write_text("v1 turn on the hall lamp\nv2 qxq zap the lamp\nv3 turn qxq it off\n", encoding="utf-8")
    Path("nlsyms").write_text("<noise>\n")


def make(kind: str, name: str | None = None, *options: str) -> list[str]:
    main(["--token_type", kind, "--text", "train", "--output_dir", str(OUT / (name or kind)), *options])
    return (OUT / (name or kind) / "tokens.txt").read_text(encoding="utf-8").split("\n")[:-1]


def test_lists_and_tokenizers_agree_with_espnet2():
    from espnet2.bin.tokenize_text import tokenize
    from espnet2.text.build_tokenizer import build_tokenizer
    from espnet2.text.token_id_converter import TokenIDConverter

    ours = {
        "word": make("word"),
        "char": make("char", None, "--nlsyms_txt", "nlsyms"),
        "bpe": make("bpe", None, "--nbpe", "30"),
    }
    for kind, nlsyms in (("word", None), ("char", "nlsyms")):
        tokenize("train", f"theirs.{kind}", "2-", None, kind, "<space>", nlsyms, None, "ERROR", True, 0, False, 0,
                 ["<blank>:0", "<unk>:1", "<sos/eos>:-1"], None, None, [])  # fmt: skip
        assert ours[kind] == Path(f"theirs.{kind}").read_text(encoding="utf-8").splitlines()
    for kind in ours:
        bpe = str(OUT / "bpe/bpe.model") if kind == "bpe" else None
        theirs = build_tokenizer(kind, bpemodel=bpe, non_linguistic_symbols="nlsyms" if kind == "char" else None)
        convert = TokenIDConverter(OUT / kind / "tokens.txt")
        tokens = TokenSet.load(OUT / kind)
        for line in [" ".join(line.split()) for line in TRAIN[:5]] + ["turn qxq on", "灯"]:
            pieces = theirs.text2tokens(line)
            assert tokens.tokenizer.text2tokens(line) == pieces
            assert tokens.text2ids(line) == convert.tokens2ids(pieces)
            assert tokens.tokenizer.tokens2text(pieces) == theirs.tokens2text(pieces)


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_special_tokens_stand_where_espnet2_wants_them(kind):
    tokens = make(kind, None, "--nbpe", "30")
    assert tokens[:2] == ["<blank>", "<unk>"] and tokens[-1] == "<sos/eos>"
    assert len(set(tokens)) == len(tokens)
    assert kind != "bpe" or len(tokens) == 30
    assert kind != "char" or "<space>" in tokens


def test_bpe_covers_its_text_and_is_the_same_each_time():
    assert make("bpe", "one", "--nbpe", "30") == make("bpe", "two", "--nbpe", "30")
    assert (OUT / "one/bpe.model").read_bytes() == (OUT / "two/bpe.model").read_bytes()
    tokens = TokenSet.load(OUT / "one")
    for line in TRAIN[:3]:
        assert tokens.tokenizer.tokens2text([tokens.tokens[index] for index in tokens.text2ids(line)]) == line


def test_symbols_of_the_user_stay_whole_in_bpe():
    assert "<noise>" in make("bpe", None, "--nbpe", "30", "--nlsyms_txt", "nlsyms")
    assert "<noise>" in TokenSet.load(OUT / "bpe").tokenizer.text2tokens("turn <noise> on")


def test_too_many_pieces_is_a_message_not_a_traceback():
    with pytest.raises(
        DataError,
        match=r"train:0: -: no 5000 pieces can be made of it .*: take --nbpe \d+ or less, or --token_type char",
    ):
        make("bpe", None, "--nbpe", "5000")
    assert not OUT.exists() or not list(OUT.iterdir())


def test_unknown_tokens_are_reported_with_rate_and_words(capsys):
    make("word", None, "--check_text", "valid", "--max_oov", "0.3")
    printed = capsys.readouterr().out
    assert "train: 0 of 80 tokens unknown (0.00 %)" in printed
    assert "valid: 3 of 13 tokens unknown (23.08 %) in 2 utterance(s); most frequent: qxq:2 zap:1" in printed


@pytest.mark.parametrize(("kind", "first"), [("word", "qxq:2 zap:1"), ("char", "q:4 x:2 z:1"), ("bpe", "q")])
def test_too_many_unknown_tokens_fail_and_leave_nothing(kind, first):
    with pytest.raises(
        DataError, match=rf"valid:2: v2: .* tokens unknown .* most frequent: .*{first}.*raise --max_oov"
    ):
        make(kind, None, "--nbpe", "30", "--check_text", "valid", "--max_oov", "0.05")
    assert not (OUT / kind).exists() and not list(OUT.iterdir())


def test_second_run_does_nothing_and_other_options_make_it_anew():
    make("bpe", "x", "--nbpe", "30")
    model = OUT / "x/bpe.model"
    time = model.stat().st_mtime_ns
    make("bpe", "x", "--nbpe", "30")
    assert model.stat().st_mtime_ns == time
    assert len(make("bpe", "x", "--nbpe", "29")) == 29
    assert len(make("char", "x")) != 29 and not model.exists()


def test_folder_with_other_files_is_not_replaced():
    (OUT / "char").mkdir(parents=True)
    (OUT / "char/thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="holds files that are not a token list"):
        make("char")
    assert (OUT / "char/thesis.txt").read_text() == "mine"


def test_empty_or_broken_text_is_refused():
    Path("train").write_text("u1\nu2 \n")
    with pytest.raises(DataError, match="train:0: -: no words in the file"):
        make("char")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokens.txt": b"\xff\n", "token_type": b"char\n"}, "tokens.txt:0: -: not UTF-8 at byte 1"),
        ({"tokens.txt": b"a\n", "token_type": b"\xff"}, "token_type:0: -: not UTF-8 at byte 1"),
        (
            {"tokens.txt": b"a\n", "token_type": b"char\n", "nlsyms.txt": b"\xff\n"},
            "nlsyms.txt:0: -: not UTF-8 at byte 1",
        ),
        ({"tokens.txt": b"a\n", "token_type": b"bpe\n"}, "bpe.model:0: -: is missing or no sentencepiece model"),
        ({"tokens.txt": b"a\n", "token_type": b"bpe\n", "bpe.model": b"x"}, "is missing or no sentencepiece model"),
        ({"tokens.txt": b"a\n", "token_type": b"hugging_face\n"}, "hugging_face_model:0: -: cannot be read"),
    ],
)
def test_a_damaged_folder_is_named(files, message):
    Path("tokens").mkdir()
    for name, content in files.items():
        (Path("tokens") / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        TokenSet.load("tokens")


def hugging_face_folder() -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "turn", "on", "off", "the", "la", "##mp", "it", "in", "h", "##all"]
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    Path("hf").mkdir()
    tokenizer.save("hf/tokenizer.json")
    Path("hf/tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]", "pad_token": "[PAD]"})
    )


def test_word_pieces_of_a_given_tokenizer():
    hugging_face_folder()
    full = make("hugging_face", "full", "--hf_model", "hf", "--max_oov", "1")
    assert full[:6] == ["<blank>", "<unk>", "[PAD]", "[UNK]", "[CLS]", "[SEP]"] and len(full) == 14 + 3
    seen = make("hugging_face", "seen", "--hf_model", "hf", "--hf_vocabulary", "seen", "--max_oov", "1")
    assert set(seen) - set(full) == set() and "[CLS]" not in seen and "##mp" in seen
    tokens = TokenSet.load(OUT / "full")
    assert [tokens.tokens[index] for index in tokens.text2ids("Turn off the lamp")] == [
        "turn",
        "off",
        "the",
        "la",
        "##mp",
    ]
    assert tokens.tokenizer.tokens2text(["turn", "la", "##mp"]).replace(" ##", "") == "turn lamp"


def test_unknown_hugging_face_folder_is_named():
    with pytest.raises(DataError, match="./nowhere:0: -: no Hugging Face tokenizer"):
        make("hugging_face", None, "--hf_model", "./nowhere")


def test_labels_longer_than_the_encoder_output_are_listed_or_dropped(make_dir, capsys):
    folder = make_dir(utts=4, seconds=0.4)
    rows = {"spk0-u000": "abcdefghij", "spk0-u002": "abcdefghijk", "spk1-u001": "aabbccdd", "spk1-u003": "aabbc"}
    (folder / "text").write_text("".join(f"{utt} {text}\n" for utt, text in rows.items()))
    main(["--token_type", "char", "--text", str(folder / "text"), "--output_dir", "char"])
    arguments = ["--data_dir", str(folder), "--token_dir", "char", "--frame_ms", "40"]
    with pytest.raises(DataError) as error:
        check_labels(arguments)
    assert [str(problem).rsplit(": ", 1)[0] for problem in error.value.problems] == [
        "data/train/text:2: spk0-u002: labels need 11 frames, the encoder gives 10",
        "data/train/text:3: spk1-u001: labels need 12 frames, the encoder gives 10",
    ]
    check_labels([*arguments, "--drop"])
    assert "2 utterances kept, 2 with too many labels" in capsys.readouterr().out
    assert [line.split()[0] for line in (folder / "text").read_text().splitlines()] == ["spk0-u000", "spk1-u003"]
    check_labels(arguments)


def test_needed_frames_are_those_torch_ctc_needs(make_dir):
    import torch

    from espnet2_kd.data.data_dir import DataDir
    from espnet2_kd.data.labels import long_labels

    folder = make_dir(utts=4)
    words = ["abc", "aab", "aaaa", "abba"]
    utts = DataDir.read(folder).utts
    (folder / "text").write_text("".join(f"{utt} {word}\n" for utt, word in zip(utts, words)))
    main(["--token_type", "char", "--text", str(folder / "text"), "--output_dir", "char"])
    tokens = TokenSet.load("char")
    data = DataDir.read(folder)
    for frames in range(3, 9):
        data.tables["utt2dur"] = dict.fromkeys(utts, str(frames * 0.04))
        listed = {found.utt for found in long_labels(data, tokens, 40)}
        for utt, word in zip(utts, words):
            ids = torch.tensor([tokens.text2ids(word)])
            log_probs = torch.zeros(frames, 1, len(tokens.tokens)).log_softmax(-1)
            loss = torch.nn.functional.ctc_loss(log_probs, ids, [frames], [ids.shape[1]], reduction="sum")
            assert (utt in listed) == bool(torch.isinf(loss))
