"""Speak requests to a home assistant with espeak-ng and write their data directories with words and intents."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from synthetic import make_texts
from texts import SPLITS, draw, find_texts, find_unlabelled, read_sets, sentence_pools, unlabelled_sentences

from espnet2_kd.data.espeak import EspeakError
from espnet2_kd.data.importer import ImportOptions, import_tsv
from espnet2_kd.data.problems import DataError, one_problem
from espnet2_kd.data.spoken import SpokenUtterance, keyed_rng, note_spoken, speak_corpus, speak_unlabelled

SIZES = {"train": 8000, "valid": 1000, "test": 1000}
TINY_SIZES = {"train": 48, "valid": 6, "test": 12}


def plan(pools: dict[str, list[tuple[str, str]]], sizes: dict[str, int], seed: int) -> list[SpokenUtterance]:
    """Return all utterances of the corpus; more of them leave the earlier ones, and the other sets, as they are."""
    utterances = []
    for split in SPLITS:
        rng = keyed_rng(seed, f"voices:{split}")
        for number, (text, intent) in enumerate(draw(pools[split], sizes[split], seed, split)):
            utterances.append(SpokenUtterance.draw(number, split, text, intent, rng, seed))
    return utterances


def check_intents(utterances: list[SpokenUtterance], texts: Path) -> None:
    """Raise DataError where a set is empty or has an intent that the training set lacks."""
    intents = {split: {u.intent for u in utterances if u.split == split} for split in SPLITS}
    for split in SPLITS:
        if not intents[split]:
            raise one_problem(texts, f"no sentence for {split} that can be spoken", "give the texts of the corpus")
        if odd := sorted(intents[split] - intents["train"]):
            what = f"{split} has intents that train has not: {' '.join(odd)}"
            raise one_problem(
                texts, what, f"take at least one sentence of each: --num_train {len(set.union(*intents.values()))}"
            )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, help="clone of NLU-Evaluation-Data, its KFold_1, or a TSV pack")
    for split, size in SIZES.items():
        parser.add_argument(f"--num_{split}", type=int, help=f"{split} utterances, at most (default: {size})")
    parser.add_argument(
        "--num_unlabelled",
        type=int,
        default=0,
        help="utterances without intents, at most, for --unlabelled_set unlabelled (default: %(default)s)",
    )
    parser.add_argument(
        "--unlabelled_text", type=Path, help="what they say, a sentence a line; default: lm.txt of the pack text_slurp"
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed is another corpus (default: %(default)s)")
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="parallel processes (default: %(default)s)")
    parser.add_argument(
        "--downloads", type=Path, default=Path("downloads"), help="where the audio goes (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="where the data directories go (default: %(default)s)"
    )
    parser.add_argument("--synthetic", choices=("true", "false"), default="false", help="a tiny corpus, to try it out")
    args = parser.parse_args()
    tiny = args.synthetic == "true"
    given = {split: getattr(args, f"num_{split}") for split in SPLITS}
    sizes = {s: (TINY_SIZES if tiny else SIZES)[s] if given[s] is None else given[s] for s in SPLITS}
    if min(sizes.values()) < 1 or args.nj < 1:
        parser.error("--num_train, --num_valid, --num_test and --nj must be at least 1")
    out = args.downloads / ("synthetic" if tiny else "nlu_home")
    try:
        texts = make_texts(args.downloads / "synthetic_texts") if tiny else find_texts(args.texts)
        pools, num_passed = sentence_pools(read_sets(texts))
        print(f"nlu_home: {texts}: {num_passed} lines that are repeated or could be said in several ways are left out")
        utterances = plan(pools, sizes, args.seed)
        check_intents(utterances, texts)
        new = speak_corpus(out, utterances, {"sizes": sizes}, args.seed, args.nj)
        print(f"nlu_home: {len(utterances)} utterances {'spoken' if new else 'are already there'} in {out}")
        tables = [out / "corpus.tsv"]
        if args.num_unlabelled > 0:
            sentences = unlabelled_sentences(
                find_unlabelled(args.unlabelled_text), pools, args.num_unlabelled, args.seed
            )
            tables.append(speak_unlabelled(out.with_name(f"{out.name}_unlabelled"), sentences, args.seed, args.nj))
        for data in import_tsv(tables, args.data, ImportOptions()):
            intents = len(set(data.tables.get("label", {}).values()))
            print(f"{data.path}: {len(data.utts)} utterances, {intents} intents")
        note_spoken(args.data, True)
    except (DataError, EspeakError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
