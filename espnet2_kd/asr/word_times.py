"""When the words of a transcript end, according to a trained experiment."""

import argparse
from pathlib import Path

import numpy as np
import torch
from espnet2.text.build_tokenizer import build_tokenizer
from espnet2.text.cleaner import TextCleaner
from espnet2.text.token_id_converter import TokenIDConverter

from espnet2_kd.asr.alignment import align
from espnet2_kd.asr.load import ExperimentError, load_model, sample_rate
from espnet2_kd.asr.words import group_words


class WordAligner:
    """Forced alignment of transcripts by a model that need not share its tokens with the decoded one.

    Args:
        model: ``ESPnetASRModel`` in evaluation mode.
        args: its training options.
    """

    def __init__(self, model: torch.nn.Module, args: argparse.Namespace) -> None:
        self.model = model
        self.rate = sample_rate(args)
        self.token_type = args.token_type
        self.cleaner = TextCleaner(getattr(args, "cleaner", None))
        self.tokenizer = build_tokenizer(args.token_type, args.bpemodel)
        self.converter = TokenIDConverter(args.token_list)

    @classmethod
    def load(cls, exp: str | Path, model_file: str | Path, rate: int) -> "WordAligner":
        """Load an experiment; raises ``ExperimentError``, also when it was trained at another sampling rate."""
        aligner = cls(*load_model(exp, model_file))
        if aligner.rate != rate:
            raise ExperimentError(f"{exp}: was trained at {aligner.rate} Hz and cannot align audio at {rate} Hz")
        return aligner

    def word_ends(self, samples: np.ndarray, text: str) -> tuple[list[str], list[float]]:
        """Return the words of ``text`` and the end of each in milliseconds from the start of ``samples`` ``(N,)``.

        Raises:
            ValueError: the transcript does not fit into the audio.
        """
        tokens = self.tokenizer.text2tokens(self.cleaner(text))
        alignment = align(self.model, torch.from_numpy(samples), self.converter.tokens2ids(tokens))
        words = group_words(tokens, self.token_type, self.tokenizer.tokens2text)
        return [word.text for word in words], [alignment.end_ms(word.last_token) for word in words]
