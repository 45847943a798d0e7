"""Token lists: which tokens a training text needs, in the order ESPnet2 gives them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

from espnet2_kd.data.oov import OovReport, check_oov
from espnet2_kd.data.parts import fingerprint
from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.data.progress import tracked
from espnet2_kd.data.scratch import scratch_folder
from espnet2_kd.data.table import read_rows, replacing
from espnet2_kd.data.tokenizer import BLANK, SOS_EOS, TOKEN_TYPES, UNK, HuggingFaceTokenizer, TokenSet, read_nlsyms

_VERSION = 1
BPE_MODES = ("unigram", "bpe", "char", "word")


@dataclass(frozen=True)
class TokenOptions:
    """Kind of tokens and the settings of each kind, under ESPnet2's option names.

    `hf_vocabulary` is `full` (all word pieces of the tokenizer, as ESPnet2 exports them) or `seen` (those of the text).
    """

    token_type: str = "bpe"
    nbpe: int = 30
    bpemode: str = "unigram"
    bpe_char_cover: float = 1.0
    nlsyms: str | None = None
    hf_model: str | None = None
    hf_revision: str | None = None
    hf_vocabulary: str = "full"

    def __post_init__(self) -> None:
        if self.token_type not in TOKEN_TYPES:
            raise ValueError(f"token_type {self.token_type!r} is none of {', '.join(TOKEN_TYPES)}")
        if self.bpemode not in BPE_MODES:
            raise ValueError(f"bpemode {self.bpemode!r} is none of {', '.join(BPE_MODES)}")
        if (self.token_type == "hugging_face") != (self.hf_model is not None):
            raise ValueError("hf_model belongs to token_type hugging_face, and that needs it")
        if self.hf_vocabulary not in ("full", "seen"):
            raise ValueError(f"hf_vocabulary {self.hf_vocabulary!r} is neither 'full' nor 'seen'")


def make_tokens(
    texts: Sequence[str | PathLike],
    output_dir: str | PathLike,
    options: TokenOptions,
    check_texts: Sequence[str | PathLike] = (),
    max_oov: float = 0.1,
) -> tuple[TokenSet, list[OovReport]]:
    """Write `tokens.txt`, `token_type` and the model of the kind to `output_dir`, all or nothing.

    Reports tokens of `texts` and `check_texts` that the list does not hold; raises DataError, writing nothing, where
    their share is above `max_oov`. Does nothing where the same call has succeeded before.
    """
    output_dir = Path(output_dir)
    lines = [line for path in texts for line in read_words(path)]
    nlsyms = read_nlsyms(options.nlsyms) if options.nlsyms else []
    made_from = {"fingerprint": fingerprint(_VERSION, asdict(options), lines, nlsyms), "options": asdict(options)}
    if _made_from(output_dir) == made_from:
        tokens = TokenSet.load(output_dir)
        return tokens, check_oov(tokens, [*texts, *check_texts], max_oov)
    with scratch_folder(output_dir) as temporary:
        tokens = _write(temporary, lines, nlsyms, options, str(texts[0]))
        reports = check_oov(tokens, [*texts, *check_texts], max_oov)
        (temporary / "made_from.json").write_text(json.dumps(made_from, indent=1, sort_keys=True) + "\n")
        if output_dir.exists():
            _retire(output_dir)
        os.rename(temporary, output_dir)
    return tokens, reports


def read_words(path: str | PathLike) -> list[str]:
    """Give the words of every non-empty line of a Kaldi text file, single-spaced; raises DataError."""
    problems: list[Problem] = []
    rows = read_rows(path, problems)
    if problems:
        raise DataError(problems)
    lines = [" ".join(row.value.split()) for row in rows if row.value.strip()]
    if not lines:
        raise one_problem(path, "no words in the file", "give a Kaldi text file: utterance id, space, words")
    return lines


def _write(folder: Path, lines: Sequence[str], nlsyms: Sequence[str], options: TokenOptions, text: str) -> TokenSet:
    def put(name: str, content: str) -> None:
        with replacing(folder / name) as stream:
            stream.write(content)

    put("token_type", options.token_type + "\n")
    if options.token_type == "bpe":
        model, tokens = _train_bpe(lines, nlsyms, options, text)
        (folder / "bpe.model").write_bytes(model)
    elif options.token_type == "hugging_face":
        put("hugging_face_model", f"{options.hf_model}\n{options.hf_revision or ''}\n")
        tokens = _hugging_face_tokens(lines, options)
    else:
        if nlsyms:
            put("nlsyms.txt", "".join(f"{symbol}\n" for symbol in nlsyms))
        put("tokens.txt", f"{BLANK}\n{UNK}\n{SOS_EOS}\n")
        tokens = _by_frequency(lines, TokenSet.load(folder))
    special = (BLANK, UNK, SOS_EOS)
    tokens = [BLANK, UNK, *(token for token in tokens if token not in special), SOS_EOS]
    put("tokens.txt", "".join(f"{token}\n" for token in tokens))
    return TokenSet.load(folder)


def _by_frequency(lines: Sequence[str], tokens: TokenSet) -> list[str]:
    # ESPnet2's order: falling count, ties in order of first appearance.
    tracked_lines = tracked("count tokens", lines)
    counts = Counter(token for line in tracked_lines for token in tokens.tokenizer.text2tokens(line))
    return [token for token, _ in counts.most_common()]


def _train_bpe(
    lines: Sequence[str], nlsyms: Sequence[str], options: TokenOptions, text: str
) -> tuple[bytes, list[str]]:
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=options.nbpe,
            model_type=options.bpemode,
            character_coverage=options.bpe_char_cover,
            user_defined_symbols=list(nlsyms),
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].split("] ")[-1]
        most = re.search(r"<= (\d+)", reason)
        remedy = f"take --nbpe {most[1]} or less, or --token_type char" if most else "change --nbpe"
        raise one_problem(text, f"no {options.nbpe} pieces can be made of it ({reason})", remedy) from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    # The first three are <unk>, <s> and </s>; ESPnet2 puts its own in their place.
    return model.getvalue(), [processor.id_to_piece(index) for index in range(3, processor.get_piece_size())]


def _hugging_face_tokens(lines: Sequence[str], options: TokenOptions) -> list[str]:
    wrapped = HuggingFaceTokenizer(options.hf_model, options.hf_revision)
    vocabulary = wrapped.tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    if options.hf_vocabulary == "seen":
        seen = {token for line in tracked("tokens that occur", lines) for token in wrapped.text2tokens(line)}
        tokens = [token for token in tokens if token in seen]
    return tokens


def _made_from(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "made_from.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _retire(folder: Path) -> None:
    """Remove an older token folder, but never a folder that holds anything else."""
    own = {"tokens.txt", "token_type", "bpe.model", "nlsyms.txt", "hugging_face_model", "made_from.json"}
    strange = sorted(path.name for path in folder.iterdir() if path.name not in own)
    if strange:
        raise one_problem(
            folder, f"holds files that are not a token list ({strange[0]})", "choose another --output_dir"
        )
    shutil.rmtree(folder)
