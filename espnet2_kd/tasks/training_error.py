"""What a training that cannot go on says: over which utterances it stumbled, and what to do."""

from __future__ import annotations

import torch

Batch = tuple[list[str], dict[str, torch.Tensor]]
# glibc, through torch, and CUDA; the latter has a class of its own.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
NAMED = 20  # utterances, at most


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the utterances and says what to do."""


def describe(batches: list[Batch]) -> str:
    """How many utterances, how long, and which."""
    utts = [utt for names, _ in batches for utt in names]
    lengths = [int(n) for _, batch in batches for n in batch.get("speech_lengths", ())]
    longest = f", the longest of {max(lengths)} samples or frames" if lengths else ""
    return f"{len(utts)} utterances{longest} ({listed(utts)})"


def listed(utts: list[str]) -> str:
    """The first utterances, and how many more there are."""
    return ", ".join(utts[:NAMED]) + (f" and {len(utts) - NAMED} more" if len(utts) > NAMED else "")


def memory_error(error: RuntimeError, batches: list[Batch]) -> TrainingError | None:
    """What to say where memory did not suffice for a batch; None for any other error."""
    if not isinstance(error, torch.OutOfMemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
        return None
    return TrainingError(
        f"out of memory at a batch of {describe(batches)}. Make batches smaller (batch_bins or "
        f"batch_size, with a larger accum_grad), or leave long utterances out (max_wav_duration of run.sh). {error}"
    )
