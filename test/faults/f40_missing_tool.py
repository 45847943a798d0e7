"""F40: a program that a later stage needs is missing."""

from finding import Finding, cost
from recipe import Recipe

STAGE = "0 start"


def check(recipe: Recipe) -> Finding:
    before = recipe.files()
    failed = recipe.run(KD_FAULT="hide sclite")
    assert failed.status == 1, failed.output[-3000:]
    message = failed.line("check_env: missing sclite: please type  sudo apt-get install sctk")
    assert failed.stage == "0 start" and not recipe.changed(before)
    # Stages that do without it run.
    assert recipe.run("--stop_stage", "2", KD_FAULT="hide sclite").status == 0
    again = recipe.run("--stop_stage", "7")
    assert again.status == 0, again.output[-3000:]
    made = recipe.changed(before)
    assert not made, made
    return Finding(failed.stage, failed.status, message, "nothing", cost(again, made))
