from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from espnet2_kd.data.parts import Part, file_state, fingerprint, run_parts
from espnet2_kd.data.problems import DataError


def write_or_die(payload: dict) -> dict:
    if payload.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    Path(payload["file"]).write_text("x" * payload["num"])
    return {"files": {Path(payload["file"]).name: payload["num"]}}


def parts(folder: Path, **changes: object) -> list[Part]:
    payloads = [{"file": str(folder / f"{n}.txt"), "num": n, **(changes if n == 2 else {})} for n in range(4)]
    return [Part(folder / f"p.{n}.json", fingerprint(n), payload, 1) for n, payload in enumerate(payloads)]


def test_killed_worker_is_a_message_and_other_parts_are_kept(tmp_path):
    with pytest.raises(DataError, match="a worker process was killed: run it again: finished parts are kept"):
        run_parts(write_or_die, parts(tmp_path, die=True), 2, "test")
    results = run_parts(write_or_die, parts(tmp_path), 2, "test")
    assert [list(result["files"].values()) for result in results] == [[0], [1], [2], [3]]


@pytest.mark.parametrize("harm", ["stamp", "shape", "file", "fingerprint"])
def test_part_is_done_again_when_anything_of_it_changed(tmp_path, harm):
    run_parts(write_or_die, parts(tmp_path), 1, "test")
    before = {n: file_state(tmp_path / f"{n}.txt") for n in range(4)}
    if harm == "stamp":
        (tmp_path / "p.2.json").write_text('{"fingerprint"')
    elif harm == "shape":
        (tmp_path / "p.2.json").write_text('{"result": {"files": []}}')
    elif harm == "file":
        (tmp_path / "2.txt").write_text("x")
    else:
        stamp = json.loads((tmp_path / "p.2.json").read_text())
        (tmp_path / "p.2.json").write_text(json.dumps({**stamp, "fingerprint": "other"}))
    run_parts(write_or_die, parts(tmp_path), 1, "test")
    after = {n: file_state(tmp_path / f"{n}.txt") for n in range(4)}
    assert {n for n in after if after[n] != before[n]} == {2}
    assert (tmp_path / "2.txt").read_text() == "xx"
