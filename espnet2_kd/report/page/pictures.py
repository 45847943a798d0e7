"""Pictures that training drew: attention maps, or when CIF fires and how its tokens resemble the teacher's."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"(?P<what>.+)\.(?P<epoch>\d+)ep\.png")
MAX_WIDTH = 1000
NUM_UTTS, NUM_PICTURES = 2, 12


@dataclass(frozen=True)
class Picture:
    """One of an utterance after the last epoch that has it; `data` is a PNG in base64."""

    utt: str
    what: str
    epoch: int
    data: str


def find_pictures(exp: Path) -> tuple[list[tuple[str, str, int, Path]], int]:
    """Find `att_ws/<utterance>/<what>.<epoch>ep.png`, the last epoch of each, and how many more there are than shown."""
    newest: dict[tuple[str, str], tuple[int, Path]] = {}
    for path in sorted((exp / "att_ws").glob("*/*.png")):
        if match := _NAME.fullmatch(path.name):
            key, value = (path.parent.name, match["what"]), (int(match["epoch"]), path)
            newest[key] = max(value, newest.get(key, value))
    utts = list(dict.fromkeys(utt for utt, _ in newest))[:NUM_UTTS]
    found = [(utt, what, *newest[utt, what]) for utt, what in newest if utt in utts]
    return found[:NUM_PICTURES], len(newest) - len(found[:NUM_PICTURES])


def read_picture(utt: str, what: str, epoch: int, path: Path) -> Picture | None:
    """Read one, narrower and in 64 colours; None for what is no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.thumbnail((MAX_WIDTH, 4 * MAX_WIDTH))
            small = image.convert("RGB").quantize(64)
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    stream = io.BytesIO()
    small.save(stream, format="PNG", optimize=True)
    return Picture(utt, what, epoch, base64.b64encode(stream.getvalue()).decode("ascii"))
