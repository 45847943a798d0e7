"""Temporary files and folders beside what they will become, one of a name: what a killed run has left is used again.

Their names do not hold the id of a process, since nobody would remove what a killed one has left. Two processes that write
the same thing take turns.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def scratch_name(path: Path) -> Path:
    """Give the temporary neighbour of `path`."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def scratch_file(path: Path) -> Iterator[Path]:
    """Give an empty temporary neighbour of `path`; whoever wants the same one waits. It is removed unless it was renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = scratch_name(path)
    with _own(temporary, lambda: os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)) as lock:
        os.ftruncate(lock, 0)
        try:
            yield temporary
        finally:
            if _is_at(lock, temporary):
                temporary.unlink()


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; whoever wants the same one waits. It is removed unless it was renamed."""
    temporary = scratch_name(path)

    def open_folder() -> int:
        temporary.mkdir(parents=True, exist_ok=True)
        return os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

    with _own(temporary, open_folder) as lock:
        _empty(temporary)
        try:
            yield temporary
        finally:
            if _is_at(lock, temporary):
                shutil.rmtree(temporary)


@contextmanager
def _own(temporary: Path, open_it: Callable[[], int]) -> Iterator[int]:
    """Hold the lock of what lies at `temporary`; it may have been renamed or removed while we waited."""
    while True:
        try:
            lock = open_it()
        except FileNotFoundError:  # removed between its making and its opening
            continue
        try:
            with suppress(OSError):  # file systems without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_at(lock, temporary):
                yield lock
                return
        finally:
            os.close(lock)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
