#!/usr/bin/env python3
"""Print what works here and which stage needs it; status 1 if something that the named stages need is missing.

Looks without importing anything large, except for the abilities of torch, which are tried out unless --quiet is given.
Runs on any Python 3 without other packages, so that it can say what is missing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

VENV_PYTHON = Path(os.environ.get("KD_VENV") or Path(__file__).resolve().parent / "venv", "bin/python")
SETUP = "make setup (in the project's root)"
STAGES = {
    "1": "data",
    "2": "feats",
    "3": "stats",
    "4": "teacher",
    "5": "distill",
    "6": "decode",
    "7": "score",
    "8": "pack",
    "9": "upload",
}
TRAIN = ("3", "4", "5", "6")


@dataclass
class Finding:
    """One thing that was looked for; an empty `remedy` marks something that no stage needs."""

    name: str
    found: str | None
    stages: tuple[str, ...]
    remedy: str = ""
    use: str = ""

    def is_missing_for(self, stages: set[str]) -> bool:
        return self.found is None and bool(self.remedy) and bool(stages & set(self.stages))

    def line(self) -> str:
        mark = "ok" if self.found is not None else ("MISSING" if self.remedy else "no")
        needed = ", ".join(f"{s} {STAGES[s]}" if s in STAGES else s for s in self.stages)
        text = f"{mark:8}{self.name:18}{self.found or '':34}{needed or self.use}"
        return text if self.found is not None or not self.remedy else f"{text}\n{'':26}-> {self.remedy}"


def package(name: str, stages: tuple[str, ...], module: str | None = None) -> Finding:
    """A Python package, looked up by its files only."""
    found = None
    if importlib.util.find_spec(module or name) is not None:
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "version unknown"
    return Finding(name, found, stages, SETUP)


def program(name: str, stages: tuple[str, ...], debian: str) -> Finding:
    """A program in PATH or where Debian keeps SCTK's."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/lib/sctk/bin"])
    return Finding(name, shutil.which(name, path=path), stages, f"sudo apt-get install {debian}")


def needed() -> list[Finding]:
    """Everything that some stage, or `make test`, cannot do without."""
    version = sys.version_info[:2]
    python = Finding(
        "python", platform.python_version() if (3, 10) <= version <= (3, 12) else None, tuple(STAGES), SETUP
    )
    return [
        python,
        package("numpy", tuple(STAGES)),
        package("soundfile", ("1", "2", *TRAIN)),
        package("scipy", ("1", "2")),
        package("kaldiio", ("2", *TRAIN)),
        package("sentencepiece", ("2", *TRAIN)),
        package("torch", TRAIN),
        package("torchaudio", TRAIN),
        package("espnet", (*TRAIN, "8")),
        package("tensorboard", ("4", "5")),
        package("pyyaml", (*TRAIN, "7", "8", "9"), module="yaml"),
        package("huggingface_hub", ("9",)),
        program("sclite", ("7",), "sctk"),
        program("sc_stats", ("7",), "sctk"),
        package("pytest", ("test",)),
        package("ruff", ("test",)),
        package("import-linter", ("test",), module="importlinter"),
        package("lhotse", ("test",)),
        package("jiwer", ("test",)),
        program("shellcheck", ("test",), "shellcheck"),
        program("bats", ("test",), "bats"),
        program("espeak-ng", ("1 of mini", "--synthetic true", "test"), "espeak-ng"),
    ]


def optional() -> list[Finding]:
    """What makes things faster or possible, found out by trying."""
    return [
        *torch_abilities(),
        Finding("audio formats", audio_formats(), (), use="what stage 2 can read"),
        Finding(
            "transformers", package("transformers", ()).found, (), use="text and speech teachers from Hugging Face"
        ),
        Finding(
            "slurm",
            shutil.which("sbatch"),
            (),
            use="jobs on a cluster; the tests start one of their own (slurm-wlm, munge)",
        ),
    ]


def audio_formats() -> str | None:
    try:
        import soundfile
    except (ImportError, OSError):
        return None
    known = soundfile.available_formats()
    return " ".join(name.lower() for name in ("WAV", "FLAC", "OGG", "MP3", "NIST") if name in known)


def torch_abilities() -> list[Finding]:
    try:
        import torch
    except ImportError:
        return []
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        flags = set(next((line for line in cpuinfo if line.startswith("flags")), "").split())
    bfloat16 = sorted(flags & {"avx512_bf16", "amx_bf16"})
    triton = importlib.util.find_spec("triton") is not None and bool(gpus)
    return [
        Finding("GPU", ", ".join(gpus) or None, (), use="training; the CPU does where there is none"),
        Finding("bfloat16 CPU", " ".join(bfloat16) or None, (), use="autocast: bfloat16 on the CPU, for wide models"),
        Finding("rnnt_loss", rnnt_loss(torch), TRAIN, SETUP),
        Finding("triton", "yes" if triton else None, (), use="fast kernels on GPUs"),
    ]


def rnnt_loss(torch) -> str | None:
    """Compute a loss that is known: one frame, one symbol, everything equally likely."""
    try:
        from torchaudio.functional import rnnt_loss as loss

        value = loss(
            torch.zeros(1, 1, 2, 2),
            torch.ones(1, 1, dtype=torch.int32),
            torch.ones(1, dtype=torch.int32),
            torch.ones(1, dtype=torch.int32),
            blank=0,
        ).item()
    except (ImportError, RuntimeError, OSError):
        return None
    return "of torchaudio" if abs(value - 1.3863) < 1e-3 else None


def read_stages(words: str) -> set[str]:
    """Read `1 2 7`, `1-8`, `1,2` or `test`."""
    stages: set[str] = set()
    for word in words.replace(",", " ").split():
        first, _, last = word.partition("-")
        if word == "test":
            stages.add(word)
        elif first in STAGES and (last in STAGES or not last):
            stages |= {str(n) for n in range(int(first), int(last or first) + 1)}
        else:
            raise argparse.ArgumentTypeError(f"{word!r} is neither a stage (1 to 9) nor test")
    return stages


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=read_stages, default=set(), help="e.g. 1-8, '4 5', or test")
    parser.add_argument("--quiet", action="store_true", help="say only what is missing for these stages")
    args = parser.parse_args(argv)
    if argv is None and sys.prefix == sys.base_prefix and VENV_PYTHON.exists():
        # Typed as it stands: what counts is what the recipes run with.
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])
    findings = needed()
    if not args.quiet:
        findings += optional()
        print(f"{'':8}{'what':18}{'found':34}needed for")
        for finding in findings:
            print(finding.line())
    missing = [finding for finding in findings if finding.is_missing_for(args.stages)]
    if missing and args.quiet:
        remedies = {}
        for finding in missing:
            remedies.setdefault(finding.remedy, []).append(finding.name)
        for remedy, names in remedies.items():
            print(f"check_env: missing {', '.join(names)}: please type  {remedy}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
