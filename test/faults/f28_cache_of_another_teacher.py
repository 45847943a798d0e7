"""F28: the cached features are another teacher's."""

import json

import torch
from finding import Finding
from recipe import MODEL, TEACHER, Recipe

STAGE = "5 distill"


def check(recipe: Recipe) -> Finding:
    path = recipe.path / TEACHER / MODEL
    kept, target = path.read_bytes(), path.resolve()
    state = torch.load(path, weights_only=True)
    torch.save({key: value + 1 if value.is_floating_point() else value for key, value in state.items()}, target)
    failed = recipe.train("exp/other")
    assert failed.status > 0, failed.output[-3000:]
    message = failed.line(
        "no features of this teacher and these taps are cached in exp/teacher_cache: cache them first"
    )
    refused = recipe.run("--stage", "5", "--stop_stage", "5")
    assert refused.status > 0, refused.output[-3000:]
    refused.line("exp/asr_student_seed1: trained from the inputs marked < above")
    target.write_bytes(kept)
    # Features that lie where another teacher's belong.
    (index,) = (recipe.path / "exp/teacher_cache").glob("*/index.jsonl")
    whole = index.read_text()
    head, *rest = whole.splitlines()
    head = json.loads(head)
    head["made_by"]["files"] = dict.fromkeys(head["made_by"]["files"], "0" * 64)
    index.write_text("\n".join([json.dumps(head), *rest]) + "\n")
    mixed = recipe.train("exp/other")
    assert mixed.status > 0
    mixed.line("made by something else: remove it and cache again")
    index.write_text(whole)
    assert not (recipe.path / "exp/other/checkpoint.pth").exists()
    again = recipe.run("--stage", "5", "--stop_stage", "5")
    assert again.status == 0, again.output[-3000:]
    again.line("Done before: exp/asr_student_seed1")
    return Finding("5 distill", failed.status, message, "no weights", f"{again.seconds:.0f} s: nothing")
