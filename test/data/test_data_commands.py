"""The data commands start without the heavy libraries, and end with the right status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ["data_dir", "format_audio", "import_tsv", "make_tokens", "check_labels"]


def python(*arguments: str, cwd: Path | str = ".") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], check=False, env=env, cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_needs_neither_torch_nor_espnet(name):
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['{name}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('espnet2_kd.bin.{name}', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    heavy = {'torch', 'espnet2', 'espnet', 'transformers', 'torchaudio', 'scipy'} & set(sys.modules)\n"
        "    print(sorted(heavy), stop.code)\n"
    )
    done = python("-c", code)
    assert done.stdout.startswith("usage: ")
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_formatting_and_checking_import_no_torch(make_dir, tmp_path):
    make_dir()
    code = (
        "import sys\n"
        "from espnet2_kd.bin import format_audio, data_dir, make_tokens, check_labels\n"
        "format_audio.main(['data/train', 'dump/a'])\n"
        "data_dir.main(['filter', 'dump/a', 'dump/b'])\n"
        "make_tokens.main(['--token_type', 'char', '--text', 'dump/b/text', '--output_dir', 'char'])\n"
        "check_labels.main(['--data_dir', 'dump/b', '--token_dir', 'char', '--frame_ms', '10'])\n"
        "print(sorted({'torch', 'espnet2', 'espnet', 'transformers'} & set(sys.modules)))\n"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_faults_go_to_stderr_with_status_one(make_dir, tmp_path):
    folder = make_dir()
    (folder / "utt2spk").unlink()
    done = python("-m", "espnet2_kd.bin.format_audio", "data/train", "dump/x", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "data/train/utt2spk:0: -: file is missing: write data/train/utt2spk"
    assert "Traceback" not in done.stderr
