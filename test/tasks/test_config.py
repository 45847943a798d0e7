"""Configs with a base: what they come to, and what ESPnet2's parser makes of them."""

import pytest
import yaml

from espnet2_kd.tasks.asr import ASRTask, KDASRTask
from espnet2_kd.tasks.config import load_config


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


def test_mappings_merge_and_the_rest_is_replaced(write):
    write("first.yaml", {"max_epoch": 5, "encoder_conf": {"output_size": 8, "chunk_ms": 160}, "kd_terms": [1, 2]})
    write("more/second.yaml", {"base": "../first.yaml", "encoder_conf": {"chunk_ms": 320, "left_ms": 640}})
    third = write("more/third.yaml", {"base": "second.yaml", "kd_terms": [3], "encoder_conf": {"left_ms": None}})
    assert load_config(third) == {
        "max_epoch": 5,
        "encoder_conf": {"output_size": 8, "chunk_ms": 320, "left_ms": None},
        "kd_terms": [3],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("base: none.yaml\n", r"no such file: .*none\.yaml \(base of .*top\.yaml\)"),
        (f"base: {'no ' * 99}.yaml\n", r"no such file: .*no \.yaml \(base of .*top\.yaml\)"),
        ("base: top.yaml\n", r"top\.yaml: is its own base"),
        ("base: list.yaml\n", r"list\.yaml \(base of .*top\.yaml\): a mapping is expected"),
        ("", r"top\.yaml: a mapping is expected"),
        ("base: [top.yaml]\n", r"top\.yaml: base: the name of a file is expected, not \['top"),
        ("1: 2\n", r"top\.yaml: 1 is no option's name"),
        ("encoder: {\n", r"top\.yaml:2: -: is no YAML of plain values"),
        ("encoder_conf: &a {x: *a}\n", r"top\.yaml:1: -: holds itself, by an alias"),
    ],
)
def test_what_cannot_be_read_is_named(write, content, message):
    write("list.yaml", "- 1\n")
    with pytest.raises(ValueError, match=message):
        load_config(write("top.yaml", content))


def test_parser_reads_as_espnet2_does(write, capsys):
    """The same arguments as the whole in one file gives stock ESPnet2; the command line goes before both."""
    write("student.yaml", {"max_epoch": 7, "optim": "adamw", "optim_conf": {"weight_decay": 0.1, "eps": 1e-7}})
    top = write("top.yaml", {"base": "student.yaml", "max_epoch": 3, "optim_conf": {"eps": 1e-6}})
    whole = write("whole.yaml", {"max_epoch": 3, "optim": "adamw", "optim_conf": {"weight_decay": 0.1, "eps": 1e-6}})
    options = ["--output_dir", "exp", "--optim_conf", "lr=0.5"]
    ours = vars(KDASRTask.get_parser().parse_args(["--config", str(top), *options]))
    stock = vars(ASRTask.get_parser().parse_args(["--config", str(whole), *options]))
    assert {key: ours[key] for key in stock if key != "config"} == {k: v for k, v in stock.items() if k != "config"}
    assert ours["optim_conf"] == {"weight_decay": 0.1, "eps": 1e-6, "lr": 0.5}
    for content, message in (
        ("max_epochs: 3\n", "bad.yaml: no such option: max_epochs: did you mean max_epoch, "),
        ("base: none.yaml\n", "no such file: "),
    ):
        with pytest.raises(SystemExit):
            KDASRTask.get_parser().parse_args(["--config", str(write("bad.yaml", content))])
        assert message in capsys.readouterr().err
