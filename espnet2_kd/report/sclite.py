"""NIST sclite: found, run on files it cannot misread, and its own counts read back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from espnet2_kd.data.problems import one_problem

DEBIAN_FOLDER = Path("/usr/lib/sctk/bin")
INSTALL = (
    "type: sudo apt-get install sctk   (or build NIST SCTK and put its bin folder on PATH, or its sclite in KD_SCLITE)"
)
_ROW = re.compile(r"^ *\| *(Sum/Avg|Sum) *\| *(\d+) +(\d+) *\|([\d. ]+)\| *$", re.MULTILINE)
_SCORES = re.compile(r"^id: \((.*)\)\nScores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)
COUNTS = ("corr", "sub", "del", "ins", "err", "s_err")


@dataclass(frozen=True)
class Counts:
    """Correct, substituted, deleted and inserted words of one utterance."""

    corr: int
    sub: int
    dele: int
    ins: int

    @property
    def words(self) -> int:
        return self.corr + self.sub + self.dele

    @property
    def errors(self) -> int:
        return self.sub + self.dele + self.ins


def find_tool(name: str = "sclite") -> Path:
    """Find an SCTK program: beside $KD_SCLITE when that is set, else on PATH, else where Debian puts it.

    Raises DataError with the line that installs it.
    """
    chosen = os.environ.get("KD_SCLITE")
    if chosen:
        path = Path(chosen) if name == "sclite" else Path(chosen).with_name(name)
        if path.is_file() and os.access(path, os.X_OK):
            return path.absolute()
        raise one_problem(
            "KD_SCLITE", f"{path} is no program", f"set it to the path of sclite, or unset it and {INSTALL}"
        )
    found = shutil.which(name) or shutil.which(name, path=str(DEBIAN_FOLDER))
    if found is None:
        raise one_problem(name, "program not found", INSTALL)
    return Path(found).absolute()


def run_sclite(folder: Path) -> str:
    """Align `hyp.trn` with `ref.trn` of a folder and return what ESPnet2 keeps as `result.txt`.

    `-s`: the case policy is applied before, to all scripts alike; sclite by itself folds ASCII only.
    Raises DataError when sclite fails or complains, since it does the second with exit status 0.
    """
    command = [str(find_tool()), "-e", "utf-8", "-s", "-r", "ref.trn", "trn", "-h", "hyp.trn", "trn"]
    return run_tool([*command, "-i", "rm", "-o", "all", "stdout"], folder)


def run_tool(command: list[str], folder: Path, stdin: str | None = None) -> str:
    """Run an SCTK program in `folder` and return its output; raises DataError when it fails or complains."""
    done = subprocess.run(
        command, cwd=folder, input=stdin, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    complaint = next((line for line in done.stderr.splitlines() if line.startswith("Error")), "")
    if done.returncode != 0 or complaint:
        what = f"{Path(command[0]).name} failed with status {done.returncode} {complaint or done.stderr.strip()[:200]}"
        raise one_problem(folder, what.rstrip(), "run the command by hand: " + " ".join(command))
    return done.stdout


def read_output(path: Path) -> str:
    """Read a file that scoring has written; raises DataError when it is not there or damaged."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise one_problem(path, f"cannot be read ({error})", "score again: python -m espnet2_kd.bin.score") from error


def parse_summary(result: str) -> dict:
    """Read the sums of a result: `snt`, `wrd`, the percentages as sclite prints them, and `counts`, their numerators.

    Raises ValueError when the text is not a result of `sclite -o all`.
    """
    rows = {label: (int(snt), int(wrd), fields.split()) for label, snt, wrd, fields in _ROW.findall(result)}
    if set(rows) != {"Sum/Avg", "Sum"} or any(len(fields) != len(COUNTS) for _, _, fields in rows.values()):
        raise ValueError("no Sum/Avg and Sum rows: not the output of sclite -o all")
    snt, wrd, counts = rows["Sum"]
    percentages = dict(zip(COUNTS, map(float, rows["Sum/Avg"][2]), strict=True))
    return {"snt": snt, "wrd": wrd, **percentages, "counts": dict(zip(COUNTS, map(int, counts), strict=True))}


def parse_utterances(result: str) -> dict[str, Counts]:
    """Read the counts of every utterance of a result, by TRN id."""
    return {trn_id: Counts(*map(int, counts)) for trn_id, *counts in _SCORES.findall(result)}
