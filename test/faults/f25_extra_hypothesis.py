"""F25: a hypothesis is there twice, and one of no utterance."""

from finding import Finding
from hypotheses import TEXT, score
from recipe import Recipe

STAGE = "7 score"


def check(recipe: Recipe) -> Finding:
    lines = recipe.lines(TEXT)
    utt, num = lines[2].split()[0], len(lines)
    more = [*lines, f"{utt} something else", "nobody lights on"]
    says = [rf"{TEXT}:{num + 1}: {utt}: id is already on line 3: keep one line for each id"]
    says.append(rf"{TEXT}:{num + 2}: nobody: no such utterance in dump/raw/test/text: decode the set that is scored")
    return score(recipe, lambda: recipe.write(TEXT, "".join(f"{line}\n" for line in more)), says)
