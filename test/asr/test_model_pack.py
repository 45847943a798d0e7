"""Packed models: what ESPnet2's own packer writes, and archives that must not be trusted."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

NAME = "valid.loss_transducer.ave.pth"


@pytest.fixture(scope="module")
def exp(tiny_experiment):
    return tiny_experiment("asr_packed")


@pytest.fixture(scope="module", params=["zip", "tgz"])
def pack(request, exp, tmp_path_factory):
    """Written by espnet2.bin.pack in the recipe's directory, and moved away from it."""
    out = tmp_path_factory.mktemp("shared") / f"model.{request.param}"
    options = ["--asr_train_config", f"exp/{exp.name}/config.yaml", "--asr_model_file", f"exp/{exp.name}/{NAME}"]
    options += ["--option", "exp/asr_stats/train/feats_stats.npz", "--outpath", out]
    subprocess.run([sys.executable, "-m", "espnet2.bin.pack", "asr", *options], cwd=exp.parents[1], check=True)
    return out


def same_weights(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_pack_is_the_model_that_was_packed(exp, pack, tmp_path, monkeypatch):
    """Statistics of its own too, although the directory it is used from has a file of the same name."""
    from espnet2_kd.asr.load import load_model
    from espnet2_kd.kd.teachers.espnet import EspnetTeacher

    other = tmp_path / "exp/asr_stats/train"
    other.mkdir(parents=True)
    np.savez(other / "feats_stats.npz", count=1.0, sum=np.zeros(80), sum_square=np.ones(80))
    monkeypatch.chdir(tmp_path)
    expected, _ = load_model(exp, NAME)
    assert expected.normalize.mean.abs().max() > 1
    model, _ = load_model(pack, "nothing.pth")
    assert same_weights(model, expected) and torch.equal(model.normalize.mean, expected.normalize.mean)
    (unpacked,) = Path(f"{pack}.unpacked").iterdir()
    again = load_model(unpacked, NAME)[0]
    assert same_weights(again, expected)
    assert same_weights(EspnetTeacher(str(pack)).model, expected)


def test_another_archive_of_the_same_name_is_unpacked_again(exp, pack, tmp_path):
    from espnet2_kd.asr.model_pack import open_pack

    copy = tmp_path / pack.name
    copy.write_bytes(pack.read_bytes())
    first = open_pack(copy)
    assert open_pack(copy) == first
    with zipfile.ZipFile(copy, "w") as bundle:
        bundle.writestr(
            "meta.yaml",
            yaml.safe_dump({"files": {"asr_model_file": "m.pth"}, "yaml_files": {"asr_train_config": "c.yaml"}}),
        )
        bundle.writestr("m.pth", b"")
        bundle.writestr("c.yaml", b"")
    if copy.suffix == ".zip":
        config, _ = open_pack(copy)
        assert config != first[0] and config.name == "c.yaml"


def archive(path, members):
    with tarfile.open(path, "w") as bundle:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
    return path


def meta(config="c.yaml", model="m.pth", **more):
    return yaml.safe_dump(
        {"files": {"asr_model_file": model, **more}, "yaml_files": {"asr_train_config": config}}
    ).encode()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"../evil": b"x", "meta.yaml": meta()}, "nothing was unpacked"),
        ({"/evil": b"x", "meta.yaml": meta()}, "nothing was unpacked"),
        ({"c.yaml": b"", "m.pth": b""}, "no meta.yaml"),
        ({"meta.yaml": meta(config="../c.yaml"), "m.pth": b""}, "not in the pack"),
        ({"meta.yaml": meta(model="/etc/passwd"), "c.yaml": b""}, "not in the pack"),
        ({"meta.yaml": meta(), "c.yaml": b""}, "m.pth, which is not in the pack"),
        (
            {"meta.yaml": meta(st_model_file="m.pth"), "c.yaml": b"", "m.pth": b""},
            "1 training configs and 2 model files",
        ),
        ({"meta.yaml": b"- 1"}, "0 training configs"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, members, words):
    from espnet2_kd.asr.load import ExperimentError, load_model

    (tmp_path / "in").mkdir()
    path = archive(tmp_path / "in/model.tar", members)
    with pytest.raises(ExperimentError, match=words) as caught:
        load_model(path, NAME)
    assert str(tmp_path) in str(caught.value)
    assert not (tmp_path / "evil").exists() and not (tmp_path / "in/evil").exists()


@pytest.mark.parametrize(
    "content", [b"files: =\n", b"files: [a]\n", b"- 1\n", b"\xff", b"files: {1: 2}\n", b"files: &a {x: *a}\n"]
)
def test_notes_of_another_form_are_refused(tmp_path, content):
    from espnet2_kd.asr.model_pack import PackError, open_pack

    (tmp_path / "meta.yaml").write_bytes(content)
    with pytest.raises(PackError, match=r"meta\.yaml"):
        open_pack(tmp_path)


def test_a_truncated_archive_is_refused(pack, tmp_path):
    from espnet2_kd.asr.load import ExperimentError, load_model

    path = tmp_path / pack.name
    path.write_bytes(pack.read_bytes()[:-2000])
    with pytest.raises(ExperimentError, match="damaged"):
        load_model(path, NAME)


def test_a_pickle_in_a_pack_is_not_executed(exp, tmp_path):
    from espnet2_kd.asr.load import ExperimentError, load_model

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hit"),)

    torch.save({"x": Bomb()}, tmp_path / "m.pth")
    config = yaml.safe_load((exp / "config.yaml").read_text())
    config["normalize"], config["normalize_conf"] = None, {}
    members = {
        "meta.yaml": meta(),
        "c.yaml": yaml.safe_dump(config).encode(),
        "m.pth": (tmp_path / "m.pth").read_bytes(),
    }
    with pytest.raises(ExperimentError, match="holds more than weights"):
        load_model(archive(tmp_path / "model.tar", members), NAME)
    assert not (tmp_path / "hit").exists()


def test_a_name_on_the_hub(pack, tmp_path, monkeypatch):
    """`owner/model` is looked up there; without a network the message says what to do."""
    import huggingface_hub

    from espnet2_kd.asr.load import ExperimentError, load_model
    from espnet2_kd.asr.model_pack import open_pack

    folder = open_pack(pack)[0].parents[2]
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, revision: asked.append((name, revision)) or str(folder)
    )
    load_model("owner/some_model", NAME)
    assert asked == [("owner/some_model", None)]
    monkeypatch.undo()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ExperimentError, match="owner/some_model: no such file or directory, and not fetched"):
        load_model("owner/some_model", NAME)
    with pytest.raises(ExperimentError, match="no such experiment directory"):
        load_model(tmp_path / "none", NAME)
