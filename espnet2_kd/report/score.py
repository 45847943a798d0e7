"""Word, character and token error rates of one decoded set, in the files ESPnet2 users know."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from espnet2_kd.data.table import replacing
from espnet2_kd.data.tokenizer import CharTokenizer, TokenSet, WordTokenizer
from espnet2_kd.report.pairs import Pair, read_pairs
from espnet2_kd.report.sclite import find_tool, parse_summary, run_sclite
from espnet2_kd.report.trn import escape, make_id, make_line

_log = logging.getLogger(__name__)
Cut = Callable[[str], list[str]]


def score_set(
    ref: str | PathLike,
    hyp: str | PathLike,
    utt2spk: str | PathLike,
    output_dir: str | PathLike,
    token_dir: str | PathLike | None = None,
    case_sensitive: bool = False,
) -> dict:
    """Write `score_{wer,cer[,ter]}/{ref.trn,hyp.trn,result.txt}` and `score.json`; return what is in `score.json`.

    Case is ignored by default, as ESPnet2's scoring does, but in every script and not in ASCII alone.
    A token is what the tokenizer of `token_dir` makes of reference and hypothesis as written.
    Raises DataError, leaving no `score.json`, when the files do not belong together or sclite fails.
    """
    output = Path(output_dir)
    summary = output / "score.json"
    summary.unlink(missing_ok=True)
    find_tool()
    pairs = read_pairs(ref, hyp, utt2spk)
    fold = (lambda text: text) if case_sensitive else str.lower
    words, characters = WordTokenizer().text2tokens, CharTokenizer().text2tokens
    cuts: dict[str, Cut] = {"wer": lambda text: words(fold(text)), "cer": lambda text: characters(fold(text))}
    if token_dir is not None:
        tokens = TokenSet.load(token_dir).tokenizer.text2tokens
        cuts["ter"] = lambda text: [fold(token) for token in tokens(text)]
    scores = {metric: _score(pairs, cut, output / f"score_{metric}") for metric, cut in cuts.items()}
    scores["policy"] = _policy(pairs, case_sensitive)
    with replacing(summary) as stream:
        json.dump(scores, stream, indent=2)
        stream.write("\n")
    return scores


def _score(pairs: list[Pair], cut: Cut, folder: Path) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.txt").unlink(missing_ok=True)
    for name, texts in (("ref", [pair.ref for pair in pairs]), ("hyp", [pair.hyp for pair in pairs])):
        with replacing(folder / f"{name}.trn") as stream:
            for pair, text in zip(pairs, texts, strict=True):
                stream.write(make_line(cut(text), make_id(pair.speaker, pair.utt)))
    result = run_sclite(folder)
    score = parse_summary(result)
    if score["snt"] != len(pairs):
        raise RuntimeError(f"sclite scored {score['snt']} of {len(pairs)} utterances of {folder}")
    with replacing(folder / "result.txt") as stream:
        stream.write(result)
    return score


def _policy(pairs: list[Pair], case_sensitive: bool) -> dict:
    """Count, and warn of, the utterances whose score depends on how text is treated."""
    escaped = sum(any(escape(word) != word for word in f"{pair.ref} {pair.hyp}".split()) for pair in pairs)
    cased = sum(_matches_by_case(pair) for pair in pairs)
    total = len(pairs)
    if escaped:
        _log.warning("%d of %d utterances hold characters that sclite interprets; written as %%XX", escaped, total)
    if cased and case_sensitive:
        _log.warning("%d of %d utterances hold words wrong by case only; counted as errors", cased, total)
    elif cased:
        _log.warning(
            "%d of %d utterances hold words that differ in case only; counted as correct (--case_sensitive true "
            "counts them as errors)",
            cased,
            total,
        )
    return {"case_sensitive": case_sensitive, "escaped_utts": escaped, "case_only_utts": cased}


def _matches_by_case(pair: Pair) -> bool:
    ref, hyp = set(pair.ref.split()), set(pair.hyp.split())
    return not {word.lower() for word in hyp - ref}.isdisjoint(word.lower() for word in ref - hyp)


def format_summary(scores: dict, output_dir: str | PathLike) -> str:
    """Lay out the rows that ESPnet2's scoring stage echoes, one per metric."""
    lines = [f"{'':4}{'Snt':>7}{'Wrd':>8}{'Corr':>7}{'Sub':>7}{'Del':>7}{'Ins':>7}{'Err':>7}{'S.Err':>7}"]
    for metric in ("wer", "cer", "ter"):
        if metric in scores:
            row = scores[metric]
            rates = "".join(f"{row[key]:7.1f}" for key in ("corr", "sub", "del", "ins", "err", "s_err"))
            result = os.path.join(output_dir, f"score_{metric}", "result.txt")
            lines.append(f"{metric.upper():4}{row['snt']:7d}{row['wrd']:8d}{rates}  {result}")
    return "\n".join(lines)
