"""Written sentences as the words said."""

from __future__ import annotations

import re

_PUNCTUATION = re.compile(r"[^\w' ]|_")


def plain_words(text: str) -> str:
    """Return lower-case words without punctuation but the apostrophe in a word; digits stay as they are."""
    text = _PUNCTUATION.sub(" ", text.lower().replace("\u2019", "'"))
    words = (word.strip("'") for word in text.split())
    return " ".join(word for word in words if word)
