"""Dropping utterances that are too short, too long or without words."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from espnet2_kd.data.data_dir import DataDir
from espnet2_kd.data.durations import durations
from espnet2_kd.data.problems import one_problem
from espnet2_kd.data.table import replacing


def filter_data_dir(
    source: str | PathLike,
    target: str | PathLike,
    min_wav_duration: float = 0.1,
    max_wav_duration: float = 20.0,
    keep_empty_text: bool = False,
    fs: int | None = None,
) -> dict[str, list[str]]:
    """Write `source` to `target` without utterances outside the bounds (seconds) or without words.

    Gives `{reason: utterances}`, also written to `target/dropped.tsv`. Raises DataError when nothing is left.
    """
    data = DataDir.read(source, need_text=False, allow_empty_text=True, allow_pipes=True)
    seconds = durations(data, fs)
    text = data.tables.get("text", {})
    dropped: dict[str, list[str]] = {}
    for utt in data.utts:
        if seconds[utt] < min_wav_duration:
            dropped.setdefault(f"shorter than {min_wav_duration:g} s", []).append(utt)
        elif seconds[utt] > max_wav_duration:
            dropped.setdefault(f"longer than {max_wav_duration:g} s", []).append(utt)
        elif "text" in data.tables and not keep_empty_text and not text[utt].strip():
            dropped.setdefault("empty text", []).append(utt)
    gone = {utt for utts in dropped.values() for utt in utts}
    if len(gone) == len(data.utts):
        reasons = ", ".join(f"{len(utts)} {reason}" for reason, utts in dropped.items())
        raise one_problem(source, f"no utterance left ({reasons})", "set other bounds, or repair the text")
    data.only([utt for utt in data.utts if utt not in gone]).write(target)
    write_dropped(Path(target) / "dropped.tsv", dropped)
    return dropped


def write_dropped(path: Path, dropped: dict[str, list[str]]) -> None:
    """Write the table `utt_id reason` of dropped utterances, or remove it when there are none."""
    if dropped:
        with replacing(path) as stream:
            stream.write("utt_id\treason\n")
            stream.writelines(f"{utt}\t{reason}\n" for reason, utts in dropped.items() for utt in utts)
    else:
        path.unlink(missing_ok=True)


_REMEDIES = {
    "shorter": "to keep them: --min_wav_duration",
    "longer": "to keep them: --max_wav_duration",
    "empty": "to keep them: write their words",
}


def describe_dropped(dropped: dict[str, list[str]], shown: int = 5) -> Iterable[str]:
    """Give one line per reason: count, reason, the first few utterances, and what keeps them."""
    for reason, utts in dropped.items():
        some = f"{' '.join(utts[:shown])}{' ...' if len(utts) > shown else ''}"
        yield f"{len(utts)} {reason}: {some} ({_REMEDIES[reason.split()[0]]})"
