"""F11: an utterance is in text twice, with other words."""

from finding import Finding, refuse
from recipe import Recipe
from sound import LINE

STAGE = "1 data"


def check(recipe: Recipe) -> Finding:
    utt = recipe.utts[LINE - 1]

    def inject() -> None:
        lines = recipe.lines("data/train/text")
        lines.insert(LINE, f"{utt} something else")
        recipe.write("data/train/text", "".join(f"{line}\n" for line in lines))

    says = [
        rf"^data/train/text:{LINE + 1}: {utt}: duplicate id, lines {LINE} and {LINE + 1} \(different content\): remove one"
    ]
    return refuse(recipe, inject, ["data/train/text"], says)
