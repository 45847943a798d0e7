"""tools/check_env.py and tools/setup.sh: what is missing is named with its remedy, what is there is left alone."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / "tools/check_env.py"


def check(*args, env=None, python=sys.executable):
    return subprocess.run([python, *args], capture_output=True, text=True, env=env)


def test_nothing_is_missing_here_and_the_look_is_quick():
    start = time.monotonic()
    result = check(CHECK, "--quiet", "--stages", "1-8")
    assert (result.returncode, result.stderr) == (0, "")
    assert time.monotonic() - start < 2


def test_a_missing_program_is_named_with_the_line_that_installs_it(tmp_path):
    """On a machine whose PATH has nothing, seen from a copy that does not know Debian's place for SCTK."""
    copy = tmp_path / "check_env.py"
    copy.write_text(CHECK.read_text().replace("/usr/lib/sctk/bin", str(tmp_path)))
    env = {**os.environ, "PATH": str(tmp_path)}
    result = check(copy, "--quiet", "--stages", "7", env=env)
    assert result.returncode == 1
    assert result.stderr == "check_env: missing sclite, sc_stats: please type  sudo apt-get install sctk\n"
    assert check(copy, "--quiet", "--stages", "4-6", env=env).returncode == 0


def test_outside_the_environment_it_looks_at_that_of_the_project(tmp_path):
    """As typed after the set-up, with the system's Python first in PATH."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text('#!/bin/sh\necho "asked: $*"\n')
    python.chmod(0o755)
    result = check("-S", CHECK, "--stages", "4", env={**os.environ, "KD_VENV": str(tmp_path)})
    assert result.stdout == f"asked: {CHECK} --stages 4\n"


def test_a_missing_package_is_named_with_the_set_up(tmp_path):
    """-S leaves site-packages out, as on a machine before the set-up."""
    result = check("-S", CHECK, "--quiet", "--stages", "4", env={**os.environ, "KD_VENV": str(tmp_path)})
    assert result.returncode == 1
    assert "torch" in result.stderr
    assert "make setup" in result.stderr
    assert check("-S", CHECK, "--quiet").returncode == 0


def test_the_list_says_what_each_stage_needs():
    result = check(CHECK)
    assert result.returncode == 0
    (sclite,) = [line for line in result.stdout.splitlines() if "sclite" in line]
    assert sclite.endswith("7 score")
    (loss,) = [line for line in result.stdout.splitlines() if "rnnt_loss" in line]
    assert loss.startswith("ok")


@pytest.mark.parametrize("stages", ["10", "0-3", "x", "1-x"])
def test_unknown_stages_are_refused(stages):
    assert check(CHECK, "--stages", stages).returncode == 2


@pytest.fixture
def set_up(tmp_path):
    """Function that runs a copy of the set-up with a `uv` that only writes down what it is asked."""
    tools = tmp_path / "tools"
    programs = tmp_path / "bin"
    tools.mkdir()
    programs.mkdir()
    for name in ("setup.sh", "requirements.lock"):
        (tools / name).write_text((ROOT / "tools" / name).read_text())
    for name in ("sctk", "espeak-ng", "shellcheck", "bats", "sbatch", "munge"):
        (programs / name).symlink_to("/bin/true")
    uv = programs / "uv"
    uv.write_text(
        "#!/usr/bin/env bash\n"
        f'echo "$* index=${{UV_EXTRA_INDEX_URL}}" >>{tmp_path}/calls\n'
        f'if [[ $1 == venv ]]; then mkdir -p "${{@: -1}}/bin"; ln -s {sys.executable} "${{@: -1}}/bin/python"; fi\n'
        f'[[ "$*" != *--no-deps* || ! -e {tmp_path}/offline ]]\n'
    )
    uv.chmod(0o755)

    def run(**variables):
        (tmp_path / "calls").write_text("")
        drop = {"KD_VENV", "PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL"}
        env = {k: v for k, v in os.environ.items() if k not in drop}
        env |= {"PATH": f"{programs}:{env['PATH']}", "KD_PYTHON": sys.executable, **variables}
        result = subprocess.run(["bash", tools / "setup.sh"], capture_output=True, text=True, env=env)
        return result, (tmp_path / "calls").read_text()

    run.folder = tmp_path
    return run


def test_set_up_installs_the_lock_once(set_up):
    result, calls = set_up()
    assert result.returncode == 0, result.stderr
    assert "requirements.lock torch torchaudio" in calls
    assert "--no-deps --requirement" in calls
    assert (set_up.folder / "tools/venv/nltk_data/corpora/cmudict.zip").is_file()
    result, calls = set_up()
    assert (result.returncode, calls, result.stdout) == (0, "", "")


def test_set_up_takes_an_interrupted_run_up(set_up):
    (set_up.folder / "offline").touch()
    result, _ = set_up()
    assert result.returncode != 0
    assert not (set_up.folder / "tools/venv/.kd-complete").exists()
    (set_up.folder / "offline").unlink()
    result, calls = set_up()
    assert result.returncode == 0
    assert "--no-deps" in calls
    assert "venv --quiet" not in calls


def test_set_up_removes_nothing_that_it_has_not_made(set_up):
    home = set_up.folder / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years")
    result, _ = set_up(KD_VENV=str(home))
    assert result.returncode == 1 and f"{home} is no virtual environment, and not empty" in result.stderr
    assert (home / "thesis.txt").read_text() == "years"
    (home / "thesis.txt").unlink()
    assert set_up(KD_VENV=str(home))[0].returncode == 0


def test_set_up_follows_a_changed_lock(set_up):
    set_up()
    lock = set_up.folder / "tools/requirements.lock"
    lock.write_text(lock.read_text() + "extra==1\n")
    _, calls = set_up()
    assert "--no-deps" in calls


def test_an_index_meant_for_pip_reaches_uv(set_up):
    _, calls = set_up(PIP_EXTRA_INDEX_URL="https://mirror.example/simple")
    assert "index=https://mirror.example/simple" in calls


@pytest.mark.parametrize("works", [True, False])
def test_missing_programs_are_installed_or_the_line_is_printed(set_up, works):
    """With an `apt-get` that only writes down what it is asked; root, or a `sudo` that asks nothing, is what it takes."""
    programs = set_up.folder / "bin"
    (programs / "sctk").unlink()
    for name in ("bash", "env", "sha256sum", "cut", "dirname", "mkdir", "rm", "ln", "true"):
        (programs / name).symlink_to(shutil.which(name))
    (programs / "id").write_text("#!/usr/bin/env bash\necho 1000\n")
    (programs / "sudo").write_text('#!/usr/bin/env bash\nshift\nexec "$@"\n')
    (programs / "apt-get").write_text(
        f'#!/usr/bin/env bash\necho "apt-get $*" >>{set_up.folder}/calls\n{str(works).lower()}\n'
    )
    for name in ("id", "sudo", "apt-get"):
        (programs / name).chmod(0o755)
    result, calls = set_up(PATH=str(programs))
    assert result.returncode == 0, result.stderr
    assert ("apt-get install -qq -y sctk\n" in calls) == works
    assert ("please type:  sudo apt-get install sctk" in result.stdout) != works
    assert "--no-deps" in calls


def test_the_lock_pins_everything_and_names_no_place():
    lines = [line for line in (ROOT / "tools/requirements.lock").read_text().splitlines() if line[:1] != "#"]
    assert all("==" in line.split(";")[0] for line in lines)
    assert not [line for line in lines if "://" in line or "@" in line or line.startswith("-")]
    names = {line.split("==")[0] for line in lines}
    assert {"torch", "torchaudio", "espnet", "kaldiio", "sentencepiece", "pytest"} <= names
