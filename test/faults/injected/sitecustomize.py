"""Faults inside a program: Python imports this file first in every process that has its folder on PYTHONPATH.

`KD_FAULT` says which: `kill PATTERN N` and `full PATTERN N` end the process by SIGKILL, or have no space left on the disk, while it
writes to the N-th file whose path matches; `hide NAME` lets no program of this name be found.
"""

import builtins
import errno
import fnmatch
import io
import os
import shutil
import signal

open_file = io.open
opened = 0
what = pattern = number = ""


class FailingFile(io.BufferedWriter):
    """A file of which half of what is written first arrives."""

    def write(self, data):
        super().write(memoryview(data)[: len(data) // 2])
        self.flush()
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def open_failing(file, mode="r", *args, **kwargs):
    """As open."""
    global opened
    if "r" not in mode and isinstance(file, (str, os.PathLike)) and fnmatch.fnmatch(os.path.abspath(file), pattern):
        opened += 1
        if opened == int(number):
            stream = FailingFile(io.FileIO(file, mode.replace("b", "").replace("t", "")))
            return stream if "b" in mode else io.TextIOWrapper(stream, write_through=True)
    return open_file(file, mode, *args, **kwargs)


def inject(fault):
    """Have a fault happen in this process, from now on; "": none."""
    global what, pattern, number
    what, _, rest = fault.partition(" ")
    if what in ("kill", "full"):
        pattern, number = rest.split()
        builtins.open = io.open = open_failing
    elif what == "hide":
        which = shutil.which
        shutil.which = lambda name, *args, **kwargs: None if name == rest else which(name, *args, **kwargs)


inject(os.environ.get("KD_FAULT", ""))
