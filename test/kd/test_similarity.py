"""Linear CKA against its definition on Gram matrices, and the taps against all choices tried."""

import itertools

import numpy as np
import pytest
import torch

from espnet2_kd.kd.seq import Seq
from espnet2_kd.kd.similarity import LinearCKA, layers_of, propose_taps


def by_definition(x, y):
    """HSIC of centred linear kernels, in float64 (equation 4 of the paper)."""
    n = len(x)
    centre = np.eye(n) - 1 / n
    k, m = (centre @ (f @ f.T) @ centre for f in (x, y))
    return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


def test_batches_of_padded_sequences_are_the_definition_on_all_frames():
    generator = torch.Generator().manual_seed(0)
    lens = [[5, 3], [1, 4], [6, 0]]
    student, teacher = [], []
    cka = LinearCKA()
    for pair in lens:
        batch = {}
        for side, sizes in (("s", (3, 4)), ("t", (5, 2, 3))):
            for number, size in enumerate(sizes):
                x = torch.randn(2, 7, size, generator=generator) + 2.0
                batch[f"{side}{number}"] = Seq(x, torch.tensor(pair))
        batch["t1"] = batch["t1"].with_x(batch["s0"].x[..., :2] + 0.3 * batch["t1"].x)
        student.append({key: batch[key] for key in ("s0", "s1")})
        teacher.append({key: batch[key] for key in ("t0", "t1", "t2")})
        cka.add(student[-1], teacher[-1])

    def frames(batches, key):
        return np.concatenate([b[key].x[n, : b[key].lens[n]].double().numpy() for b in batches for n in range(2)])

    matrix = cka.matrix()
    assert cka.count == sum(map(sum, lens)) and matrix.shape == (2, 3)
    for a, s in enumerate(("s0", "s1")):
        for b, t in enumerate(("t0", "t1", "t2")):
            assert matrix[a, b].item() == pytest.approx(by_definition(frames(student, s), frames(teacher, t)), abs=1e-9)


def test_rotation_scale_and_shift_do_not_matter():
    torch.manual_seed(0)
    x = torch.randn(2, 30, 6)
    rotation = torch.linalg.qr(torch.randn(6, 6))[0]
    cka, lens = LinearCKA(), torch.tensor([30, 20])
    cka.add({"a": Seq(x, lens)}, {"same": Seq(3.0 * x @ rotation + 5.0, lens), "flat": Seq(torch.ones(2, 30, 2), lens)})
    matrix = cka.matrix()
    assert matrix[0, 0].item() == pytest.approx(1.0, abs=1e-6) and matrix[0, 1].isnan()


def test_teacher_frames_beyond_the_students_are_left_out():
    cka = LinearCKA()
    x = torch.randn(1, 10, 3)
    cka.add({"a": Seq(x[:, :8], torch.tensor([8]))}, {"b": Seq(x, torch.tensor([9]))})
    assert cka.count == 8 and cka.matrix()[0, 0].item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("num_student", "num_teacher", "num_taps"), [(4, 6, 2), (6, 4, 3), (5, 5, 1), (3, 3, 3), (7, 5, 4)]
)
def test_proposed_taps_are_the_best_of_all(num_student, num_teacher, num_taps):
    rng = np.random.default_rng(num_student)
    for _ in range(20):
        matrix = torch.from_numpy(rng.random((num_student, num_teacher)))
        pairs = propose_taps(matrix, num_taps)
        bands = [range(b * num_student // num_taps, (b + 1) * num_student // num_taps) for b in range(num_taps)]
        assert all(s in band for (s, _), band in zip(pairs, bands, strict=True))
        assert all(a[1] < b[1] for a, b in itertools.pairwise(pairs))
        best = max(
            sum(matrix[s, t].item() for s, t in zip(rows, columns, strict=True))
            for rows in itertools.product(*bands)
            for columns in itertools.combinations(range(num_teacher), num_taps)
        )
        assert sum(matrix[s, t].item() for s, t in pairs) == pytest.approx(best)


def test_too_many_taps():
    with pytest.raises(ValueError, match="3 taps of 4 student and 2 teacher layers"):
        propose_taps(torch.zeros(4, 2), 3)


def test_layers_are_found_in_both_kinds_of_models():
    espnet = ["encoder", "encoder.encoders", "encoder.encoders.0", "encoder.encoders.0.conv.1", "encoder.encoders.1"]
    assert layers_of(espnet) == ["encoder.encoders.0", "encoder.encoders.1"]
    assert (
        layers_of(["feature_extractor.conv_layers.0", "encoder.layers.0", "encoder.layers.1"])[-1] == "encoder.layers.1"
    )
    assert layers_of(["conv1", "layers.0", "layers.0.fc1"]) == ["layers.0"] and layers_of(["x"]) == []
