"""Rules for utterance and speaker ids, which become file names, TRN ids and shell words."""

from __future__ import annotations

import re
from collections.abc import Collection

_FORBIDDEN = re.compile(r"[\s()/\\|;`\"'<>*?$&\x00-\x1f\x7f]")
_MAX_BYTES = 200
# Bytes above 127 belong to characters that are spaces or not, which `all_safe` leaves to its caller.
_SAFE = bytes(b for b in range(0x21, 0x100) if b >= 0x80 or not _FORBIDDEN.match(chr(b))) + b"\n"


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


def all_safe(keys: Collection[bytes]) -> bool:
    """Tell whether none of many UTF-8 ids, which hold no odd spaces, has an `id_fault`."""
    if not keys:
        return True
    column = b"\n" + b"\n".join(keys)
    if column.translate(None, _SAFE) or b".." in column or b"\n." in column or b"\n-" in column:
        return False
    return b"" not in keys and len(max(keys, key=len)) <= _MAX_BYTES


def has_speaker_prefix(utt: str, spk: str) -> bool:
    """Tell whether `utt` is `spk`, or begins with it and a separator."""
    return utt == spk or (utt.startswith(spk) and utt[len(spk)] in "-_.")


def with_speaker_prefix(utt: str, spk: str) -> str:
    """Put the speaker before the utterance id unless it is there, so that both sort alike."""
    return utt if has_speaker_prefix(utt, spk) else f"{spk}-{utt}"
