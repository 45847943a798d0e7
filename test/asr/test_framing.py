import pytest
import torch
from espnet.nets.pytorch_backend.transformer.subsampling import TooShortUttError

from espnet2_kd.asr.framing import encoder_frame_ms, fewest_samples

FRAME_MS = {"chunk_conformer": 40.0, "pooled": 160.0, "conformer": 40.0, "conformer6": 60.0, "conformer8": 80.0}
FIRST_FRAME = {"conformer6": 11, "conformer8": 15}  # how many features it needs; others: 7


@pytest.fixture(scope="module", params=FRAME_MS)
def model(request, tiny_experiment):
    """Our encoder, with pools too, and one of ESPnet2's, which tells nothing about itself."""
    from espnet2.asr.encoder.conformer_encoder import ConformerEncoder

    from espnet2_kd.asr.load import load_model

    conf = {"pool_after": [1, 2]} if request.param == "pooled" else None
    model, _ = load_model(tiny_experiment(f"asr_framing_{request.param}", conf), "valid.loss_transducer.ave.pth")
    model.known_frame_ms = FRAME_MS[request.param]
    model.first_frame = FIRST_FRAME.get(request.param, 7)
    if request.param.startswith("conformer"):
        conf = {"output_size": 16, "attention_heads": 2, "linear_units": 16, "num_blocks": 1}
        layer = "conv2d" + request.param.removeprefix("conformer")
        model.encoder = ConformerEncoder(80, input_layer=layer, **conf).eval()
    return model


def test_frame_time_and_fewest_samples_are_what_the_model_does(model):
    assert encoder_frame_ms(model) == model.known_frame_ms
    num = fewest_samples(model)
    assert num == (model.first_frame - 1) * 160 + 512
    with torch.no_grad():
        frames, lens = model.encode(torch.randn(1, num), torch.tensor([num]))
        assert frames.size(1) == int(lens[0]) == 1
        with pytest.raises(TooShortUttError):
            model.encode(torch.randn(1, num - 1), torch.tensor([num - 1]))


def test_centred_windows_need_half_of_the_last_one(model):
    model.frontend.stft.center = True
    num = fewest_samples(model)
    with torch.no_grad():
        assert model.encode(torch.randn(1, num), torch.tensor([num]))[0].size(1) == 1
    model.frontend.stft.center = False
