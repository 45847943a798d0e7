"""S1: options and configs that YAML or Python would execute."""

from finding import Finding
from program import refused
from recipe import STUDENT, Recipe

STAGE = "5 distill"


def check(recipe: Recipe) -> Finding:
    touch = f"touch {recipe.path}/executed"
    tag = f"!!python/object/apply:os.system ['{touch}']"
    message = refused(
        recipe, recipe.train("exp/other", "--encoder_conf", f"x={tag}"), "--encoder_conf: .*is no plain YAML"
    )
    code = f"__import__('os').system('{touch}') or {{}}"
    refused(recipe, recipe.train("exp/other", "--teacher_conf", code), "--teacher_conf: ")
    base = (recipe.path / "conf/student.yaml").read_text()
    recipe.write("conf/evil.yaml", f"{base}spare: {tag}\n")
    refused(recipe, recipe.train("exp/other", "--config", "conf/evil.yaml"), "could not determine a constructor")
    config = (recipe.path / STUDENT / "config.yaml").read_text()
    recipe.write(f"{STUDENT}/config.yaml", f"{config}spare: {tag}\n")
    decode = ("--exp", STUDENT, "--data_dir", "dump/raw/test", "--output_dir", "exp/decoded", "--force")
    refused(recipe, recipe.module("decode", *decode), "config.yaml:[0-9]+: .*is no YAML of plain values")
    assert not (recipe.path / "exp/other/checkpoint.pth").exists()
    return Finding("5 distill", 2, message, "nothing was executed or written", "not needed")
