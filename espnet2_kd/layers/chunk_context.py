"""Which frames a frame may attend to."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ChunkContext:
    """Frame t sees frame k iff ``start(t) - left <= k < end(t) + right``, with ``[start, end)`` the chunk that holds t.

    chunk: frames in a chunk; None is full context.
    left: frames before the chunk; None is unlimited.
    right: frames after the chunk, of the layer below.

    Raises ValueError for sizes that contradict each other.
    """

    chunk: int | None = None
    left: int | None = None
    right: int = 0

    def __post_init__(self) -> None:
        if self.chunk is None:
            if self.left is not None or self.right:
                raise ValueError(
                    f"left ({self.left}) and right ({self.right}) context need a chunk size; without one the context is full"
                )
            return
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least one frame, got {self.chunk}")
        if self.left is not None and self.left < 0:
            raise ValueError(f"left context must not be negative, got {self.left}; leave it unset for an unlimited one")
        if self.right < 0:
            raise ValueError(f"right context must not be negative, got {self.right}")

    @property
    def full(self) -> bool:
        """Whether every frame sees every other."""
        return self.chunk is None

    def times(self, factor: int) -> "ChunkContext":
        """The same context in frames that are ``factor`` times as many in the same time."""
        if self.chunk is None:
            return self
        left = None if self.left is None else self.left * factor
        return ChunkContext(self.chunk * factor, left, self.right * factor)

    def allowed(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Positions (Q,) and (K,) -> bool (Q, K), True where the query may see the key."""
        q, k = queries[:, None], keys[None, :]
        if self.chunk is None:
            return torch.ones(len(queries), len(keys), dtype=torch.bool, device=queries.device)
        start = torch.div(q, self.chunk, rounding_mode="floor") * self.chunk
        seen = k < start + (self.chunk + self.right)
        if self.left is not None:
            seen = seen & (k >= start - self.left)
        return seen

    def complete(self, received: int) -> int:
        """Number of leading frames whose whole context lies within the first ``received`` frames."""
        if self.chunk is None:
            return 0
        return max(received - self.right, 0) // self.chunk * self.chunk

    def lookahead(self, num_layers: int) -> int:
        """Frames after the end of its chunk that a frame depends on through ``num_layers`` layers.

        The right context accumulates: the last frames a layer sees belong to later chunks, which see further in turn.
        """
        if self.chunk is None:
            raise ValueError("the look-ahead of a full context is unbounded")
        if not self.right or not num_layers:
            return 0
        return (num_layers - 1) * -(-self.right // self.chunk) * self.chunk + self.right
