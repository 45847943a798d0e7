"""A Conformer block on the next chunks of streams, with all that does not change from chunk to chunk made beforehand."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from espnet2_kd.layers.chunk_context import ChunkContext
from espnet2_kd.layers.conformer_block import ConformerBlock
from espnet2_kd.layers.convolution import ConvolutionModule
from espnet2_kd.layers.feed_forward import FeedForward
from espnet2_kd.layers.folded_attention import distance_to_key
from espnet2_kd.layers.folded_linear import Linear, fold
from espnet2_kd.layers.relative_position import relative_positions


class ConformerStep(nn.Module):
    """Inference of a ConformerBlock on whole chunks of streams; shapes depend on the number of chunks alone.

    Affine parts of the norms, the attention's scale and position biases, the halves of the feed-forwards and a batch norm are folded
    into the weights; queries, keys and values are one product; positions are projected once.

    context: in frames of the block, with a bounded left side.
    delay: frames by which the output lags behind the input: at least the right context, so that this has arrived, and such
        that the output begins with a chunk.
    linear: ``FoldedLinear`` or ``Int8Linear``.
    products: compute the depthwise convolution as a product and a sum; for the few frames of a chunk that is faster.

    The weights are copies: train the block further, and a new step is needed.
    """

    def __init__(
        self, block: ConformerBlock, context: ChunkContext, delay: int, linear: type[Linear], products: bool = True
    ) -> None:
        super().__init__()
        attention = block.self_attn
        self.context, self.delay, self.size, self.num_heads = context, delay, block.size, attention.num_heads
        weight = 1.0 if block.feed_forward_macaron is None else 0.5
        self.first = None
        if block.feed_forward_macaron is not None:
            self.first = FeedForwardStep(block.feed_forward_macaron, block.norm_ff_macaron, weight, linear)
        self._prepare_attention(attention, block.norm_mha, linear)
        self.conv = None
        if block.conv_module is not None:
            self.conv = ConvolutionStep(block.conv_module, block.norm_conv, linear, products)
        self.last = FeedForwardStep(block.feed_forward, block.norm_ff, weight, linear)
        self.norm = block.norm_final
        self.layouts: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def _prepare_attention(self, attention: nn.Module, norm: nn.LayerNorm, linear: type[Linear]) -> None:
        scale = 1.0 / math.sqrt(attention.head_size)
        parts = [
            fold(attention.linear_q, norm, scale),
            fold(attention.linear_k, norm),
            fold(attention.linear_v, norm),
        ]
        weight, bias = (torch.cat(tensors) for tensors in zip(*parts))
        bias[: self.size] += attention.pos_bias_u.detach().flatten() * scale
        self.eps = norm.eps
        self.qkv = linear(weight, bias)
        self.out = linear(*fold(attention.linear_out))
        # Not a submodule: it is needed once per layout, not per chunk.
        self._attention = (attention,)
        # The queries hold bias u; what v adds to it meets positions only, so that it is a constant.
        self.extra = ((attention.pos_bias_v - attention.pos_bias_u).detach() * scale)[:, None]

    def layout(self, num_chunks: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions (H, D / H, Q + W - 1) and what is added to all scores (H, Q, W), for so many chunks at once."""
        if num_chunks not in self.layouts:
            self.layouts[num_chunks] = self._make_layout(num_chunks * self.context.chunk)
        return self.layouts[num_chunks]

    @torch.no_grad()
    def _make_layout(self, num: int) -> tuple[torch.Tensor, torch.Tensor]:
        (attention,), like = self._attention, self.norm.weight
        left, ahead = self.context.left, num + self.delay - 1
        pos = attention.positions(relative_positions(left + num - 1, ahead, self.size, like)).transpose(1, 2)
        queries = torch.arange(num, device=like.device)
        keys = torch.arange(-left, num + self.delay, device=like.device)
        added = distance_to_key((self.extra @ pos).expand(-1, num, -1), len(keys))
        blocked = ~self.context.allowed(queries, keys)
        return pos.contiguous(), added.masked_fill(blocked, torch.finfo(added.dtype).min)

    def initial_state(self, batch_size: int) -> tuple[torch.Tensor, ...]:
        """State before the first frame of streams: see ``forward``."""
        like = self.norm.weight
        kv = like.new_zeros(batch_size, 2 * self.num_heads, self.num_cached, self.size // self.num_heads)
        state = (kv,)
        if self.conv is not None:
            state += (like.new_zeros(batch_size, self.conv.history, self.size),)
        if self.delay:
            state += (like.new_zeros(batch_size, self.delay, 2 * self.size),)
        return state

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the parts of a state."""
        return ("kv", *(("conv",) if self.conv is not None else ()), *(("pending",) if self.delay else ()))

    @property
    def num_cached(self) -> int:
        """Keys that are kept from chunk to chunk."""
        return self.context.left + self.delay

    def forward(
        self, x: torch.Tensor, outside: torch.Tensor, before: torch.Tensor | None, state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Next frames x (B, Q, D) of streams, whole chunks -> frames (B, Q, D), those ``delay`` earlier, and the new state.

        outside: True for keys outside of their stream (B, 1, 1, W), the cached ones and then the new ones.
        before: True for output frames before the beginning of their stream (B, Q, 1); None: there are none.
        state: keys and values (B, 2 H, W - Q, D / H); past of the convolution (B, kernel_size - 1, D), if there is one;
            frames and queries that wait for their right context (B, delay, 2 D), if there is one.
        """
        num, size = x.shape[1], self.size
        x = x.reshape(-1, size)
        if self.first is not None:
            x = x + self.first(x)
        q, kv = self.qkv(F.layer_norm(x, (size,), eps=self.eps)).split((size, 2 * size), dim=1)
        kv = torch.cat((state[0], self._heads(kv, num, 2 * self.num_heads)), dim=2)
        new = [kv[:, :, num:]]
        if self.delay:
            waiting = torch.cat((state[-1], torch.cat((x, q), dim=1).reshape(-1, num, 2 * size)), dim=1)
            x, q = waiting[:, :num].reshape(-1, 2 * size).split(size, dim=1)
        x = x + self.out(self._attend(q, kv, num, outside))
        if self.conv is not None:
            y, past = self.conv(x, num, before, state[1])
            x = x + y
            new.append(past)
        if self.delay:
            new.append(waiting[:, num:])
        x = self.norm(x + self.last(x))
        return x.reshape(-1, num, size), tuple(new)

    def _heads(self, x: torch.Tensor, num: int, num_heads: int) -> torch.Tensor:
        """(B Q, heads d) -> (B, heads, Q, d)."""
        return x.reshape(-1, num, num_heads, self.size // self.num_heads).transpose(1, 2)

    def _attend(self, q: torch.Tensor, kv: torch.Tensor, num: int, outside: torch.Tensor) -> torch.Tensor:
        """q (B Q, D), kv (B, 2 H, W, d) -> (B Q, D)."""
        pos, added = self.layout(num // self.context.chunk)
        k, v = kv.split(self.num_heads, dim=1)
        by_head = q.reshape(-1, self.num_heads, self.size // self.num_heads).transpose(0, 1)
        distance = torch.matmul(by_head, pos).unflatten(1, (-1, num))
        scores = (distance_to_key(distance, kv.shape[2]).transpose(0, 1) + added).masked_fill(
            outside, torch.finfo(added.dtype).min
        )
        q = self._heads(q, num, self.num_heads)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=scores, scale=1.0)
        return out.transpose(1, 2).reshape(-1, self.size)


class FeedForwardStep(nn.Module):
    """``weight * feed_forward(norm(x))`` of x (N, D)."""

    def __init__(self, module: FeedForward, norm: nn.LayerNorm, weight: float, linear: type[Linear]) -> None:
        super().__init__()
        self.shape, self.eps = norm.normalized_shape, norm.eps
        self.w_1 = linear(*fold(module.w_1, norm))
        self.activation = module.activation
        self.w_2 = linear(*fold(module.w_2, scale=weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w_2(self.activation(self.w_1(F.layer_norm(x, self.shape, eps=self.eps))))


class ConvolutionStep(nn.Module):
    """``conv_module(norm(x))`` of a stream, for a causal kernel."""

    def __init__(self, module: ConvolutionModule, norm: nn.LayerNorm, linear: type[Linear], products: bool) -> None:
        super().__init__()
        self.shape, self.eps, self.history = norm.normalized_shape, norm.eps, module.history
        self.pointwise_1 = linear(*fold(module.pointwise_conv1, norm))
        weight, bias = module.depthwise_conv.weight.detach(), module.depthwise_conv.bias.detach()
        self.norm = None
        if isinstance(module.norm, nn.BatchNorm1d):
            scale = module.norm.weight.detach() * torch.rsqrt(module.norm.running_var + module.norm.eps)
            weight = weight * scale[:, None, None]
            bias = (bias - module.norm.running_mean) * scale + module.norm.bias.detach()
        else:
            self.norm = module.norm
        self.products = products
        weight = weight[:, 0].t().contiguous() if products else weight.clone()
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias.clone(), persistent=False)
        self.activation = module.activation
        self.pointwise_2 = linear(*fold(module.pointwise_conv2))

    def forward(
        self, x: torch.Tensor, num: int, before: torch.Tensor | None, past: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x (B Q, D), ``num`` = Q, before (B, Q, 1) or None, past (B, kernel_size - 1, D) -> (B Q, D), new past."""
        size = self.shape[0]
        gated = F.glu(self.pointwise_1(F.layer_norm(x, self.shape, eps=self.eps)), dim=1).reshape(-1, num, size)
        if before is not None:
            gated = gated.masked_fill(before, 0.0)
        gated = torch.cat((past, gated), dim=1)
        if self.products:
            windows = gated.unfold(1, self.history + 1, 1).transpose(2, 3)
            x = ((windows * self.weight).sum(2) + self.bias).reshape(-1, size)
        else:
            x = F.conv1d(gated.transpose(1, 2), self.weight, self.bias, groups=size).transpose(1, 2).reshape(-1, size)
        if self.norm is not None:
            x = self.norm(x)
        return self.pointwise_2(self.activation(x)), gated[:, num:]
