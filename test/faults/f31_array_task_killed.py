"""F31: one job of an array is killed."""

import time

from finding import Finding, cost
from recipe import Recipe, inside

STAGE = "3 stats"


def check(recipe: Recipe) -> Finding:
    logdir = next((recipe.path / "exp").glob("asr_stats_*")) / "logdir"
    name = logdir.parent.name
    for path in (logdir / ".done", *logdir.glob("stats.*.log")):
        path.unlink()
    options = ("--stage", "3", "--stop_stage", "3")
    failed = recipe.run(*options, KD_FAULT="kill */logdir/stats.2/train/* 1")
    late = time.time() - (logdir / "stats.2.log").stat().st_mtime
    assert failed.status > 0, failed.output[-3000:]
    message = failed.line(r"logdir/stats.2.log: killed by SIGKILL \(out of memory\?\)")
    failed.line(r"run.pl: 1 / 2 failed, log is in .*stats.\*.log")
    assert late < 10, f"named {late:.0f} s after the job had ended"
    assert not (logdir / ".done").exists()
    before = recipe.files()
    first_log = (logdir / "stats.1.log").read_bytes()
    again = recipe.run(*options)
    assert again.status == 0, again.output[-3000:]
    assert (logdir / "stats.1.log").read_bytes() == first_log, "the job that had ended well was run again"
    made = recipe.changed(before)
    assert inside(
        made, f"exp/{name}/logdir/stats.2/*", f"exp/{name}/logdir/.done", f"exp/{name}/.done", f"exp/{name}/[tv]*"
    ), made
    return Finding(
        failed.stage, failed.status, message, "logs; no statistics", cost(again, made, "the job that was killed")
    )
