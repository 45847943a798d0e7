"""Audio of a data directory brought to one rate, one channel and one file type, below `dump/`."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

from espnet2_kd.data.audio import AudioFault, read_audio
from espnet2_kd.data.data_dir import AUDIO_SUM, SPK_TABLES, UTT_TABLES, DataDir
from espnet2_kd.data.entry import audio_path, is_command
from espnet2_kd.data.parts import Part, file_state, fingerprint, remove_leftovers, run_parts
from espnet2_kd.data.problems import DataError, Problem, one_problem, require_two_places
from espnet2_kd.data.resample import resample, to_pcm16
from espnet2_kd.data.sound_files import FORMATS, audio_sum, joint_sum, sizes, write_sounds
from espnet2_kd.data.table import replacing

# Change it when the same input would give other bytes, so that old parts are made again.
_VERSION = 3
PART_SIZE = 50
_FACTOR = re.compile(r"^\d+(\.\d+)?$")


@dataclass(frozen=True)
class FormatOptions:
    """Target rate in Hz, container, speed factors as written (they become `sp<factor>-` prefixes), channel, pipes."""

    fs: int = 16000
    audio_format: str = "flac"
    speed_perturb_factors: tuple[str, ...] = ("1.0",)
    ref_channel: str | None = None
    allow_pipes: bool = False

    def __post_init__(self) -> None:
        if self.audio_format not in FORMATS:
            raise ValueError(f"audio_format {self.audio_format!r} is none of {', '.join(FORMATS)}")
        for factor in self.speed_perturb_factors:
            if not _FACTOR.match(factor) or not 0.1 <= float(factor) <= 10:
                raise ValueError(f"speed factor {factor!r} is not a number from 0.1 to 10")
        if len(set(map(float, self.speed_perturb_factors))) < max(1, len(self.speed_perturb_factors)):
            raise ValueError("speed factors are missing or given twice")
        if self.ref_channel not in (None, "mix") and not self.ref_channel.isdigit():
            raise ValueError(f"ref_channel {self.ref_channel!r} is neither a number from 0 nor 'mix'")


def format_audio(
    source: str | PathLike, target: str | PathLike, options: FormatOptions, nj: int = 1, skip_bad_audio: int = 0
) -> DataDir:
    """Write the audio of directory `source` to `target`, with copies of its tables and the number of samples of each.

    Raises DataError naming every unreadable recording when there are more than `skip_bad_audio`; up to that many are
    left out and listed in `target/bad_audio.txt`.
    """
    target = Path(target)
    require_two_places(source, target)
    data = DataDir.read(source, need_text=False, allow_empty_text=True, allow_pipes=options.allow_pipes)
    parts = _make_parts(data, target / "data", options)
    remove_leftovers(target / "data", parts, ".ark" if options.audio_format.endswith(".ark") else "")
    # A failed command may do better next time although nothing that a stamp knows has changed.
    results = run_parts(
        _format_part, parts, nj, f"format {target}", keep=lambda result: not (result["bad"] and options.allow_pipes)
    )
    bad = [fault for result in results for fault in result["bad"]]
    problems = _bad_recordings(data, bad)
    if len(problems) > skip_bad_audio:
        (target / "wav.scp").unlink(missing_ok=True)
        raise DataError(problems)
    _log_resampling(target, options.fs, results)
    num_samples = {utt: num for result in results for utt, num in result["num_samples"].items()}
    if not num_samples:
        raise one_problem(target, "no utterance left", "repair the audio, or lower --skip_bad_audio")
    entries = {utt: entry for result in results for utt, entry in result["entries"].items()}
    formatted = _tables(data, options, num_samples, {utt: f"{target / 'data'}/{entries[utt]}" for utt in num_samples})
    formatted.notes[AUDIO_SUM] = joint_sum(result["audio_sum"] for result in results)
    _write_report(target / "bad_audio.txt", problems)
    if _differs(formatted, target):
        formatted.write(target)
    return formatted


def _make_parts(data: DataDir, folder: Path, options: FormatOptions) -> list[Part]:
    jobs = []
    for factor in options.speed_perturb_factors:
        for utt in data.utts:
            recording, start, end = data.source(utt)
            jobs.append(
                {
                    "utt": perturbed(utt, factor),
                    "recording": recording,
                    "entry": data.tables["wav.scp"][recording].strip(),
                    "start": start,
                    "end": end,
                    "speed": float(factor),
                }
            )
    jobs.sort(key=lambda job: job["utt"])
    states = {job["entry"]: None for job in jobs}
    for entry in states:
        states[entry] = None if is_command(entry) else file_state(audio_path(entry))
    settings = {**asdict(options), "speed_perturb_factors": None}
    parts = []
    for number, first in enumerate(range(0, len(jobs), PART_SIZE), 1):
        chunk = jobs[first : first + PART_SIZE]
        parts.append(
            Part(
                folder / f"format.{number}.json",
                fingerprint(_VERSION, settings, chunk, [states[job["entry"]] for job in chunk]),
                {"jobs": chunk, "options": settings, "folder": str(folder), "name": f"format.{number}"},
                len(chunk),
            )
        )
    return parts


def _format_part(payload: dict) -> dict:
    options, folder, name = payload["options"], Path(payload["folder"]), payload["name"]
    sounds, bad, rates, first = {}, [], Counter(), {}
    for job in payload["jobs"]:
        try:
            samples, rate = read_audio(
                job["entry"], job["start"], job["end"], options["ref_channel"], options["allow_pipes"]
            )
        except AudioFault as fault:
            bad.append({"recording": job["recording"], "utt": job["utt"], "what": fault.what, "remedy": fault.remedy})
            continue
        rates[rate] += 1
        first.setdefault(rate, job["utt"])
        sounds[job["utt"]] = to_pcm16(resample(samples, rate, options["fs"], job["speed"]))
    entries = write_sounds(folder, name, sounds, options["fs"], options["audio_format"])
    return {
        "entries": entries,
        "num_samples": {utt: len(samples) for utt, samples in sounds.items()},
        "audio_sum": audio_sum(sounds),
        "bad": bad,
        "rates": rates,
        "first": first,
        "files": sizes(folder, entries),
    }


def _log_resampling(target: Path, fs: int, results: Sequence[dict]) -> None:
    rates: Counter[int] = Counter()
    first: dict[int, str] = {}
    for result in results:
        rates.update({int(rate): num for rate, num in result["rates"].items()})
        # A part that an earlier version has formatted does not say.
        first = {int(rate): utt for rate, utt in result.get("first", {}).items()} | first
    for rate, num in sorted(rates.items()):
        if rate == fs:
            continue
        some = f" ({first[rate]}{' ...' if num > 1 else ''})" if rate in first else ""
        level, advice = logging.INFO, ""
        if rate < fs:
            level, advice = (
                logging.WARNING,
                f": nothing above {rate // 2} Hz is in them; if all speech is so: --fs {rate}",
            )
        message = f"{target}: {num} utterances{some} resampled from {rate} to {fs} Hz{advice}"
        logging.getLogger(__name__).log(level, "%s", message)


def _bad_recordings(data: DataDir, bad: Sequence[dict]) -> list[Problem]:
    """Name every bad recording once, although each speed and each segment stumbles over it."""
    problems = {}
    for fault in bad:
        line = data.lines[fault["recording"]]
        problem = Problem(str(data.path / "wav.scp"), line, fault["recording"], fault["what"], fault["remedy"])
        problems.setdefault((line, problem.what), problem)
    return [problems[key] for key in sorted(problems)]


def perturbed(key: str, factor: str) -> str:
    """Prefix an utterance or speaker id with its speed, as Kaldi does: `sp0.9-<id>`; speed 1 has no prefix."""
    return key if float(factor) == 1.0 else f"sp{factor}-{key}"


def _tables(data: DataDir, options: FormatOptions, num_samples: dict[str, int], wav: dict[str, str]) -> DataDir:
    tables: dict[str, dict[str, str]] = {"wav.scp": wav}
    names = [name for name in (*UTT_TABLES, *SPK_TABLES) if name in data.tables and name not in ("segments", "utt2dur")]
    for name in names:
        tables[name] = {}
        for factor in options.speed_perturb_factors:
            for key, value in data.tables[name].items():
                value = perturbed(value, factor) if name == "utt2spk" else value
                tables[name][perturbed(key, factor)] = value
    if any(float(factor) != 1.0 for factor in options.speed_perturb_factors):
        origin = data.tables.get("utt2uniq", {})
        tables["utt2uniq"] = {
            perturbed(utt, factor): origin.get(utt, utt)
            for factor in options.speed_perturb_factors
            for utt in data.utts
        }
    tables["utt2num_samples"] = {utt: str(num) for utt, num in num_samples.items()}
    tables["utt2dur"] = {utt: f"{num / options.fs:.6f}" for utt, num in num_samples.items()}
    notes = {"feats_type": "raw", "audio_format": options.audio_format}
    return DataDir(data.path, tables, notes).only(num_samples)


def _differs(data: DataDir, target: Path) -> bool:
    if not (target / "wav.scp").is_file() or not (target / "spk2utt").is_file():
        return True
    there = DataDir.read_unchecked(target)
    return there.tables != data.tables or there.notes != data.notes


def _write_report(path: Path, problems: Sequence[Problem]) -> None:
    if problems:
        with replacing(path) as stream:
            stream.writelines(f"{problem}\n" for problem in problems)
    else:
        path.unlink(missing_ok=True)
