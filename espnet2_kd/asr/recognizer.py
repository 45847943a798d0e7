"""A trained model, its tokens and a search: audio in, words out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from espnet2_kd.asr.audio_input import Audio, to_samples
from espnet2_kd.asr.decode_config import DecodeConfig
from espnet2_kd.asr.encoder.chunk_step import ChunkStep
from espnet2_kd.asr.framing import fewest_samples
from espnet2_kd.asr.hypothesis import Hypothesis
from espnet2_kd.asr.load import load_model, sample_rate
from espnet2_kd.asr.stream_pool import StreamPool
from espnet2_kd.asr.streaming_encoder import StreamingEncoder, make_step
from espnet2_kd.asr.words import Word, group_words
from espnet2_kd.data.tokenizer import HuggingFaceTokenizer
from espnet2_kd.kd.registry import ConfigError

if TYPE_CHECKING:
    from espnet2_kd.asr.session import Session


class Recognizer:
    """Decodes whole utterances, in batches.

    Args:
        model: a transducer or a ``CIFASRModel``, in evaluation mode.
        token_type: how tokens make words; see ``group_words``.
        rate: sampling rate in Hz.
        config: search and chunk settings.
        tokens2text: how a Hugging Face tokenizer joins its tokens; see ``group_words``.
        quantize: 8-bit linear layers in the encoder of streams, on the CPU; whole utterances are decoded as ever.

    Raises:
        ConfigError: the settings do not fit the model.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        token_type: str,
        rate: int,
        config: DecodeConfig,
        tokens2text: Callable[[Sequence[str]], str] | None = None,
        quantize: bool = False,
    ) -> None:
        self.model = model
        self.token_type = token_type
        self.rate = rate
        self.tokens2text = tokens2text
        self.search = config.apply(model)
        self.quantize = quantize
        self._step: ChunkStep | None = None

    @classmethod
    def load(
        cls,
        exp: str | Path,
        model_file: str | Path,
        config: DecodeConfig,
        device: str = "cpu",
        quantize: bool = False,
    ) -> "Recognizer":
        """Load an experiment; raises ``ExperimentError``, ``ConfigError`` and ``DataError``."""
        model, args = load_model(exp, model_file, device)
        tokens2text = None
        if args.token_type == "hugging_face":
            tokens2text = HuggingFaceTokenizer(args.bpemodel).tokens2text
        return cls(model, args.token_type, sample_rate(args), config, tokens2text, quantize)

    def __call__(self, audio: Audio) -> str:
        """Return the words of a whole utterance: a file, ``(samples, rate)``, or samples at ``rate``; see ``to_samples``."""
        return self.text(self.decode([to_samples(audio, self.rate)])[0][0])

    def stream(self) -> "Session":
        """Return a session for an utterance that is still being spoken; raises as ``streaming_encoder``."""
        from espnet2_kd.asr.session import Session

        return Session(self)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def tokens(self, hypothesis: Hypothesis) -> list[str]:
        """Return the token strings of a hypothesis."""
        return [self.model.token_list[token] for token in hypothesis.tokens]

    def words(self, hypothesis: Hypothesis) -> list[Word]:
        """Return the words of a hypothesis."""
        return group_words(self.tokens(hypothesis), self.token_type, self.tokens2text)

    def text(self, hypothesis: Hypothesis) -> str:
        """Return the words of a hypothesis with single spaces between them."""
        return " ".join(word.text for word in self.words(hypothesis))

    def streaming_encoder(self) -> StreamingEncoder:
        """Return an encoder for a new stream; all of them share the prepared weights.

        Raises:
            ConfigError: the model's features cannot be computed piece by piece, or it has no 8-bit step.
        """
        try:
            return StreamingEncoder(self.model, step=self._prepared())
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def stream_pool(self, max_streams: int = 16) -> StreamPool:
        """Return a pool that encodes so many streams together; raises as ``streaming_encoder``, and for full context."""
        try:
            return StreamPool(self.model, max_streams, step=self._prepared())
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _prepared(self) -> ChunkStep | None:
        if self._step is None:
            self._step = make_step(self.model, self.quantize)
        return self._step

    @torch.no_grad()
    def encode(self, speech: Sequence[np.ndarray]) -> tuple[torch.Tensor, list[int]]:
        """Return encoder frames ``(B, T, D)`` of utterances ``(N_b,)`` and their numbers ``(B,)``.

        Audio too short for a single frame has none.
        """
        shortest = fewest_samples(self.model)
        long_enough = [b for b, samples in enumerate(speech) if len(samples) >= shortest]
        lens = [0] * len(speech)
        if not long_enough:
            return torch.zeros(len(speech), 0, self.model.encoder.output_size(), device=self.device), lens
        num_samples = torch.tensor([len(speech[b]) for b in long_enough], device=self.device)
        padded = torch.zeros(len(long_enough), int(num_samples.max()))
        for row, b in zip(padded, long_enough):
            row[: len(speech[b])] = torch.from_numpy(np.asarray(speech[b], dtype=np.float32))
        enc, enc_lens = self.model.encode(padded.to(self.device), num_samples)
        frames = enc.new_zeros(len(speech), *enc.shape[1:])
        frames[long_enough] = enc
        for b, n in zip(long_enough, enc_lens.tolist()):
            lens[b] = n
        return frames, lens

    def decode(self, speech: Sequence[np.ndarray]) -> list[list[Hypothesis]]:
        """Decode whole utterances ``(N_b,)``; returns the n-best list of each."""
        return self.search.decode(*self.encode(speech))
