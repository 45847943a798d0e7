"""When words came out of a live decoding, as `stream.jsonl` tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_MAX_WORDS = 400


def read_emissions(folder: Path) -> dict[str, dict[str, Any]]:
    """Read `{utterance: {words, ends, frames}}`, times in ms from the start of the audio; nothing where nothing was measured.

    words: pairs (word, when its last token came out).
    ends: pairs (reference word, its end by forced alignment); empty where it was not aligned.
    frames: the encoder frame that gave each token: where CIF fired, a transducer emitted.
    Lines of another form are passed over: the page shows less, the scores stand elsewhere.
    """
    path = folder / "stream.jsonl"
    if not path.is_file():
        return {}
    found = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line)
                found[str(record["utt"])] = {
                    "words": [[str(word["word"]), float(word["ms"])] for word in record["words"]][:_MAX_WORDS],
                    "ends": [[str(word["word"]), float(word["end_ms"])] for word in record["reference_words"]][
                        :_MAX_WORDS
                    ],
                    "frames": [float(ms) for ms in record.get("frames_ms") or ()][:_MAX_WORDS],
                }
            except (ValueError, KeyError, TypeError):
                continue
    return found
