import pytest
import sentencepiece

from espnet2_kd.asr.words import Word, group_words


def test_words_of_each_token_type():
    assert group_words(["▁turn", "▁o", "ff", "▁", "it"], "bpe") == [Word("turn", 0), Word("off", 2), Word("it", 4)]
    assert group_words(["a", "b", "<space>", "<space>", "c", "<space>"], "char") == [Word("ab", 1), Word("c", 4)]
    assert group_words(["one", "two"], "word") == [Word("one", 0), Word("two", 1)]
    assert group_words([], "bpe") == []
    for token_type in ("phn", "hugging_face"):
        with pytest.raises(ValueError, match=token_type):
            group_words(["a"], token_type)


def test_hugging_face_words_are_those_of_the_tokenizer(tmp_path):
    from transformers import BertTokenizerFast

    from espnet2_kd.data.tokenizer import HuggingFaceTokenizer

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "it", "'", "s", "don", "t", "."]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    tokenizer = HuggingFaceTokenizer(str(tmp_path))
    tokens = tokenizer.text2tokens("it's playing don't play.")
    assert tokens == ["it", "'", "s", "play", "##ing", "don", "'", "t", "play", "."]
    words = group_words(tokens, "hugging_face", tokenizer.tokens2text)
    assert " ".join(word.text for word in words) == tokenizer.tokens2text(tokens)
    ends = {word.text: word.last_token for word in words}
    assert ends["playing"] == 4
    assert [word.last_token for word in words] == sorted(word.last_token for word in words)
    assert words[-1].last_token == len(tokens) - 1
    assert group_words([], "hugging_face", tokenizer.tokens2text) == []


def test_words_that_later_tokens_change_end_with_those():
    def join(tokens):
        return " ".join(tokens).replace(" ' ", "'")

    words = group_words(["it", "'", "s", "me"], "hugging_face", join)
    assert words == [Word("it's", 2), Word("me", 3)]


def test_bpe_text_equals_sentencepieces_own(tmp_path):
    lines = ["turn off the kitchen light", "play some jazz music", "the light in the hall", "turn it off"] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(tmp_path / "bpe"), vocab_size=30, minloglevel=2
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "bpe.model"))
    for line in lines[:4]:
        pieces = model.encode_as_pieces(line)
        assert " ".join(word.text for word in group_words(pieces, "bpe")) == model.decode_pieces(pieces) == line
        ends = [word.last_token for word in group_words(pieces, "bpe")]
        starts = [i for i, piece in enumerate(pieces) if piece.startswith("▁")]
        assert ends == [start - 1 for start in starts[1:]] + [len(pieces) - 1]
