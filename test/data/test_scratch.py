"""Temporary neighbours: what a killed process leaves is used again, and two that want the same one take turns."""

import multiprocessing
import os
import signal
import time

import pytest

from espnet2_kd.data.scratch import scratch_file, scratch_folder
from espnet2_kd.data.table import replacing

FORK = multiprocessing.get_context("fork")


def in_process(work, *args):
    process = FORK.Process(target=work, args=args)
    process.start()
    return process


def write_half(path, kind):
    with kind(path) as temporary:
        place = temporary / "half" if kind is scratch_folder else temporary
        place.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kind", [scratch_file, scratch_folder])
def test_what_a_killed_process_left_is_used_again(tmp_path, kind):
    path = tmp_path / "wanted"
    for _ in range(2):
        process = in_process(write_half, path, kind)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert [left.name for left in tmp_path.iterdir()] == [".wanted.tmp"]
    with kind(path) as temporary:
        if kind is scratch_folder:
            assert not list(temporary.iterdir())
            (temporary / "whole").write_text("whole")
        else:
            assert temporary.read_text() == ""
            temporary.write_text("whole")
        os.replace(temporary, path)
    assert [left.name for left in tmp_path.iterdir()] == ["wanted"]
    assert (path / "whole" if kind is scratch_folder else path).read_text() == "whole"


@pytest.mark.parametrize("kind", [scratch_file, scratch_folder])
def test_nothing_is_left_of_a_failure(tmp_path, kind):
    with pytest.raises(ZeroDivisionError), kind(tmp_path / "a/wanted") as temporary:
        assert temporary.exists()
        raise ZeroDivisionError
    assert not list((tmp_path / "a").iterdir())


def write_slowly(path, text):
    with replacing(path) as stream:
        for character in text:
            stream.write(character)
            stream.flush()
            time.sleep(0.002)


def test_writers_of_the_same_file_take_turns(tmp_path):
    path = tmp_path / "wanted"
    texts = [letter * 30 for letter in "abcdef"]
    processes = [in_process(write_slowly, path, text) for text in texts]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert path.read_text() in texts
    assert [left.name for left in tmp_path.iterdir()] == ["wanted"]


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".wanted.tmp").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError), replacing(tmp_path / "wanted") as stream:
        stream.write("other")
    assert (tmp_path / "mine").read_text() == "mine"
