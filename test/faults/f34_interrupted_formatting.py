"""F34: formatting, and the caching of a teacher, are killed half way."""

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

from finding import Finding, cost
from recipe import OPTIONS, TEACHER, Recipe, wait_for

STAGE = "5 distill"


def content(folder: Path) -> dict[str, str]:
    """What the files hold, by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith((".lock", ".started", ".done", ".json"))
    }


def check(recipe: Recipe) -> Finding:
    whole = content(recipe.path / "dump/raw/org/train")
    shutil.rmtree(recipe.path / "dump/raw/org/train")
    first = recipe.path / "dump/raw/org/train/data/format.1.json"
    process = recipe.start("bash", "run.sh", *OPTIONS, "--stop_stage", "2", "--nj", "1")
    wait_for(first.exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (recipe.path / "dump/raw/org/train/wav.scp").exists()
    before = recipe.files()
    again = recipe.run("--stop_stage", "2")
    assert again.status == 0, again.output[-3000:]
    made = recipe.changed(before)
    assert not [name for name in made if "/format.1" in name], "the first part was formatted again"
    assert content(recipe.path / "dump/raw/org/train") == whole
    cache(recipe)
    message = again.line(r"format dump/raw/org/train: \d+/\d+")
    return Finding("2 feats", -9, message, "whole parts", cost(again, made, "what was missing; byte by byte the same"))


def cache(recipe: Recipe) -> None:
    """The third shard's line is being written when the process is killed."""
    options = ("--config", "conf/student.yaml", "--teacher_exp", TEACHER, "--shard_utts", "20", "--fs", "16k")
    options += ("--batch_seconds", "20", "--num_threads", "1", "--data_dir", "dump/raw/train", "dump/raw/valid")
    straight = recipe.module("cache_teacher", *options, "--cache_dir", "exp/straight")
    assert straight.status == 0, straight.output[-3000:]
    killed = recipe.module("cache_teacher", *options, "--cache_dir", "exp/cut", KD_FAULT="kill */index.jsonl 3")
    assert killed.status == -9, killed.output[-3000:]
    shards = {path.name: path.stat().st_mtime_ns for path in (recipe.path / "exp/cut").glob("*/shard*")}
    (index,) = (recipe.path / "exp/cut").glob("*/index.jsonl")
    known = {json.loads(line).get("name") for line in index.read_text().splitlines(True) if line.endswith("\n")}
    time.sleep(0.01)
    again = recipe.module("cache_teacher", *options, "--cache_dir", "exp/cut")
    assert again.status == 0, again.output[-3000:]
    after = {path.name: path.stat().st_mtime_ns for path in (recipe.path / "exp/cut").glob("*/shard*")}
    assert known & shards.keys() and all(after[name] == shards[name] for name in known & shards.keys())
    assert content(recipe.path / "exp/cut") == content(recipe.path / "exp/straight")
