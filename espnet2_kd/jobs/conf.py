"""Kaldi's grammar of `queue.conf`: how options of the driver become options of the scheduler's command.

command sbatch                       the command and its fixed options
option mem=* --mem-per-cpu $0        what `--mem 4G` adds; $0 is the value
option gpu=0                         a value that adds nothing; exact values go before *
default gpu=0                        where the option is not given
# a comment
"""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from espnet2_kd.jobs.folder import ROOT
from espnet2_kd.jobs.request import UsageError

DEFAULTS = ROOT / "egs2/TEMPLATE/kd1/conf"
LINE = re.compile(r"(command)\s+(.+)|(option)\s+([^\s=]+)=(\S+)(?:\s+(.*))?|(default)\s+([^\s=]+)=(\S+)")


@dataclass
class Conf:
    """A conf file, read."""

    path: Path
    command: list[str] = field(default_factory=list)
    options: dict[str, dict[str, str]] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)

    def words(self, resources: dict[str, str]) -> list[str]:
        """The scheduler's command for these resources. Raises UsageError for one that the file has no line for."""
        words = list(self.command)
        for name, value in {**self.defaults, **resources}.items():
            values = self.options.get(name)
            if values is None:
                near = difflib.get_close_matches(name, self.options, 1)
                hint = f"; did you mean --{near[0]}?" if near else ""
                raise UsageError(f"--{name} {value}: {self.path} has no line `option {name}=* ...`{hint}")
            template = values.get(value, values.get("*"))
            if template is None:
                known = ", ".join(sorted(values))
                raise UsageError(f"--{name} {value}: {self.path} knows {name}={known} only")
            words += [word.replace("$0", value) for word in shlex.split(template)]
        return words


def find(backend: str, given: str | None) -> Path:
    """The file that counts: the one given with --config, the recipe's, or the template's. Raises UsageError."""
    if given is not None and not Path(given).is_file():
        raise UsageError(f"--config {given}: no such file")
    if given is not None:
        return Path(given)
    own = Path("conf") / f"{backend}.conf"
    return own if own.is_file() else DEFAULTS / own.name


def read(path: Path) -> Conf:
    """Read a conf file. Raises UsageError with file and line."""
    conf = Conf(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if not line:
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise UsageError(
                f"{path}:{number}: {line!r}: expected `command ...`, `option NAME=VALUE ...` or `default NAME=VALUE`"
            )
        try:
            words = shlex.split(match[2] or match[6] or "")
        except ValueError as error:
            raise UsageError(f"{path}:{number}: {line!r}: {error}") from error
        if match[1]:
            conf.command = words
        elif match[3]:
            conf.options.setdefault(match[4].replace("-", "_"), {})[match[5]] = match[6] or ""
        else:
            conf.defaults[match[8].replace("-", "_")] = match[9]
    if not conf.command:
        raise UsageError(f"{path}: no line `command ...`, which says what submits a job")
    return conf
