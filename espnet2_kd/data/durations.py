"""Length of each utterance in seconds, from the cheapest source that a data directory has."""

from __future__ import annotations

from espnet2_kd.data.audio import AudioFault, num_seconds
from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.problems import DataError, Problem
from espnet2_kd.data.progress import tracked


def durations(data: DataDir, fs: int | None = None) -> dict[str, float]:
    """Give `{utterance: seconds}` from utt2dur, utt2num_samples (if `fs` is known), segments, or the audio headers."""
    if "utt2dur" in data.tables:
        return {utt: float(value) for utt, value in data.tables["utt2dur"].items()}
    if fs is not None and "utt2num_samples" in data.tables:
        return {utt: int(value) / fs for utt, value in data.tables["utt2num_samples"].items()}
    seconds: dict[str, float] = {}
    recordings: dict[str, float] = {}
    problems = []
    for utt in tracked(f"lengths of {data.path}", data.utts):
        recording, start, end = data.source(utt)
        if end == -1:
            if recording not in recordings:
                try:
                    recordings[recording] = num_seconds(data.tables["wav.scp"][recording].strip())
                except AudioFault as fault:
                    line = data.lines.get(recording, 0)
                    problems.append(Problem(str(data.path / "wav.scp"), line, recording, fault.what, fault.remedy))
                    continue
            end = recordings[recording]
        seconds[utt] = end - start
    if problems:
        raise DataError(problems)
    return seconds
