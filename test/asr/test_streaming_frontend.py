from types import SimpleNamespace

import numpy as np
import pytest
import torch
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.layers.global_mvn import GlobalMVN
from espnet2.layers.utterance_mvn import UtteranceMVN

from espnet2_kd.asr.streaming_frontend import StreamingFrontend


@pytest.fixture(scope="module")
def mvn(tmp_path_factory):
    path = tmp_path_factory.mktemp("stats") / "stats.npz"
    np.savez(path, count=10.0, sum=np.linspace(-80, -20, 20), sum_square=np.linspace(900, 400, 20))
    return GlobalMVN(path)


def model(normalize=None, **conf):
    conf = {"fs": 8000, "n_fft": 256, "hop_length": 80, "n_mels": 20, **conf}
    return SimpleNamespace(
        frontend=DefaultFrontend(**conf), normalize=normalize, preencoder=None, postencoder=None, training=False
    )


def whole(model, samples, lens):
    feats, feat_lens = model.frontend(samples, lens)
    return model.normalize(feats, feat_lens) if model.normalize is not None else (feats, feat_lens)


def noise(size, num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lens = torch.randint(num // 2, num + 1, (size,), generator=generator)
    lens[size // 2] = num
    samples = torch.randn(size, num, generator=generator) * torch.rand(size, 1, generator=generator)
    return samples.masked_fill(torch.arange(num) >= lens[:, None], 0.0), lens


@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("conf", [{}, {"win_length": 200}, {"hop_length": 200}, {"n_fft": 200, "hop_length": 64}])
def test_pieces_give_the_features_of_the_whole(size, center, conf, mvn):
    reference = model(mvn, center=center, **conf)
    frontend = StreamingFrontend(reference)
    for num in (600, 1999):
        samples, lens = noise(size, num)
        expected, expected_lens = whole(reference, samples, lens)
        for piece in (1, 80, 333, num):
            frontend.reset()
            feats, total = [], torch.zeros(size, dtype=torch.long)
            for start in range(0, num, piece):
                part = samples[:, start : start + piece]
                part_lens = (lens - start).clamp(0, part.shape[1])
                out, out_lens = frontend.accept(part, part_lens, start + piece >= num)
                feats.append(out)
                total += out_lens
            actual = torch.cat(feats, dim=1)
            assert actual.shape == expected.shape and torch.equal(total, expected_lens)
            valid = torch.arange(actual.shape[1]) < total[:, None]
            assert (actual - expected)[valid].abs().max() < 1e-4
    assert reference.frontend.stft.center == center


def test_the_end_may_come_with_an_empty_piece():
    for center in (False, True):
        reference = model(center=center)
        samples, lens = noise(1, 1000)
        frontend = StreamingFrontend(reference)
        first, _ = frontend.accept(samples, lens, False)
        last, _ = frontend.accept(samples[:, :0], torch.tensor([0]), True)
        torch.testing.assert_close(torch.cat((first, last), dim=1), whole(reference, samples, lens)[0])


@pytest.mark.parametrize("center", [False, True])
def test_what_follows_the_end_of_all_streams_does_not_count(center):
    reference = model(center=center)
    samples, _ = noise(2, 1000)
    lens = torch.tensor([930, 700])
    frontend = StreamingFrontend(reference)
    parts = [samples[:, :600], samples[:, 600:], torch.randn(2, 300)]
    part_lens = [[600, 600], [330, 100], [0, 0]]
    feats = [
        frontend.accept(part, torch.tensor(valid), final)[0]
        for part, valid, final in zip(parts, part_lens, (False, False, True))
    ]
    expected, _ = whole(reference, samples[:, :930], lens)
    assert torch.cat(feats, dim=1).shape == expected.shape
    torch.testing.assert_close(torch.cat(feats, dim=1)[0], expected[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("center", [False, True])
def test_audio_shorter_than_a_window_has_no_frame(center):
    frontend = StreamingFrontend(model(center=center))
    feats, lens = frontend.accept(torch.randn(2, 100), torch.tensor([100, 30]), True)
    assert feats.shape == (2, 0, 20) and lens.tolist() == [0, 0]


@pytest.mark.parametrize("center", [False, True])
def test_last_sample_is_when_a_frame_comes_out(center):
    frontend = StreamingFrontend(model(center=center))
    samples = torch.randn(1, 2000)
    for frame in (3, 9):
        frontend.reset()
        needed = frontend.last_sample(frame)
        before, _ = frontend.accept(samples[:, : needed - 1], torch.tensor([needed - 1]), False)
        after, _ = frontend.accept(samples[:, needed - 1 : needed], torch.tensor([1]), False)
        assert (before.shape[1], after.shape[1]) == (frame, 1)
    assert frontend.frame_shift_ms == 10


def test_samples_after_the_end_of_a_stream_are_refused():
    frontend = StreamingFrontend(model())
    frontend.accept(torch.randn(2, 500), torch.tensor([500, 400]), False)
    with pytest.raises(ValueError, match="a stream that has ended gets further samples"):
        frontend.accept(torch.randn(2, 500), torch.tensor([500, 1]), False)


def test_models_that_need_the_whole_utterance_are_refused():
    with pytest.raises(ValueError, match="UtteranceMVN needs the whole utterance: .*global_mvn"):
        StreamingFrontend(model(UtteranceMVN()))
    with pytest.raises(ValueError, match="beamforming need the whole utterance"):
        StreamingFrontend(model(frontend_conf={"use_wpe": True}))
    for frontend in (None, DefaultFrontend(apply_stft=False), torch.nn.Identity()):
        wrong = model()
        wrong.frontend = frontend
        with pytest.raises(ValueError, match="streaming needs `frontend: default` on audio"):
            StreamingFrontend(wrong)
    wrong = model()
    wrong.postencoder = torch.nn.Identity()
    with pytest.raises(ValueError, match="a model with a postencoder"):
        StreamingFrontend(wrong)
