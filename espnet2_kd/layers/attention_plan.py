"""The layout of one batch for chunk attention: how it is folded, and what is masked."""

from dataclasses import dataclass

import torch

from espnet2_kd.layers.chunk_context import ChunkContext

SMALLEST_BLOCK = 16
LARGEST_BLOCK = 64
# Folding is taken where it computes fewer than so many of the scores of the dense form. Both take equally long at about 0.8
# of them, and at 0.6 to 0.7 where blocks are the smallest, whose products are too small to be fast: for all contexts, lengths
# and batches of the table in tools/bench/chunk_attention.py, on two kinds of CPU.
FEWER_SCORES = 0.75
FEWER_SCORES_OF_SMALLEST = 0.6


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
            fewer = FEWER_SCORES if block > SMALLEST_BLOCK else FEWER_SCORES_OF_SMALLEST
            if _scores_of_folding(num_frames, context, block) < fewer:
                return cls.folded(lens, num_frames, context, block)
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
    def folded(
        cls, lens: torch.Tensor, num_frames: int, context: ChunkContext, block: int | None = None
    ) -> "AttentionPlan":
        """Plan of blocks, whatever the length; the context has to be bounded, and blocks to be whole chunks."""
        block = block or _block_size(context)
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


def _scores_of_folding(num_frames: int, context: ChunkContext, block: int) -> float:
    """Scores that are computed, by content and by distance, of those in the dense form."""
    window = context.left + block + context.right
    num_queries = -(-num_frames // block) * block
    return num_queries * (2 * window + block - 1) / max(1, num_frames * (3 * num_frames - 1))


def _block_size(context: ChunkContext) -> int:
    # Blocks about as long as the context cost least: smaller ones copy keys often, longer ones compute what is masked.
    wanted = min(max(context.left + context.right, SMALLEST_BLOCK), LARGEST_BLOCK)
    return -(-wanted // context.chunk) * context.chunk
