"""Signals end a program at once where nothing would be lost, wait where something would, and spare those who are needed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from espnet2_kd.tasks import interruption
from espnet2_kd.tasks.interruption import INTERRUPTED, deferred, interruptible
from espnet2_kd.tasks.training_data import begin

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@pytest.mark.parametrize("number", SIGNALS)
def test_what_has_not_begun_ends_at_once(number):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, interruptible():
        os.kill(os.getpid(), number)
        time.sleep(60)
    assert ended.value.code == INTERRUPTED == 85
    assert signal.getsignal(number) is before and interruption.caught() is None


@pytest.mark.parametrize("number", SIGNALS)
def test_what_has_begun_looks_when_it_can(number):
    with interruptible():
        with deferred():
            assert interruption.caught() is None
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            assert interruption.caught() == number.name
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), number)
            time.sleep(60)


def end_with(code):
    with interruptible(), deferred():
        ready.set()
        while interruption.caught() is None:
            time.sleep(0.01)
    sys.exit(code)


def test_one_that_waits_for_others_passes_signals_on():
    global ready
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    with interruptible():
        child = context.Process(target=end_with, args=(INTERRUPTED,))
        child.start()
        assert ready.wait(60)
        os.kill(os.getpid(), signal.SIGTERM)
        child.join(60)
        assert child.exitcode == INTERRUPTED and interruption.caught() == "SIGTERM"


class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        time.sleep(0.02)
        return index


def test_processes_that_read_see_no_signal_but_their_parents():
    loader = torch.utils.data.DataLoader(Slow(), batch_sampler=[[n] for n in range(8)], num_workers=2)
    batches = begin(loader, 1)
    readers = multiprocessing.active_children()
    found = [next(batches).item()]
    for reader in readers:
        for number in SIGNALS:
            # A scheduler signals all processes of a job, and is the parent of none.
            subprocess.run(["kill", f"-{int(number)}", str(reader.pid)], check=True)
    found += [batch.item() for batch in batches]
    assert found == list(range(1, 8))

    batches = begin(torch.utils.data.DataLoader(Slow(), batch_sampler=[[n] for n in range(8)], num_workers=2))
    readers = [child for child in multiprocessing.active_children() if child not in readers]
    next(batches)
    for reader in readers:
        reader.terminate()  # as Python does at its end
        reader.join(60)
        assert reader.exitcode == 0
    del batches
