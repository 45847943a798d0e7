"""S2: values of options that a shell would execute."""

from finding import Finding
from recipe import Recipe

STAGE = "5 distill"


def check(recipe: Recipe) -> Finding:
    lines = []
    for value in (
        "$(touch executed)",
        "`touch executed`",
        "; touch executed",
        "x' ; touch executed '",
        "a[$(touch executed)]",
    ):
        for name in ("asr_args", "local_data_opts", "seeds", "token_type", "nj", "train_set", "score_opts", "report"):
            run = recipe.run("--dry_run", "true", f"--{name}", value)
            lines += [line for line in run.output.splitlines() if line.startswith("kd.sh: ")]
            assert not list(recipe.path.rglob("executed")), f"--{name} {value!r} was executed"
    named = recipe.run("--a[$(touch executed)]", "1")
    assert named.status == 1 and not (recipe.path / "executed").exists()
    return Finding(
        "0 start", 1, named.line("invalid option"), "nothing was executed", f"{len(lines)} of 40 refused at the start"
    )
