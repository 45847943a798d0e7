"""The CIF layer: how much of a token each frame is, and the tokens."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from espnet2_kd.layers.feed_forward import make_activation
from espnet2_kd.ops.cif import CIFState, cif_fire, cif_fire_chunk


class CIFTokens(NamedTuple):
    """What a CIF layer makes of a batch; a tap reads the tokens and their numbers.

    fired: tokens (B, U, D).
    lens: their numbers (B,).
    alpha: weights of the frames (B, T), as predicted, 0 on padding.
    mass: their sums (B,).
    """

    fired: torch.Tensor
    lens: torch.Tensor
    alpha: torch.Tensor
    mass: torch.Tensor


@dataclass(frozen=True)
class CIFLayerState:
    """What a CIF layer remembers of a batch of streams.

    frames: those that the convolution still needs, before and after the next one to weigh (B, n, D).
    num_frames: frames received that belong to each stream (B,).
    weighed: frames weighed so far, the padding of ended streams included.
    fire: what the token being filled holds.
    """

    frames: torch.Tensor
    num_frames: torch.Tensor
    weighed: int
    fire: CIFState


class CIF(nn.Module):
    """Continuous integrate-and-fire (Dong and Xu, ICASSP 2020): frames (B, T, D) to tokens (B, U, D).

    A convolution and a linear layer predict each frame's weight: HieraDist's, and Paraformer's with ``depthwise``,
    ``residual`` and ``activation="relu"``. In training the weights are scaled to the number of tokens, with the gradient
    of the factor; ``quantity_loss`` teaches the sum that inference relies on.

    kernel_size: frames of the convolution; 1 is a linear layer for each frame, 0 leaves it out.
    lookahead: frames of it that follow the weighed one; None: half of them. 0 waits for nothing in a stream.
    activation: swish, relu or gelu between the two; None for none.
    smooth_factor, noise_threshold: ``alpha = relu(smooth_factor * sigmoid(.) - noise_threshold)``, as Paraformer has it.
    threshold, tail: see ``cif_fire``.

    Raises ValueError for an unknown activation and for a look-ahead beyond the kernel.
    """

    def __init__(
        self,
        size: int,
        kernel_size: int = 3,
        lookahead: int | None = None,
        depthwise: bool = False,
        residual: bool = False,
        activation: str | None = None,
        dropout_rate: float = 0.0,
        smooth_factor: float = 1.0,
        noise_threshold: float = 0.0,
        threshold: float = 1.0,
        tail: float | None = 0.5,
    ) -> None:
        super().__init__()
        lookahead = kernel_size // 2 if lookahead is None else lookahead
        if not 0 <= lookahead <= max(kernel_size - 1, 0):
            raise ValueError(f"lookahead {lookahead} must lie within the kernel of {kernel_size} frames")
        self.conv = nn.Conv1d(size, size, kernel_size, groups=size if depthwise else 1) if kernel_size else None
        self.linear = nn.Linear(size, 1)
        self.dropout = nn.Dropout(dropout_rate)
        self.lookahead = lookahead
        self.history = max(kernel_size - 1, 0) - lookahead
        self.residual = residual
        self.activation = make_activation(activation) if activation else nn.Identity()
        self.smooth_factor, self.noise_threshold = smooth_factor, noise_threshold
        self.threshold, self.tail = threshold, tail

    def forward(self, x: torch.Tensor, lens: torch.Tensor, num_tokens: torch.Tensor | None = None) -> CIFTokens:
        """Frames (B, T, D), lens (B,); with num_tokens (B,) exactly so many tokens, as for training."""
        valid = torch.arange(x.shape[1], device=x.device) < lens[:, None]
        # Masked before the convolution, which would carry the padding into the last frames.
        padded = F.pad(x.masked_fill(~valid[:, :, None], 0.0), (0, 0, self.history, self.lookahead))
        alpha = self._weigh(padded).masked_fill(~valid, 0.0)
        mass = alpha.sum(1)
        weights = alpha
        if num_tokens is not None:
            weights = alpha * (num_tokens * self.threshold / mass.clamp(min=1e-8))[:, None]
        options = {"num_tokens": num_tokens, "threshold": self.threshold, "tail": self.tail}
        fired, fired_lens = cif_fire(x, weights, lens, **options)
        return CIFTokens(fired, fired_lens, alpha, mass)

    def quantity_loss(self, tokens: CIFTokens, num_tokens: torch.Tensor) -> torch.Tensor:
        """How many tokens the predicted weights are away from ``num_tokens``, for each utterance (B,)."""
        return (tokens.mass / self.threshold - num_tokens).abs()

    def initial_state(self, batch_size: int = 1) -> CIFLayerState:
        """State before the first frame of ``batch_size`` streams."""
        like = self.linear.weight
        frames = like.new_zeros(batch_size, self.history, like.shape[1])
        num_frames = torch.zeros(batch_size, dtype=torch.long, device=like.device)
        return CIFLayerState(frames, num_frames, 0, CIFState.start(batch_size, like.shape[1], like.device, like.dtype))

    @torch.no_grad()
    def forward_chunk(
        self, x: torch.Tensor, state: CIFLayerState, final: bool = False, lens: torch.Tensor | None = None
    ) -> tuple[CIFTokens, CIFLayerState]:
        """Any number of next frames (B, T, D) -> tokens that fire, and the new state.

        The tokens of all calls together equal ``forward`` of the whole, in evaluation mode.

        final: no frame follows.
        lens: valid frames of ``x`` (B,); a stream with fewer than T ends there. None: all are valid.
        """
        batch_size, num, size = x.shape
        lens = torch.full_like(state.num_frames, num) if lens is None else lens.to(state.num_frames)
        num_frames = state.num_frames + lens
        beyond = torch.arange(num, device=x.device) >= lens[:, None]
        frames = torch.cat((state.frames, x.masked_fill(beyond[:, :, None], 0.0)), dim=1)
        if final:
            frames = F.pad(frames, (0, 0, 0, self.lookahead))
        ready = max(frames.shape[1] - self.history - self.lookahead, 0)
        alpha = self._weigh(frames)
        here = (num_frames - state.weighed).clamp(0, ready)
        alpha = alpha.masked_fill(torch.arange(ready, device=x.device) >= here[:, None], 0.0)
        fired, fired_lens, fire = cif_fire_chunk(
            frames[:, self.history : self.history + ready],
            alpha,
            here,
            state.fire,
            final=final,
            threshold=self.threshold,
            tail=self.tail,
        )
        state = CIFLayerState(frames[:, ready:], num_frames, state.weighed + ready, fire)
        return CIFTokens(fired, fired_lens, alpha, alpha.sum(1)), state

    def _weigh(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames with what comes before and after them (B, history + T + lookahead, D) -> weights (B, T) in float32."""
        if frames.shape[1] <= self.history + self.lookahead:
            return frames.new_zeros(len(frames), 0, dtype=torch.promote_types(frames.dtype, torch.float32))
        inner = frames[:, self.history : frames.shape[1] - self.lookahead]
        x = inner
        if self.conv is not None:
            x = self.conv(frames.transpose(1, 2)).transpose(1, 2)
            if self.residual:
                x = x + inner
        logits = self.linear(self.dropout(self.activation(x))).squeeze(-1)
        # Half precision would round the weights by more than a sum over an utterance forgives.
        alpha = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
        if self.smooth_factor != 1.0 or self.noise_threshold:
            alpha = F.relu(alpha * self.smooth_factor - self.noise_threshold)
        return alpha
