"""F36: a training goes on with a changed config."""

from finding import Finding, cost
from recipe import STUDENT, Recipe

STAGE = "5 distill"


def check(recipe: Recipe) -> Finding:
    config = (recipe.path / "conf/student.yaml").read_text()
    (recipe.path / STUDENT / ".done").unlink()
    before = recipe.files()
    options = ("--stage", "5", "--stop_stage", "5")
    messages = []
    for change in (config.replace("weight: 0.01", "weight: 0.5"), config + "optim_conf: {weight_decay: 0.3}\n"):
        recipe.write("conf/student.yaml", change)
        refused = recipe.run(*options)
        assert refused.status > 0, refused.output[-3000:]
        refused.line(r"< \w+  conf/student.yaml")
        messages.append(
            refused.line(
                "exp/asr_student_seed1: trained from the inputs marked < above, now those marked >: move it away"
            )
        )
    recipe.write("conf/student.yaml", config)
    refused = recipe.run(*options, "--asr_args", "--optim_conf lr=0.1")
    assert refused.status > 0
    refused.line(r"> --optim_conf lr=0.1  asr_args")
    left = [name for name in recipe.changed(before) if name.endswith(".pth")]
    assert not left, left
    again = recipe.run(*options)
    assert again.status == 0, again.output[-3000:]
    made = [name for name in recipe.changed(before) if name.endswith("epoch.pth")]
    assert not made, made
    return Finding("5 distill", refused.status, messages[0], "nothing", cost(again, made, "no epoch"))
