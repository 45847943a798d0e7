"""A training is not continued with other options by mistake, and one that may change does not stop it."""

import pytest

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.tasks.asr import KDASRTask
from espnet2_kd.tasks.training_options import keep_options, require_same_options


def options(folder, *more):
    command = ["--output_dir", str(folder), "--token_list", "x", "--optim_conf", "lr=0.1", *more]
    args = KDASRTask.get_parser().parse_args(command)
    args.distributed = False
    return args


@pytest.fixture
def begun(tmp_path):
    keep_options(options(tmp_path))
    (tmp_path / "state").touch()
    return tmp_path


def test_a_change_is_shown_and_refused(begun):
    with pytest.raises(ConfigError, match="force_resume") as refused:
        require_same_options(options(begun, "--optim_conf", "lr=0.2", "--accum_grad", "4"), "state")
    lines = str(refused.value).splitlines()
    assert {"-accum_grad: 1", "+accum_grad: 4", "-  lr: 0.1", "+  lr: 0.2"} <= set(lines)
    assert sum(line.startswith(("+", "-")) for line in lines) == 2 + 4  # and the names of both sides


@pytest.mark.parametrize(
    "more",
    [
        (),
        (
            "--max_epoch",
            "7",
            "--ngpu",
            "4",
            "--dist_backend",
            "gloo",
            "--save_every_updates",
            "3",
            "--num_workers",
            "9",
        ),
        ("--resume", "true", "--preflight", "true", "--log_interval", "5", "--use_wandb", "true", "--wandb_name", "x"),
    ],
)
def test_what_changes_nothing_is_free(begun, more):
    require_same_options(options(begun, *more), "state")


def test_nothing_is_compared_before_there_is_a_state_or_with_what_an_older_version_lacks(begun):
    kept = begun / "options.yaml"
    changed = options(begun, "--accum_grad", "4")
    text = kept.read_text()
    assert "accum_grad: 1\n" in text
    kept.write_text(text.replace("accum_grad: 1\n", "an_old_option: 1\n"))
    require_same_options(changed, "state")
    kept.write_text(text)
    (begun / "state").unlink()
    require_same_options(changed, "state")


def test_the_program_refuses_before_it_changes_anything(begun, monkeypatch):
    (begun / "state").rename(begun / "checkpoint.pth")
    (begun / "config.yaml").write_text("as it was\n")
    kept = (begun / "options.yaml").read_text()
    changed = options(begun, "--accum_grad", "4", "--resume", "true")
    with pytest.raises(ConfigError, match=r"\+accum_grad: 4"):
        KDASRTask.main_worker(changed)
    assert (begun / "config.yaml").read_text() == "as it was\n" and (begun / "options.yaml").read_text() == kept
    went_on = []
    monkeypatch.setattr(KDASRTask.__mro__[2], "main_worker", went_on.append)
    changed.force_resume = True
    KDASRTask.main_worker(changed)
    assert went_on == [changed] and "accum_grad: 4" in (begun / "options.yaml").read_text()
