"""The transducer loss: the one place that knows which implementation computes it."""

import importlib.machinery
import importlib.util
import sys
import types

import torch
import torchaudio.functional

from espnet2_kd.ops.rnnt import rnnt_loss

REDUCTIONS = ("mean", "sum", "none")


class RNNTLoss(torch.nn.Module):
    """Negative log-likelihood of the target sequences under a transducer lattice (Graves 2012, equation 18).

    Takes the constructor arguments and the call of ``warprnnt_pytorch.RNNTLoss``, which ESPnet2 asks for. Computed by
    ``torchaudio.functional.rnnt_loss`` on a GPU, and on a CPU, where that takes several times as long, by our own.

    Args:
        blank: index of the blank symbol.
        fastemit_lambda: must be 0, there is no FastEmit; anything else raises ``ValueError``.
        reduction: ``mean`` or ``sum`` over the utterances (scalar), or ``none`` for one value per utterance ``(B,)``.
    """

    def __init__(self, blank: int = 0, fastemit_lambda: float = 0.0, reduction: str = "mean") -> None:
        super().__init__()
        if fastemit_lambda != 0.0:
            raise ValueError(f"fastemit_lambda={fastemit_lambda}: only 0.0 is supported, there is no FastEmit")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction={reduction!r}: choose one of {', '.join(REDUCTIONS)}")
        self.blank = blank
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"blank={self.blank}, reduction={self.reduction!r}"

    def forward(
        self, logits: torch.Tensor, targets: torch.Tensor, t_lens: torch.Tensor, u_lens: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss in nats, in float32 whatever the dtype of ``logits``.

        Args:
            logits: unnormalised joint network output ``(B, T, U+1, V)``.
            targets: labels without blank, padded with anything ``(B, U)``.
            t_lens: number of encoder frames, at least 1 ``(B,)``.
            u_lens: number of labels, 0 allowed ``(B,)``.

        Raises:
            ValueError: shapes or lengths do not fit each other.
        """
        max_t, max_u = _check(logits, targets, t_lens, u_lens)
        # torchaudio insists on int32, contiguous tensors and on padding no longer than the longest utterance.
        device = logits.device
        t_lens = t_lens.to(device=device, dtype=torch.int32).contiguous()
        u_lens = u_lens.to(device=device, dtype=torch.int32).contiguous()
        padding = torch.arange(max_u, device=device) >= u_lens.unsqueeze(1)
        targets = targets[:, :max_u].to(device=device, dtype=torch.int32).masked_fill(padding, 0).contiguous()
        with torch.autocast(device.type, enabled=False):
            logits = logits[:, :max_t, : max_u + 1].float().contiguous()
            if device.type == "cpu":
                losses = rnnt_loss(logits, targets, t_lens, u_lens, self.blank)
                return losses if self.reduction == "none" else getattr(losses, self.reduction)()
            return torchaudio.functional.rnnt_loss(
                logits, targets, t_lens, u_lens, blank=self.blank, reduction=self.reduction
            )


def _check(logits: torch.Tensor, targets: torch.Tensor, t_lens: torch.Tensor, u_lens: torch.Tensor) -> tuple[int, int]:
    """Return the largest number of frames and of labels in the batch."""
    if logits.dim() != 4 or targets.dim() != 2:
        raise ValueError(
            f"expected logits (B, T, U+1, V) and targets (B, U), got {tuple(logits.shape)} and {tuple(targets.shape)}"
        )
    batch, size_t, size_u = logits.size(0), logits.size(1), logits.size(2) - 1
    if not (targets.size(0) == t_lens.numel() == u_lens.numel() == batch):
        raise ValueError(
            f"batch sizes differ: logits {batch}, targets {targets.size(0)}, "
            f"t_lens {t_lens.numel()}, u_lens {u_lens.numel()}"
        )
    max_t, max_u = int(t_lens.max()), int(u_lens.max())
    if int(t_lens.min()) < 1:
        raise ValueError(f"an utterance without encoder frames has no alignment: t_lens {t_lens.tolist()}")
    if max_t > size_t or max_u > min(size_u, targets.size(1)):
        raise ValueError(
            f"lengths exceed the padded sizes: {max_t} frames and {max_u} labels at most, "
            f"logits {tuple(logits.shape)}, targets {tuple(targets.shape)}"
        )
    return max_t, max_u


def offer_as_warprnnt() -> None:
    """Let ``from warprnnt_pytorch import RNNTLoss`` find this module's loss unless the real package is installed."""
    # ESPnet2's models import the loss by that package's name and offer no other way in; the package needs a compiler.
    if "warprnnt_pytorch" in sys.modules or importlib.util.find_spec("warprnnt_pytorch") is not None:
        return
    module = types.ModuleType("warprnnt_pytorch", "espnet2_kd's transducer loss under the name ESPnet2 imports.")
    # Without a spec, a later importlib.util.find_spec of this name would raise ValueError.
    module.__spec__ = importlib.machinery.ModuleSpec("warprnnt_pytorch", loader=None)
    module.RNNTLoss = RNNTLoss
    sys.modules["warprnnt_pytorch"] = module
