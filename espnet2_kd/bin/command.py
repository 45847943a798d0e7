"""What commands share: how they end, and how they read true and false."""

from __future__ import annotations

import argparse
import errno
import logging
import math
import sys
from collections.abc import Callable
from typing import NoReturn

from espnet2_kd.data.problems import DataError

FULL = (errno.ENOSPC, errno.EDQUOT)


def end(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and leave with its status; faults in the data are listed on stderr, status 1."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
    )
    try:
        status = main() or 0
    except DataError as error:
        print(error, file=sys.stderr)
        status = 1
    except OSError as error:
        if not told(error):
            raise
        status = 1
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def one_line_errors(work: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """Do the work of a command that loads models; what the user can mend is said on stderr without a traceback, status 1."""
    from espnet2_kd.asr.load import ExperimentError
    from espnet2_kd.asr.model_pack import PackError
    from espnet2_kd.data.audio import AudioFault
    from espnet2_kd.kd.registry import ConfigError

    try:
        work(args)
    except (AudioFault, ConfigError, DataError, ExperimentError, PackError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if not told(error):
            raise
        return 1
    return 0


def told(error: OSError) -> bool:
    """Whether it names a file that the user can mend; then that is said on stderr."""
    if error.errno in FULL:
        print(
            f"{error.filename or 'a file'}: {error.strerror}: make room and run again, nothing is lost", file=sys.stderr
        )
    elif error.filename:
        # Of a write, it may name the file that would have been renamed.
        print(f"{error.filename2 or error.filename}: {error.strerror}", file=sys.stderr)
    return error.errno in FULL or bool(error.filename)


def true_or_false(word: str) -> bool:
    """Read a boolean option as Kaldi's scripts do: `true` or `false`, nothing else."""
    if word not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return word == "true"


def number(least: float = 1, whole: bool = True) -> Callable[[str], float]:
    """Type of an option that is a finite number from `least`."""

    def read(word: str) -> float:
        try:
            value = int(word) if whole else float(word)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{word}: expected a {'whole ' if whole else ''}number from {least:g}")
        return value

    return read


SECONDS = number(0.001, whole=False)


def rate(word: str) -> int:
    """Read a sampling rate in Hz: `16000` or `16k`."""
    number = word.removesuffix("k")
    if not number.isdigit() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is not a sampling rate such as 16k or 16000")
    return int(number) * (1000 if word.endswith("k") else 1)
