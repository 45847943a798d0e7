"""How encoder frames lie on the audio."""

import torch
from espnet.nets.pytorch_backend.transformer.subsampling import check_short_utt


def encoder_frame_ms(model: torch.nn.Module) -> float:
    """Return the time between two encoder frames of an ``ESPnetASRModel``.

    Told by the encoder, else measured as the difference that two seconds of silence make.
    """
    known = getattr(model.encoder, "frame_ms", None)
    if known is not None:
        return float(known)
    rate = int(getattr(model.frontend, "fs", 16000))
    device = next(model.parameters()).device
    with torch.no_grad():
        # One by one: in a batch ESPnet2's encoders count frames of padding as well.
        short, long = (
            int(model.encode(torch.zeros(1, n, device=device), torch.tensor([n], device=device))[1][0])
            for n in (2 * rate, 4 * rate)
        )
    measured = 2000.0 / float(long - short)
    # Frames at the end that are not whole make the measurement a little too long.
    feature_ms = getattr(model.frontend, "hop_length", 1) * 1000.0 / rate
    return max(1, round(measured / feature_ms)) * feature_ms


def fewest_samples(model: torch.nn.Module) -> int:
    """Return the number of samples that the first encoder frame needs; ESPnet2's models raise on less audio."""
    stft = getattr(model.frontend, "stft", None)
    if stft is None:
        return 1
    embed = getattr(model.encoder, "embed", None)
    # Of ESPnet2's subsampling layers; that by 4, the default of its encoders, needs 7 feature frames.
    known = check_short_utt(embed, 0)[1]
    num_features = getattr(embed, "receptive_field", known if known > 0 else 7)
    context = stft.n_fft // 2 + 1 if stft.center else stft.n_fft
    return (num_features - 1) * stft.hop_length + context
