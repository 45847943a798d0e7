"""From tokens to words, keeping track of which token ends which word."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

WORD_START = "\u2581"


@dataclass(frozen=True)
class Word:
    """A word and the index of its last token."""

    text: str
    last_token: int


def group_words(
    tokens: Sequence[str], token_type: str, tokens2text: Callable[[Sequence[str]], str] | None = None
) -> list[Word]:
    """Join tokens into words.

    Args:
        tokens: token strings, without blank and start/end symbols.
        token_type: ``bpe`` (sentencepiece), ``char`` (``<space>`` between words), ``word``, or ``hugging_face``.
        tokens2text: the tokenizer's own way of joining; only ``hugging_face`` needs it, and has no rule but that.

    Raises:
        ValueError: unknown token type, or no ``tokens2text`` where it is needed.
    """
    if token_type == "word":
        return [Word(token, i) for i, token in enumerate(tokens)]
    if token_type == "char":
        return _split([" " if token == "<space>" else token for token in tokens])
    if token_type == "bpe":
        return _split([token.replace(WORD_START, " ") for token in tokens])
    if token_type == "hugging_face" and tokens2text is not None:
        return _grow(tokens, tokens2text)
    raise ValueError(f"token_type {token_type!r}: choose bpe, char, word, or hugging_face with its tokenizer")


def _grow(tokens: Sequence[str], tokens2text: Callable[[Sequence[str]], str]) -> list[Word]:
    """Find where each word is complete by joining ever more tokens, because later tokens can change earlier words."""
    words = tokens2text(tokens).split()
    ends = [len(tokens) - 1] * len(words)
    complete = len(words)
    for last in reversed(range(len(tokens))):
        so_far = tokens2text(tokens[: last + 1]).split()
        equal = [a == b for a, b in zip(so_far, words)] + [False]
        complete = min(complete, equal.index(False))
        ends[:complete] = [last] * complete
    return [Word(word, end) for word, end in zip(words, ends)]


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
