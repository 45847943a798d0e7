"""The batches that need most memory are found and tried, and nothing of the training changes."""

import copy

import pytest
import torch
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.train.collate_fn import CommonCollateFn

from espnet2_kd.tasks.preflight import preflight
from espnet2_kd.tasks.training_data import MixedIterFactory, TrainingIterFactory
from espnet2_kd.tasks.training_error import TrainingError

LENGTHS = {"a": (10, 9), "b": (12, 1), "c": (30, 2), "d": (28, 9), "e": (7, 1), "f": (6, 1)}
BATCHES = [("a", "b"), ("c",), ("d",), ("e", "f")]


class Speech(torch.utils.data.Dataset):
    def __getitem__(self, utt):
        return utt, {"speech": torch.full((LENGTHS[utt][0],), 1.0).numpy()}


class Counts(torch.nn.Module):
    """Runs out of memory at more than `limit` frames."""

    def __init__(self, limit):
        super().__init__()
        self.linear, self.limit, self.seen = torch.nn.Linear(1, 1), limit, []
        self.register_buffer("step", torch.zeros(()))

    def forward(self, speech, speech_lengths, utt_id, **unlabelled):
        self.seen.append((*utt_id, *unlabelled.get("unlabelled_utt_id", ())))
        self.step += 1
        if speech.numel() > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return self.linear(speech[..., None]).mean()[None], {}, torch.tensor(len(speech))


@pytest.fixture
def factory(tmp_path):
    for column, name in enumerate(("speech", "text")):
        lines = [f"{utt} {length[column]}{',20' if column else ''}\n" for utt, length in LENGTHS.items()]
        (tmp_path / name).write_text("".join(lines))
    files = [str(tmp_path / name) for name in ("speech", "text")]

    def make(unlabelled=None):
        parts = [
            SequenceIterFactory(Speech(), batches, collate_fn=CommonCollateFn(float_pad_value=0.0, int_pad_value=-1))
            for batches in (BATCHES, unlabelled or [])
        ]
        return TrainingIterFactory(MixedIterFactory(*parts) if unlabelled else parts[0], files, files[:1])

    return make


def test_the_longest_and_the_one_with_most_labels_are_tried(factory, caplog):
    model = Counts(limit=30)
    optimizer = torch.optim.Adam(model.parameters())
    before = copy.deepcopy(model.state_dict())
    with caplog.at_level("INFO"):
        preflight(model, [optimizer], factory(), "cpu")
    # 30 frames; 28 frames with 9 labels are 252 pairs, 2 utterances of 12 frames and 9 labels 216.
    assert model.seen == [("c",), ("d",)]
    assert "Memory pre-flight: a batch of 1 utterances, the longest of 30 samples or frames (c)" in caplog.messages
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not optimizer.state and all(p.grad is None for p in model.parameters())


def test_unlabelled_speech_comes_along(factory):
    model = Counts(limit=30)
    preflight(model, [], factory([("e",), ("a", "b")]), "cpu")
    assert model.seen == [("c", "a", "b"), ("d", "a", "b")]


def test_what_does_not_fit_is_named_with_what_to_set(factory):
    model = Counts(limit=29)
    with pytest.raises(TrainingError, match=r"\(c\).*batch_bins.*accum_grad.*max_wav_duration.*20 GiB"):
        preflight(model, [], factory(), "cpu")
    assert model.step == 0
