"""F29: the cache has not all utterances of the training set."""

import json

from finding import Finding, cost
from recipe import STUDENT, Recipe, inside

STAGE = "5 distill"


def check(recipe: Recipe) -> Finding:
    (index,) = (recipe.path / "exp/teacher_cache").glob("*/index.jsonl")
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    # The validation set's shard is gone, with its line.
    gone = lines.pop()
    index.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (index.parent / gone["name"]).unlink()
    some = sorted(gone["utts"])[0]
    failed = recipe.train("exp/other")
    assert failed.status > 0, failed.output[-3000:]
    message = failed.line(rf"\d+ utterances of .*speech_shape are not in the cache \({some} .*run the caching again")
    assert not (recipe.path / "exp/other/checkpoint.pth").exists()
    (recipe.path / STUDENT / ".done").unlink()
    before = recipe.files()
    again = recipe.run("--stage", "5", "--stop_stage", "5")
    assert again.status == 0, again.output[-3000:]
    made = recipe.changed(before)
    filled = [name for name in made if "teacher_cache" in name]
    assert inside(filled, "*/index.jsonl", f"*/{gone['name']}"), filled
    return Finding("5 distill", failed.status, message, "no weights", cost(again, made, "the shard that was missing"))
