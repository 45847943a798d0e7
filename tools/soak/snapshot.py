"""What a finished recipe consists of: its files, and their content without times."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

# Another run of the same command has other ones of these.
_OTHER_NAMES = re.compile(r"(train|cache|decode|stream|pack|stats)(\.\d+)?\.log\.\d+|events\.out\.tfevents\..*")
# And these say when and how fast, or draw it. The state of a training holds the times of its epochs; of a pack's inputs one
# is the report.
_OTHER_CONTENT = re.compile(r".*\.log|checkpoint(\.previous)?\.pth|.*\.png|.*\.(lock|stage)|index.*\.html|\.packed")
# Of a report's columns and of the records of live decoding.
_TIMES = ("RTF", "first token ms (p90)", "first token ms", "emission delay ms (p90)", "emission delay ms", "training")
_TIMED_LINES = ("- date:", "- training time:", "as if live: real-time factor")
# Of utils/once.sh: what was run on which inputs, other stamps too, and how long it took.
_STAMP = re.compile(rb"[0-9a-f]{64}  -\nstage=.*\n")
_KEPT_OF_A_STREAM = ("utt", "text")
_KEPT_OF_A_RUN = ("name", "role", "seed", "config", "command", "num_parameters", "teacher")


def snapshot(recipe: Path) -> dict[str, str]:
    """Give `{file: hash of its content}`; times, logs and pictures count for nothing but being there."""
    return {
        str(path.relative_to(recipe)): _digest(path)
        for path in sorted(recipe.rglob("*"))
        if not path.is_dir() and not _OTHER_NAMES.fullmatch(path.name)
    }


def compare(expected: dict[str, str], found: dict[str, str]) -> dict[str, list[str]]:
    """List the files that are `missing`, `left over` or `different`."""
    return {
        "missing": sorted(expected.keys() - found.keys()),
        "left over": sorted(found.keys() - expected.keys()),
        "different": sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name]),
    }


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if _OTHER_CONTENT.fullmatch(path.name):
        return "there"
    read = next((read for pattern, read in _READERS.items() if path.match(pattern)), _bytes)
    content = hashlib.sha256()
    for piece in read(path):
        content.update(piece)
    return content.hexdigest()


def _bytes(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    yield b"stamp" if _STAMP.fullmatch(content) else content


def _tensors(path: Path) -> Iterator[bytes]:
    """Weights, bit by bit, whatever the archive around them looks like."""
    yield from _state(torch.load(path, map_location="cpu", weights_only=True))


def _state(state: dict[str, torch.Tensor]) -> Iterator[bytes]:
    for name, tensor in state.items():
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _arrays(path: Path) -> Iterator[bytes]:
    with np.load(path) as arrays:
        for name in sorted(arrays.files):
            yield f"{name} {arrays[name].dtype} {arrays[name].shape}".encode()
            yield arrays[name].tobytes()


def _pack(path: Path) -> Iterator[bytes]:
    """Members of a packed model; its own notes say when it was packed."""
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            yield name.encode()
            if name.endswith(".pth"):
                with archive.open(name) as stream:
                    yield from _state(torch.load(stream, map_location="cpu", weights_only=True))
            elif name == "meta.yaml":
                yield json.dumps({**yaml.safe_load(archive.read(name)), "timestamp": None}, sort_keys=True).encode()
            elif name == "README.md":
                yield from _without_times(archive.read(name).decode())
            else:
                yield archive.read(name)


def _report(path: Path) -> Iterator[bytes]:
    yield from _without_times(path.read_text(encoding="utf-8"))


def _without_times(text: str) -> Iterator[bytes]:
    """A report or a card without the columns of times, and without its date."""
    dropped: list[int] = []
    for line in text.splitlines():
        if any(words in line for words in _TIMED_LINES):
            continue
        if not line.startswith("|"):
            dropped = []
            yield line.encode()
            continue
        cells = [cell.strip(" :-") for cell in line.strip("|").split("|")]
        dropped = dropped or [at for at, cell in enumerate(cells) if cell in _TIMES]
        yield "|".join(cell for at, cell in enumerate(cells) if at not in dropped).encode()


def _json(keep: Callable[[Any], Any]) -> Callable[[Path], Iterator[bytes]]:
    def read(path: Path) -> Iterator[bytes]:
        for line in path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            yield json.dumps(keep(json.loads(line)), sort_keys=True).encode()

    return read


def _only(*keys: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda record: {key: record.get(key) for key in keys}


def _rates(report: list[dict[str, Any]]) -> Any:
    """The error rates of a report's JSON twin."""
    return [[{key: row.get(key) for key in ("name", "wer", "cer", "ter")} for row in part["rows"]] for part in report]


_READERS: dict[str, Callable[[Path], Iterator[bytes]]] = {
    "*.pth": _tensors,
    "*.npz": _arrays,
    "asr_*.zip": _pack,
    "RESULTS*.md": _report,
    "stream.jsonl": _json(_only(*_KEPT_OF_A_STREAM)),
    "stream.json": _json(_only("mode", "num_utts")),
    "results*.json": _json(_rates),
    "format.*.json": _json(_only("result")),  # beside a hash of its inputs' times
    "run.json": _json(_only(*_KEPT_OF_A_RUN)),
}
