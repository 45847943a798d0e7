"""S3: a command in place of a Kaldi archive, and a pickle in one, given to a training."""

import pickle

from finding import Finding
from program import program, refused
from recipe import Recipe

STAGE = "5 distill"


def check(recipe: Recipe) -> Finding:
    utts = [line.split()[0] for line in recipe.lines("dump/raw/train/wav.scp")]
    recipe.write("commands.scp", "".join(f"{utt} touch {recipe.path}/executed; cat x.ark |\n" for utt in utts))
    recipe.write("pickles.ark", b"x PKL" + pickle.dumps(program(recipe)))
    recipe.write("pickles.scp", "".join(f"{utt} pickles.ark:2\n" for utt in utts))
    messages = []
    for scp, pattern in (
        ("commands.scp", "is a command, not an archive: touch"),
        ("pickles.scp", "pickles.ark: holds a pickle"),
    ):
        command = recipe.train_command("exp/other")
        at = next(n for n, word in enumerate(command) if word.endswith("train/wav.scp,speech,sound"))
        command[at] = f"{scp},speech,kaldi_ark"
        messages.append(refused(recipe, recipe.call(*command), pattern))
    assert not (recipe.path / "exp/other/checkpoint.pth").exists()
    again = recipe.train("exp/other")
    assert again.status == 0, again.output[-3000:]
    return Finding("5 distill", 1, messages[0], "nothing was executed", f"{again.seconds:.0f} s: this training")
