"""The auxiliary non-streaming branch (Shim et al., Interspeech 2023): projection, Transformer layer, LSTM."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet2_kd.kd.heads import HEADS
from espnet2_kd.kd.heads.frame_rate import FrameRate
from espnet2_kd.kd.heads.projection import Projection
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.seq import Seq

MASKS = ("none", "hole", "lookahead")


def future_mask(num_frames: int, mask: str, shift: int, device: torch.device | None = None) -> Tensor:
    """`(T, T)` bool, True where row t may attend to column k.

    The branch's LSTM must predict the teacher `shift` = K frames ahead, so attention should not hand it that frame:

        none       everything
        hole       all but t+1 .. t+K: closes the direct path z_t -> t+K (the paper, as third parties read it)
        lookahead  k < t+K: closes every path; r_t cannot depend on the student at t+K or later

    With `hole` an earlier row z_{t-1} still sees t+K, and the LSTM passes it on; see `specs.md` B.3.
    """
    t = torch.arange(num_frames, device=device).unsqueeze(1)
    k = torch.arange(num_frames, device=device).unsqueeze(0)
    if mask == "none":
        return torch.ones(num_frames, num_frames, dtype=torch.bool, device=device)
    if mask == "hole":
        return (k <= t) | (k > t + shift)
    return k < t + shift


def sinusoids(num_frames: int, size: int, device: torch.device) -> Tensor:
    """`(T, D)` sinusoidal positions (Vaswani et al., 2017)."""
    rate = torch.exp(torch.arange(0, size, 2, device=device) * (-math.log(10000.0) / size))
    phase = torch.arange(num_frames, device=device).unsqueeze(1) * rate
    return torch.stack((phase.sin(), phase.cos()), dim=-1).flatten(1)[:, :size]


@HEADS.add("nonstreaming")
class NonStreaming(nn.Module):
    """Full-context branch on a streaming layer; reads the layer, feeds nothing back, costs nothing at inference.

    Outputs: `x` = z, the Transformer layer's output; `future` = r, the unidirectional LSTM over z; `q`, `k`, `v` = the
    attention's projections, for relation losses.

    Args:
        size: width of the branch; the teacher's width by default, since z is compared with its features.
        num_heads: attention heads.
        ff_size: width of the feed-forward part, 4 x size by default.
        mask: `none`, `hole` or `lookahead`, see `future_mask`. Used with the `future` loss.
        shift: K of that loss, in frames.
        lstm: leave out the LSTM when no `future` loss reads it (an unused parameter breaks DDP).
        up, down: teacher frames per student frame, or the reverse, as of `frame_rate`; the branch runs at the teacher's rate.
    """

    def __init__(
        self,
        in_size: int,
        teacher_size: int,
        size: int | None = None,
        num_heads: int = 8,
        ff_size: int | None = None,
        mask: str = "none",
        shift: int = 4,
        lstm: bool = True,
        dropout: float = 0.1,
        up: int | None = None,
        down: int | None = None,
    ) -> None:
        super().__init__()
        size = size or teacher_size
        if mask not in MASKS:
            raise ConfigError(f"nonstreaming: mask {mask!r}; one of {', '.join(MASKS)}")
        if num_heads < 1 or size % num_heads:
            raise ConfigError(f"nonstreaming: size {size} does not split into {num_heads} heads")
        if shift < 1:
            raise ConfigError(f"nonstreaming: shift {shift} must be at least 1 frame")
        self.num_heads, self.mask, self.shift, self.dropout = num_heads, mask, shift, dropout
        self.project = FrameRate(in_size, size, up, down) if up or down else Projection(in_size, size)
        self.norm_attn = nn.LayerNorm(size)
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(size, size) for _ in range(4))
        self.norm_ff = nn.LayerNorm(size)
        ff_size = ff_size or 4 * size
        self.ff = nn.Sequential(nn.Linear(size, ff_size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(ff_size, size))
        self.lstm = nn.LSTM(size, size, batch_first=True) if lstm else None

    def forward(self, seq: Seq) -> dict[str, Seq]:
        """`(B, T, D_s)` -> `{x, q, k, v[, future]}`, each `(B, T', size)`; T' = T unless `up` or `down` are given."""
        seq = self.project(seq)["x"]
        x = seq.x
        num_frames = x.shape[1]
        x = x + sinusoids(num_frames, x.shape[-1], x.device).to(x.dtype)
        h = self.norm_attn(x)
        q, k, v = self.linear_q(h), self.linear_k(h), self.linear_v(h)
        allowed = future_mask(num_frames, self.mask, self.shift, x.device) & seq.mask[:, None, None, :]
        # A row of padding may be left without a key; it sees itself so that softmax stays finite, and is never read.
        allowed = allowed | torch.eye(num_frames, dtype=torch.bool, device=x.device)
        heads = (y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in (q, k, v))
        context = F.scaled_dot_product_attention(*heads, attn_mask=allowed)
        x = x + F.dropout(self.linear_out(context.transpose(1, 2).flatten(2)), self.dropout, self.training)
        z = x + F.dropout(self.ff(self.norm_ff(x)), self.dropout, self.training)
        out = {"x": seq.with_x(z), "q": seq.with_x(q), "k": seq.with_x(k), "v": seq.with_x(v)}
        if self.lstm is not None:
            # Right padding is safe for a unidirectional LSTM: valid frames never see it.
            out["future"] = seq.with_x(self.lstm(z)[0])
        return out
