"""F27: a shard of the teacher's cached features is cut off."""

from finding import Finding, cost
from recipe import STUDENT, Recipe, inside

STAGE = "5 distill"


def check(recipe: Recipe) -> Finding:
    shards = sorted((recipe.path / "exp/teacher_cache").glob("*/shard.*.safetensors"))
    cut = shards[1]
    cut.write_bytes(cut.read_bytes()[:-100])
    failed = recipe.train("exp/other")
    assert failed.status > 0, failed.output[-3000:]
    message = failed.line(rf"{cut.parent.name}: {cut.name} missing or cut off: run the caching again")
    assert not (recipe.path / "exp/other/checkpoint.pth").exists()
    # A bit that has flipped is found when the caching is looked at again, which run.sh does before a training.
    content = bytearray(shards[2].read_bytes())
    content[-5] ^= 1
    shards[2].write_bytes(content)
    for path in [recipe.path / STUDENT / ".done", *(recipe.path / STUDENT).glob("*.pth")]:
        path.unlink()
    before = recipe.files()
    again = recipe.run("--stage", "5", "--stop_stage", "5")
    assert again.status == 0, again.output[-3000:]
    again.line(f"{cut.name}, {shards[2].name} missing or damaged, made again")
    made = recipe.changed(before)
    remade = [name for name in made if "teacher_cache" in name]
    assert inside(made, "exp/teacher_cache/*", f"{STUDENT}/*"), made
    assert not [name for name in remade if shards[0].name in name], remade
    return Finding(
        "5 distill", failed.status, message, "no weights", cost(again, made, "the two shards, and the student")
    )
