"""Formatting of audio (stage 2 of the recipes) next to ffmpeg decoding and writing the same files, with as many processes.

    python tools/bench/format_audio.py [FOLDER] [--num 400] [--seconds 12] [--nj 1] [--fs 16000] [--source_fs 16000]
        [--audio_format flac] [--rounds 3]

FOLDER holds flac or wav files, at any depth; without one, files of made-up sound are written: tones in noise whose loudness
changes as that of words does. ffmpeg is started once for each list of files, with one output for each, as `format_audio` starts
once for all; `ffmpeg, each` starts it for every file, as a pipe in wav.scp does. Rounds in shuffled order, ratios within a round.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from timing import ROOT, interleaved, machine, ratio, table

FILES_AT_ONCE = 100  # more outputs than that, and ffmpeg runs out of descriptors


def make_sounds(folder: Path, num: int, seconds: float, fs: int) -> None:
    """Write `num` flac files of about `seconds` seconds."""
    rng = np.random.default_rng(0)
    for n in range(num):
        t = np.arange(round(seconds * fs * rng.uniform(0.5, 1.5))) / fs
        loudness = np.clip(np.sin(2 * np.pi * 2 * t + n), 0, 1) ** 2
        tones = sum(np.sin(2 * np.pi * hz * t) / (1 + k) for k, hz in enumerate(rng.uniform(90, 3000, 6)))
        sound = 0.1 * loudness * tones + 0.002 * rng.standard_normal(len(t))
        soundfile.write(folder / f"u{n:05d}.flac", sound, fs, subtype="PCM_16")


def write_data_dir(path: Path, files: Sequence[Path]) -> None:
    """Write wav.scp, utt2spk and spk2utt for sound files, each an utterance of its own."""
    path.mkdir()
    entries = {f"u{n:06d}": file for n, file in enumerate(files)}
    (path / "wav.scp").write_text("".join(f"{utt} {file}\n" for utt, file in entries.items()))
    (path / "utt2spk").write_text("".join(f"{utt} {utt}\n" for utt in entries))
    (path / "spk2utt").write_text("".join(f"{utt} {utt}\n" for utt in entries))


def ours(data_dir: Path, target: Path, nj: int, fs: int, audio_format: str) -> None:
    """Format a data directory, from nothing."""
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "espnet2_kd.bin.format_audio", str(data_dir), str(target)]
    options = ["--nj", str(nj), "--fs", str(fs), "--audio_format", audio_format]
    subprocess.run([*command, *options], cwd=ROOT, check=True, capture_output=True)


def ffmpeg(files: Sequence[Path], target: Path, nj: int, fs: int, audio_format: str | None, at_once: int) -> None:
    """Decode and write files with ffmpeg, `nj` processes of one thread, each starting anew after `at_once` files; None: not written."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    commands = []
    for first in range(0, len(files), at_once):
        some = files[first : first + at_once]
        command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1"]
        for file in some:
            command += ["-threads", "1", "-i", str(file)]
        for n in range(len(some)):
            out = ["-f", "null", "-"] if audio_format is None else [str(target / f"u{first + n:06d}.{audio_format}")]
            command += ["-map", f"{n}:a", "-threads", "1", "-ac", "1", "-ar", str(fs), "-sample_fmt", "s16", *out]
        commands.append(command)
    running: list[subprocess.Popen] = []
    for command in commands:
        if len(running) == nj:
            finish(running.pop(0))
        running.append(subprocess.Popen(command))
    for process in running:
        finish(process)


def finish(process: subprocess.Popen) -> None:
    """Wait for a process that has to succeed."""
    if process.wait():
        sys.exit(f"{' '.join(process.args[:8])} ...: status {process.returncode}")


def compare(args: argparse.Namespace, work: Path) -> str:
    """Time both, and give a table."""
    if args.folder is None:
        (work / "sounds").mkdir()
        make_sounds(work / "sounds", args.num, args.seconds, args.source_fs)
    files = sorted(
        path.resolve() for path in (args.folder or work / "sounds").rglob("*") if path.suffix in (".flac", ".wav")
    )
    files = files[: args.num]
    write_data_dir(work / "data", files)
    hours = sum(soundfile.info(file).duration for file in files) / 3600
    settings = (args.nj, args.fs, args.audio_format)
    cases = {"format_audio": lambda: ours(work / "data", work / "ours", *settings)}
    if shutil.which("ffmpeg"):
        cases["ffmpeg"] = lambda: ffmpeg(files, work / "theirs", *settings, FILES_AT_ONCE)
        cases["ffmpeg, decoding only"] = lambda: ffmpeg(files, work / "theirs", *settings[:2], None, FILES_AT_ONCE)
        cases["ffmpeg, each"] = lambda: ffmpeg(files, work / "theirs", *settings, 1)
    times = interleaved(cases, args.rounds)
    written = sum(soundfile.info(file).duration for file in (work / "ours/data").rglob(f"*.{args.audio_format}")) / 3600
    if abs(written - hours) > 1e-4 * hours:
        sys.exit(f"{hours:.3f} h went in and {written:.3f} h came out: nothing is reported")
    rows = []
    for name, milliseconds in times.items():
        seconds = statistics.median(milliseconds) / 1000
        against = [
            f"{ratio(milliseconds, times[peer]):.2f}" if peer in times else "-"
            for peer in ("ffmpeg", "ffmpeg, decoding only")
        ]
        rows.append([name, f"{seconds:.2f}", f"{3600 * hours / seconds:,.0f}", f"{seconds / hours:.1f}", *against])
    sizes = [sum(file.stat().st_size for file in folder) for folder in (files, list((work / "ours/data").rglob("*.*")))]
    about = f"{len(files)} files, {hours:.2f} h, {sizes[0] / hours / 1e6:.0f} MB/h read, {sizes[1] / hours / 1e6:.0f} MB/h written"
    if "ffmpeg" not in times:
        about += "; no ffmpeg on PATH, nothing to compare with"
    header = ["", "s", "times faster than sound", "s per hour of sound", "to ffmpeg", "to decoding only"]
    return f"{machine()}; {about}; {args.audio_format} at {args.fs} Hz, {args.nj} process(es)\n\n{table(header, rows)}"


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--num", type=int, default=400, help="files, at most")
    parser.add_argument("--seconds", type=float, default=12.0, help="mean length of made-up files")
    parser.add_argument("--source_fs", type=int, default=16000, help="rate of made-up files")
    parser.add_argument("--nj", type=int, default=1)
    parser.add_argument("--fs", type=int, default=16000)
    parser.add_argument("--audio_format", choices=("flac", "wav"), default="flac")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(compare(args, Path(work)))


if __name__ == "__main__":
    main()
