"""F13: the words of a test set have characters that the tokens lack."""

from finding import Finding, refuse
from recipe import Recipe

STAGE = "2 feats"


def check(recipe: Recipe) -> Finding:
    utt = recipe.lines("data/test/text")[3].split()[0]
    return refuse(
        recipe,
        lambda: recipe.set_line("data/test/text", 4, f"{utt} {'ж щ ' * 30}"),
        ["data/test/text"],
        [
            rf"^dump/raw/test/text:4: {utt}: \d+ of \d+ tokens unknown \(\d.*most frequent: .*ж.*clean the text.*--max_oov"
        ],
        leaves=["dump/raw/test/*"],
        repeats=["dump/raw/test/*", "data/token_list/*"],
    )
