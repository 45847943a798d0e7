"""Speak the mini corpus with espeak-ng: audio files, `corpus.tsv` and `info.json` under one directory."""

import csv
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from grammar import SPLITS, sentence_pools
from room import FS, Room, record
from voices import ACCENTS, VARIANTS

from espnet2_kd.data.espeak import check_voices, espeak_version, speak
from espnet2_kd.data.progress import Progress
from espnet2_kd.data.table import replacing

# Raise it whenever the sound of an utterance changes, so that audio of an earlier version is made again.
RENDER_VERSION = 1


@dataclass(frozen=True)
class Utterance:
    """One line of the corpus: who says what, how fast and how high, and where."""

    utt_id: str
    speaker: str
    split: str
    text: str
    intent: str
    voice: str
    words_per_minute: int
    pitch: int
    room: Room

    @property
    def path(self) -> str:
        """File below the corpus directory."""
        return f"audio/{self.split}/{self.speaker}/{self.utt_id}.flac"


def keyed_rng(seed: int, key: str) -> np.random.Generator:
    """Return a generator that depends on the seed and the key only, not on the order or the process of the work."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:16], "big"))


def draw_sentences(pools: dict[str, list[str]], count: int, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Yield `count` pairs (intent, sentence), intents in turn; a sentence comes again only when all have been used."""
    left: dict[str, list[str]] = {}
    while count > 0:
        left = {intent: sentences for intent, sentences in left.items() if sentences}
        if not left:
            left = {intent: [pool[i] for i in rng.permutation(len(pool))] for intent, pool in pools.items() if pool}
        for intent in rng.permutation(sorted(left))[:count]:
            yield str(intent), left[intent].pop()
            count -= 1


def plan(sizes: dict[str, int], seed: int) -> list[Utterance]:
    """Return all utterances of the corpus, the same for the same sizes and seed."""
    pools = sentence_pools(seed)
    utterances = []
    for split in SPLITS:
        rng = keyed_rng(seed, split)
        for number, (intent, text) in enumerate(draw_sentences(pools[split], sizes[split], rng)):
            accent = str(rng.choice(list(ACCENTS)))
            variant = str(rng.choice(VARIANTS[split]))
            speaker = f"{accent}{variant.lower()}"
            utt_id = f"{speaker}_{split}{number:05d}"
            utterances.append(
                Utterance(
                    utt_id=utt_id,
                    speaker=speaker,
                    split=split,
                    text=text,
                    intent=intent,
                    voice=f"{ACCENTS[accent]}+{variant}",
                    words_per_minute=int(rng.integers(140, 201)),
                    pitch=int(rng.integers(30, 71)),
                    room=Room.draw(keyed_rng(seed, f"room:{utt_id}")),
                )
            )
    return utterances


def render(utterance: Utterance, directory: Path, seed: int) -> dict[str, str | float]:
    """Write one audio file, unless it exists, and return its row of `corpus.tsv`."""
    path = directory / utterance.path
    if not path.exists():
        speech, fs = speak(utterance.text, utterance.voice, utterance.words_per_minute, utterance.pitch)
        heard = record(speech, fs, utterance.room, keyed_rng(seed, utterance.utt_id))
        with replacing(path, "wb") as stream:
            soundfile.write(stream, np.round(heard * 32767.0).astype(np.int16), FS, format="FLAC")
    row = asdict(utterance)
    row.update(row.pop("room"), dur=round(soundfile.info(path).duration, 3), path=utterance.path)
    return row


def make_corpus(directory: Path, sizes: dict[str, int], seed: int, num_jobs: int) -> bool:
    """Make the corpus below `directory` and return whether anything had to be done.

    `info.json` is written last and names what the audio was made from; audio made from something else is removed first.
    Raises `EspeakError` when espeak-ng or one of its voices is missing.
    """
    utterances = plan(sizes, seed)
    info = {
        "espeak_ng": espeak_version(),
        "seed": seed,
        "sizes": sizes,
        "render_version": RENDER_VERSION,
        "plan_sha256": hashlib.sha256(json.dumps([asdict(u) for u in utterances]).encode()).hexdigest(),
    }
    made, planned = directory / "info.json", directory / "plan.json"
    complete = made.exists() and json.loads(made.read_text()) == info
    if complete and all((directory / utterance.path).exists() for utterance in utterances):
        return False
    check_voices(ACCENTS.values(), [variant for variants in VARIANTS.values() for variant in variants])
    made.unlink(missing_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    if not planned.exists() or json.loads(planned.read_text()) != info:
        for old in directory.glob("audio/*/*/*.flac"):
            old.unlink()
        with replacing(planned) as stream:
            stream.write(json.dumps(info, indent=2) + "\n")
    for leftover in directory.glob("audio/*/*/.*.tmp"):
        leftover.unlink()
    with ProcessPoolExecutor(num_jobs) as pool:
        table = []
        with Progress("speak the mini corpus", len(utterances)) as progress:
            for row in pool.map(partial(render, directory=directory, seed=seed), utterances, chunksize=16):
                table.append(row)
                progress.step()
    with replacing(directory / "corpus.tsv") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(table[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    with replacing(made) as stream:
        stream.write(json.dumps(info, indent=2) + "\n")
    return True
