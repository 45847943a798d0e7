"""What commands share: numbers, how they end, and that nothing takes the place of what it is made from."""

import argparse
import errno

import pytest

from espnet2_kd.bin import acoustic_frames, classify_text, data_dir, decode, pseudo_label, stream
from espnet2_kd.bin.command import SECONDS, end, number, one_line_errors
from espnet2_kd.data.problems import DataError


@pytest.mark.parametrize(("kind", "word"), [(number(), "0"), (number(0), "-1"), (number(), "1.5"), (SECONDS, "nan")])
def test_numbers_out_of_range_are_no_numbers(kind, word):
    with pytest.raises(argparse.ArgumentTypeError, match=rf"{word}: expected a (whole )?number from"):
        kind(word)
    assert number(0)("0") == 0 and SECONDS("1.5") == 1.5


@pytest.mark.parametrize("command", [decode, stream, pseudo_label])
def test_threads(command, capsys):
    with pytest.raises(SystemExit):
        command.get_parser().parse_args(["--exp", "x", "--num_threads", "-1"])
    assert "--num_threads: -1: expected a whole number from" in capsys.readouterr().err


def test_a_place_that_cannot_be_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")

    def work(args=None):
        (tmp_path / "file/folder").mkdir(parents=True)

    assert one_line_errors(work, argparse.Namespace()) == 1
    assert capsys.readouterr().err == f"{tmp_path}/file/folder: Not a directory\n"
    with pytest.raises(SystemExit) as left:
        end(work)
    assert left.value.code == 1 and "Not a directory" in capsys.readouterr().err

    def nameless(args=None):
        raise OSError(errno.EIO, "no file is named")

    with pytest.raises(OSError, match="no file is named"):
        one_line_errors(nameless, argparse.Namespace())


def test_nothing_takes_the_place_of_what_it_is_made_from(tmp_path, capsys):
    place = tmp_path / "data"
    place.mkdir()
    (place / "text").write_text("a b\n")
    both = ["--data_dir", str(place), "--output_dir", f"{tmp_path}/other/../data"]
    for command in (decode, pseudo_label, acoustic_frames):
        assert command.main(["--exp", str(tmp_path), *both]) == 1
        assert "source and target are the same directory" in capsys.readouterr().err
    assert classify_text.main(["--model", str(tmp_path), *both]) == 1
    assert "source and target are the same directory" in capsys.readouterr().err
    for verb in (["subset", str(place), "1", str(place)], ["copy", str(place), str(place)]):
        with pytest.raises(DataError, match="source and target are the same directory"):
            data_dir.main(verb)
    assert (place / "text").read_text() == "a b\n"
