"""F10: an utterance is in wav.scp twice."""

from finding import Finding, refuse
from recipe import Recipe

STAGE = "1 data"


def check(recipe: Recipe) -> Finding:
    def inject() -> None:
        lines = recipe.lines("data/train/wav.scp")
        lines.insert(20, lines[2])
        recipe.write("data/train/wav.scp", "".join(f"{line}\n" for line in lines))

    says = [rf"^data/train/wav.scp:21: {recipe.utts[2]}: duplicate id, lines 3 and 21 \(same content\): remove one"]
    return refuse(recipe, inject, ["data/train/wav.scp"], says)
