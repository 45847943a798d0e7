"""Noisy copies of a data directory at a chosen signal-to-noise ratio."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from os import PathLike
from pathlib import Path

import numpy as np
import soundfile

from espnet2_kd.data.audio import AudioFault, read_audio
from espnet2_kd.data.data_dir import AUDIO_SUM, SPK_TABLES, UTT_TABLES, DataDir
from espnet2_kd.data.entry import audio_path, is_command
from espnet2_kd.data.parts import Part, file_state, fingerprint, remove_leftovers, run_parts
from espnet2_kd.data.problems import DataError, Problem, one_problem, require_two_places
from espnet2_kd.data.resample import resample, to_pcm16
from espnet2_kd.data.sound_files import FORMATS, audio_sum, joint_sum, sizes, write_sounds
from espnet2_kd.data.spoken import keyed_rng
from espnet2_kd.data.table import read_table, replacing
from espnet2_kd.data.tsv import read_tsv

# Change it when the same input would give other bytes, so that old parts are made again.
_VERSION = 2
PART_SIZE = 50
WHITE = "white"
SUFFIXES = (".wav", ".flac", ".ogg", ".opus")
CROSS_FADE = 0.02
MAX_PEAK = 0.99
# Mean power of what a 16-bit file cannot tell from silence.
_SILENT = (0.5 / 32768) ** 2
_FRAME = 0.02
# Pauses of a recording lie 30 to 50 dB below its loudest frame, the padding of a clip and its coding noise far deeper.
_PADDING_DB = 70.0
_DRAWS = 20


@dataclass(frozen=True)
class NoiseOptions:
    """SNR in dB, `white` or where recordings are, the split of a pack to take them from, and how to write the copies."""

    snr: float
    noise: str = WHITE
    noise_split: str | None = None
    seed: int = 0
    fs: int = 16000
    audio_format: str = "flac"
    ref_channel: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.snr):
            raise ValueError(f"snr {self.snr} is not a number of decibels")
        if self.audio_format not in FORMATS:
            raise ValueError(f"audio_format {self.audio_format!r} is none of {', '.join(FORMATS)}")
        if self.noise == WHITE and self.noise_split:
            raise ValueError("white noise has no splits")
        if self.ref_channel not in (None, "mix") and not self.ref_channel.isdigit():
            raise ValueError(f"ref_channel {self.ref_channel!r} is neither a number from 0 nor 'mix'")


def add_noise(source: str | PathLike, target: str | PathLike, options: NoiseOptions, nj: int = 1) -> DataDir:
    """Write a copy of data directory `source` to `target` whose audio is `mix`ed with noise; ids and tables stay.

    Which recording and which part of it an utterance gets depends on the seed, its id, the SNR and the names of the
    recordings only; `target/noise.tsv` says it. Raises DataError naming every file and utterance that cannot be mixed.
    """
    target = Path(target)
    require_two_places(source, target)
    data = DataDir.read(source, need_text=False, allow_empty_text=True)
    recordings = {} if options.noise == WHITE else noise_files(options.noise, options.noise_split)
    parts = _make_parts(data, recordings, target / "data", options)
    remove_leftovers(target / "data", parts, ".ark" if options.audio_format.endswith(".ark") else "")
    results = run_parts(_mix_part, parts, nj, f"add noise {target}")
    problems = [_problem(data, fault) for result in results for fault in result["bad"]]
    if problems:
        (target / "wav.scp").unlink(missing_ok=True)
        raise DataError(problems)
    drawn = {utt: row for result in results for utt, row in result["drawn"].items()}
    with replacing(target / "noise.tsv") as stream:
        stream.write("utt_id\tnoise\toffset\tscale\n")
        stream.writelines("\t".join([utt, *map(str, drawn[utt])]) + "\n" for utt in sorted(drawn))
    noisy = _tables(data, options, target, results)
    there = DataDir.read_unchecked(target) if (target / "wav.scp").is_file() else None
    if there is None or (there.tables, there.notes) != (noisy.tables, noisy.notes):
        noisy.write(target)
    return noisy


def noise_files(noise: str | PathLike, split: str | None = None) -> dict[str, str]:
    """List the recordings of a folder, of one split of a TSV pack, or of a scp file as `{name: wav.scp entry}`.

    A folder with lists of splits (`train.tsv`, `test.tsv`) wants one of them named, so that the noise of a test is
    never heard in training. Raises DataError.
    """
    place = Path(noise)
    if place.is_file():
        if split is not None:
            raise one_problem(
                place, "a scp file has no splits", "leave out --noise_split, or give the folder of a pack"
            )
        entries = {name: entry.strip() for name, entry in read_table(place).items()}
        if commands := [name for name, entry in entries.items() if is_command(entry)]:
            raise one_problem(place, f"is a command, not a file: {entries[commands[0]]}", "give files", utt=commands[0])
    elif not place.is_dir():
        raise one_problem(place, "no such folder or scp file", f"give a folder of recordings, a scp file, or {WHITE}")
    elif split is not None:
        rows = read_tsv(place / f"{split}.tsv", ("utt_id", "path"))
        entries = {row.cells["utt_id"]: str(place / row.cells["path"]) for row in rows}
    else:
        if splits := sorted(path.stem for path in place.glob("*.tsv") if path.stem != "all"):
            raise one_problem(
                place,
                f"has the splits {' '.join(splits)}",
                f"choose one, as {splits[-1]}: --noise_split (noise_list: --split)",
            )
        found = (path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        entries = {path.relative_to(place).as_posix(): str(path) for path in found}
    if not entries:
        raise one_problem(place, "no recordings", f"give {', '.join(SUFFIXES)} files")
    return dict(sorted(entries.items()))


def mix(speech: np.ndarray, noise: np.ndarray, snr: float) -> tuple[np.ndarray, float]:
    """Return `scale * (speech + gain * noise)` `(T,)` and `scale`; both inputs are `(T,)` and must not be silent.

    The SNR is the ratio of the mean powers of the whole utterance and of the whole added noise, both without their
    mean value. `scale` is 1 unless the sum would pass the full scale; it does not change the SNR.
    """
    noise = noise - np.mean(noise)
    gain = math.sqrt(power(speech) / (power(noise) * 10.0 ** (snr / 10.0)))
    mixture = speech + gain * noise
    scale = min(1.0, MAX_PEAK / float(np.max(np.abs(mixture))))
    return scale * mixture, scale


def power(samples: np.ndarray) -> float:
    """Return the mean square of `(T,)` without its mean value."""
    return float(np.var(samples, dtype=np.float64))


def is_silent(samples: np.ndarray) -> bool:
    """Tell whether a 16-bit file would hold nothing but one value."""
    return power(samples) < _SILENT


def looped(noise: np.ndarray, num_samples: int, num_faded: int) -> np.ndarray:
    """Repeat `noise` `(N,)` to `num_samples`, each copy faded over `num_faded` samples into the next, at even power."""
    num_faded = min(num_faded, len(noise) // 2)
    angle = (np.arange(num_faded) + 0.5) / max(num_faded, 1) * (math.pi / 2)
    middle = noise[num_faded : len(noise) - num_faded]
    joint = noise[len(noise) - num_faded :] * np.cos(angle) + noise[:num_faded] * np.sin(angle)
    period = np.concatenate([middle, joint])
    copies = -(-max(0, num_samples - num_faded) // len(period))
    return np.concatenate([noise[:num_faded], *[period] * copies])[:num_samples]


def without_padding(noise: np.ndarray, fs: int) -> np.ndarray:
    """Cut what lies before the first and after the last frame that is at most 70 dB below the loudest one."""
    size = int(_FRAME * fs)
    frames = np.pad(noise, (0, -len(noise) % size)).reshape(-1, size)
    powers = np.mean(frames.astype(np.float64) ** 2, axis=1)
    heard = np.flatnonzero(powers > max(float(np.max(powers)) * 10.0 ** (-_PADDING_DB / 10.0), _SILENT))
    return noise[heard[0] * size : (heard[-1] + 1) * size] if len(heard) else noise[:0]


def draw_segment(noise: np.ndarray, num_samples: int, fs: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Return a stretch `(num_samples,)` of a recording and the sample it starts at; a short one is repeated.

    A stretch of digital silence is drawn again. Raises AudioFault where there is nothing else.
    """
    short = len(noise) < num_samples
    for _ in range(_DRAWS):
        offset = int(rng.integers(len(noise) if short else len(noise) - num_samples + 1)) if len(noise) else 0
        source = looped(noise, offset + num_samples, int(CROSS_FADE * fs)) if short and len(noise) > 1 else noise
        segment = source[offset : offset + num_samples]
        if len(segment) == num_samples and not is_silent(segment):
            return segment, offset
    raise AudioFault(f"no sound in any {num_samples / fs:.2f} s of it", "take this recording out of the noise")


def _make_parts(data: DataDir, recordings: Mapping[str, str], folder: Path, options: NoiseOptions) -> list[Part]:
    names = list(recordings)
    key = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16] if names else WHITE
    settings = {**asdict(options), "noise": key, "noise_split": None}
    jobs = []
    for utt in data.utts:
        recording, start, end = data.source(utt)
        draw = f"{utt}:{options.snr:g}:{key}"
        name = names[int(keyed_rng(options.seed, f"file:{draw}").integers(len(names)))] if names else WHITE
        jobs.append(
            {
                "utt": utt,
                "recording": recording,
                "entry": data.tables["wav.scp"][recording].strip(),
                "start": start,
                "end": end,
                "noise": name,
                "noise_entry": recordings.get(name),
                "noise_state": str(file_state(audio_path(recordings[name]))) if names else None,
                "draw": draw,
            }
        )
    states = {job["entry"]: file_state(audio_path(job["entry"])) for job in jobs}
    parts = []
    for number, first in enumerate(range(0, len(jobs), PART_SIZE), 1):
        chunk = jobs[first : first + PART_SIZE]
        depends = [states[job["entry"]] for job in chunk]
        payload = {"jobs": chunk, "options": settings, "folder": str(folder), "name": f"noise.{number}"}
        stamp = folder / f"noise.{number}.json"
        parts.append(Part(stamp, fingerprint(_VERSION, settings, chunk, depends), payload, len(chunk)))
    return parts


def _mix_part(payload: dict) -> dict:
    options, folder = payload["options"], Path(payload["folder"])
    fs, sounds, drawn, bad = options["fs"], {}, {}, []
    for job in payload["jobs"]:
        of_noise = False
        try:
            samples, rate = read_audio(job["entry"], job["start"], job["end"], options["ref_channel"])
            speech = resample(samples, rate, fs).astype(np.float64)
            if is_silent(speech):
                what = f"digital silence, which has no signal-to-noise ratio: {job['entry']}"
                raise AudioFault(what, "record it again, or drop the utterance")
            of_noise = True
            rng = keyed_rng(options["seed"], f"offset:{job['draw']}")
            if job["noise_entry"] is None:
                noise, offset = rng.standard_normal(len(speech)), 0
            else:
                noise, offset = draw_segment(
                    read_noise(job["noise_entry"], fs, job["noise_state"]), len(speech), fs, rng
                )
        except AudioFault as fault:
            bad.append({**job, "of_noise": of_noise, "what": fault.what, "remedy": fault.remedy})
            continue
        mixture, scale = mix(speech, noise, options["snr"])
        sounds[job["utt"]] = to_pcm16(mixture)
        drawn[job["utt"]] = [job["noise"], f"{offset / fs:.4f}", f"{scale:.6f}"]
    entries = write_sounds(folder, payload["name"], sounds, fs, options["audio_format"])
    num_samples = {utt: len(samples) for utt, samples in sounds.items()}
    files = sizes(folder, entries)
    return {
        "entries": entries,
        "num_samples": num_samples,
        "audio_sum": audio_sum(sounds),
        "drawn": drawn,
        "bad": bad,
        "files": files,
    }


@lru_cache(maxsize=32)
def read_noise(entry: str, fs: int, state: str) -> np.ndarray:
    """Read a recording as `(T,)` at rate `fs`, without silence around it; another `state` of the file reads it again.

    Raises AudioFault.
    """
    try:
        samples, rate = read_audio(entry, ref_channel="mix")
    except AudioFault as fault:
        samples, rate = _readable_part(entry, fault)
    noise = without_padding(resample(samples, rate, fs).astype(np.float64), fs)
    if len(noise) == 0:
        raise AudioFault("digital silence", "take this recording out of the noise")
    return noise


def _readable_part(path: str, fault: AudioFault) -> tuple[np.ndarray, int]:
    """Read the beginning of a recording up to a fault, which is enough of a noise; raises `fault` for less than 1 s.

    libsndfile 1.2.2 reads only the first seconds of some Ogg-Opus files whose headers promise more.
    """
    blocks = []
    try:
        with soundfile.SoundFile(path) as sound:
            rate = sound.samplerate
            while len(block := sound.read(rate // 10, dtype="float32", always_2d=True)):
                blocks.append(block)
    except (soundfile.LibsndfileError, OSError):
        pass
    if len(blocks) < 10:
        raise fault
    samples = np.concatenate(blocks).mean(axis=1)
    _warn_once(f"{path}: only the first {len(samples) / rate:.1f} s can be read, and are used ({fault.what})")
    return samples, rate


@cache
def _warn_once(message: str) -> None:
    """A recording may be read for each of thousands of utterances."""
    logging.getLogger(__name__).warning(message)


def _problem(data: DataDir, fault: dict) -> Problem:
    if fault["of_noise"]:
        return Problem(fault["noise_entry"], 0, fault["utt"], fault["what"], fault["remedy"])
    line = data.lines[fault["recording"]]
    return Problem(str(data.path / "wav.scp"), line, fault["utt"], fault["what"], fault["remedy"])


def _tables(data: DataDir, options: NoiseOptions, target: Path, results: Sequence[dict]) -> DataDir:
    entries = {utt: entry for result in results for utt, entry in result["entries"].items()}
    num_samples = {utt: num for result in results for utt, num in result["num_samples"].items()}
    tables = {"wav.scp": {utt: f"{target / 'data'}/{entry}" for utt, entry in entries.items()}}
    # Recordings are cut into utterances here, and lengths are those of the copies.
    for name in (*UTT_TABLES, *SPK_TABLES):
        if name in data.tables and name not in ("segments", "utt2dur", "utt2num_samples"):
            tables[name] = data.tables[name]
    tables["utt2num_samples"] = {utt: str(num) for utt, num in num_samples.items()}
    tables["utt2dur"] = {utt: f"{num / options.fs:.6f}" for utt, num in num_samples.items()}
    heard = joint_sum(result["audio_sum"] for result in results)
    return DataDir(data.path, tables, {"feats_type": "raw", "audio_format": options.audio_format, AUDIO_SUM: heard})
