"""A script that is killed with SIGKILL takes along what it has started, and its temporary files."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WARDEN = ROOT / "utils/warden.py"
# A child, a grandchild in a session of its own, and one that is deaf to polite requests.
SCRIPT = """
KD_RUN=$(mktemp -d "${TMPDIR}/kd.XXXXXX")
export KD_RUN
"$PYTHON" -I "$WARDEN" $$ &
sleep 300 &
(setsid sleep 300 & sleep 300) &
bash -c 'trap "" TERM; echo deaf > "$READY"; while :; do sleep 0.1; done' &
while [[ ! -s $READY ]]; do sleep 0.05; done
echo started
wait
"""


@pytest.fixture
def script(tmp_path):
    """Start the script; give its process and a function that lists what it has started and is alive."""
    environment = {
        **os.environ,
        **{"PYTHON": sys.executable, "WARDEN": str(WARDEN), "TMPDIR": str(tmp_path), "READY": str(tmp_path / "ready")},
        "TEST_OF_WARDEN": str(tmp_path),
    }
    process = subprocess.Popen(["bash", "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"

    def alive():
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"TEST_OF_WARDEN={tmp_path}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    yield process, alive
    process.kill()
    process.wait()
    for pid in alive():
        os.kill(pid, signal.SIGKILL)


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_what_a_killed_script_has_started_ends(script, tmp_path):
    process, alive = script
    assert len(alive()) >= 6 and len(list(tmp_path.glob("kd.*"))) == 1
    time.sleep(0.7)  # as long as the script lives, nothing is touched
    assert len(alive()) >= 6
    process.kill()
    process.wait()
    # All but the deaf one, what it calls, and the warden.
    assert wait_until(lambda: len(alive()) <= 3, 20)
    (folder,) = tmp_path.glob("kd.*")
    assert folder.is_dir()
    deaf = [pid for pid in alive() if b"trap" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert deaf
    for pid in deaf:
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not alive() and not folder.exists(), 20)


def test_grace_ends(tmp_path):
    """What does not end politely is killed after the grace period."""
    spec = importlib.util.spec_from_file_location("warden", WARDEN)
    warden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(warden)
    warden.GRACE_SECONDS = 0.5
    deaf = subprocess.Popen(
        ["bash", "-c", 'trap "" TERM; echo deaf; while :; do sleep 0.1; done'],
        env={**os.environ, "KD_RUN": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert deaf.stdout.readline() == "deaf\n"
    warden.end_all(f"KD_RUN={tmp_path}".encode())
    assert deaf.wait(20) == -signal.SIGKILL
