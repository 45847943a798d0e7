"""YAML and JSON files as only fuzzers, editors and full disks write them: one error that names file and line, at once."""

import datetime

import pytest
import yaml

from espnet2_kd.data.documents import NUMBER, check_shape, parse_yaml, read_json, read_yaml
from espnet2_kd.data.problems import DataError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)
MERGED_BOMB = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n" for before, name in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", r"f\.yaml:2: -: is no YAML of plain values"),
        ("a: b: c\n", r"f\.yaml:1: "),
        ("a: \0\n", r"f\.yaml:0: -: is no YAML"),
        ("a: !!python/object/apply:os.system [x]\n", r"f\.yaml:1: .*python/object/apply"),
        ("a: 2026-99-99\n", "month must be in 1"),
        ("a: !!timestamp x\n", "is no YAML of plain values"),
        ("a: !!int ''\n", "is no YAML of plain values"),
        (f"a: {'9' * 5000}\n", "Exceeds the limit"),
        ("? [1, 2]\n: 3\n", "unhashable"),
        ("a: =\n", "tag:yaml.org,2002:value"),
        ("a: *none\n", "undefined alias"),
        ("a: &a [*a]\n", r"f\.yaml:1: -: holds itself, by an alias"),
        ("a: &a\n  b: {c: *a}\n", "holds itself, by an alias"),
        ("[" * 5000, "is nested too deeply"),
        (BOMB, r"f\.yaml:\d: -: stands for more than 1000000 values"),
        (MERGED_BOMB, "stands for more than 1000000 values"),
        ("a: 1\n---\nb: 2\n", "is no YAML of plain values"),
    ],
)
def test_yaml_that_is_refused(text, message):
    with pytest.raises(DataError, match=message) as error:
        parse_yaml(text, "f.yaml")
    assert len(error.value.problems) == 1 and "\n" not in str(error.value.problems[0])


@pytest.mark.parametrize(
    "text",
    ["", "a: {b: [1, 2.5, null, true, .inf]}\n", "a: &a {b: 1}\nc: {<<: *a, d: 2}\ne: [*a, *a]\n", "- 2026-11-27\n"],
)
def test_other_yaml_is_what_yaml_says(text):
    assert parse_yaml(text, "f") == yaml.safe_load(text)


def test_dates_stay_dates():
    assert parse_yaml("2026-11-27", "f") == datetime.date(2026, 11, 27)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"none\.yaml:0: -: cannot be read \(No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory"):
        read_json(tmp_path)
    (tmp_path / "latin").write_bytes(b"a: gr\xfcn\n")
    with pytest.raises(DataError, match="not UTF-8 at byte 6: convert it"):
        read_yaml(tmp_path / "latin")
    for text, message in (("", "is no JSON"), ("{\n", r"f:2: .*is no JSON"), ("[" * 100_000, "is no JSON")):
        (tmp_path / "f").write_text(text)
        with pytest.raises(DataError, match=message):
            read_json(tmp_path / "f")


SHAPE = {"name": str, "wer": {"err": int, "rate": NUMBER}, "note?": str, "delay?": {"mean": NUMBER}, "dirty?": bool}
GOOD = {"name": "x", "wer": {"err": 1, "rate": 2.5}, "other": None}


@pytest.mark.parametrize(
    "content",
    [GOOD, {**GOOD, "note": None, "delay": None}, {**GOOD, "note": "x", "delay": {"mean": 3}, "dirty": True}],
)
def test_shapes_that_fit(content):
    check_shape(content, SHAPE, "f")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "all of it: an object is expected"),
        ({**GOOD, "name": None}, "name is missing"),
        ({**GOOD, "wer": 5}, "wer: an object is expected"),
        ({**GOOD, "wer": {"err": True, "rate": 1}}, "wer.err cannot be True"),
        ({**GOOD, "wer": {"err": 1.0, "rate": 1}}, "wer.err cannot be 1.0"),
        ({**GOOD, "wer": {"err": 1, "rate": float("nan")}}, "wer.rate cannot be nan"),
        ({**GOOD, "wer": {"err": 1, "rate": 10**400}}, "wer.rate cannot be 1000"),
        ({**GOOD, "delay": {}}, "delay.mean is missing"),
        ({**GOOD, "dirty": 1}, "dirty cannot be 1"),
    ],
)
def test_shapes_that_do_not(content, message):
    with pytest.raises(DataError, match=message):
        check_shape(content, SHAPE, "f")
