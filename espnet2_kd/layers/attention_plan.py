"""The layout of one batch for chunk attention: how it is folded, and what is masked."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from espnet2_kd.layers.chunk_context import ChunkContext

SMALLEST_BLOCK = 16
LARGEST_BLOCK = 64


@dataclass(frozen=True)
class AttentionPlan:
    """Queries in N blocks of I frames, each with a window of W keys; made once a batch and shared by all layers.

    A sequence that is short, or whose context is not bounded, is one block (N = 1, I = W = T): the dense form.

    context: what may be seen.
    num_frames: T.
    block: I.
    before, after: frames of the key window before and after its block.
    blocked: bool, broadcastable to (B N, I, W); True where attention is forbidden.
    """

    context: ChunkContext
    num_frames: int
    block: int
    before: int
    after: int
    blocked: torch.Tensor

    @classmethod
    def make(cls, lens: torch.Tensor, num_frames: int, context: ChunkContext) -> "AttentionPlan":
        """Plan for a right-padded batch: lens (B,), T = num_frames."""
        if context.chunk is not None and context.left is not None:
            block = _block_size(context)
            if num_frames > context.left + block + context.right:
                return cls._folded(lens, num_frames, context, block)
        return cls.dense(lens, num_frames, context)

    @classmethod
    def dense(cls, lens: torch.Tensor, num_frames: int, context: ChunkContext) -> "AttentionPlan":
        """Plan of one block, whatever the context."""
        t = torch.arange(num_frames, device=lens.device)
        allowed = (t < lens[:, None])[:, None, :]
        if not context.full:
            allowed = allowed & context.allowed(t, t)
        return cls(context, num_frames, num_frames, 0, 0, ~allowed)

    @classmethod
    def _folded(cls, lens: torch.Tensor, num_frames: int, context: ChunkContext, block: int) -> "AttentionPlan":
        before, after = context.left, context.right
        # All blocks start on a chunk boundary, so that one (I, W) pattern serves them all.
        i = torch.arange(block, device=lens.device)
        w = torch.arange(-before, block + after, device=lens.device)
        keys = torch.arange(0, num_frames, block, device=lens.device)[:, None] + w
        exists = (keys >= 0) & (keys < lens[:, None, None])
        allowed = context.allowed(i, w) & exists[:, :, None, :]
        return cls(context, num_frames, block, before, after, ~allowed.flatten(0, 1))

    @property
    def back(self) -> int:
        """Largest distance from a query back to a key of its window."""
        return self.block - 1 + self.before

    @property
    def ahead(self) -> int:
        """Largest distance from a query forward to a key of its window."""
        return self.block - 1 + self.after

    def fold_queries(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, H, D) -> (H, B N, I, D)."""
        x = F.pad(x.permute(2, 0, 1, 3), (0, 0, 0, -self.num_frames % self.block))
        return x.unflatten(2, (-1, self.block)).flatten(1, 2)

    def fold_keys(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, H, D) -> (H, B N, W, D), windows that overlap in memory."""
        if self.block == self.num_frames:
            return x.permute(2, 0, 1, 3)
        return _Windows.apply(x, self.block, self.before, self.after).unflatten(0, (x.shape[2], -1))

    def unfold(self, x: torch.Tensor) -> torch.Tensor:
        """(H, B N, I, D) -> (B, T, H D)."""
        num_blocks = -(-self.num_frames // self.block)
        x = x.unflatten(1, (-1, num_blocks)).flatten(2, 3)[:, :, : self.num_frames]
        return x.permute(1, 2, 0, 3).flatten(2)


class _Windows(torch.autograd.Function):
    """(B, T, H, D) -> (H B N, W, D): the window of every block, in one copy of x.

    All rows of all utterances and heads lie one after the other, N I of them each, so that one stride leads from window to
    window and a batched product reads them where they are. The first and last windows of an utterance reach into its
    neighbours: these frames do not exist for the utterance, and the plan blocks them.
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, block: int, before: int, after: int) -> torch.Tensor:
        batch, num_frames, heads, size = x.shape
        num_blocks = -(-num_frames // block)
        ctx.shape, ctx.sizes = x.shape, (block, before, after)
        rows = x.new_zeros(before + heads * batch * num_blocks * block + after, size)
        inner = rows[before : len(rows) - after].view(heads, batch, num_blocks * block, size)
        inner[:, :, :num_frames] = x.permute(2, 0, 1, 3)
        shape = (heads * batch * num_blocks, before + block + after, size)
        return rows.as_strided(shape, (block * size, size, 1))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        batch, num_frames, heads, size = ctx.shape
        block, before, after = ctx.sizes
        num_windows, width, _ = grad.shape
        # A window is some blocks long, the last of them perhaps cut; each is added at its place.
        num_parts = -(-width // block)
        rows = grad.new_empty(num_windows + num_parts - 1, block, size)
        rows[:num_windows] = grad[:, :block]
        rows[num_windows:] = 0
        for part in range(1, num_parts):
            piece = grad[:, part * block : (part + 1) * block]
            rows[part : part + num_windows, : piece.shape[1]] += piece
        inner = rows.flatten(0, 1)[before : before + num_windows * block].view(heads, batch, -1, size)
        return inner[:, :, :num_frames].permute(1, 2, 0, 3), None, None, None


def _block_size(context: ChunkContext) -> int:
    # Blocks about as long as the context cost least: smaller ones copy keys often, longer ones compute what is masked.
    wanted = min(max(context.left + context.right, SMALLEST_BLOCK), LARGEST_BLOCK)
    return -(-wanted // context.chunk) * context.chunk
