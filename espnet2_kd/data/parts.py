"""Parallel work in parts that survives a kill: a part is done when its stamp is there and still true.

The cut into parts does not depend on the number of processes, so neither does any output byte.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet2_kd.data.documents import read_json
from espnet2_kd.data.problems import DataError, one_problem
from espnet2_kd.data.progress import Progress
from espnet2_kd.data.table import replacing


@dataclass(frozen=True)
class Part:
    """One piece of work: where its stamp lies, what its result depends on, its input, and its number of items."""

    stamp: Path
    fingerprint: str
    payload: Any
    size: int


def fingerprint(*inputs: Any) -> str:
    """Hash anything JSON can hold."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def file_state(path: str | os.PathLike) -> list[int] | None:
    """Give size and modification time of a file, or None when there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns]


def finished(part: Part) -> dict | None:
    """Give the stored result of `part` if nothing it depends on changed and its files are whole."""
    try:
        stamp = read_json(part.stamp, {"fingerprint": str, "result": {"files": dict}})
    except DataError:
        return None
    if stamp["fingerprint"] != part.fingerprint:
        return None
    for name, size in stamp["result"]["files"].items():
        state = file_state(part.stamp.parent / name)
        if state is None or state[0] != size:
            return None
    return stamp["result"]


def remove_leftovers(folder: Path, parts: Sequence[Part], suffix: str) -> None:
    """Remove parts that are no more and temporary files from `folder`; a part's output is named `<stamp stem><suffix>`.

    Other files are left alone: the folder may be the user's.
    """
    if not folder.is_dir() or not parts:
        return
    wanted = {part.stamp.name for part in parts} | {part.stamp.stem + suffix for part in parts}
    family = parts[0].stamp.name.split(".")[0]
    ours = re.compile(rf"(\.?{re.escape(family)}\.\d+(\.json|\.ark)?((\.\d+)?\.tmp)?)$")
    for path in folder.iterdir():
        if path.name not in wanted and ours.match(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def run_parts(
    work: Callable[[Any], dict], parts: Sequence[Part], nj: int, label: str, keep: Callable[[dict], bool] | None = None
) -> list[dict]:
    """Run `work(payload)` for every unfinished part in `nj` processes and give all results in order.

    A result is a JSON object whose `files` maps paths (relative to the stamp's folder) to sizes. Where
    `keep(result)` is false no stamp is left, so the part runs again next time.
    """
    results: dict[int, dict] = {}
    todo = []
    for index, part in enumerate(parts):
        result = finished(part)
        if result is None:
            part.stamp.unlink(missing_ok=True)
            todo.append(index)
        else:
            results[index] = result
    if todo:
        before = sum(parts[index].size for index in results)
        with Progress(label, sum(part.size for part in parts), done=before) as progress:
            for index, result in _run([(index, parts[index]) for index in todo], work, nj):
                if keep is None or keep(result):
                    _write_stamp(parts[index], result)
                results[index] = result
                progress.step(parts[index].size)
    return [results[index] for index in range(len(parts))]


def _write_stamp(part: Part, result: dict) -> None:
    with replacing(part.stamp) as stream:
        json.dump({"fingerprint": part.fingerprint, "result": result}, stream, ensure_ascii=False, sort_keys=True)


def _run(todo: Sequence[tuple[int, Part]], work: Callable[[Any], dict], nj: int):
    if nj <= 1 or len(todo) == 1:
        for index, part in todo:
            yield index, work(part.payload)
        return
    pool = ProcessPoolExecutor(
        min(nj, len(todo)), multiprocessing.get_context("fork"), initializer=_follow_parent, initargs=(os.getpid(),)
    )
    try:
        futures = {pool.submit(work, part.payload): index for index, part in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        remedy = "run it again: finished parts are kept; use a smaller --nj if memory ran out"
        raise one_problem(todo[0][1].stamp.parent, "a worker process was killed", remedy) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _follow_parent(parent: int) -> None:
    """End this worker soon after its parent was killed, which cannot end it itself."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
