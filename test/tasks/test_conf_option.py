"""Options such as --encoder_conf: what ESPnet2 reads from plain values, and nothing that is executed."""

import pytest
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet2_kd.tasks.config import ArgumentParser


def parser():
    made = ArgumentParser()
    made.add_argument("--x_conf", action=NestedDictAction, default={"a": 1, "b": {"c": 2}})
    return made


def espnets(argv):
    """What ESPnet2's own parser makes of it."""
    from espnet2.utils import config_argparse

    made = config_argparse.ArgumentParser()
    made.add_argument("--x_conf", action=NestedDictAction, default={"a": 1, "b": {"c": 2}})
    return made.parse_args(argv).x_conf


@pytest.mark.parametrize(
    "values",
    [
        ["a=3"],
        ["b.d=[1, 2]", "b.c=x"],
        ["a.e=4"],
        ["e={f: 1e-3, g: null}"],
        ["e="],
        ["{a: 5}"],
        ["{'a': None, 'e': (1, 2)}"],
        ["a=b=c"],
        ["e=1e3", "e.f=2"],
    ],
)
def test_plain_values_are_read_as_espnet_reads_them(values):
    argv = [word for value in values for word in ("--x_conf", value)]
    assert parser().parse_args(argv).x_conf == espnets(argv)


@pytest.mark.parametrize(
    "value",
    [
        "e=!!python/object/apply:os.mkdir [hit]",
        "{e: !!python/object/apply:os.mkdir [hit]}",
        "__import__('os').mkdir('hit') or {}",
        "[x for x in [__import__('os').mkdir('hit')]]",
    ],
)
def test_programs_are_refused(value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        parser().parse_args(["--x_conf", value])
    assert "argument --x_conf" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_parser_of_a_training_is_such_a_parser():
    from espnet2_kd.tasks.asr import KDASRTask

    with pytest.raises(SystemExit):
        KDASRTask.get_parser().parse_args(["--encoder_conf", "x=!!python/object/new:os.system [true]"])
