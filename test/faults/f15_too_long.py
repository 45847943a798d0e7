"""F15: an utterance far longer than any other."""

from dropped import drop
from finding import Finding
from recipe import Recipe
from sound import replace, sound

STAGE = "2 feats"


def check(recipe: Recipe) -> Finding:
    return drop(recipe, lambda: replace(recipe, sound(300.0)), "longer than 20 s", "--max_wav_duration")
