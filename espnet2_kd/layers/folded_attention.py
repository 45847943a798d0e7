"""Attention with relative positions over the blocks of an AttentionPlan, with a backward pass of its own."""

import math

import torch
import torch.nn.functional as F

from espnet2_kd.layers.attention_plan import AttentionPlan


def folded_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    p: torch.Tensor,
    bias_u: torch.Tensor,
    bias_v: torch.Tensor,
    plan: AttentionPlan,
    dropout_rate: float = 0.0,
) -> torch.Tensor:
    """Softmax of ((q + u) k + (q + v) p) / sqrt(d) over the keys that the plan allows, times values (arXiv 1901.02860, 3.3).

    q, k, v: (B, T, H, d), T = plan.num_frames.
    p: (H, plan.back + plan.ahead + 1, d), from the largest distance back to the largest ahead.
    bias_u, bias_v: (H, d), of content and of position.
    dropout_rate: of the attention weights.
    Returns (B, T, H d); frames of padding are finite, no more. The softmax is in float32 or better. The gradient can be
    taken once.
    """
    return _FoldedAttention.apply(q, k, v, p, bias_u, bias_v, plan, dropout_rate)


def distance_to_key(x: torch.Tensor, num_keys: int) -> torch.Tensor:
    """Scores by distance (..., I, I + W - 1) -> by key (..., I, W), as a view.

    Column ``I - 1 - i + w`` of row i holds its distance to key w, so consecutive rows start one column earlier: rows of
    one column less, read from column I - 1 of the first row on, are aligned.
    """
    num_queries, num_rows = x.shape[-2:]
    if num_queries == 1:
        return x
    flat = x.flatten(-2)[..., num_queries - 1 : num_queries * num_rows - 1]
    return flat.unflatten(-1, (num_queries, num_rows - 1))[..., :num_keys]


class _FoldedAttention(torch.autograd.Function):
    """The products are few and small, so what costs is every other pass over a tensor; autograd's own backward makes many.

    Content and position share the queries q + u: (q + v) p = (q + u) p + (v - u) p, of which the last is one row a head.
    """

    @staticmethod
    def forward(ctx, q, k, v, p, bias_u, bias_v, plan, dropout_rate):
        with torch.autocast(q.device.type, enabled=False):
            heads, scale = q.shape[2], 1.0 / math.sqrt(q.shape[3])
            queries = _rows(q, plan.block, 0, 0, bias_u)
            keys, values = (_rows(x, plan.block, plan.before, plan.after) for x in (k, v))
            key_windows, value_windows = _windows(keys, plan), _windows(values, plan)
            shift = torch.bmm((bias_v - bias_u).to(p.dtype)[:, None], p.transpose(1, 2))
            by_distance = torch.baddbmm(
                shift, queries.view(heads, -1, q.shape[3]), p.transpose(1, 2), beta=scale, alpha=scale
            )
            scores = torch.baddbmm(
                distance_to_key(by_distance.view(len(key_windows), plan.block, -1), key_windows.shape[1]),
                queries.view(-1, plan.block, q.shape[3]),
                key_windows.transpose(1, 2),
                alpha=scale,
            )
            scores.unflatten(0, (heads, -1)).masked_fill_(plan.blocked, torch.finfo(scores.dtype).min)
            weights = torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
            kept = F.dropout(weights, dropout_rate) if dropout_rate else weights
            ctx.save_for_backward(queries, keys, values, p, bias_u, bias_v, weights, kept)
            ctx.plan, ctx.shape, ctx.dropout_rate = plan, q.shape, dropout_rate
            return _frames(torch.bmm(kept.to(v.dtype), value_windows), q.shape).flatten(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        queries, keys, values, p, bias_u, bias_v, weights, kept = ctx.saved_tensors
        plan, shape = ctx.plan, ctx.shape
        heads, size = shape[2:]
        key_windows, value_windows = _windows(keys, plan), _windows(values, plan)
        with torch.autocast(grad.device.type, enabled=False):
            grad = _rows(grad.unflatten(-1, (heads, size)), plan.block, 0, 0).view(-1, plan.block, size)
            grad_v = torch.bmm(kept.to(grad.dtype).transpose(1, 2), grad)
            grad_weights = torch.bmm(grad, value_windows.transpose(1, 2)).to(weights.dtype)
            if ctx.dropout_rate:
                # A weight that was zero before the dropout has no gradient either way.
                grad_weights = grad_weights.masked_fill_(kept == 0, 0).div_(1.0 - ctx.dropout_rate)
            grad_weights *= weights
            # Blocked keys have weight zero, so nothing reaches them.
            grad_scores = torch.addcmul(grad_weights, weights, grad_weights.sum(-1, keepdim=True), value=-1.0)
            grad_scores = grad_scores.mul_(1.0 / math.sqrt(size)).to(p.dtype)

            by_distance = grad_scores.new_zeros(*grad_scores.shape[:2], p.shape[1])
            distance_to_key(by_distance, grad_scores.shape[2]).copy_(grad_scores)
            by_distance = by_distance.view(heads, -1, p.shape[1])
            shift = by_distance.sum(1, keepdim=True)
            grad_q = torch.bmm(by_distance, p).view(-1, plan.block, size)
            grad_q = torch.baddbmm(grad_q, grad_scores, key_windows)
            grad_bias_v = torch.bmm(shift, p).squeeze(1)
            grad_bias_u = grad_q.view(heads, -1, size).sum(1) - grad_bias_v
            grad_k = torch.bmm(grad_scores.transpose(1, 2), queries.view(-1, plan.block, size))
            grad_p = torch.bmm(by_distance.transpose(1, 2), queries.view(heads, -1, size))
            grad_p += shift.transpose(1, 2) * (bias_v - bias_u)[:, None]
        return (
            _frames(grad_q, shape),
            _frames(_joined(grad_k, plan), shape),
            _frames(_joined(grad_v, plan), shape),
            grad_p,
            grad_bias_u.to(bias_u.dtype),
            grad_bias_v.to(bias_v.dtype),
            None,
            None,
        )


def _rows(x: torch.Tensor, block: int, before: int, after: int, bias: torch.Tensor | None = None) -> torch.Tensor:
    """(B, T, H, d) -> (before + H B N I + after, d): heads one after the other, in each all utterances, in whole blocks."""
    batch, num_frames, heads, size = x.shape
    num_rows = -(-num_frames // block) * block
    rows = x.new_empty(before + heads * batch * num_rows + after, size)
    rows[:before] = 0
    rows[len(rows) - after :] = 0
    inner = rows[before : len(rows) - after].view(heads, batch, num_rows, size)
    inner[:, :, num_frames:] = 0
    x = x.permute(2, 0, 1, 3)
    inner[:, :, :num_frames] = x if bias is None else x + bias[:, None, None]
    return rows


def _windows(rows: torch.Tensor, plan: AttentionPlan) -> torch.Tensor:
    """Rows -> (H B N, W, d): the window of every block, windows that overlap in memory.

    One stride leads from window to window, so that a batched product reads them where they are. The first and last windows
    of an utterance reach into its neighbours: these frames do not exist for the utterance, and the plan blocks them. (Nothing
    but NaN comes through: where an utterance is no number, neither is the edge of its neighbour.)
    """
    size = rows.shape[1]
    num_windows = (len(rows) - plan.before - plan.after) // plan.block
    return rows.as_strided((num_windows, plan.before + plan.block + plan.after, size), (plan.block * size, size, 1))


def _joined(windows: torch.Tensor, plan: AttentionPlan) -> torch.Tensor:
    """Gradients of windows (H B N, W, d) -> of the frames that they show, (H B N, I, d)."""
    num_windows, width, size = windows.shape
    if width == plan.block:
        return windows
    # A window is some blocks long, the last of them perhaps cut; each is added at its place.
    num_parts = -(-width // plan.block)
    rows = windows.new_empty(num_windows + num_parts - 1, plan.block, size)
    rows[:num_windows] = windows[:, : plan.block]
    rows[num_windows:] = 0
    for part in range(1, num_parts):
        piece = windows[:, part * plan.block : (part + 1) * plan.block]
        rows[part : part + num_windows, : piece.shape[1]] += piece
    return rows.flatten(0, 1)[plan.before :][: num_windows * plan.block].view(num_windows, plan.block, size)


def _frames(blocks: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(H B N, I, d) -> (B, T, H, d), a view without the frames that filled the last blocks."""
    batch, num_frames, heads, size = shape
    return blocks.view(heads, batch, -1, size)[:, :, :num_frames].permute(1, 2, 0, 3)
