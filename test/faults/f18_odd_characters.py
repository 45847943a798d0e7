"""F18: CRLF, BOM, no-break spaces and tabs in text."""

from finding import Finding, refuse
from recipe import Recipe

STAGE = "1 data"


def check(recipe: Recipe) -> Finding:
    before = (recipe.path / "data/train/text").read_text(encoding="utf-8")

    def inject() -> None:
        lines = before.splitlines()
        lines[0] = f"\ufeff{lines[0]}"
        lines[1] += "\r"
        lines[2] = lines[2].replace(" ", "\u00a0")
        lines[3] = lines[3].replace(" ", "\t", 1)
        recipe.write("data/train/text", "".join(f"{line}\n" for line in lines))

    def mend() -> None:
        fixed = recipe.module("data_dir", "fix", "--normalise", "data/train")
        assert fixed.status == 0, fixed.output
        assert (recipe.path / "data/train/text").read_text(encoding="utf-8") == before

    names = ("BOM|byte order", "CR|carriage", "no-break|NBSP", "tab")
    fix = "python -m espnet2_kd.bin.data_dir fix --normalise data/train"
    says = [
        rf"(?i)^data/train/text:{n}: {utt}: .*({name}).*{fix}"
        for n, (utt, name) in enumerate(zip(recipe.utts, names), 1)
    ]
    return refuse(recipe, inject, [], says, mend=mend)
