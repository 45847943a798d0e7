"""Word pieces with the times of their letters."""

import numpy as np
import pytest

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.slu.sentence import SentenceReader

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def reader(tiny_bert):
    return SentenceReader(str(tiny_bert))


def test_ids_are_the_tokenizers_own(reader, tiny_bert):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    for text in ("turn the lamp off", "", "  Could   you xyz "):
        assert reader.ids(text).tolist() == tokenizer(" ".join(text.split()))["input_ids"]


def test_spans(reader, tiny_bert):
    """A word lasts from the end of the one before, its pieces share its time by letters; [CLS] and [SEP] get the rest."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    assert tokenizer.tokenize("turn lampx off") == ["turn", "lamp", "##x", "off"]
    found = reader.spans("turn lampx off", [3.0, 8.0, 8.5], begin=1.0, num_frames=10.0)
    expected = [(0, 1), (1, 3), (3, 7), (7, 8), (8, 8.5), (8.5, 10)]
    np.testing.assert_allclose(found, expected)
    assert found.dtype == np.float32
    # A whole utterance is covered, once.
    np.testing.assert_allclose(found[1:, 0], found[:-1, 1])


def test_ends_that_go_back_or_beyond(reader):
    found = reader.spans("turn the off", [5.0, 4.0, 12.0], begin=2.0, num_frames=10.0)
    np.testing.assert_allclose(found, [(0, 2), (2, 5), (5, 5), (5, 12), (12, 12)])


def test_an_empty_text_is_the_whole_utterance(reader):
    np.testing.assert_allclose(reader.spans("", [], 0.0, 7.0), [(0, 7), (0, 7)])


def test_other_numbers_of_words(reader):
    with pytest.raises(ValueError, match="2 words, but 1 ends of words"):
        reader.spans("turn off", [1.0], 0.0, 2.0)


def test_no_such_tokenizer(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="none is no directory here"):
        SentenceReader(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="empty cannot be loaded"):
        SentenceReader(str(tmp_path / "empty"))
