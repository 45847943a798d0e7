"""Words and ids as TRN lines that sclite takes literally.

sclite gives a meaning to `( ) { } @ ; * \\` inside text (optional words, alternatives, nothing, word tags, comments,
escapes), its SGML breaks on a double quote, and a word of 1000 bytes or more makes it write without end.
Escaping is one to one, so two words are equal after it exactly when they were equal before it.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import unquote

MAX_BYTES = 200
_UNSAFE = re.compile(r"""[(){}@;*\\"%\x00-\x20\x7f-\x9f]""")
# Also `-`, which ends the speaker, and `/`, so that no speaker is called Sum/Avg in the table of sclite.
_UNSAFE_IN_SPEAKER = re.compile(r"""[(){}@;*\\"%/\x00-\x20\x7f-\x9f-]""")
_SHORTENED = "%~"


def escape(word: str, unsafe: re.Pattern[str] = _UNSAFE) -> str:
    """Write unsafe characters of a word as `%XX`; a word above 200 bytes becomes its beginning and a hash."""
    escaped = unsafe.sub(lambda found: "".join(f"%{byte:02X}" for byte in found.group().encode()), word)
    if len(escaped.encode()) > MAX_BYTES:
        return f"{escaped[:40]}{_SHORTENED}{hashlib.sha256(word.encode()).hexdigest()[:32]}"
    return escaped


def unescape(escaped: str) -> str:
    """Undo `escape`; raises ValueError for a shortened word, whose rest is gone."""
    if _SHORTENED in escaped:
        raise ValueError(f"{escaped!r} was shortened")
    return unquote(escaped)


def make_id(speaker: str, utt: str) -> str:
    """Join speaker and utterance as `speaker-utt` for `sclite -i rm`, which ends the speaker at the first `-`."""
    return f"{escape(speaker, _UNSAFE_IN_SPEAKER)}-{escape(utt)}"


def speaker_of(trn_id: str) -> str:
    """Give the (escaped) speaker of an id made by `make_id`."""
    return trn_id.split("-", 1)[0]


def make_line(words: list[str], trn_id: str) -> str:
    """Make one line of a TRN file; no words at all is a blank utterance, whose words sclite counts as deleted."""
    return f"{' '.join(escape(word) for word in words)}\t({trn_id})\n"


def split_line(line: str) -> tuple[str, str]:
    """Split a line made by `make_line` into its escaped text and its id."""
    text, _, trn_id = line.rstrip("\n").rpartition("\t")
    return text, trn_id[1:-1]
