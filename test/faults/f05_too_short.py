"""F5: an utterance of 50 ms."""

from dropped import drop
from finding import Finding
from recipe import Recipe
from sound import replace, sound

STAGE = "2 feats"


def check(recipe: Recipe) -> Finding:
    return drop(recipe, lambda: replace(recipe, sound(0.05)), "shorter than 0.1 s", "--min_wav_duration")
