"""A training that stumbles says over what, and does not end as if it had succeeded."""

import argparse
import dataclasses
import logging

import pytest
import torch
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.distributed_utils import DistributedOption

from espnet2_kd.tasks.asr import KDASRTask
from espnet2_kd.tasks.epoch_report import ContinuedReporter
from espnet2_kd.tasks.guard import GuardedOptions, GuardedTrainer, Peers
from espnet2_kd.tasks.training_error import TrainingError


class Spoilt(AbsESPnetModel):
    """Has no loss for speech of more than 90, and does what is asked for speech of 80."""

    def __init__(self, what=None):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.what = what

    def collect_feats(self, **batch):
        return {}

    def forward(self, speech, speech_lengths, utt_id):
        if speech.max() == 80 and self.what is not None:
            raise self.what
        loss = (self.scale * speech).sum()
        if speech.max() > 90:
            loss = loss * float("nan")
        return loss, {"loss": loss.detach()}, torch.tensor(1)


def train(model, values, accum_grad=1, max_skipped_updates=3):
    fields = {field.name: None for field in dataclasses.fields(GuardedOptions)}
    fields |= {"ngpu": 0, "accum_grad": accum_grad, "max_skipped_updates": max_skipped_updates, "grad_clip": 5.0}
    fields |= {
        "grad_clip_type": 2.0,
        "grad_noise": False,
        "no_forward_run": False,
        "use_wandb": False,
        "log_interval": 1,
    }
    fields |= {"create_graph_in_tensorboard": False}
    batches = [
        ([f"u{n}"], {"speech": torch.tensor([[value]]), "speech_lengths": torch.tensor([n + 100])})
        for n, value in enumerate(values)
    ]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with ContinuedReporter().observe("train") as reporter:
        reporter_arguments = {"reporter": reporter, "summary_writer": None}
        try:
            GuardedTrainer.train_one_epoch(
                model=model,
                iterator=batches,
                optimizers=[optimizer],
                schedulers=[None],
                scaler=None,
                options=GuardedOptions(**fields),
                distributed_option=DistributedOption(),
                **reporter_arguments,
            )
        finally:
            reporter.finished()
            assert not optimizer._optimizer_step_post_hooks
    return model


def test_the_option_reaches_the_trainer():
    command = ["--output_dir", "x", "--token_list", "x", "--max_skipped_updates", "7"]
    args = KDASRTask.get_parser().parse_args(command)
    assert KDASRTask.trainer.build_options(args).max_skipped_updates == 7
    assert KDASRTask.get_parser().parse_args(command[:-2]).max_skipped_updates == 30
    assert isinstance(args, argparse.Namespace)


def test_utterances_without_a_gradient_are_named_and_left_out(caplog):
    with caplog.at_level(logging.WARNING):
        model = train(Spoilt(), [1.0, 99.0, 2.0, 99.0, 99.0, 1.0])
    found = [record.message for record in caplog.records if record.message.startswith("No update")]
    assert [message.split("(")[1] for message in found] == ["u1)", "u3)", "u4)"]
    assert "1 utterances, the longest of 101 samples" in found[0]
    assert model.scale.item() == pytest.approx(1 - 0.01 * (1 + 2 + 1))


def test_utterances_of_other_processes_are_named_too(caplog, monkeypatch):
    monkeypatch.setattr(Peers, "gather", lambda self, value: [value, ["v1", "v2"]])
    with caplog.at_level(logging.WARNING), pytest.raises(TrainingError, match=r"\(u3\).*other processes: v1, v2"):
        train(Spoilt(), [1.0, 99.0, 99.0, 99.0])
    assert "(u1); other processes: v1, v2" in caplog.text


def test_too_many_in_a_row_fail():
    model = Spoilt()
    with pytest.raises(TrainingError, match=r"3 updates in a row .*\(u3\).*learning rate"):
        train(model, [1.0, 99.0, 99.0, 99.0, 1.0])
    assert model.scale.item() == pytest.approx(0.99)
    with pytest.raises(TrainingError, match="no update of the epoch"):
        train(Spoilt(), [99.0, 99.0])


def test_accumulated_batches_are_one_update():
    with pytest.raises(TrainingError, match=r"3 updates in a row .*2 utterances.*\(u4, u5\)"):
        train(Spoilt(), [99.0, 1.0, 1.0, 99.0, 99.0, 99.0, 1.0, 1.0], accum_grad=2)
    train(Spoilt(), [99.0, 1.0, 1.0, 99.0, 1.0, 1.0], accum_grad=2)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_names_the_batch_and_what_to_set(error):
    with pytest.raises(TrainingError, match=r"\(u1\).*batch_bins.*max_wav_duration.*allocate"):
        train(Spoilt(error), [1.0, 80.0, 1.0])


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="^a bug$") as caught:
        train(Spoilt(RuntimeError("a bug")), [1.0, 80.0, 1.0])
    assert not isinstance(caught.value, TrainingError)
