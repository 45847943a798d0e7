"""Which frames make which tokens: the sparse matrix of continuous integrate-and-fire."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """The entries of the matrix, N = T + U per utterance, each an interval of the summed weights within one frame and one token.

    The ends of frames (sums of alpha) and of tokens (multiples of the threshold), merged in order, cut the sums into these
    intervals: no shape depends on the data, so nothing waits for a GPU.

    frame: row of `h.view(B * T, C)` (B, N).
    token: row of `fired.view(B * U, C)` (B, N).
    weight: length of the interval (B, N) float64; 0 for what belongs to no token.
    dead: whether that is so (B, N) bool.
    frame_end: entry that ends at the end of each frame (B, T).
    token_end: entry that ends at the end of each token (B, U); -1 in an utterance without frames.
    """

    frame: Tensor
    token: Tensor
    weight: Tensor
    dead: Tensor
    frame_end: Tensor
    token_end: Tensor

    @property
    def frame_offsets(self) -> Tensor:
        """First entry of each frame (B * T,); what follows the last one has no weight and counts as its own."""
        return _offsets(self.frame_end[:, :-1], self.frame.shape[1])

    @property
    def token_offsets(self) -> Tensor:
        """First entry of each token and, per utterance, of what follows the last one (B * (U + 1),)."""
        return _offsets(self.token_end, self.frame.shape[1])


def make_plan(
    alpha: Tensor, lens: Tensor, start: Tensor, num_fires: Tensor, num_rows: Tensor, size: int, threshold: float
) -> Plan:
    """Merge the ends of frames and of tokens.

    An utterance with a weight that is negative or no finite number has NaN for weights, and no index that leads astray.

    Args:
        alpha: `(B, T)` float64, 0 beyond `lens`, T at least 1.
        lens: frames of each utterance (B,).
        start: weight that the first token has already (B,) float64.
        num_fires: tokens that end within the utterance (B,); the next one takes all that is left.
        num_rows: tokens that are wanted, at most one more (B,).
        size: U, at least `num_rows.max()` and 1.
    """
    batch_size, num_frames = alpha.shape
    device = alpha.device
    frames, tokens = torch.arange(num_frames, device=device), torch.arange(size, device=device)
    # Sums that do not grow cannot be merged in order.
    known = ((alpha >= 0) & (alpha < torch.inf)).all(1, keepdim=True)
    alpha = alpha.masked_fill(~known, 0.0)
    sums = start[:, None] + alpha.cumsum(1)
    edges = ((tokens + 1).double() * threshold).expand(batch_size, size)
    edges = edges.masked_fill(tokens >= num_fires[:, None], torch.inf)
    # Where both ends meet the token ends first: what would fire there belongs to the next one, and so does its gradient.
    tokens_before = torch.searchsorted(edges, sums, right=True)
    frames_before = torch.searchsorted(sums, edges)
    frame_end, token_end = tokens_before + frames, frames_before + tokens
    ends = sums.new_empty(batch_size, num_frames + size)
    ends.scatter_(1, frame_end, sums).scatter_(1, token_end, edges)
    frame = torch.empty_like(ends, dtype=torch.long)
    frame.scatter_(1, frame_end, frames.expand(batch_size, -1)).scatter_(1, token_end, frames_before)
    token = torch.arange(num_frames + size, device=device) - frame  # all that ended before and is no frame
    dead = (frame >= num_frames) | (token >= num_rows[:, None])
    weight = torch.diff(ends, dim=1, prepend=start[:, None]).masked_fill(~known, torch.nan).masked_fill(dead, 0.0)
    # An entry without weight must not read the padding either, of frames or of tokens' gradients: 0 times NaN is NaN.
    frame = torch.minimum(frame, (lens[:, None] - 1).clamp(min=0))
    row = torch.arange(batch_size, device=device)[:, None]
    token = torch.minimum(token, (num_rows[:, None] - 1).clamp(min=0))
    # Where there is no frame at all, the entries have nothing but padding to read: no token gets any.
    token_end = token_end.masked_fill((lens == 0)[:, None], -1)
    return Plan(frame + row * num_frames, token + row * size, weight, dead, frame_end, token_end)


def _offsets(ends: Tensor, num_entries: int) -> Tensor:
    first = torch.arange(0, len(ends) * num_entries, num_entries, device=ends.device)[:, None]
    return torch.cat((first, ends + (first + 1)), dim=1).view(-1)
