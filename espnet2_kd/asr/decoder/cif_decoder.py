"""Decoder of a CIF recogniser: one label for each token that fired."""

import math

import torch
from espnet.nets.pytorch_backend.transformer.attention import MultiHeadedAttention
from espnet.nets.pytorch_backend.transformer.embedding import PositionalEncoding
from espnet.nets.pytorch_backend.transformer.encoder_layer import EncoderLayer
from espnet.nets.pytorch_backend.transformer.positionwise_feed_forward import PositionwiseFeedForward
from espnet2.asr.decoder.abs_decoder import AbsDecoder
from torch import nn

Prefix = tuple[torch.Tensor, ...]


class TokenState(nn.Module):
    """Transformer outputs and tokens, joined to what the labels are read from (B, U, D); HieraDist's "final state"."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * size, size, bias=False)

    def forward(self, x: torch.Tensor, fired: torch.Tensor, lens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x and fired (B, U, D), lens (B,) -> states (B, U, D) and lens, which a distillation tap needs."""
        return self.linear(torch.cat((x, fired), dim=-1)), lens


class CIFDecoder(AbsDecoder):
    """Transformer over the tokens of a CIF layer, without cross-attention (Han et al., Interspeech 2023).

    Token i sees the tokens up to i. The autoregressive decoder also sees the labels before i, each together with the token
    that it was read from; the other one labels all tokens at once. Tap ``decoder.state`` for what labels are read from.

    vocab_size: labels; blank is among them and is never the answer.
    encoder_output_size: size of a token (D).
    autoregressive: False for a decoder that sees no labels.
    causal: False lets tokens see later ones, which only a decoder that sees no labels can, and no stream.

    Raises ValueError for a decoder that sees labels and is not causal.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 2,
        dropout_rate: float = 0.2,
        positional_dropout_rate: float = 0.1,
        self_attention_dropout_rate: float = 0.2,
        autoregressive: bool = True,
        causal: bool = True,
    ) -> None:
        super().__init__()
        if autoregressive and not causal:
            raise ValueError("a decoder that sees the labels so far is causal: leave out causal=False")
        size = encoder_output_size
        self.autoregressive, self.causal = autoregressive, causal
        if autoregressive:
            self.embed = nn.Embedding(vocab_size, size)
            self.join = nn.Linear(2 * size, size, bias=False)
        self.position = PositionalEncoding(size, positional_dropout_rate)
        self.position.xscale = 1.0  # labels are scaled alone, before they are joined with the tokens
        self.decoders = nn.ModuleList(
            EncoderLayer(
                size,
                MultiHeadedAttention(attention_heads, size, self_attention_dropout_rate),
                PositionwiseFeedForward(size, linear_units, dropout_rate),
                dropout_rate,
            )
            for _ in range(num_blocks)
        )
        self.after_norm = nn.LayerNorm(size)
        self.state = TokenState(size)
        self.output_layer = nn.Linear(size, vocab_size, bias=False)

    def forward(
        self, hs_pad: torch.Tensor, hlens: torch.Tensor, ys_in_pad: torch.Tensor, ys_in_lens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (B, U, D), their numbers (B,), labels before each (B, U), begun by sos -> logits (B, U, V), numbers.

        The labels are not read where the decoder is not autoregressive.
        """
        valid = torch.arange(hs_pad.shape[1], device=hs_pad.device) < hlens[:, None]
        mask = valid[:, None]
        if self.causal:
            mask = mask & torch.ones(hs_pad.shape[1:2] * 2, dtype=torch.bool, device=hs_pad.device).tril()
        before = torch.cat((torch.zeros_like(hs_pad[:, :1]), hs_pad[:, :-1]), dim=1)
        x = self.position(self._inputs(hs_pad, before, ys_in_pad))
        for layer in self.decoders:
            x, mask = layer(x, mask)
        x, _ = self.state(self.after_norm(x), hs_pad, hlens)
        return self.output_layer(x), hlens

    def start(self, batch_size: int) -> Prefix:
        """What is known before the first token: for each layer what went in, and what came out of the last."""
        like = self.after_norm.weight
        return (like.new_zeros(batch_size, 0, len(like)),) * (len(self.decoders) + 1)

    def step(
        self, fired: torch.Tensor, before: torch.Tensor, labels: torch.Tensor, prefix: Prefix
    ) -> tuple[torch.Tensor, Prefix]:
        """The next token of each hypothesis -> log-probabilities (N, V) in float32 and the longer prefix.

        fired, before: the token and the one before it, zeros at the start (N, D).
        labels: label of the one before it, sos at the start (N,).
        prefix: as ``start`` or the last step gave it.

        Raises ValueError unless the decoder is causal.
        """
        if not self.causal:
            raise ValueError("a decoder that sees later tokens takes no steps: use forward")
        num = prefix[0].shape[1]
        x = self._inputs(fired[:, None], before[:, None], labels[:, None])
        # Encoded at its place: the positions before it are encoded already.
        x = self.position(nn.functional.pad(x, (0, 0, num, 0)))[:, num:]
        x = torch.cat((prefix[0], x), dim=1)
        grown = [x]
        for layer, cache in zip(self.decoders, prefix[1:], strict=True):
            x, _ = layer(x, None, cache)
            grown.append(x)
        x, _ = self.state(self.after_norm(x[:, -1:]), fired[:, None], fired)
        return self.output_layer(x[:, 0]).float().log_softmax(-1), tuple(grown)

    def _inputs(self, fired: torch.Tensor, before: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if not self.autoregressive:
            return fired
        return self.join(torch.cat((math.sqrt(fired.shape[-1]) * self.embed(labels), before), dim=-1))
