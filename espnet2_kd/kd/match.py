"""How T frames of speech meet N word pieces of text: neither number says anything of the other."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from espnet2_kd.kd.registry import ConfigError, Registry
from espnet2_kd.kd.seq import Seq, length_mask

MATCHES = Registry("match")
Pair = tuple[Seq, Seq]  # student's and teacher's


class Count:
    """Says how often something has happened: at the first time, the tenth, the hundredth ...

    Args:
        message: with %d for the number.
    """

    def __init__(self, message: str) -> None:
        self.message, self.num = message, 0

    def add(self, num: int = 1) -> None:
        before, self.num = self.num, self.num + num
        if len(str(self.num)) > len(str(before)) or before == 0 < self.num:
            logging.warning(self.message, self.num)


@MATCHES.add("pad_text")
class PadText:
    """Position l of the text against frame l, as far as both go (Jiang et al., Interspeech 2021; frames of about 160 ms).

    Of a text with more positions than there are frames the last one, [SEP], is kept, and meets the last frame.

    Args:
        mask: compare valid positions with valid frames only. Without it, as the paper's code has it, all of the batch's padded
            frames count; the teacher must then be run on as many positions (`pad_to` of `hf_sentence`).
    """

    def __init__(self, mask: bool = True) -> None:
        self.mask = mask
        self.cut = Count(
            "pad_text: so far %d times there were more word pieces than frames; of what is beyond the last is compared"
        )

    def features(self, student: Seq, teacher: Seq) -> Pair:
        """`(B, T, D_s)`, `(B, N, D_t)` -> both with min(T, N) positions."""
        num, lens, kept = self._common(student, teacher)
        x = teacher.x.gather(1, kept[:, :, None].expand(-1, -1, teacher.x.shape[2]))
        return replace(student, x=student.x[:, :num], lens=lens), replace(teacher, x=x, lens=lens)

    def maps(self, student: Seq, teacher: Seq, probabilities: bool) -> Pair:
        """`(B, T, T)`, `(B, N, N)` -> both with min(T, N) rows and columns; rows are not made to sum to 1 again."""
        num, lens, kept = self._common(student, teacher)
        rows = teacher.x.gather(1, kept[:, :, None].expand(-1, -1, teacher.x.shape[2]))
        x = rows.gather(2, kept[:, None].expand(-1, num, -1))
        return replace(student, x=student.x[:, :num, :num], lens=lens), replace(teacher, x=x, lens=lens)

    def _common(self, student: Seq, teacher: Seq) -> tuple[int, Tensor, Tensor]:
        """How many positions both have, how many of them count `(B,)`, and which of the teacher's these are `(B, num)`."""
        num = min(student.x.shape[1], teacher.x.shape[1])
        self.cut.add(int((teacher.lens.to(student.lens.device) > student.lens).sum()))
        kept = torch.arange(num, device=teacher.x.device).repeat(len(teacher.x), 1)
        if self.mask:
            frames, texts = student.lens.to(kept.device), teacher.lens.to(kept.device)
            last = (texts > frames)[:, None] & (kept == frames[:, None] - 1)
            kept = torch.where(last, texts[:, None] - 1, kept)
            return num, torch.minimum(student.lens, teacher.lens.to(student.lens.device)).clamp(max=num), kept
        if num < student.x.shape[1]:
            raise ConfigError(
                f"pad_text without mask: {student.x.shape[1]} frames, but the teacher gives {num} positions; set `pad_to` in teacher_conf"
            )
        return num, torch.full_like(student.lens, num), kept


@MATCHES.add("interpolate")
class Interpolate:
    """The text stretched to the frames: the first position meets the first frame, the last the last, linear between."""

    def features(self, student: Seq, teacher: Seq) -> Pair:
        """`(B, T, D_s)`, `(B, N, D_t)` -> both with T frames."""
        weights = self._weights(student, teacher)
        return _of_frames(student, teacher, weights @ teacher.x.float())

    def maps(self, student: Seq, teacher: Seq, probabilities: bool) -> Pair:
        """`(B, T, T)`, `(B, N, N)` -> both `(B, T, T)`; rows of probabilities sum to 1 again."""
        weights = self._weights(student, teacher)
        stretched = weights @ teacher.x.float() @ weights.transpose(1, 2)
        return _of_frames(student, teacher, _normalised(stretched) if probabilities else stretched)

    def _weights(self, student: Seq, teacher: Seq) -> Tensor:
        """`(B, T, N)`, rows that sum to 1; nothing for padded frames, nor of padded positions."""
        device = student.x.device
        t, n = student.lens[:, None].to(device), teacher.lens[:, None].to(device)
        frames = torch.arange(student.x.shape[1], device=device)
        # A single frame meets the middle of the text.
        where = torch.where(t > 1, frames * (n - 1) / (t - 1).clamp(min=1), (n - 1) / 2)
        positions = torch.arange(teacher.x.shape[1], device=device)
        weights = (1.0 - (where[:, :, None] - positions).abs()).clamp(min=0.0)
        valid = length_mask(student.lens, student.x.shape[1])[:, :, None] & teacher.mask.to(device)[:, None]
        return weights.masked_fill(~valid, 0.0)


@MATCHES.add("token_pool")
class TokenPool:
    """The frames that a word piece was spoken in, pooled; the teacher must tell them (`spans` among the data).

    A piece that covers no frame by a forced alignment takes the one nearest to it.
    """

    def features(self, student: Seq, teacher: Seq) -> Pair:
        """`(B, T, D_s)`, `(B, N, D_t)` -> both with N positions; a position is the mean of its frames."""
        overlap = self._overlap(student, teacher)
        return _of_text(student, teacher, _normalised(overlap) @ student.x.float())

    def maps(self, student: Seq, teacher: Seq, probabilities: bool) -> Pair:
        """`(B, T, T)`, `(B, N, N)` -> both `(B, N, N)`: the mean over the frames of a row, the sum over those of a column.

        Of scores the mean over both.
        """
        overlap = self._overlap(student, teacher)
        rows = _normalised(overlap)
        pooled = rows @ student.x.float() @ (overlap if probabilities else rows).transpose(1, 2)
        return _of_text(student, teacher, _normalised(pooled) if probabilities else pooled)

    def _overlap(self, student: Seq, teacher: Seq) -> Tensor:
        """`(B, N, T)`: how much of a frame belongs to a position; nothing where either is padding."""
        if teacher.spans is None:
            raise ConfigError(
                "token_pool: nobody says when the words were spoken; add `spans` to the training and validation data"
            )
        begin, end = teacher.spans.to(student.x.device, torch.float32).unbind(2)
        last = (student.lens[:, None] - 1).to(begin)
        num_frames = student.x.shape[1]
        frames = torch.arange(num_frames, device=begin.device)
        shared = torch.minimum(end[:, :, None], frames + 1.0) - torch.maximum(begin[:, :, None], frames.float())
        shared = shared.clamp(min=0.0) * length_mask(student.lens, num_frames).to(begin.device)[:, None]
        nearest = torch.minimum(((begin + end) / 2).floor().clamp(min=0.0), last).long().clamp(min=0)
        lonely = shared.sum(2, keepdim=True) <= 1e-3
        shared = torch.where(lonely, torch.nn.functional.one_hot(nearest, num_frames).to(shared), shared)
        return shared * teacher.mask.to(begin.device)[:, :, None] * (student.lens > 0).to(begin)[:, None, None]


@MATCHES.add("utterance")
class Utterance:
    """The mean over the frames against the mean over the text, for texts that mean the same but were not said."""

    one_vector = True

    def features(self, student: Seq, teacher: Seq) -> Pair:
        """`(B, T, D_s)`, `(B, N, D_t)` -> `(B, D_s)`, `(B, D_t)`."""
        return tuple(Seq(_mean(seq)) for seq in (student, teacher))

    def maps(self, student: Seq, teacher: Seq, probabilities: bool) -> Pair:
        raise ConfigError("match utterance: attention maps have no mean that could be compared; tap a layer's output")


def _normalised(x: Tensor) -> Tensor:
    """Rows `(..., N)` of numbers not below 0 that sum to 1; a row of zeros stays so."""
    return x / x.sum(-1, keepdim=True).clamp(min=1e-6)


def _mean(seq: Seq) -> Tensor:
    return seq.x.float().masked_fill(~seq.mask[:, :, None], 0.0).sum(1) / seq.lens[:, None].clamp(min=1)


def _of_frames(student: Seq, teacher: Seq, x: Tensor) -> Pair:
    """The student's frames and what the teacher says of each; none where nothing was said."""
    lens = torch.where(teacher.lens.to(student.lens.device) > 0, student.lens, 0)
    return replace(student, lens=lens), replace(teacher, x=x, lens=lens)


def _of_text(student: Seq, teacher: Seq, x: Tensor) -> Pair:
    """What the student heard of each of the teacher's positions, and these; none where nothing was heard."""
    lens = torch.where(student.lens > 0, teacher.lens.to(student.lens.device), 0)
    return replace(student, x=x, lens=lens), replace(teacher, lens=lens)
