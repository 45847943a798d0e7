"""What a live decoding reports: per utterance (stream.jsonl) and in sum (stream.json)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from espnet2_kd.asr.framing import encoder_frame_ms
from espnet2_kd.asr.latency import Step, chunk_compute_ms, emission_delays_ms, summary, token_ms
from espnet2_kd.asr.recognizer import Recognizer
from espnet2_kd.asr.word_times import WordAligner


class LiveReport:
    """Collects decoded utterances.

    Args:
        recognizer: what decoded them.
        aligner: gives the word times of reference transcripts; None leaves out what needs them.
    """

    def __init__(self, recognizer: Recognizer, aligner: WordAligner | None = None) -> None:
        self.recognizer = recognizer
        self.aligner = aligner
        self.frame_ms = encoder_frame_ms(recognizer.model)
        self.records: list[dict[str, Any]] = []
        self.chunks: list[float] = []

    def add(self, utt: str, samples: np.ndarray, steps: Sequence[Step], text: str | None) -> None:
        """Add an utterance: its samples ``(N,)``, the steps of its decoding and its reference transcript, if any."""
        hypothesis = steps[-1].hypothesis
        words, times = self.recognizer.words(hypothesis), token_ms(steps)
        seconds, compute = len(samples) / self.recognizer.rate, sum(step.compute_ms for step in steps) / 1000.0
        reference, ends, fault = self._align(samples, text)
        # A delay after a word and a time since the start of the audio do not belong into one mean.
        has_first = bool(times) and (self.aligner is None or bool(ends))
        self.chunks.extend(chunk_compute_ms(steps))
        self.records.append(
            {
                "utt": utt,
                "text": self.recognizer.text(hypothesis),
                "audio_seconds": round(seconds, 3),
                "compute_seconds": round(compute, 5),
                "rtf": round(compute / seconds, 4),
                "first_token_ms": round(times[0] - (ends[0] if ends else 0.0), 2) if has_first else None,
                "emission_delay_ms": [round(d, 2) for d in emission_delays_ms(words, times, reference, ends)],
                "words": [{"word": word.text, "ms": round(times[word.last_token], 2)} for word in words],
                # Where in the audio each token comes from, without the wait: the end of its frame, in CIF the one that fires.
                "frames_ms": [round((frame + 1) * self.frame_ms, 2) for frame in hypothesis.frames],
                "reference_words": [{"word": w, "end_ms": round(end, 2)} for w, end in zip(reference, ends)],
                "not_aligned": fault,
            }
        )

    def totals(self) -> dict[str, Any]:
        """Return the figures over all utterances added so far."""
        encoder = self.recognizer.streaming_encoder()
        streams = encoder.mode == "streaming"
        audio = sum(record["audio_seconds"] for record in self.records)
        compute = sum(record["compute_seconds"] for record in self.records)
        first = [record["first_token_ms"] for record in self.records if record["first_token_ms"] is not None]
        delays = [delay for record in self.records for delay in record["emission_delay_ms"]]
        return {
            "mode": encoder.mode,
            "rtf": round(compute / audio, 4) if audio else None,
            "first_token_ms": summary(first, (50, 90), mean=True),
            "first_token_from": "audio_start" if self.aligner is None else "first_word_end",
            "emission_delay_ms": summary(delays, (50, 90), mean=True),
            "chunk_compute_ms": summary(self.chunks, (50, 90, 99)),
            "chunk_ms": encoder.chunk_ms,
            "lookahead_ms": self.recognizer.model.encoder.lookahead_frames * encoder.frame_ms if streams else None,
            "algorithmic_latency_ms": encoder.lookahead_ms,
            "num_utts": len(self.records),
            "num_empty": sum(not record["text"] for record in self.records),
            "num_not_aligned": sum(record["not_aligned"] is not None for record in self.records),
            "audio_seconds": round(audio, 3),
        }

    def _align(self, samples: np.ndarray, text: str | None) -> tuple[list[str], list[float], str | None]:
        if self.aligner is None or not text:
            return [], [], None
        try:
            words, ends = self.aligner.word_ends(samples, text)
        except ValueError as error:
            return [], [], str(error)
        return words, ends, None
