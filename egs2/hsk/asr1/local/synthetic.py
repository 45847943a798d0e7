"""A tiny copy of the pack, spoken by espeak-ng, to try the recipe out without the recordings."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import soundfile

from espnet2_kd.data.espeak import speak
from espnet2_kd.data.resample import resample, to_pcm16
from espnet2_kd.data.scratch import scratch_folder

FS = 16000
# espeak-ng 1.51's voice `cmn` reads pinyin as English letters and numbers; this one knows its syllables.
VOICE = "cmn-latn-pinyin+f2"
SPEAKER = "espeak"
# Every character of dev and test is in a word of train.
WORDS = {
    "train": {
        **{"火": "huo3", "车": "che1", "火山": "huo3 shan1", "山": "shan1", "水果": "shui3 guo3", "天气": "tian1 qi4"},
        **{"生气": "sheng1 qi4", "学生": "xue2 sheng1", "大学": "da4 xue2", "大人": "da4 ren2", "中国": "zhong1 guo2"},
        **{"国": "guo2", "人口": "ren2 kou3", "出口": "chu1 kou3", "今天": "jin1 tian1", "水": "shui3", "海": "hai3"},
        **{"电话": "dian4 hua4", "汽车": "qi4 che1", "上海": "shang4 hai3", "小": "xiao3", "小心": "xiao3 xin1"},
    },
    "dev": {"火车": "huo3 che1", "出国": "chu1 guo2", "海水": "hai3 shui3", "人心": "ren2 xin1", "小学": "xiao3 xue2"},
    "test": {
        "电车": "dian4 che1",
        "中学": "zhong1 xue2",
        "小人": "xiao3 ren2",
        "山水": "shan1 shui3",
        "上车": "shang4 che1",
    },
}
NUM_STRINGS = {"train": 40, "dev": 10, "test": 10}
NUM_WORDS = range(2, 7)
GAPS_MS = range(0, 160, 10)

COLUMNS = ("utt_id", "speaker", "split", "dur", "text", "pinyin", "n_char", "orig_name", "path")
STRING_COLUMNS = ("string_id", "speaker", "text", "utt_ids", "gaps_ms")


def make_corpus(directory: Path) -> Path:
    """Write `audio/00/hsk_00000.opus`... and the lists of words and of strings, unless they exist; return `directory`."""
    if directory.exists():
        return directory
    with scratch_folder(directory) as temporary:
        root = temporary / "corpus"
        (root / "audio/00").mkdir(parents=True)
        rows: list[list[str]] = []
        for split, words in WORDS.items():
            first = len(rows)
            rows += [_record(root, first + index, split, *word) for index, word in enumerate(words.items())]
            _write(root / f"{split}.tsv", COLUMNS, rows[first:])
            _write(root / f"strings_{split}.tsv", STRING_COLUMNS, _draw_strings(split, rows[first:]))
        _write(root / "all.tsv", COLUMNS, rows)
        os.replace(root, directory)
    return directory


def _record(root: Path, number: int, split: str, text: str, pinyin: str) -> list[str]:
    utt = f"hsk_{number:05d}"
    path = f"audio/00/{utt}.opus"
    spoken = resample(*speak(pinyin, VOICE, 150), FS)
    soundfile.write(root / path, to_pcm16(spoken), FS, format="OGG", subtype="OPUS")
    return [utt, SPEAKER, split, f"{len(spoken) / FS:.3f}", text, pinyin, str(len(text)), text, path]


def _draw_strings(split: str, rows: Sequence[Sequence[str]]) -> list[list[str]]:
    rng, strings = random.Random(split), []
    for number in range(NUM_STRINGS[split]):
        chosen = rng.choices(rows, k=rng.choice(NUM_WORDS))
        text, utts = "".join(row[COLUMNS.index("text")] for row in chosen), " ".join(row[0] for row in chosen)
        gaps = " ".join(str(rng.choice(GAPS_MS)) for _ in chosen)
        strings.append([f"{split}_{number:05d}", SPEAKER, text, utts, gaps])
    return strings


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in (columns, *rows)), encoding="utf-8")
