"""From tokens to words, keeping track of which token ends which word."""

from collections.abc import Sequence
from dataclasses import dataclass

WORD_START = "\u2581"


@dataclass(frozen=True)
class Word:
    """A word and the index of its last token."""

    text: str
    last_token: int


def group_words(tokens: Sequence[str], token_type: str) -> list[Word]:
    """Join tokens into words.

    Args:
        tokens: token strings, without blank and start/end symbols.
        token_type: ``bpe`` (sentencepiece), ``char`` (``<space>`` between words), ``word``, or ``hugging_face``
            (word pieces with ``##``, or sentencepiece's word start).

    Raises:
        ValueError: unknown token type.
    """
    if token_type == "word":
        return [Word(token, i) for i, token in enumerate(tokens)]
    if token_type == "char":
        pieces = [" " if token == "<space>" else token for token in tokens]
    elif token_type == "bpe":
        pieces = [token.replace(WORD_START, " ") for token in tokens]
    elif token_type == "hugging_face":
        pieces = [_word_piece(token) for token in tokens]
    else:
        raise ValueError(f"token_type {token_type!r} is unknown, choose bpe, char, word or hugging_face")
    return _split(pieces)


def text_of(tokens: Sequence[str], token_type: str) -> str:
    """Return the words of ``tokens`` with single spaces between them; raises as ``group_words``."""
    return " ".join(word.text for word in group_words(tokens, token_type))


def _word_piece(token: str) -> str:
    if token.startswith("##"):
        return token[2:]
    return token.replace(WORD_START, " ") if WORD_START in token else f" {token}"


def _split(pieces: Sequence[str]) -> list[Word]:
    words: list[Word] = []
    current, last = "", -1
    for i, piece in enumerate(pieces):
        for character in piece:
            if character != " ":
                current, last = current + character, i
            elif current:
                words.append(Word(current, last))
                current = ""
    if current:
        words.append(Word(current, last))
    return words
