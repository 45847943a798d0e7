"""Rules for utterance and speaker ids, which become file names, TRN ids and shell words."""

from __future__ import annotations

import re

_FORBIDDEN = re.compile(r"[\s()/\\|;`\"'<>*?$&\x00-\x1f\x7f]")
_MAX_BYTES = 200


def id_fault(key: str) -> str | None:
    """Say what makes `key` unsafe as an id, or return None."""
    if not key:
        return "is empty"
    bad = _FORBIDDEN.search(key)
    if bad:
        return f"contains {bad.group()!r}"
    if ".." in key:
        return "contains '..'"
    if key[0] in ".-":
        return f"starts with {key[0]!r}"
    if len(key.encode()) > _MAX_BYTES:
        return f"is longer than {_MAX_BYTES} bytes"
    return None


def has_speaker_prefix(utt: str, spk: str) -> bool:
    """Tell whether `utt` is `spk`, or begins with it and a separator."""
    return utt == spk or (utt.startswith(spk) and utt[len(spk)] in "-_.")


def with_speaker_prefix(utt: str, spk: str) -> str:
    """Put the speaker before the utterance id unless it is there, so that both sort alike."""
    return utt if has_speaker_prefix(utt, spk) else f"{spk}-{utt}"
