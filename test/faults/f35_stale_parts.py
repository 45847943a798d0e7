"""F35: parts and logs of an earlier run with more jobs."""

from finding import Finding, cost
from recipe import DECODED, Recipe

STAGE = "6 decode"


def check(recipe: Recipe) -> Finding:
    before = recipe.lines(f"{DECODED}/text")
    for name in ("text", "token", "score"):
        recipe.write(f"{DECODED}/logdir/output.3/{name}", "stale nothing of the kind\n")
        recipe.write(f"{DECODED}/logdir/output.2/{name}", "stale nothing of the kind\n")
    recipe.write(f"{DECODED}/logdir/decode.3.log", "# stale\n# Ended (code 0) at x, elapsed time 0 seconds\n")
    recipe.write("dump/raw/test/split3utt/3/text", "stale nothing of the kind\n")
    (recipe.path / DECODED / "logdir/.done").unlink()
    (recipe.path / DECODED / ".decoded").unlink()
    run = recipe.run("--stage", "6", "--stop_stage", "6", "--inference_nj", "1")
    assert run.status == 0, run.output[-3000:]
    text = recipe.lines(f"{DECODED}/text")
    assert text == before, "what one job decodes differs from what two decode"
    assert not [line for name in ("token", "score") for line in recipe.lines(f"{DECODED}/{name}") if "stale" in line]
    again = recipe.run("--stage", "6", "--stop_stage", "6", "--inference_nj", "1")
    assert again.status == 0 and f"Done before: {DECODED}" in again.output, again.output[-3000:]
    message = "no part of a job that was not run is joined"
    return Finding("6 decode", run.status, message, "old parts, not read", cost(again, [], "nothing"))
