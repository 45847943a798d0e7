"""Text to tokens and back, as ESPnet2's tokenizers of the same names do it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Protocol

from espnet2_kd.data.documents import read_text
from espnet2_kd.data.problems import first_line, one_problem

TOKEN_TYPES = ("bpe", "char", "word", "hugging_face")
BLANK, UNK, SOS_EOS = "<blank>", "<unk>", "<sos/eos>"
SPACE = "<space>"


class Tokenizer(Protocol):
    """Cuts a line of text into tokens and joins them again."""

    def text2tokens(self, line: str) -> list[str]: ...

    def tokens2text(self, tokens: Iterable[str]) -> str: ...


class WordTokenizer:
    """Words between spaces."""

    def text2tokens(self, line: str) -> list[str]:
        return line.split()

    def tokens2text(self, tokens: Iterable[str]) -> str:
        return " ".join(tokens)


class CharTokenizer:
    """Characters, a space being `<space>`; the `whole` symbols (non-linguistic ones) are not cut."""

    def __init__(self, whole: Sequence[str] = ()):
        self.whole = sorted(whole, key=len, reverse=True)

    def text2tokens(self, line: str) -> list[str]:
        tokens = []
        while line:
            token = next((symbol for symbol in self.whole if line.startswith(symbol)), line[0])
            tokens.append(SPACE if token == " " else token)
            line = line[len(token) :]
        return tokens

    def tokens2text(self, tokens: Iterable[str]) -> str:
        return "".join(" " if token == SPACE else token for token in tokens)


class BpeTokenizer:
    """Pieces of a sentencepiece model file."""

    def __init__(self, model: str | PathLike):
        import sentencepiece

        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
        except (OSError, RuntimeError) as error:
            what = f"is missing or no sentencepiece model ({first_line(error)})"
            raise one_problem(model, what, "make it again: python -m espnet2_kd.bin.make_tokens") from error

    def text2tokens(self, line: str) -> list[str]:
        return self.processor.encode(line, out_type=str)

    def tokens2text(self, tokens: Iterable[str]) -> str:
        return self.processor.decode(list(tokens))


class HuggingFaceTokenizer:
    """Word pieces of a Hugging Face tokenizer: a local folder or a model name; never runs code from the model."""

    def __init__(self, model: str, revision: str | None = None):
        from transformers import AutoTokenizer

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
        except (OSError, ValueError) as error:
            remedy = "give a folder with tokenizer files, or the name of a model that can be downloaded"
            raise one_problem(model, f"no Hugging Face tokenizer ({first_line(error)})", remedy) from error

    def text2tokens(self, line: str) -> list[str]:
        return self.tokenizer.tokenize(line)

    def tokens2text(self, tokens: Iterable[str]) -> str:
        ids = self.tokenizer.convert_tokens_to_ids(list(tokens))
        return self.tokenizer.decode(ids, skip_special_tokens=True).replace("\n", " ").strip()


class TokenSet:
    """The content of a token folder: `tokens` in id order, and the tokenizer that makes them."""

    def __init__(self, tokens: Sequence[str], tokenizer: Tokenizer, token_type: str):
        self.tokens, self.tokenizer, self.token_type = list(tokens), tokenizer, token_type
        self._ids = {token: index for index, token in enumerate(self.tokens)}

    @classmethod
    def load(cls, folder: str | PathLike) -> TokenSet:
        """Read `tokens.txt`, `token_type` and the model of a folder that make_tokens wrote; raises DataError."""
        folder = Path(folder)
        for name in ("tokens.txt", "token_type"):
            if not (folder / name).is_file():
                remedy = "make it: python -m espnet2_kd.bin.make_tokens"
                raise one_problem(folder / name, "file is missing", remedy)
        tokens = read_text(folder / "tokens.txt").split("\n")[:-1]
        token_type = read_text(folder / "token_type").strip()
        return cls(tokens, _tokenizer(folder, token_type), token_type)

    def text2ids(self, line: str) -> list[int]:
        """Give the ids of a line; unknown tokens become `<unk>`, id 1."""
        return [self._ids.get(token, 1) for token in self.tokenizer.text2tokens(line)]

    def __contains__(self, token: str) -> bool:
        return token in self._ids


def _tokenizer(folder: Path, token_type: str) -> Tokenizer:
    if token_type == "word":
        return WordTokenizer()
    if token_type == "char":
        nlsyms = folder / "nlsyms.txt"
        return CharTokenizer(read_nlsyms(nlsyms) if nlsyms.is_file() else ())
    if token_type == "bpe":
        return BpeTokenizer(folder / "bpe.model")
    if token_type == "hugging_face":
        name, _, revision = read_text(folder / "hugging_face_model").strip().partition("\n")
        return HuggingFaceTokenizer(name, revision or None)
    raise one_problem(folder / "token_type", f"unknown token type {token_type!r}", f"one of {', '.join(TOKEN_TYPES)}")


def read_nlsyms(path: str | PathLike) -> list[str]:
    """Read non-linguistic symbols, one per line."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]
