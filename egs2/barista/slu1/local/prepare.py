"""Write data/train, data/valid and data/test of recorded coffee orders, and the sentences that teach a text model."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from orders import NONE, PUBLISHED, SLOTS, Grammar, kind, label_of
from synthetic import make_corpus

from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.durations import durations
from espnet2_kd.data.espeak import EspeakError
from espnet2_kd.data.importer import ImportOptions, import_tsv, to_utterance, write_sets
from espnet2_kd.data.intents import label_line, unseen_problems
from espnet2_kd.data.places import usual_places
from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.data.spoken import keyed_rng, speak_unlabelled
from espnet2_kd.data.table import replacing
from espnet2_kd.data.tsv import TsvRow, read_tsv
from espnet2_kd.data.words import plain_words

NAMES = ("picovoice_barista", "speech-to-intent-benchmark")
PACK_PARTS = {"train": "train", "valid": "dev", "test": "test"}
PACK_GRAMMAR = "grammar_coffee_maker.yaml"
# The newer file of the benchmark is the smaller grammar; this one covers all its recordings.
PUBLISHED_GRAMMAR = "data/rhino/coffee_maker.yaml"
PUBLISHED_LABELS = "data/label/label.json"
PUBLISHED_SENTENCES = "data/watson/corpus.txt"
SHARES = {"valid": 0.1, "test": 0.2}
PAIRING_SEED = 1
NUM_SENTENCES = 5000
SPOKEN_SEED = 1


def is_published(corpus: Path) -> bool:
    """Tell whether `corpus` is a clone of the benchmark's repository."""
    return (corpus / PUBLISHED_LABELS).is_file()


def find_corpus(given: Path | None) -> Path:
    """Return the given folder or one in a usual place; raises DataError where the recordings are not."""
    for place in [given] if given else usual_places(NAMES):
        if is_published(place) or (place / "train.tsv").is_file():
            return place
    remedy = "git clone https://github.com/Picovoice/speech-to-intent-benchmark and give its folder: --corpus DIR"
    if given is None:
        raise one_problem("speech-to-intent-benchmark", "is in no usual place", remedy)
    raise one_problem(given, f"has neither {PUBLISHED_LABELS} nor train.tsv of a TSV pack", remedy)


def read_published(corpus: Path) -> list[TsvRow]:
    """Read the labels of all recordings; each is its own speaker, for nothing says who speaks. Raises DataError.

    The benchmark has some labels without a recording, which are left out.
    """
    path = corpus / PUBLISHED_LABELS
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
        slots = {name: {PUBLISHED[key]: value for key, value in of["slots"].items()} for name, of in labels.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"is no list of labels ({type(error).__name__}: {error})"
        raise one_problem(path, what, "fetch the corpus again") from error
    folder = (corpus / "data/speech/clean").resolve()
    recorded = {file.name for file in folder.glob("*.wav")}
    if unlabelled := sorted(recorded - slots.keys()):
        raise DataError(
            Problem(str(path), 0, Path(name).stem, f"no label, but {folder / name} is there", "fetch the corpus again")
            for name in unlabelled
        )
    if not recorded:
        raise one_problem(folder, "no recordings", "fetch the corpus again")
    if missing := sorted(slots.keys() - recorded):
        print(f"barista: labels without a recording, left out: {' '.join(missing)}")
    rows = []
    for name in sorted(recorded):
        stem, phrases = Path(name).stem, slots[name]
        cells = {"utt_id": stem, "speaker": stem, "path": str(folder / name)}
        cells |= label_of(phrases)
        cells |= {f"{slot}_amount": " ".join(phrases.get(slot, "").split()) for slot in ("milk", "sugar")}
        rows.append(TsvRow(str(path), 0, {**cells, "split": split_of(stem)}))
    return rows


def split_of(stem: str) -> str:
    """Return the set of a recording, by the hash of its name."""
    draw = int.from_bytes(hashlib.sha256(f"split:{stem}".encode()).digest()[:4], "big") / 2**32
    return "valid" if draw < SHARES["valid"] else "test" if draw < sum(SHARES.values()) else "train"


def read_rows(corpus: Path) -> list[TsvRow]:
    """Return a row for each recording, with its set, its slots and, where they are known, the amounts said."""
    if is_published(corpus):
        return read_published(corpus)
    rows = []
    for name, part in PACK_PARTS.items():
        for row in read_tsv(corpus / f"{part}.tsv", ("utt_id", "speaker", "path", *SLOTS)):
            cells = {**row.cells, **{slot: row.cells[slot] or NONE for slot in SLOTS}, "split": name}
            rows.append(TsvRow(row.file, row.line, cells))
    return rows


def paired_text(row: TsvRow, grammar: Grammar) -> str:
    """Return a sentence with the slots of a recording, which is not what was said; raises ValueError if there is none.

    Only the id decides which of the wordings it is.
    """
    phrases = {slot: row.cells[slot] for slot in SLOTS if row.cells[slot] != NONE}
    for slot in ("milk", "sugar"):
        amount = row.cells.get(f"{slot}_amount", "")
        if slot in phrases and kind(amount) == phrases[slot]:
            phrases[slot] = amount
    return plain_words(grammar.word(phrases, keyed_rng(PAIRING_SEED, f"paired:{row.cells['utt_id']}")))


def benchmark_sentences(corpus: Path, grammar: Grammar) -> dict[str, str]:
    """Return `{sentence: label}` of the benchmark's own sentences; raises DataError naming those without a drink."""
    if not is_published(corpus):
        rows = read_tsv(corpus / "text_only.tsv", ("text", *SLOTS))
        return {plain_words(r.cells["text"]): label_line({s: r.cells[s] or NONE for s in SLOTS}) for r in rows}
    path = corpus / PUBLISHED_SENTENCES
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise one_problem(path, f"cannot be read ({error.strerror})", "fetch the corpus again") from error
    sentences, problems = {}, []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            sentences[plain_words(line)] = label_line(label_of(grammar.read_phrases(line)))
        except ValueError as error:
            problems.append(Problem(str(path), number, "-", f"{error}: {line!r}", "remove the line"))
    if problems:
        raise DataError(problems)
    return sentences


def all_sentences(corpus: Path, grammar: Grammar, limit: int) -> dict[str, str]:
    """Return the benchmark's sentences and others of its grammar, `limit` in all, or as many as are found."""
    sentences = benchmark_sentences(corpus, grammar)
    rng = keyed_rng(PAIRING_SEED, "sentences")
    # A small grammar has fewer sentences than are asked for.
    for _ in range(20 * limit):
        if len(sentences) >= limit:
            break
        sentence, phrases = grammar.draw(rng)
        sentences.setdefault(plain_words(sentence), label_line(label_of(phrases)))
    return sentences


def write_data_dirs(rows: list[TsvRow], grammar: Grammar, data: Path) -> list[DataDir]:
    """Write every set; raises DataError, before writing, with the problems of all lines."""
    problems: list[Problem] = []
    utterances = []
    for row in rows:
        try:
            text = paired_text(row, grammar)
        except ValueError as error:
            remedy = "correct the slots, or drop the recording"
            problems.append(Problem(row.file, row.line, row.cells["utt_id"], str(error), remedy))
            text = ""
        with_text = TsvRow(row.file, row.line, {**row.cells, "text": text})
        utterance = to_utterance(with_text, ImportOptions(intent_columns=SLOTS), problems)
        utterances += [utterance] if utterance else []
    lines = [(utterance.set, utterance.label_line()) for utterance in utterances]
    train, others = ([line for name, line in lines if (name == "train") == wanted] for wanted in (True, False))
    return write_sets(utterances, data, problems + unseen_problems(train, others))


def speak(sentences: Iterable[str], num: int, folder: Path, data: Path, num_jobs: int) -> list[DataDir]:
    """Write data/unlabelled: `num` of the sentences, or all, spoken by espeak-ng; only their words are told."""
    texts = list(sentences)
    chosen = keyed_rng(SPOKEN_SEED, "unlabelled").permutation(len(texts))[:num]
    table = speak_unlabelled(folder, [texts[i] for i in chosen], SPOKEN_SEED, num_jobs)
    return import_tsv([table], data, ImportOptions())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="clone of Picovoice's speech-to-intent-benchmark, or a TSV pack")
    parser.add_argument(
        "--num_sentences", type=int, default=NUM_SENTENCES, help="sentences for text models (default: %(default)s)"
    )
    parser.add_argument(
        "--num_unlabelled",
        type=int,
        default=0,
        help="of them, at most, spoken by espeak-ng for --unlabelled_set unlabelled (default: %(default)s)",
    )
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="parallel processes (default: %(default)s)")
    parser.add_argument(
        "--downloads", type=Path, default=Path("downloads"), help="where a tiny corpus goes (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="where the data directories go (default: %(default)s)"
    )
    parser.add_argument("--synthetic", choices=("true", "false"), default="false", help="a tiny corpus, to try it out")
    args = parser.parse_args()
    if args.num_sentences < 1 or args.nj < 1:
        parser.error("--num_sentences and --nj must be at least 1")
    try:
        corpus = make_corpus(args.downloads / "synthetic") if args.synthetic == "true" else find_corpus(args.corpus)
        print(f"barista: {corpus}")
        grammar = Grammar.read(corpus / (PUBLISHED_GRAMMAR if is_published(corpus) else PACK_GRAMMAR))
        sentences = all_sentences(corpus, grammar, args.num_sentences)
        sets = write_data_dirs(read_rows(corpus), grammar, args.data)
        if args.num_unlabelled > 0:
            sets += speak(sentences, args.num_unlabelled, args.downloads / "spoken", args.data, args.nj)
        for written in sets:
            speakers = set(written.tables["utt2spk"].values())
            hours = sum(durations(written).values()) / 3600
            print(f"{written.path}: {len(written.utts)} utterances, {hours:.2f} h, {len(speakers)} speakers")
        with replacing(args.data / "local" / "sentences.tsv") as stream:
            stream.write("text\tlabel\n")
            stream.writelines(f"{text}\t{label}\n" for text, label in sentences.items())
        print(f"{args.data / 'local' / 'sentences.tsv'}: {len(sentences)} sentences")
    except (DataError, EspeakError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
