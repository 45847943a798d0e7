"""The acoustic front-end of Lugosch et al. (Interspeech 2019): band-pass filters that learn their edges, convolutions, recurrent layers."""

import torch
import torch.nn.functional as F
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.layers.sinc_conv import SincConv
from torch import nn

from espnet2_kd.layers.pooling import SlowFrames, pool_pairs

FILTERS, FILTER_LENGTH, STRIDE = 80, 401, 80
SLOPE = 0.2


class RawSamples(AbsFrontend):
    """Samples as frames of one dimension: (B, N), (B,) -> (B, N, 1), (B,).

    fs: sampling rate, a number or one such as `16k`; for those who ask.
    """

    def __init__(self, fs: int | str = 16000) -> None:
        super().__init__()
        self.fs = int(float(str(fs).rstrip("k")) * (1000 if str(fs).endswith("k") else 1))
        self.hop_length = 1

    def output_size(self) -> int:
        return 1

    def forward(self, input: torch.Tensor, input_lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return input[:, :, None], input_lengths


class SincGRUEncoder(AbsEncoder):
    """Samples to a frame per 160 ms, at 16 kHz.

    80 sinc filters (5 ms steps, absolute values, maxima of two), two convolutions, and bidirectional GRUs of which each
    halves the number of frames: of phones (two) and of words (two), in the paper's names.

    input_size: 1, of the front-end `raw`.
    convolutions: channels of the convolutions, 5 frames wide.
    size: of a GRU in each direction.
    num_layers: GRUs, each followed by dropout and the mean of two frames.
    fs: sampling rate in Hz, for the filters' first edges.
    """

    def __init__(
        self,
        input_size: int,
        convolutions: tuple[int, ...] | list[int] = (60, 60),
        size: int = 128,
        num_layers: int = 4,
        dropout_rate: float = 0.5,
        fs: int = 16000,
    ) -> None:
        super().__init__()
        if input_size != 1:
            raise ValueError(f"sinc_gru hears samples, not {input_size} features: `frontend: raw`")
        self.sinc = SincConv(1, FILTERS, FILTER_LENGTH, STRIDE, FILTER_LENGTH // 2, fs=fs)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, 5, padding=2) for before, after in zip((FILTERS, *convolutions), convolutions)
        )
        widths = (convolutions[-1], *[2 * size] * (num_layers - 1))
        self.layers = nn.ModuleList(nn.GRU(width, size, batch_first=True, bidirectional=True) for width in widths)
        self.dropout = nn.Dropout(dropout_rate)
        self.halve = SlowFrames(2)
        self.size = 2 * size
        self.frame_ms = 1000.0 / fs * STRIDE * 2 * 2**num_layers

    def output_size(self) -> int:
        return self.size

    def forward(
        self, xs_pad: torch.Tensor, ilens: torch.Tensor, prev_states: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """(B, N, 1), (B,) -> (B, ceil(N / (160 * 2^num_layers)), 2 size), (B,), None."""
        # Zeros beyond the end are what the convolution of a single utterance finds there.
        x = xs_pad.masked_fill(_padding(xs_pad, ilens), 0.0)
        x = self.sinc(x.transpose(1, 2)).abs().transpose(1, 2)
        x, lens = pool_pairs(x, torch.div(ilens + STRIDE - 1, STRIDE, rounding_mode="floor"))
        x = F.leaky_relu(x, SLOPE)
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x.masked_fill(_padding(x, lens), 0.0).transpose(1, 2)), SLOPE).transpose(1, 2)
        for layer in self.layers:
            # Packed, since the backward direction would begin in the padding.
            packed = nn.utils.rnn.pack_padded_sequence(
                x, lens.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
            )
            x, _ = nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])
            x, lens = self.halve(self.dropout(x), lens)
        return x, lens, None


def _padding(x: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
    """(B, T, 1) bool, True behind the end."""
    return (torch.arange(x.shape[1], device=x.device) >= lens[:, None])[:, :, None]
