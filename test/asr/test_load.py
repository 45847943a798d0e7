import shutil
import subprocess
import sys

import pytest
import torch
import yaml

NAME = "valid.loss_transducer.ave.pth"


@pytest.fixture(scope="module")
def exp(tiny_experiment):
    return tiny_experiment("asr_load")


@pytest.fixture()
def copy(exp, tmp_path):
    """A copy of the experiment that a test may spoil, in a recipe of its own."""
    (tmp_path / "exp").mkdir()
    shutil.copytree(exp.parent / "asr_stats", tmp_path / "exp/asr_stats")
    shutil.copytree(exp, tmp_path / "exp/asr_load")
    return tmp_path / "exp/asr_load"


def edit_state(exp, change):
    state = torch.load(exp / NAME, weights_only=True)
    change(state)
    torch.save(state, exp / NAME)


def test_weights_are_those_of_the_file_and_the_result_is_espnet2s(exp, monkeypatch):
    from espnet2.tasks.asr import ASRTask

    from espnet2_kd.asr.load import load_model, sample_rate

    model, args = load_model(exp, NAME)
    assert not model.training and sample_rate(args) == 16000
    # Stock loading needs to be started in the recipe; ours does not.
    monkeypatch.chdir(exp.parent.parent)
    stock, _ = ASRTask.build_model_from_file(exp / "config.yaml", exp / NAME)
    speech = torch.randn(1, 8000)
    with torch.no_grad():
        ours, theirs = (m.eval().encode(speech, torch.tensor([8000]))[0] for m in (model, stock))
    assert torch.equal(ours, theirs)
    assert load_model("exp/asr_load", exp / NAME)[0].state_dict().keys() == stock.state_dict().keys()


def test_distillation_heads_are_left_out(copy):
    from espnet2_kd.asr.load import load_model

    edit_state(copy, lambda state: state.update({"kd.heads.l4.weight": torch.ones(2)}))
    assert not any(key.startswith("kd.") for key in load_model(copy, NAME)[0].state_dict())


def test_weights_that_do_not_fit_are_named(copy):
    from espnet2_kd.asr.load import ExperimentError, load_model

    def change(state):
        state["joint_network.extra"] = torch.ones(1)
        del state["joint_network.lin_out.bias"]

    edit_state(copy, change)
    with pytest.raises(ExperimentError, match=r"missing joint_network.lin_out.bias; unexpected joint_network.extra"):
        load_model(copy, NAME)
    edit_state(copy, lambda state: state.pop("joint_network.extra"))
    edit_state(copy, lambda state: state.update({"joint_network.lin_out.bias": torch.ones(3)}))
    with pytest.raises(
        ExperimentError, match=r"does not fit the model of .*: size mismatch for joint_network.lin_out.bias"
    ):
        load_model(copy, NAME)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("num_blocks", "num_blox", "num_blox"),
        ("encoder: chunk_conformer", "encoder: chunk_conformr", "chunk_conformr"),
        ("decoder: transducer", "decoder: rnnx", "rnnx"),
    ],
)
def test_a_configuration_that_builds_no_model_is_named(copy, old, new, word):
    from espnet2_kd.asr.load import ExperimentError, load_model

    config = copy / "config.yaml"
    content = config.read_text()
    assert old in content
    config.write_text(content.replace(old, new))
    with pytest.raises(ExperimentError, match=rf"config.yaml: builds no model \(\w+: .*{word}"):
        load_model(copy, NAME)


def test_files_that_are_not_there_or_not_weights(copy):
    from espnet2_kd.asr.load import ExperimentError, load_model

    with pytest.raises(ExperimentError, match="no such experiment"):
        load_model(copy.parent / "asr_other", NAME)
    with pytest.raises(ExperimentError, match=f"5epoch.pth: not found; .*: {NAME}"):
        load_model(copy, "5epoch.pth")

    class Dangerous:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"model": Dangerous()}, copy / "checkpoint.pth")
    with pytest.raises(ExperimentError, match="holds more than weights"):
        load_model(copy, "checkpoint.pth")
    whole = (copy / NAME).read_bytes()
    (copy / NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ExperimentError, match="damaged"):
        load_model(copy, NAME)
    (copy / "config.yaml").unlink()
    with pytest.raises(ExperimentError, match="config.yaml: not found"):
        load_model(copy, NAME)


@pytest.mark.parametrize("content", [b"", b".", b"h\x03.", b"\x80", b"X\x01\x00\x00\x00\x80.", b"PK\x03\x04"])
def test_damaged_files_of_weights_are_named(tmp_path, content):
    """What fuzzing made of them; the unpickler has many ways to say so."""
    from espnet2_kd.asr.load import ExperimentError, read_weights
    from espnet2_kd.kd.registry import ConfigError
    from espnet2_kd.tasks.training_state import read_state, require_weights

    path = tmp_path / "checkpoint.pth"
    path.write_bytes(content)
    for read, error in (
        (read_weights, ExperimentError),
        (lambda path: read_state(path, "cpu"), ConfigError),
        (lambda path: require_weights(str(path)), ConfigError),
    ):
        with pytest.raises(error, match=r"checkpoint\.pth"):
            read(path)


def test_a_malicious_checkpoint_is_not_run(copy, capsys):
    from espnet2_kd.asr.load import ExperimentError, load_model

    class Dangerous:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"weight": Dangerous()}, copy / NAME)
    with pytest.raises(ExperimentError):
        load_model(copy, NAME)
    assert "executed" not in capsys.readouterr().out


def test_files_named_by_the_configuration_are_looked_for_in_the_recipe(copy):
    from espnet2_kd.asr.load import ExperimentError, load_model

    config = yaml.safe_load((copy / "config.yaml").read_text())
    (copy.parent.parent / "data").mkdir()
    (copy.parent.parent / "data/tokens.txt").write_text("\n".join(config["token_list"]) + "\n")
    tokens = config["token_list"]
    config["token_list"] = "data/tokens.txt"
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    model, args = load_model(copy, NAME)
    assert model.token_list == args.token_list == tokens
    shutil.rmtree(copy.parent / "asr_stats")
    with pytest.raises(ExperimentError, match="normalize_conf.stats_file: exp/asr_stats"):
        load_model(copy, NAME)


def test_a_length_that_no_memory_holds_is_damage(tmp_path):
    """Found by fuzzing: torch makes room for the string of 1.9 GB that the first bytes promise."""
    (tmp_path / "checkpoint.pth").write_bytes(b"X\x00\x00\x00sPK")
    program = """
import resource, sys
from pathlib import Path
from espnet2_kd.asr.load import ExperimentError, read_weights
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 29),) * 2)
try:
    read_weights(Path("checkpoint.pth"))
except ExperimentError as error:
    sys.exit(0 if "MemoryError" in str(error) else str(error))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
