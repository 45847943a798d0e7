"""The public texts and intents of ATIS, in the two layouts that they are handed on in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from espnet2_kd.data.download import RemoteFile, download
from espnet2_kd.data.problems import Problem, one_problem
from espnet2_kd.data.tsv import TsvRow

_LISTS_URL = (
    "https://raw.githubusercontent.com/pgurunath/slu_confusion2vec/84914847ea7c0b8c8e6650e8a9d1977b48fc90c4/{name}"
)


def _list(name: str, size: int, sha256: str) -> RemoteFile:
    return RemoteFile((_LISTS_URL.format(name=name),), name, sha256, size)


# Lists of `BOS words EOS`, slots of the words, intents and recording (Shivakumar et al., arXiv 1904.03576). The checksums
# are those of the files in this revision.
LISTS = {
    "train": _list(
        "atis-2.train.w-intent.iob.w-audiopath",
        1_043_783,
        "e3c50723e499bd79ceacac045cb922dde28b339948579198aeb87fa0e52fd5bc",
    ),
    "valid": _list(
        "atis-2.dev.w-intent.iob.w-audiopath",
        118_401,
        "882e2b7bd73dcb82e9063d44cc6e53293f2aad712bb1baeaa8b82621e93788f1",
    ),
    "test": _list(
        "atis.test.w-intent.iob.w-audiopath",
        209_178,
        "a3dc9272873fed51ad09096c0aacf67d2119088caf6386a95897b1298a67fe7a",
    ),
}
# Of folders with `seq.in` and `label`, in the order in which they are looked for.
FOLDERS = {"train": ("train",), "valid": ("valid", "dev"), "test": ("test",)}
UNMATCHED = "<UNMATCHED>"


@dataclass(frozen=True)
class Sentence:
    """A text of a set, its intents and, where the source names it, the path of its recording on LDC's discs."""

    row: TsvRow
    set: str
    text: str
    intents: tuple[str, ...]
    recording: str | None = None


def read_texts(given: Path | None, downloads: Path, problems: list[Problem]) -> list[Sentence]:
    """Read the texts below `given`, or downloaded ones; adds what is wrong with their lines.

    Raises:
        DataError: neither of the two layouts is there.
        DownloadError: the lists cannot be fetched.
    """
    if given is None:
        files = {name: download(remote, downloads / "texts") for name, remote in LISTS.items()}
        return [sentence for name, file in files.items() for sentence in read_list(file, name, problems)]
    files = {name: given / remote.name for name, remote in LISTS.items()}
    if all(file.is_file() for file in files.values()):
        return [sentence for name, file in files.items() for sentence in read_list(file, name, problems)]
    for root in (given, given / "atis"):
        folders = {
            name: [root / f for f in names if (root / f / "seq.in").is_file()] for name, names in FOLDERS.items()
        }
        if all(folders.values()):
            return [s for name, (folder, *_) in folders.items() for s in read_folder(folder, name, problems)]
    what = (
        f"holds neither {', '.join(file.name for file in files.values())} nor train/seq.in, valid/seq.in, test/seq.in"
    )
    raise one_problem(given, what, "give a folder with one of these layouts, or leave --texts out to download")


def read_list(path: Path, name: str, problems: list[Problem]) -> list[Sentence]:
    """Read lines of text, slots, intents and path, tab-separated."""
    sentences = []
    for number, line in enumerate(_lines(path), 1):
        utt, cells = f"{name}{number:05d}", line.split("\t")
        if len(cells) != 4:
            what = f"{len(cells)} cells, not text, slots, intents and recording"
            problems.append(Problem(str(path), number, utt, what, "fetch the file again"))
            continue
        # Where several recordings fit, the first is taken.
        recording = (cells[3].split() or [UNMATCHED])[0]
        words = cells[0].removeprefix("BOS ").removesuffix(" EOS")
        sentences += _sentence(path, number, name, words, cells[2], recording, problems)
    return sentences


def read_folder(folder: Path, name: str, problems: list[Problem]) -> list[Sentence]:
    """Read `seq.in` and `label`, which hold the text and the intents of an utterance in the same line."""
    texts, labels = _lines(folder / "seq.in"), _lines(folder / "label")
    if len(texts) != len(labels):
        what = f"{len(labels)} lines, but {len(texts)} in {folder / 'seq.in'}"
        problems.append(Problem(str(folder / "label"), 0, "-", what, "fetch both files again"))
        return []
    lines = enumerate(zip(texts, labels), 1)
    return [
        sentence
        for number, (text, label) in lines
        for sentence in _sentence(folder / "seq.in", number, name, text, label, None, problems)
    ]


def _lines(path: Path) -> list[str]:
    try:
        if lines := path.read_text(encoding="utf-8-sig").splitlines():
            return lines
        raise one_problem(path, "is empty", "fetch it again")
    except FileNotFoundError as error:
        raise one_problem(path, "no such file", "fetch it again") from error
    except UnicodeDecodeError as error:
        raise one_problem(path, f"not UTF-8 at byte {error.start + 1}", "fetch it again") from error


def _sentence(
    path: Path, line: int, name: str, text: str, label: str, recording: str | None, problems: list[Problem]
) -> list[Sentence]:
    utt = f"{name}{line:05d}"
    intents = tuple(label.strip().split("#"))
    faults = [] if text.split() else ["no words"]
    faults += [] if all(intents) else ["no intent"]
    problems += [Problem(str(path), line, utt, fault, "fetch the file again, or remove the line") for fault in faults]
    row = TsvRow(str(path), line, {"utt_id": utt})
    return [] if faults else [Sentence(row, name, text, intents, recording)]


def with_one_intent(sentences: list[Sentence], take_first: bool) -> list[Sentence]:
    """Leave out sentences of several intents, or take the first of them."""
    return [replace(s, intents=s.intents[:1]) for s in sentences if take_first or len(s.intents) == 1]


def with_common_intents(sentences: list[Sentence], count: int) -> list[Sentence]:
    """Leave out sentences whose intent is not one of the `count` commonest of the training set."""
    occurrences = Counter(s.intents[0] for s in sentences if s.set == "train")
    common = set(sorted(occurrences, key=lambda intent: (-occurrences[intent], intent))[:count])
    return [s for s in sentences if s.intents[0] in common]
