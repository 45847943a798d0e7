"""S5: a packed model tells of the machine that it was trained on."""

import getpass
import re
import socket
import zipfile

import yaml
from finding import Finding
from recipe import MODEL, STUDENT, TEACHER, Recipe

STAGE = "8 pack"


def check(recipe: Recipe) -> Finding:
    # Trained with absolute paths all over.
    here = recipe.path
    options = (
        "--teacher_conf",
        f"exp={here / TEACHER}",
        "--bpemodel",
        str(next(here.glob("data/token_list/*/bpe.model"))),
    )
    stats = next(here.glob("exp/asr_stats*/train/feats_stats.npz"))
    options += ("--normalize_conf", f"stats_file={stats}")
    trained = recipe.train("exp/leaky", *options)
    assert trained.status == 0, trained.output[-3000:]
    pack = ("--exp", here / "exp/leaky", "--option", stats, "--option", options[3], "--outpath", "leaky.zip")
    packed = recipe.module("pack", *pack)
    assert packed.status == 0, packed.output[-3000:]
    with zipfile.ZipFile(here / "leaky.zip") as bundle:
        members = {name: bundle.read(name) for name in bundle.namelist()}
    for name, content in members.items():
        packed.line(rf"^ *{len(content)}  {re.escape(name)}$")
        for secret in (str(here), str(here.parents[3])):
            assert secret.encode() not in content and secret not in name, f"{name} holds {secret}"
        if name.endswith(".yaml"):
            for secret in {socket.gethostname(), getpass.getuser()}:
                words = yaml.safe_dump(yaml.safe_load(content)).replace("/", " ").replace(":", " ").split()
                assert secret not in words, f"{name} holds {secret}"
    decode = ("--data_dir", "dump/raw/test", "--output_dir", "exp/decoded")
    read = recipe.module("decode", "--exp", "leaky.zip", *decode)
    assert read.status == 0, read.output[-3000:]
    config = yaml.safe_load((here / STUDENT / "config.yaml").read_text())
    config["non_linguistic_symbols"] = "/home/somebody/symbols.txt"
    recipe.write(f"{STUDENT}/config.yaml", yaml.safe_dump(config))
    refused = recipe.module("pack", "--exp", STUDENT, "--model_file", MODEL, "--outpath", "other.zip")
    message = refused.line(
        "config.yaml: non_linguistic_symbols: '/home/somebody/symbols.txt' is a place on this machine: give"
    )
    assert refused.status == 1 and not (here / "other.zip").exists()
    return Finding(
        "8 pack", refused.status, message, "no archive", f"{packed.seconds:.0f} s: an archive of {len(members)} files"
    )
