"""How encoder frames lie on the audio."""

import torch


def encoder_frame_ms(model: torch.nn.Module) -> float:
    """Return the time between two encoder frames of an ``ESPnetASRModel``.

    Told by the encoder, else measured as the difference that two seconds of silence make.
    """
    known = getattr(model.encoder, "frame_ms", None)
    if known is not None:
        return float(known)
    rate = int(getattr(model.frontend, "fs", 16000))
    device = next(model.parameters()).device
    lens = torch.tensor([2 * rate, 4 * rate], device=device)
    with torch.no_grad():
        _, frames = model.encode(torch.zeros(2, 4 * rate, device=device), lens)
    measured = 2000.0 / float(frames[1] - frames[0])
    # Frames at the end that are not whole make the measurement a little too long.
    feature_ms = getattr(model.frontend, "hop_length", 1) * 1000.0 / rate
    return max(1, round(measured / feature_ms)) * feature_ms


def fewest_samples(model: torch.nn.Module) -> int:
    """Return the number of samples that the first encoder frame needs; ESPnet2's models raise on less audio."""
    stft = getattr(model.frontend, "stft", None)
    if stft is None:
        return 1
    # Subsampling by 4, the default of ESPnet2's encoders, needs 7 feature frames.
    num_features = getattr(getattr(model.encoder, "embed", None), "receptive_field", 7)
    context = stft.n_fft // 2 + 1 if stft.center else stft.n_fft
    return (num_features - 1) * stft.hop_length + context
