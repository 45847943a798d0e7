"""F22: losses are not finite."""

import io

import numpy as np
import soundfile
from finding import Finding
from recipe import STUDENT, Recipe
from sound import LINE
from weights import same_weights

STAGE = "5 distill"


def check(recipe: Recipe) -> Finding:
    utt, entry = recipe.lines("dump/raw/train/wav.scp")[LINE - 1].split()
    kept = (recipe.path / entry).read_bytes()
    num = soundfile.info(recipe.path / entry).frames
    stream = io.BytesIO()
    soundfile.write(stream, np.full(num, np.nan, np.float32), 16000, format="WAV", subtype="FLOAT")
    recipe.write(entry, stream.getvalue())
    # Enough updates for every utterance to come up.
    options = ("--num_iters_per_epoch", "12", "--scheduler_conf", "total_steps=24", "--max_epoch", "1")
    stopped = recipe.train("exp/stopped", *options, "--max_skipped_updates", "1")
    assert stopped.status > 0, stopped.output[-3000:]
    message = stopped.line(
        rf"1 updates in a row had no finite gradient. The last were .*{utt}.*lower the learning rate"
    )
    assert not (recipe.path / "exp/stopped/checkpoint.pth").exists()
    assert not list((recipe.path / "exp/stopped").glob("*.ave*.pth"))
    passed = recipe.train("exp/passed", *options)
    assert passed.status == 0, passed.output[-3000:]
    passed.line(rf"No update: loss or gradient is not finite at .*{utt}")
    recipe.write(entry, kept)
    again = recipe.train("exp/stopped")
    assert again.status == 0, again.output[-3000:]
    same_weights(recipe.path / "exp/stopped", recipe.path / STUDENT)
    return Finding("5 distill", stopped.status, message, "no weights", f"{again.seconds:.0f} s: this training")
