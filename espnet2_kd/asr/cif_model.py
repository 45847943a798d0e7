"""A recogniser that counts its tokens: encoder, continuous integrate-and-fire, decoder."""

from typing import Any

import torch
import torch.nn.functional as F
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.torch_utils.device_funcs import force_gatherable

from espnet2_kd.layers.cif import CIF


class CIFASRModel(ESPnetASRModel):
    """Encoder, CIF and a decoder such as ``cif``; trained on labels, on their number and, beside, by CTC.

    The loss is ``cross entropy + quantity_weight * quantity + ctc_weight * CTC``, each summed over the batch and divided by
    the number of labels in it (HieraDist; Han et al., Interspeech 2023). That number is also the weight of the batch, by
    which processes are averaged.

    In training and in validation the tokens are as many as the labels; ``count_error`` tells how far the predicted weights
    alone are off, which decoding relies on.

    cif_conf: keywords of ``CIF``, without the size.
    quantity_weight, ctc_weight: of the two other losses; 0 leaves CTC out of the model.
    lsm_weight: label smoothing, spread over the labels that are wrong.
    cif_eos: one token more, at the end, for the end of the sentence.
    """

    def __init__(
        self,
        *,
        ctc_weight: float = 0.5,
        lsm_weight: float = 0.1,
        quantity_weight: float = 1.0,
        cif_conf: dict[str, Any] | None = None,
        cif_eos: bool = True,
        report_cer: bool = False,
        report_wer: bool = False,
        **parts: Any,
    ) -> None:
        # Its weights share 1 between CTC and attention; here they are independent.
        super().__init__(ctc_weight=0.5 if ctc_weight else 0.0, report_cer=report_cer, report_wer=report_wer, **parts)
        self.ctc_weight, self.quantity_weight = ctc_weight, quantity_weight
        self.cif_eos = cif_eos
        # Spread as torch does it, over all labels, this is lsm_weight over the wrong ones.
        self.label_smoothing = lsm_weight * self.vocab_size / (self.vocab_size - 1)
        del self.criterion_att
        last = self.postencoder or self.encoder
        self.cif = CIF(last.output_size(), **(cif_conf or {}))

    def forward(
        self,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        text: torch.Tensor,
        text_lengths: torch.Tensor,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | None], torch.Tensor]:
        """Speech (B, N), labels (B, U) and their lengths (B,) -> loss, what to log, number of labels; the rest is not read."""
        enc, enc_lens = self.encode(speech, speech_lengths)
        targets, lens = self._targets(text[:, : int(text_lengths.max())], text_lengths)
        valid = targets != self.ignore_id
        tokens = self.cif(enc, enc_lens, lens)
        labels_before = F.pad(targets[:, :-1].masked_fill(~valid[:, :-1], self.eos), (1, 0), value=self.sos)
        logits, _ = self.decoder(tokens.fired, lens, labels_before, lens)
        num = lens.sum().clamp(min=1)
        with torch.autocast(logits.device.type, enabled=False):
            loss_ce = F.cross_entropy(
                _wide(logits).transpose(1, 2),
                targets,
                ignore_index=self.ignore_id,
                reduction="sum",
                label_smoothing=self.label_smoothing,
            )
            loss_quantity = self.cif.quantity_loss(tokens, lens).sum()
            loss = loss_ce + self.quantity_weight * loss_quantity
            loss_ctc = None
            if self.ctc is not None:
                loss_ctc = self._ctc_loss(enc, enc_lens, targets, lens)
                loss = loss + self.ctc_weight * loss_ctc
        correct = (logits.argmax(-1) == targets) & valid
        stats = {
            "loss_ce": loss_ce.detach() / num,
            "loss_quantity": loss_quantity.detach() / num,
            "loss_ctc": None if loss_ctc is None else loss_ctc.detach() / num,
            "acc": correct.sum() / num,
            "count_error": loss_quantity.detach() / len(lens),
            "loss": loss.detach() / num,
        }
        return force_gatherable((loss / num, stats, num), loss.device)

    def _targets(self, text: torch.Tensor, lens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels with the end of the sentence where it is wanted, ``ignore_id`` beyond, and their numbers."""
        places = torch.arange(text.shape[1] + int(self.cif_eos), device=text.device)
        targets = F.pad(text, (0, int(self.cif_eos))).masked_fill(places >= lens[:, None], self.ignore_id)
        if not self.cif_eos:
            return targets, lens
        return targets.masked_fill(places == lens[:, None], self.eos), lens + 1

    def _ctc_loss(
        self, enc: torch.Tensor, enc_lens: torch.Tensor, targets: torch.Tensor, lens: torch.Tensor
    ) -> torch.Tensor:
        # With zero_infinity: utterances with more labels than frames teach the other two losses only.
        log_probs = self.ctc.log_softmax(_wide(enc)).transpose(0, 1)
        return F.ctc_loss(
            log_probs, targets.clamp(min=0), enc_lens, lens, self.blank_id, reduction="sum", zero_infinity=True
        )


def _wide(x: torch.Tensor) -> torch.Tensor:
    """In float32, or what is wider: sums of logarithms lose too much in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
