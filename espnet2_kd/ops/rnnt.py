"""The transducer loss: both recursions over the lattice in one pass over the frames, float64 inside."""

import torch
from torch import Tensor


def rnnt_loss(logits: Tensor, targets: Tensor, t_lens: Tensor, u_lens: Tensor, blank: int = 0) -> Tensor:
    """Negative log-likelihood of the targets under a transducer lattice (Graves 2012, equations 16 to 20), `(B,)` in nats.

    Every utterance has `t_lens` of T frames and `u_lens` of U labels. What stands in the padding does not matter.

    Args:
        logits: unnormalised outputs `(B, T, U+1, V)`, float32.
        targets: labels `(B, U)`, valid classes in the padding too.
        t_lens: number of frames, at least 1 `(B,)`.
        u_lens: number of labels, 0 allowed `(B,)`.
        blank: index of the blank.
    """
    return _RnntLoss.apply(logits, targets.long(), t_lens.long(), u_lens.long(), blank)


class _RnntLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor, t_lens: Tensor, u_lens: Tensor, blank: int) -> Tensor:
        batch, max_t, rows, _ = logits.shape
        frames, labels = (torch.arange(num, device=logits.device) for num in (max_t, rows))
        inside = (frames[:, None] < t_lens[:, None, None]) & (labels <= u_lens[:, None, None])  # (B, T, U+1)
        padding = ~inside
        log_probs = logits.log_softmax(-1)
        nodes = torch.nn.functional.pad(targets, (0, 1))[:, None].expand(-1, max_t, -1)
        blanks = log_probs[..., blank].double().masked_fill_(padding, 0.0)
        emits = log_probs.gather(-1, nodes[..., None])[..., 0].double()
        emits.masked_fill_(padding | (labels >= u_lens[:, None, None]), 0.0)

        # The way back is a way forth through the lattice turned around, each utterance about its own end. What lies
        # before an utterance's begin there is mere padding: it is never read.
        turn_t = (t_lens[:, None] - 1 - frames).clamp_(min=0)
        turn_u = (u_lens[:, None] - labels).clamp_(min=0)
        turn = (turn_t[:, :, None] * rows + turn_u[:, None]).flatten(1)

        def turned(x: Tensor) -> Tensor:
            return x.flatten(1).gather(1, turn).view_as(x)

        there = _arrivals(
            torch.cat([torch.zeros_like(blanks[:, :1]), blanks[:, :-1]], 1),
            torch.cat([torch.zeros_like(emits[..., :1]), emits[..., :-1]], 2),
            turned(blanks),
            torch.nn.functional.pad(turned(emits)[..., 1:], (1, 0)),
        )
        arrive, leave = there[:batch], turned(there[batch:])
        log_likelihood = leave[:, 0, 0]

        # How often paths pass a node, and how often they leave it with a blank or with the label. From the last row and
        # the last frame of an utterance there is one way out: the final blank.
        last = (frames[:, None] == t_lens[:, None, None] - 1) & (labels == u_lens[:, None, None])
        ahead = torch.nn.functional.pad(leave, (0, 1, 0, 1), value=-torch.inf)
        after_frame = frames[:, None] + 1 < t_lens[:, None, None]
        after_blank = ahead[:, 1:, :-1].masked_fill(~after_frame, -torch.inf).masked_fill_(last, 0.0)
        after_label = ahead[:, :-1, 1:].masked_fill(labels >= u_lens[:, None, None], -torch.inf)
        here = (arrive - log_likelihood[:, None, None]).masked_fill_(padding, -torch.inf)
        by_blank = (here + blanks + after_blank).exp_().to(logits.dtype)
        by_label = (here + emits + after_label).exp_().to(logits.dtype)
        ctx.save_for_backward(log_probs, nodes, by_blank, by_label, padding)
        ctx.blank = blank
        return -log_likelihood.to(logits.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        log_probs, nodes, by_blank, by_label, padding = ctx.saved_tensors
        by_blank, by_label = by_blank * grad[:, None, None], by_label * grad[:, None, None]
        result = log_probs.exp().mul_((by_blank + by_label)[..., None])
        result[..., ctx.blank] -= by_blank
        result.scatter_add_(-1, nodes[..., None], -by_label[..., None])
        return result.masked_fill_(padding[..., None], 0.0), None, None, None, None


def _arrivals(blanks: Tensor, emits: Tensor, back_blanks: Tensor, back_emits: Tensor) -> Tensor:
    """Log-probabilities of arriving at every node, `(2 B, T, U+1)`: from the begin, and from the end backwards.

    All `(B, T, U+1)`: weights of coming from the frame before, and from the label before (0 in the first row). The
    backward ones start with the final blank.
    """
    steps = torch.cat([emits, back_emits]).cumsum_(-1)
    start = torch.cat([torch.zeros_like(blanks[:, 0, :1]), back_blanks[:, 0, :1]])
    # Within a frame, a[u] = logaddexp(a[u - 1] + step, from the frame before) is a cumulative logsumexp once the steps
    # are taken out, and so are all rows of all utterances at once.
    moves = torch.cat([blanks, back_blanks])
    moves[:, 1:] += steps[:, :-1] - steps[:, 1:]
    level = start.expand(-1, steps.shape[2])
    levels = [level]
    for t in range(1, steps.shape[1]):
        level = (level + moves[:, t]).logcumsumexp(-1)
        levels.append(level)
    return torch.stack(levels, 1).add_(steps)
