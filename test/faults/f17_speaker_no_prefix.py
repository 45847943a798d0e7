"""F17: utterances do not begin with their speakers."""

from finding import Finding
from recipe import Recipe

STAGE = "1 data"


def check(recipe: Recipe) -> Finding:
    utts = recipe.utts
    recipe.write("data/train/utt2spk", "".join(f"{utt} zz{utt[:2]}\n" for utt in utts))
    spk2utt = {}
    for utt in utts:
        spk2utt.setdefault(f"zz{utt[:2]}", []).append(utt)
    recipe.write("data/train/spk2utt", "".join(f"{spk} {' '.join(spk2utt[spk])}\n" for spk in sorted(spk2utt)))
    (recipe.path / "data/train/spk2gender").unlink(missing_ok=True)
    run = recipe.run("--stop_stage", "1")
    assert run.status == 0, run.output[-3000:]
    message = run.line(
        rf"^data/train/utt2spk:1: {utts[0]}: warning: utterance id does not start with its speaker.*harmless"
    )
    return Finding("1 data", 0, message, "nothing", "not needed")
