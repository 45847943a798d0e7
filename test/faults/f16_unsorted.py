"""F16: a table is sorted as people sort, not by bytes."""

import subprocess

from finding import Finding, refuse
from recipe import Recipe

STAGE = "1 data"
FIX = "LC_ALL=C sort -o data/train/text data/train/text"


def check(recipe: Recipe) -> Finding:
    def inject() -> None:
        lines = sorted(recipe.lines("data/train/text"), reverse=True)
        recipe.write("data/train/text", "".join(f"{line}\n" for line in lines))

    def mend() -> None:
        # What the message says to type.
        subprocess.run(FIX, shell=True, cwd=recipe.path, check=True)

    says = [rf"^data/train/text:2: \S+: not in LC_ALL=C order: {FIX}"]
    return refuse(recipe, inject, [], says, mend=mend)
