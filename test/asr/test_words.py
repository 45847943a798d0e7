import pytest
import sentencepiece

from espnet2_kd.asr.words import Word, group_words, text_of


def test_words_of_each_token_type():
    assert group_words(["▁turn", "▁o", "ff", "▁", "it"], "bpe") == [Word("turn", 0), Word("off", 2), Word("it", 4)]
    assert group_words(["a", "b", "<space>", "<space>", "c", "<space>"], "char") == [Word("ab", 1), Word("c", 4)]
    assert group_words(["one", "two"], "word") == [Word("one", 0), Word("two", 1)]
    assert group_words(["play", "##ing", "now"], "hugging_face") == [Word("playing", 1), Word("now", 2)]
    assert group_words([], "bpe") == []
    with pytest.raises(ValueError, match="phn"):
        group_words(["a"], "phn")


def test_bpe_text_equals_sentencepieces_own(tmp_path):
    lines = ["turn off the kitchen light", "play some jazz music", "the light in the hall", "turn it off"] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(tmp_path / "bpe"), vocab_size=30, minloglevel=2
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "bpe.model"))
    for line in lines[:4]:
        pieces = model.encode_as_pieces(line)
        assert text_of(pieces, "bpe") == model.decode_pieces(pieces) == line
        ends = [word.last_token for word in group_words(pieces, "bpe")]
        starts = [i for i, piece in enumerate(pieces) if piece.startswith("▁")]
        assert ends == [start - 1 for start in starts[1:]] + [len(pieces) - 1]
