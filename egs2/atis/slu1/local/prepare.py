"""Join ATIS' public texts and intents with LDC's recordings, or speak them, and write data/{train,valid,test}."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path, PurePosixPath

from synthetic import make_corpus
from texts import UNMATCHED, Sentence, read_texts, with_common_intents, with_one_intent

from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.download import DownloadError
from espnet2_kd.data.durations import durations
from espnet2_kd.data.espeak import EspeakError
from espnet2_kd.data.ids import with_speaker_prefix
from espnet2_kd.data.importer import Utterance, unseen_labels, write_sets
from espnet2_kd.data.places import usual_places
from espnet2_kd.data.problems import DataError, Problem, one_problem
from espnet2_kd.data.spoken import SpokenUtterance, keyed_rng, note_spoken, speak_corpus
from espnet2_kd.data.words import plain_words

SETS = ("train", "valid", "test")
# The paper (Jiang et al. 2021) counts 15 intents; which ones it does not say.
NUM_INTENTS = 15
SPOKEN_SEED = 1
DISCS = "ATIS-2 (LDC93S5), ATIS-3 training data (LDC94S19) and test data (LDC95S26)"
SPHERE_HEADER_BYTES = 1024


def index_recordings(corpus: Path) -> dict[str, list[Path]]:
    """Return every `.wav` below `corpus` by its name in lower case, since copies of the discs differ in case."""
    index: dict[str, list[Path]] = {}
    for folder, _, files in os.walk(corpus):
        for file in files:
            if file.lower().endswith(".wav"):
                index.setdefault(file.lower(), []).append(Path(folder) / file)
    return index


def find_recording(listed: PurePosixPath, index: dict[str, list[Path]]) -> Path | None:
    """Return the recording of this name whose folders agree best with the listed ones, from the last folder up.

    The name holds speaker, session, utterance and microphone, and is nearly always enough; how the discs were copied differs.
    """

    def agreement(path: Path) -> int:
        pairs = zip(reversed(listed.parts), (part.lower() for part in reversed(path.parts)))
        return next((number for number, (one, other) in enumerate(pairs) if one.lower() != other), len(listed.parts))

    return max(sorted(index.get(listed.name.lower(), [])), key=agreement, default=None)


def is_shortened(path: Path) -> bool:
    """Tell whether a SPHERE file is compressed, as on LDC's discs."""
    with path.open("rb") as file:
        header = file.read(SPHERE_HEADER_BYTES)
    return header.startswith(b"NIST_1A") and b"shorten" in header


def find_corpus(given: Path | None) -> Path:
    """Return the folder of LDC's recordings: the given one, or one in a usual place."""
    if given is not None:
        if not given.is_dir():
            raise one_problem(given, "no such folder", f"give the folder that holds {DISCS}")
        return given
    if places := usual_places(["atis", "ATIS"]):
        return places[0]
    remedy = f"get {DISCS} and give --corpus DIR, or let espeak-ng speak the texts: --synthesize true"
    raise one_problem("ATIS", "the recordings are licensed by LDC and cannot be downloaded", remedy)


def recorded(sentences: list[Sentence], corpus: Path, problems: list[Problem]) -> list[Utterance]:
    """Return the sentences with their recordings below `corpus`; adds those whose recording is not there."""
    index = index_recordings(corpus)
    if without := next((s for s in sentences if s.recording is None), None):
        what = "names no recordings"
        raise one_problem(without.row.file, what, "leave out --texts, or give lists with paths of recordings")
    listed = {s.recording: PurePosixPath(s.recording or "") for s in sentences}
    if not any(path.name.lower() in index for path in listed.values()):
        what = f"holds none of the {len(listed)} recordings ({len(index)} others)"
        raise one_problem(corpus, what, f"give the folder that holds {DISCS}")
    utterances: dict[str, Utterance] = {}
    shortened: list[Path] = []
    num_unmatched = num_twice = 0
    for s in sentences:
        if s.recording == UNMATCHED:
            num_unmatched += 1
            continue
        name = listed[s.recording]
        path = find_recording(name, index)
        if path is None:
            what = f"no recording {name.name} below {corpus}"
            problems.append(Problem(s.row.file, s.row.line, s.row.cells["utt_id"], what, f"copy all of {DISCS} there"))
            continue
        if is_shortened(path):
            shortened.append(path)
        utterance = labelled(s, name.stem.lower(), name.stem.lower()[:3], path)
        other = utterances.setdefault(f"{utterance.set} {path}", utterance)
        num_twice += other is not utterance
    if shortened:
        what = f"compressed with shorten, as are {len(shortened) - 1} others"
        remedy = "nothing here reads that: write copies with NIST's sph2pipe (sph2pipe -f wav IN OUT), and give these"
        problems.append(Problem(str(shortened[0]), 0, "-", what, remedy))
    print(f"{num_unmatched} texts without a recording and {num_twice} with that of another one, left out")
    return list(utterances.values())


def spoken(sentences: list[Sentence], folder: Path, nj: int) -> list[Utterance]:
    """Return the sentences spoken by espeak-ng, in voices that differ from set to set."""
    plan = []
    for name in SETS:
        rng = keyed_rng(SPOKEN_SEED, f"voices:{name}")
        for number, s in enumerate((s for s in sentences if s.set == name), 1):
            plan.append((s, SpokenUtterance.draw(number, name, s.text, s.intents[0], rng, SPOKEN_SEED)))
    speak_corpus(folder, [utterance for _, utterance in plan], {"texts": "ATIS"}, SPOKEN_SEED, nj)
    return [labelled(s, utterance.utt_id, utterance.speaker, folder / utterance.path) for s, utterance in plan]


def labelled(sentence: Sentence, utt: str, speaker: str, path: Path) -> Utterance:
    """Return an utterance of the data directories."""
    text, label = plain_words(sentence.text), {"intent": sentence.intents[0]}
    utt = with_speaker_prefix(utt, speaker)
    return Utterance(sentence.row, sentence.set, utt, speaker, os.path.normpath(path), text, label)


def summary(data: DataDir) -> str:
    """Describe a written set."""
    hours = sum(durations(data).values()) / 3600
    speakers, intents = set(data.tables["utt2spk"].values()), set(data.tables["label"].values())
    return f"{data.path}: {len(data.utts)} utterances, {hours:.2f} h, {len(speakers)} speakers, {len(intents)} intents"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--corpus", type=Path, help=f"the folder that holds {DISCS}, as on the discs")
    how.add_argument(
        "--synthesize", choices=("true", "false"), default="false", help="speak the texts with espeak-ng instead"
    )
    how.add_argument("--synthetic", choices=("true", "false"), default="false", help="a tiny corpus, to try it out")
    parser.add_argument("--texts", type=Path, help="local texts: lists with recordings, or folders of seq.in and label")
    parser.add_argument(
        "--num_intents", type=int, default=NUM_INTENTS, help="commonest intents to keep (default: %(default)s)"
    )
    parser.add_argument(
        "--multi_intent",
        choices=("drop", "first"),
        default="drop",
        help="utterances of several intents: leave them out, or take the first intent (default: %(default)s)",
    )
    parser.add_argument(
        "--downloads", type=Path, default=Path("downloads"), help="where downloads go (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="where the data directories go (default: %(default)s)"
    )
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="processes that speak (default: all cores)")
    args = parser.parse_args()
    if args.num_intents < 2:
        parser.error("--num_intents must be at least 2")
    if args.nj < 1:
        parser.error("--nj must be at least 1")
    problems: list[Problem] = []
    try:
        corpus = None
        if args.synthetic == "true":
            tiny = make_corpus(args.downloads / "synthetic")
            corpus, args.texts = tiny / "audio", args.texts or tiny / "texts"
        elif args.synthesize == "false":
            corpus = find_corpus(args.corpus)
        everything = read_texts(args.texts, args.downloads, problems)
        single = with_one_intent(everything, args.multi_intent == "first")
        sentences = with_common_intents(single, args.num_intents)
        print(
            f"{len(everything) - len(single)} texts of several intents and {len(single) - len(sentences)} rare ones left out"
        )
        if problems and (corpus is None or not sentences):
            raise DataError(problems)
        if empty := [name for name in SETS if not any(s.set == name for s in sentences)]:
            what = f"no texts of {', '.join(empty)} left"
            raise one_problem(
                args.texts or args.downloads / "texts", what, "give texts with the same intents in all sets"
            )
        if corpus is None:
            print("ATIS: spoken by espeak-ng, which is not the corpus: results cannot be compared with published ones")
            utterances = spoken(sentences, args.downloads / "spoken", args.nj)
        else:
            print(f"ATIS: {corpus}")
            utterances = recorded(sentences, corpus, problems)
        problems += unseen_labels(utterances)
        print("\n".join(map(summary, write_sets(utterances, args.data, problems))))
        note_spoken(args.data, corpus is None)
    except DownloadError as error:
        sys.exit(f"{error}\nor name a folder with the texts: --texts DIR")
    except (DataError, EspeakError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
