"""ESPnet2's trainer, with pictures that tell more of our models than their attention does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from espnet2.torch_utils.device_funcs import to_device
from espnet2.train.reporter import SubReporter
from espnet2.train.trainer import TrainerOptions

from espnet2_kd.asr.firing import firings
from espnet2_kd.kd.processes import alone
from espnet2_kd.kd.student import Distilled, compare_tokens
from espnet2_kd.report.cif_plots import plot_firing, plot_similarity
from espnet2_kd.tasks.guard import GuardedTrainer


class PicturingTrainer(GuardedTrainer):
    """Draws, of CIF recognisers, when tokens fire and whether they resemble the teacher's, for `num_att_plot` utterances."""

    @classmethod
    def plot_attention(
        cls,
        model: torch.nn.Module,
        output_dir: Path | None,
        summary_writer: Any,
        iterator: Iterable[tuple[list[str], dict[str, torch.Tensor]]],
        reporter: SubReporter,
        options: TrainerOptions,
    ) -> None:
        """As ESPnet2's, once an epoch; pictures go to `<output_dir>/<utterance>/`."""
        bare = getattr(model, "module", model)
        if not hasattr(bare, "cif"):
            with alone():  # only the first process draws
                super().plot_attention(model, output_dir, summary_writer, iterator, reporter, options)
            return
        bare.eval()
        for utts, batch in iterator:
            batch = to_device(batch, "cuda" if options.ngpu > 0 else "cpu")
            if output_dir is not None and not options.no_forward_run:
                with alone():
                    draw(bare, {**batch, "utt_id": utts}, output_dir, f"{reporter.get_epoch()}ep")
            reporter.next()


def draw(model: torch.nn.Module, batch: dict[str, Any], output_dir: Path, name: str) -> list[Path]:
    """Draw every utterance of a batch; give the files written.

    Args:
        model: a CIF recogniser in evaluation mode, distilled or not.
        batch: as its forward pass takes it; without `text` no teacher is compared with.
        name: of the pictures: `<output_dir>/<utterance>/firing.<name>.png` and `<term>.<name>.png`.
    """
    utts, written = batch["utt_id"], []
    for utt, firing in zip(utts, firings(model, batch["speech"], batch["speech_lengths"]), strict=True):
        written.append(output_dir / utt / f"firing.{name}.png")
        plot_firing(written[-1], firing, utt)
    if isinstance(model, Distilled) and "text" in batch:
        for term, matrices in compare_tokens(model, batch).items():
            for b, (utt, matrix) in enumerate(zip(utts, matrices, strict=True)):
                labels = batch["text"][b, : batch["text_lengths"][b]].tolist()
                tokens = [model.token_list[label] for label in labels] + ["end"]
                written.append(output_dir / utt / f"{term}.{name}.png")
                plot_similarity(written[-1], matrix.numpy(), tokens[: len(matrix)], f"{utt}: {term}")
    return written
