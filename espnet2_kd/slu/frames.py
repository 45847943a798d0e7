"""What a frozen acoustic model hears in a data directory, kept on disk: an epoch over it takes seconds."""

from __future__ import annotations

import logging
from pathlib import Path

import kaldiio
import numpy as np
import torch
from espnet2.text.build_tokenizer import build_tokenizer
from espnet2.text.cleaner import TextCleaner
from espnet2.text.token_id_converter import TokenIDConverter

from espnet2_kd.asr.alignment import ctc_best_path
from espnet2_kd.asr.load import ExperimentError, find_model, load_model, sample_rate
from espnet2_kd.asr.utterances import Utterances
from espnet2_kd.asr.words import group_words
from espnet2_kd.data.download import file_sha256
from espnet2_kd.data.parts import fingerprint
from espnet2_kd.data.problems import DataError
from espnet2_kd.data.progress import Progress
from espnet2_kd.data.table import replacing, write_table
from espnet2_kd.layers.pooling import SlowFrames
from espnet2_kd.slu.sentence import SentenceReader

COPIED = ("label", "text", "utt2spk")


class AcousticFrames:
    """A recogniser's encoder with its frames slowed down, and, with a tokenizer, forced alignment by its CTC output.

    Args:
        exp, model_file: the recogniser.
        slow_rate: how many of its frames make one.
        reader: writes transcripts as the teacher reads them; None: no alignment.

    Raises:
        ExperimentError: it cannot be loaded, or has no CTC output to align with.
    """

    def __init__(
        self, exp: str | Path, model_file: str, slow_rate: int, reader: SentenceReader | None, device: str = "cpu"
    ) -> None:
        self.model, args = load_model(exp, model_file, device)
        self.rate, self.reader, self.device = sample_rate(args), reader, device
        self.slow_rate, self.slow = slow_rate, SlowFrames(slow_rate)
        if reader is not None and getattr(self.model, "ctc", None) is None:
            raise ExperimentError(f"{exp}: has no CTC output (ctc_weight: 0.0) to align words with")
        self.token_type = args.token_type
        self.clean = TextCleaner(getattr(args, "cleaner", None))
        self.tokenizer = build_tokenizer(args.token_type, args.bpemodel)
        self.converter = TokenIDConverter(args.token_list)
        self.num_unaligned = 0
        _, checkpoint = find_model(exp, model_file)
        self.made_by = [file_sha256(checkpoint), slow_rate, None if reader is None else reader.name]

    @torch.no_grad()
    def __call__(self, speech: dict[str, np.ndarray], texts: dict[str, str]) -> dict[str, tuple[np.ndarray, ...]]:
        """Of each utterance its slow frames `(T, D)` and, with a reader, the spans of its word pieces `(N, 2)` in these."""
        lens = torch.tensor([len(samples) for samples in speech.values()])
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in speech.values()], batch_first=True)
        encoded, lens = self.model.encode(padded.to(self.device), lens.to(self.device))[:2]
        slow, slow_lens = self.slow(encoded, lens)
        found = {}
        for b, utt in enumerate(speech):
            found[utt] = (slow[b, : int(slow_lens[b])].float().cpu().numpy(),)
            if self.reader is not None:
                found[utt] += (self._spans(encoded[b : b + 1, : int(lens[b])], texts[utt]),)
        return found

    def _spans(self, encoded: torch.Tensor, text: str) -> np.ndarray:
        """Spans of the word pieces of a transcript in an utterance of encoder frames `(1, T, D)`."""
        num_frames, num_words = encoded.shape[1], len(text.split())
        tokens = self.tokenizer.text2tokens(self.clean(text))
        ends: list[float] = []
        begin = 0.0
        try:
            log_probs = self.model.ctc.log_softmax(encoded)[0].float()
            frames, _ = ctc_best_path(log_probs, self.converter.tokens2ids(tokens), self.model.blank_id)
            words = group_words(tokens, self.token_type, self.tokenizer.tokens2text)
            ends = [frames[word.last_token] + 1.0 for word in words]
            begin = float(frames[0]) if frames else 0.0
        except ValueError:  # more labels than frames
            pass
        if len(ends) != num_words:
            self.num_unaligned += 1
            ends, begin = [num_frames * (n + 1) / num_words for n in range(num_words)], 0.0
        return self.reader.spans(text, ends, begin, num_frames) / self.slow_rate


def write_frames(acoustic: AcousticFrames, data_dir: Path, output_dir: Path, batch_seconds: float) -> int:
    """Write `frames.scp` `(T, D)`, with a reader `spans.scp` `(N, 2)`, `frames_shape` and the tables of `COPIED`; return how many.

    Does nothing where the same has been written before.

    Raises:
        DataError: audio that cannot be read, or, with a reader, utterances without text; nothing is written then.
    """
    utterances = Utterances(data_dir, acoustic.rate)
    texts = utterances.data.tables.get("text", {})
    tables = [utterances.data.tables.get(name, {}) for name in ("wav.scp", "segments", *COPIED)]
    made_from = fingerprint(acoustic.made_by, tables)
    stamp = output_dir / "made_from"
    if stamp.is_file() and stamp.read_text() == made_from:
        return len(utterances.ids)
    names = ("frames", "spans") if acoustic.reader is not None else ("frames",)
    output_dir.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    shapes = {}
    acoustic.num_unaligned = 0
    writers = {
        name: kaldiio.WriteHelper(f"ark,scp:{output_dir / name}.ark,{output_dir / name}.scp.tmp") for name in names
    }
    with Progress(f"frames of {data_dir}", len(utterances.ids)) as progress:
        for batch in utterances.batches(batch_seconds):
            speech = {utt: samples for utt in batch if (samples := utterances.read(utt)) is not None}
            progress.step(len(batch))
            if utterances.problems or not speech:
                continue
            for utt, arrays in acoustic(speech, texts).items():
                shapes[utt] = ",".join(map(str, arrays[0].shape))
                for name, array in zip(names, arrays, strict=True):
                    writers[name](utt, array)
    for writer in writers.values():
        writer.close()
    if utterances.problems:
        raise DataError(utterances.problems)
    if acoustic.num_unaligned:
        logging.warning(
            "%d utterances are too short for their text: their words are spread evenly", acoustic.num_unaligned
        )
    write_table(output_dir / "frames_shape", shapes)
    for name in COPIED:
        if name in utterances.data.tables:
            write_table(output_dir / name, utterances.data.tables[name])
    for name in reversed(names):
        lines = sorted((output_dir / f"{name}.scp.tmp").read_text(encoding="utf-8").splitlines())
        write_table(output_dir / f"{name}.scp", dict(line.split(maxsplit=1) for line in lines))
        (output_dir / f"{name}.scp.tmp").unlink()
    with replacing(stamp) as stream:
        stream.write(made_from)
    return len(shapes)
