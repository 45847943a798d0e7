"""Speech without labels: what it adds to the loss, alone and in two processes, and how it comes into the batches."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.tasks.asr import KDASRTask

TERMS = [
    {"name": "l2", "student": "encoder.encoders.1", "loss": "mse", "weight": 0.5},
    {"name": "ctc", "student": "ctc.ctc_lo", "loss": "output_kl", "weight": 0.3},
    {
        "name": "frames",
        "student": "encoder.encoders.1",
        "loss": {"mse": {"reduction": "sum"}},
        "per": "token",
        "weight": 0.2,
    },
]


@pytest.fixture(scope="module")
def config(tiny_experiment, write_student, tmp_path_factory):
    """Function: options of a student's config -> its path."""
    teacher = tiny_experiment("asr_unlabelled_teacher", encoder_conf={}, seed=2)
    folder = tmp_path_factory.mktemp("unlabelled")

    def write(**options):
        number = len(list(folder.iterdir()))
        return write_student(folder / f"{number}.yaml", teacher, **{"kd_terms": TERMS, **options})

    return write


UNLABELLED = {
    "unlabelled_ratio": 1.0,
    "unlabelled_data_path_and_name_and_type": [["wav.scp", "speech", "sound"]],
    "unlabelled_shape_file": ["utt2num_samples"],
}


def build(path, directory):
    args = KDASRTask.get_parser().parse_args(["--config", str(path), "--output_dir", str(directory)])
    torch.manual_seed(0)
    return KDASRTask.build_model(args)


def speech(*lengths, seed=0):
    """Labelled utterances of these many samples, padded with NaN-free noise that must not matter."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(lengths), max(lengths), generator=generator) * 0.1
    return {"speech": x, "speech_lengths": torch.tensor(lengths)}


def with_labels(batch, *num_labels):
    text = torch.randint(2, 10, (len(num_labels), max(num_labels)), generator=torch.Generator().manual_seed(7))
    for row, count in zip(text, num_labels, strict=True):
        row[count:] = -1  # as ESPnet2 pads
    return {**batch, "text": text, "text_lengths": torch.tensor(num_labels)}


def unlabelled(batch):
    return {f"unlabelled_{key}": value for key, value in batch.items()}


def utterances(batch):
    """The batch in pieces of one utterance without padding."""
    for b in range(len(batch["speech"])):
        one = {key: value[b : b + 1] for key, value in batch.items()}
        for key in ("speech", "text"):
            if key in one:
                one[key] = one[key][:, : one[f"{key}_lengths"]]
        yield one


def by_definition(model, labelled, more):
    """Mean over labelled utterances of what needs labels, over all of the rest; each utterance by itself."""
    task, ctc, l2, frames = [], [], [], []
    teacher = model.__dict__["teacher"].model
    for batch, has_labels in [(b, True) for b in utterances(labelled)] + [(b, False) for b in utterances(more)]:
        seen = []
        for side in (model, teacher):
            hook = side.encoder.encoders[1].register_forward_hook(lambda m, i, out, seen=seen: seen.append(out[0]))
            hidden, _ = side.encode(batch["speech"], batch["speech_lengths"])
            hook.remove()
            seen.append(side.ctc.ctc_lo(hidden).log_softmax(-1))
        (s, log_s), (t, log_t) = seen[:2], seen[2:]
        l2.append((s - t.detach()).square().mean())
        frames.append((s - t.detach()).square().mean(-1).flatten())
        if has_labels:
            ctc.append((log_t.detach().exp() * (log_t.detach() - log_s)).sum(-1).mean())
            task.append(model.forward_task(**batch)[0])
    task, ctc, l2 = (torch.stack(values).mean() for values in (task, ctc, l2))
    frames = torch.cat(frames).mean()
    parts = {"loss_task": task, "loss_kd_l2": l2, "loss_kd_ctc": ctc, "loss_kd_frames": frames}
    return task + 0.5 * l2 + 0.3 * ctc + 0.2 * frames, parts


LABELLED = with_labels(speech(9000, 7000, 5000), 3, 2, 2)
MORE = speech(6000, 12000, 8000, 4000, seed=1)


def test_each_term_is_averaged_over_the_utterances_it_can_read(config, tmp_path):
    model = build(config(**UNLABELLED), tmp_path).train()
    expected, parts = by_definition(model, LABELLED, MORE)
    expected.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    loss, stats, weight = model(**LABELLED, **unlabelled(MORE))
    loss.backward()
    torch.testing.assert_close(loss.squeeze(), expected)
    for name, value in parts.items():
        torch.testing.assert_close(stats[name].squeeze(), value.detach().squeeze(), msg=name)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, grads[name], rtol=1e-3, atol=1e-5, msg=name)
    assert int(weight) == 3 and int(model.kd.step) == 1


def test_two_processes_compute_what_one_does(config, tmp_path):
    """Through ESPnet2's own trainer: unequal numbers of utterances, one step of plain SGD with a rate of 1."""
    path = config(**UNLABELLED)
    model = build(path, tmp_path).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    expected, parts = by_definition(model, LABELLED, MORE)
    expected.backward()
    parts["loss"] = expected
    shares = [((0, 2), (0, 1)), ((2, 3), (1, 4))]
    for rank, (a, b) in enumerate(shares):
        batch = {key: value[slice(*a)] for key, value in LABELLED.items()}
        batch |= unlabelled({key: value[slice(*b)] for key, value in MORE.items()})
        torch.save(batch, tmp_path / f"batch.{rank}.pt")
    script = Path(__file__).with_name("one_of_two.py")
    jobs = [
        subprocess.Popen(
            [sys.executable, script, tmp_path, path, str(rank), "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(script.parents[2])},
        )
        for rank in range(2)
    ]
    for job in jobs:
        output, _ = job.communicate(timeout=300)
        assert job.returncode == 0, output.decode()
    for rank in range(2):
        found = torch.load(tmp_path / f"found.{rank}.pt")
        for name, p in model.named_parameters():
            step = before[name] - found["state"][name]
            torch.testing.assert_close(step, p.grad, rtol=1e-3, atol=1e-5, msg=name)
    for name, value in parts.items():
        assert found["stats"][name] == pytest.approx(value.item(), rel=1e-4), name


def test_unlabelled_speech_moves_the_student_by_distillation_alone(config, tmp_path):
    model = build(config(**UNLABELLED), tmp_path).train()
    alone = model(**LABELLED)[1]
    both = model(**LABELLED, **unlabelled(MORE))[1]
    assert torch.equal(both["loss_task"], alone["loss_task"]) and torch.equal(both["loss_kd_ctc"], alone["loss_kd_ctc"])
    assert both["loss_kd_l2"] != alone["loss_kd_l2"]


def test_a_student_that_teaches_itself_needs_no_labels_either(config, tmp_path):
    model = build(config(**UNLABELLED, teacher="dual", teacher_conf={}), tmp_path).train()
    _, stats, _ = model(**LABELLED, **unlabelled(MORE))
    distances = []
    for batch in [*utterances(LABELLED), *utterances(MORE)]:
        seen = []
        hook = model.encoder.encoders[1].register_forward_hook(lambda m, i, out, seen=seen: seen.append(out[0]))
        model.encode(**batch) if "text" not in batch else model.encode(batch["speech"], batch["speech_lengths"])
        with model.encoder.full_context():
            model.encode(batch["speech"], batch["speech_lengths"])
        hook.remove()
        distances.append((seen[0] - seen[1]).square().mean())
    torch.testing.assert_close(stats["loss_kd_l2"].squeeze(), torch.stack(distances).mean().detach())
    torch.testing.assert_close(stats["loss_teacher"], model(**LABELLED)[1]["loss_teacher"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unlabelled_ratio": 0.0}, "no share of it"),
        ({"unlabelled_ratio": -1.0}, "must not be negative"),
        ({"unlabelled_data_path_and_name_and_type": []}, "give the speech"),
        ({"unlabelled_shape_file": []}, "and its lengths"),
        ({"kd_terms": [], "teacher": None, "teacher_conf": {}}, "through kd_terms only"),
        ({"kd_terms": TERMS[1:2]}, r"teaches nothing: every term \(ctc\) needs labels"),
        ({"iterator_type": "chunk"}, "iterator_type: sequence"),
    ],
)
def test_contradicting_options_are_refused(config, tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        build(config(**{**UNLABELLED, **options}), tmp_path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folders `labelled` and `more` with wav.scp, text and speech_shape of 6 and 10 utterances."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, count in (("labelled", 6), ("more", 10)):
        (folder / name).mkdir()
        lines = {"wav.scp": [], "text": [], "shape": [], "text_shape": []}
        for n in range(count):
            length = int(rng.integers(6000, 9000))
            soundfile.write(folder / name / f"{n}.wav", rng.standard_normal(length) * 0.1, 16000)
            utt = f"{name}{n}"
            lines["wav.scp"].append(f"{utt} {folder / name / f'{n}.wav'}")
            lines["text"].append(f"{utt} abc")
            lines["shape"].append(f"{utt} {length}")
            lines["text_shape"].append(f"{utt} 3,20")
        for file, content in lines.items():
            (folder / name / file).write_text("\n".join(content) + "\n")
    return folder


def options_for(data, ratio):
    return {
        "train_data_path_and_name_and_type": [
            [f"{data}/labelled/wav.scp", "speech", "sound"],
            [f"{data}/labelled/text", "text", "text"],
        ],
        "train_shape_file": [f"{data}/labelled/shape", f"{data}/labelled/text_shape"],
        "valid_data_path_and_name_and_type": [
            [f"{data}/labelled/wav.scp", "speech", "sound"],
            [f"{data}/labelled/text", "text", "text"],
        ],
        "valid_shape_file": [f"{data}/labelled/shape", f"{data}/labelled/text_shape"],
        "unlabelled_data_path_and_name_and_type": [[f"{data}/more/wav.scp", "speech", "sound"]],
        "unlabelled_shape_file": [f"{data}/more/shape"],
        "unlabelled_ratio": ratio,
        "num_workers": 0,
        "use_preprocessor": True,
    }


@pytest.mark.parametrize(
    ("batching", "ratio", "sizes"),
    [
        ({"batch_type": "unsorted", "batch_size": 2}, 1.0, (2, 2)),
        ({"batch_type": "unsorted", "batch_size": 2}, 2.5, (2, 5)),
        ({"batch_type": "unsorted", "batch_size": 2}, 0.5, (2, 1)),
        ({"batch_type": "folded", "batch_size": 2, "fold_length": [80000, 150]}, 1.0, (2, 2)),
    ],
)
def test_every_labelled_batch_brings_its_share(config, tmp_path, data, batching, ratio, sizes):
    from espnet2.train.distributed_utils import DistributedOption

    path = config(**options_for(data, ratio), **batching)
    args = KDASRTask.get_parser().parse_args(["--config", str(path), "--output_dir", str(tmp_path)])
    factory = KDASRTask.build_iter_factory(args, DistributedOption(), "train")
    seen = []
    for epoch in range(1, 11):
        batches = list(factory.build_iter(epoch))
        assert len(batches) == len(factory.build_iter(epoch)) == 3
        for utts, batch in batches:
            assert (len(utts), len(batch["unlabelled_utt_id"])) == sizes
            assert "text" in batch and "unlabelled_text" not in batch
            assert len(batch["unlabelled_speech"]) == len(batch["unlabelled_speech_lengths"]) == sizes[1]
            seen += batch["unlabelled_utt_id"]
        again = [batch["unlabelled_utt_id"] for _, batch in factory.build_iter(epoch)]
        assert again == [batch["unlabelled_utt_id"] for _, batch in batches]  # what a resumed training reads
    counts = [seen.count(f"more{n}") for n in range(10)]
    assert sum(counts) == 30 * sizes[1] and max(counts) - min(counts) <= 1


def test_a_whole_training_with_unlabelled_speech(config, tmp_path, data):
    """From the command line's options to a checkpoint; validation hears labelled speech only."""
    path = config(**options_for(data, 1.0), batch_type="numel", batch_bins=20000, max_epoch=1)
    KDASRTask.main(cmd=["--config", str(path), "--output_dir", str(tmp_path), "--ngpu", "0", "--num_att_plot", "0"])
    state = torch.load(tmp_path / "checkpoint.pth", weights_only=False)
    assert state["model"]["kd.step"] > 0
    stats = state["reporter"]["stats"][1]
    assert {"loss_kd_l2", "loss_kd_ctc"} <= stats["train"].keys() & stats["valid"].keys()
