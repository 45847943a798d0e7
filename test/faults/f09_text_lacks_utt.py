"""F9: text lacks an utterance."""

from finding import Finding, refuse
from recipe import Recipe
from sound import LINE, at

STAGE = "1 data"


def check(recipe: Recipe) -> Finding:
    def inject() -> None:
        lines = recipe.lines("data/train/text")
        recipe.write("data/train/text", "".join(f"{line}\n" for line in lines[: LINE - 1] + lines[LINE:]))

    says = [
        at(recipe, "in data/train/wav.scp but not in data/train/text: add it to data/train/text, or drop it everywhere")
    ]
    return refuse(recipe, inject, ["data/train/text"], says)
