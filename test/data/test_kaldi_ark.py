"""kaldiio without commands and pickles; in a process of its own, since it stays so."""

import subprocess
import sys

import pytest

PROGRAM = """
import pickle, sys
import numpy as np
import kaldiio
from espnet2_kd.data.kaldi_ark import refuse_programs

class Program:
    def __reduce__(self):
        import os
        return os.mkdir, ("hit",)

kaldiio.save_ark("m.ark", {"u": np.ones((2, 3), np.float32)}, scp="m.scp")
open("pickle.ark", "wb").write(b"u PKL" + pickle.dumps(Program()))
open("pickle.scp", "w").write("u pickle.ark:2\\n")
open("command.scp", "w").write("u mkdir hit; cat m.ark |\\n")
refuse_programs()
print(kaldiio.load_scp(sys.argv[1])["u"].sum())
"""


@pytest.mark.parametrize(
    ("scp", "words"),
    [
        ("m.scp", "6.0"),
        ("pickle.scp", "pickle.ark: holds a pickle"),
        ("command.scp", "not an archive: mkdir hit; cat m.ark"),
    ],
)
def test_matrices_are_read_and_programs_refused(scp, words, tmp_path, monkeypatch):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, scp],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(sys.modules[__name__].__file__).rsplit("/test/", 1)[0], "PATH": ""},
    )
    assert words in done.stdout + done.stderr
    assert (done.returncode == 0) == (scp == "m.scp")
    assert not (tmp_path / "hit").exists()
