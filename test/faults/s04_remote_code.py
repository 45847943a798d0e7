"""S4: a model that brings code of its own."""

import json

import yaml
from finding import Finding
from program import refused
from recipe import STUDENT, Recipe

STAGE = "5 distill"


def check(recipe: Recipe) -> Finding:
    code = f"from pathlib import Path\nPath({str(recipe.path / 'executed')!r}).touch()\n"
    recipe.write("hostile/modeling.py", code)
    own = {name: f"modeling.{name}" for name in ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoFeatureExtractor")}
    recipe.write("hostile/config.json", json.dumps({"model_type": "hostile", "auto_map": own}))
    recipe.write("hostile/preprocessor_config.json", json.dumps({"auto_map": own}))
    recipe.write(
        "hostile/tokenizer_config.json", json.dumps({"auto_map": {"AutoTokenizer": ["modeling.AutoTokenizer", None]}})
    )
    for kind in ("hf_speech", "hf_text"):
        command = recipe.train_command("exp/other", "--teacher", kind, "--teacher_cache", "none")
        command[command.index("--teacher_conf") + 1] = "model=hostile"
        refused(recipe, recipe.call(*command), "(?i)trust_remote_code|hostile")
    asks = ("--decoder_conf", "overriding_architecture_config={trust_remote_code: true}")
    message = refused(recipe, recipe.train("exp/other", *asks), "trust_remote_code would run code")
    path = recipe.path / STUDENT / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["decoder_conf"]["overriding_architecture_config"] = "hidden.json"
    recipe.write("hidden.json", json.dumps({"trust_remote_code": True}))
    path.write_text(yaml.safe_dump(config))
    decode = ("--exp", STUDENT, "--data_dir", "dump/raw/test", "--output_dir", "exp/decoded", "--force")
    refused(recipe, recipe.module("decode", *decode), "trust_remote_code would run code")
    return Finding("5 distill", 1, message, "nothing was executed", "not needed")
