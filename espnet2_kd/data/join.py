"""New utterances made of recordings one after the other, with silence before each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from espnet2_kd.data.audio import AudioFault, read_audio
from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.ids import id_fault, with_speaker_prefix
from espnet2_kd.data.importer import Utterance, source_path, write_sets
from espnet2_kd.data.parts import Part, file_state, fingerprint, remove_leftovers, run_parts
from espnet2_kd.data.problems import DataError, Problem
from espnet2_kd.data.resample import resample, to_pcm16
from espnet2_kd.data.sound_files import sizes, write_sounds
from espnet2_kd.data.table import normalise_spaces
from espnet2_kd.data.tsv import TsvRow, read_tsv

_VERSION = 1
PART_SIZE = 100
COLUMNS = ("string_id", "speaker", "text", "utt_ids", "gaps_ms")


def join_tsv(
    strings: str | PathLike,
    sources: Sequence[str | PathLike],
    data_root: str | PathLike,
    set_name: str,
    joined_dir: str | PathLike,
    fs: int = 16000,
    nj: int = 1,
    audio_root: str | None = None,
) -> DataDir:
    """Join the recordings of the TSV files `sources` as list `strings` says, and write data directory `data_root/set_name`.

    Line: `string_id speaker text utt_ids gaps_ms`, ids and gaps separated by spaces, one gap in ms before each
    recording. The FLAC files go to `joined_dir`; finished parts are kept when it runs again. Raises DataError.
    """
    paths = {
        row.cells["utt_id"]: str(source_path(row, audio_root))
        for tsv in sources
        for row in read_tsv(tsv, ("utt_id", "path"))
    }
    rows = read_tsv(strings, COLUMNS)
    entries = join_recordings(rows, paths, joined_dir, fs, nj)
    utterances = [
        Utterance(
            row,
            set_name,
            with_speaker_prefix(row.cells["string_id"], row.cells["speaker"]),
            row.cells["speaker"],
            entries[row.cells["string_id"]],
            normalise_spaces(row.cells["text"]),
        )
        for row in rows
    ]
    return write_sets(utterances, data_root, [])[0]


def join_recordings(
    rows: Sequence[TsvRow], paths: Mapping[str, str], joined_dir: str | PathLike, fs: int = 16000, nj: int = 1
) -> dict[str, str]:
    """Write one FLAC file per row and give `{string_id: path}`; raises DataError with every faulty row and recording."""
    joined_dir = Path(joined_dir)
    problems: list[Problem] = []
    jobs = [_job(row, paths, problems) for row in rows]
    seen: dict[str, int] = {}
    for row, job in zip(rows, jobs):
        if seen.setdefault(job["utt"], row.line) != row.line:
            what = f"duplicate string_id, lines {seen[job['utt']]} and {row.line}"
            problems.append(Problem(row.file, row.line, job["utt"], what, "give every string its own id"))
    if problems:
        raise DataError(problems)
    states = {path: file_state(path) for job in jobs for path in job["paths"]}
    parts = []
    for number, first in enumerate(range(0, len(jobs), PART_SIZE), 1):
        chunk = jobs[first : first + PART_SIZE]
        depends = [[states[path] for path in job["paths"]] for job in chunk]
        payload = {"jobs": chunk, "folder": str(joined_dir), "name": f"join.{number}", "fs": fs}
        stamp = joined_dir / f"join.{number}.json"
        parts.append(Part(stamp, fingerprint(_VERSION, fs, chunk, depends), payload, len(chunk)))
    remove_leftovers(joined_dir, parts, "")
    results = run_parts(_join_part, parts, nj, f"join {joined_dir}")
    bad = [Problem(*fault) for result in results for fault in result["bad"]]
    if bad:
        raise DataError(bad)
    return {utt: f"{joined_dir}/{entry}" for result in results for utt, entry in result["entries"].items()}


def _job(row: TsvRow, paths: Mapping[str, str], problems: list[Problem]) -> dict:
    name, utts, gaps = row.cells["string_id"], row.cells["utt_ids"].split(), row.cells["gaps_ms"].split()
    fault = id_fault(name)
    if fault:
        problems.append(
            Problem(row.file, row.line, name, f"unsafe string_id, it {fault}", "use letters, digits, - and _")
        )
    unknown = [utt for utt in utts if utt not in paths]
    if unknown or not utts:
        what = f"recordings not in the TSV: {' '.join(unknown)}" if utts else "no recordings"
        problems.append(Problem(row.file, row.line, name, what, "correct utt_ids, or give the TSV that lists them"))
    if len(gaps) != len(utts) or not all(gap.isdigit() for gap in gaps):
        what = f"{len(gaps)} gaps for {len(utts)} recordings: {row.cells['gaps_ms']!r}"
        problems.append(Problem(row.file, row.line, name, what, "give one gap, in whole ms, before each recording"))
        gaps = []
    return {
        "utt": name,
        "file": row.file,
        "line": row.line,
        "paths": [paths[utt] for utt in utts if utt in paths],
        "gaps": [int(gap) for gap in gaps],
    }


def _join_part(payload: dict) -> dict:
    folder, fs = Path(payload["folder"]), payload["fs"]
    sounds, bad = {}, []
    read: dict[str, np.ndarray] = {}
    for job in payload["jobs"]:
        try:
            pieces = []
            for path, gap in zip(job["paths"], job["gaps"]):
                if path not in read:
                    samples, rate = read_audio(path)
                    read[path] = to_pcm16(resample(samples, rate, fs))
                pieces += [np.zeros(round(gap * fs / 1000), dtype=np.int16), read[path]]
            sounds[job["utt"]] = np.concatenate(pieces)
        except AudioFault as fault:
            bad.append([job["file"], job["line"], job["utt"], fault.what, fault.remedy])
    entries = write_sounds(folder, payload["name"], sounds, fs, "flac")
    return {"entries": entries, "bad": bad, "files": sizes(folder, entries)}
