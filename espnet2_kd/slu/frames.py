"""What a frozen acoustic model hears in a data directory, kept on disk: an epoch over it takes seconds."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import kaldiio
import numpy as np
import torch
from espnet2.text.build_tokenizer import build_tokenizer
from espnet2.text.cleaner import TextCleaner
from espnet2.text.token_id_converter import TokenIDConverter

from espnet2_kd.asr.alignment import ctc_best_path
from espnet2_kd.asr.framing import fewest_samples
from espnet2_kd.asr.load import ExperimentError, find_model, load_model, sample_rate
from espnet2_kd.asr.utterances import Utterances
from espnet2_kd.asr.words import group_words
from espnet2_kd.data.data_dir import AUDIO_SUM
from espnet2_kd.data.download import file_sha256
from espnet2_kd.data.entry import audio_path
from espnet2_kd.data.parts import file_state, fingerprint
from espnet2_kd.data.problems import DataError, Problem
from espnet2_kd.data.progress import Progress
from espnet2_kd.data.table import read_table, replacing, write_table
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.layers.pooling import SlowFrames
from espnet2_kd.slu.sentence import SentenceReader

COPIED = ("label", "text", "utt2spk")
EARS = "ears"  # whose frames these are


class AcousticFrames:
    """A recogniser's encoder with its frames slowed down, and, with a tokenizer, forced alignment by its CTC output.

    Args:
        exp, model_file: the recogniser.
        slow_rate: how many of its frames make one.
        reader: writes transcripts as the teacher reads them; None: no alignment.

    Attributes:
        num_spread: utterances without an alignment, too short for their text; their words are spread evenly.
        num_unknown: utterances with letters that the recogniser does not know.

    Raises:
        ConfigError, ExperimentError: it cannot be loaded, is more than a classifier takes over, or has no CTC output to align with.
    """

    def __init__(
        self, exp: str | Path, model_file: str, slow_rate: int, reader: SentenceReader | None, device: str = "cpu"
    ) -> None:
        self.model, args = load_model(exp, model_file, device)
        require_plain_ears(args, exp)
        self.rate, self.reader, self.device = sample_rate(args), reader, device
        self.slow_rate, self.slow = slow_rate, SlowFrames(slow_rate)
        if reader is not None and getattr(self.model, "ctc", None) is None:
            raise ExperimentError(f"{exp}: has no CTC output (ctc_weight: 0.0) to align words with")
        self.token_type, self.write = args.token_type, written_as(args.token_list)
        self.clean = TextCleaner(getattr(args, "cleaner", None))
        self.tokenizer = build_tokenizer(args.token_type, args.bpemodel)
        self.converter = TokenIDConverter(args.token_list)
        self.unk_id = self.converter.token2id.get("<unk>")
        self.num_spread = self.num_unknown = 0
        self.fewest_samples = fewest_samples(self.model)
        self.made_by = [ears_sum(exp, model_file), slow_rate]

    @torch.no_grad()
    def __call__(self, speech: dict[str, np.ndarray], texts: dict[str, str]) -> dict[str, tuple[np.ndarray, ...]]:
        """Of each utterance its slow frames `(T, D)` and, with a reader, the spans of its word pieces `(N, 2)` in these."""
        heard = [np.pad(x, (0, max(0, self.fewest_samples - len(x)))) for x in speech.values()]
        lens = torch.tensor([len(samples) for samples in heard])
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in heard], batch_first=True)
        encoded, lens = self.model.encode(padded.to(self.device), lens.to(self.device))[:2]
        if isinstance(encoded, tuple):  # of an encoder with CTC outputs inside
            encoded = encoded[0]
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
        tokens = self.tokenizer.text2tokens(self.clean(self.write(text)))
        ids = self.converter.tokens2ids(tokens)
        self.num_unknown += self.unk_id in ids
        ends: list[float] = []
        begin = 0.0
        try:
            log_probs = self.model.ctc.log_softmax(encoded)[0].float()
            frames, _ = ctc_best_path(log_probs, ids, self.model.blank_id)
            words = group_words(tokens, self.token_type, self.tokenizer.tokens2text)
            ends = [frames[word.last_token] + 1.0 for word in words]
            begin = float(frames[0]) if frames else 0.0
        except ValueError:  # more labels than frames
            pass
        if len(ends) != num_words:
            self.num_spread += 1
            ends, begin = [num_frames * (n + 1) / num_words for n in range(num_words)], 0.0
        return self.reader.spans(text, ends, begin, num_frames) / self.slow_rate


def write_frames(acoustic: AcousticFrames, data_dir: Path, output_dir: Path, batch_seconds: float) -> int:
    """Write `frames.scp` `(T, D)`, with a reader `spans.scp` `(N, 2)`, `frames_shape` and the tables of `COPIED`; return how many.

    `frames.sha256` and `spans.sha256` are of what was written. Does nothing where the same has been made before, with spans
    that nobody asks for now or without. Audio that is too short for the recogniser is heard with silence after it.

    Raises:
        DataError: audio that cannot be read, or, with a reader, utterances without text.
        ExperimentError: with a reader, a recogniser that does not know the letters of half of the utterances.
    """
    utterances = Utterances(data_dir, acoustic.rate)
    texts = utterances.data.tables.get("text", {})
    tables = [utterances.data.tables.get(name, {}) for name in ("wav.scp", "segments", *COPIED)]
    heard = utterances.data.notes.get(AUDIO_SUM)
    audio = heard or [file_state(audio_path(entry)) for entry in utterances.data.tables["wav.scp"].values()]
    made_from = {"frames": fingerprint(acoustic.made_by, tables, audio)}
    if acoustic.reader is not None:
        made_from["spans"] = fingerprint(made_from["frames"], acoustic.reader.name)
    stamps = {name: output_dir / f".{name}_made_from" for name in ("frames", "spans")}
    if all(stamps[name].is_file() and stamps[name].read_text() == made for name, made in made_from.items()):
        return len(utterances.ids)
    if acoustic.reader is not None and (silent := [utt for utt in utterances.ids if utt not in texts]):
        remedy = "write its words there, or leave out --hf_model"
        raise DataError([Problem(str(data_dir / "text"), 0, utt, "has no text to align", remedy) for utt in silent])
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, stamp in stamps.items():
        stamp.unlink(missing_ok=True)
        (output_dir / f"{name}.scp").unlink(missing_ok=True)
    shapes = {}
    num_short = acoustic.num_spread = acoustic.num_unknown = 0
    writers = {
        name: kaldiio.WriteHelper(f"ark,scp:{output_dir / name}.ark,{output_dir / name}.scp.tmp") for name in made_from
    }
    with Progress(f"frames of {data_dir}", len(utterances.ids)) as progress:
        for batch in utterances.batches(batch_seconds):
            speech = {utt: samples for utt in batch if (samples := utterances.read(utt)) is not None}
            progress.step(len(batch))
            if utterances.problems or not speech:
                continue
            num_short += sum(len(samples) < acoustic.fewest_samples for samples in speech.values())
            for utt, arrays in acoustic(speech, texts).items():
                shapes[utt] = ",".join(map(str, arrays[0].shape))
                for name, array in zip(writers, arrays, strict=True):
                    writers[name](utt, array)
    for writer in writers.values():
        writer.close()
    if utterances.problems:
        raise DataError(utterances.problems)
    if 2 * acoustic.num_unknown > len(shapes):
        raise ExperimentError(
            f"the recogniser does not know the letters of {acoustic.num_unknown} of {len(shapes)} texts in {data_dir}, so nobody can "
            "tell when their words were spoken; take ears of this language, or no config that pools tokens"
        )
    for num, what in (
        (num_short, f"are shorter than {acoustic.fewest_samples} samples: silence was added"),
        (acoustic.num_spread, "are too short for their text: their words are spread evenly"),
        (acoustic.num_unknown, "have letters that the recogniser does not know: the times of their words are rough"),
    ):
        if num:
            logging.warning("%s: %d utterances %s", data_dir, num, what)
    write_table(output_dir / "frames_shape", shapes)
    write_table(output_dir / EARS, {"checkpoint": acoustic.made_by[0], "slow_rate": str(acoustic.slow_rate)})
    for name in COPIED:
        if name in utterances.data.tables:
            write_table(output_dir / name, utterances.data.tables[name])
    for name, made in reversed(made_from.items()):
        lines = sorted((output_dir / f"{name}.scp.tmp").read_text(encoding="utf-8").splitlines())
        write_table(output_dir / f"{name}.scp", dict(line.split(maxsplit=1) for line in lines))
        (output_dir / f"{name}.scp.tmp").unlink()
        for path, text in (
            (output_dir / f"{name}.sha256", file_sha256(output_dir / f"{name}.ark")),
            (stamps[name], made),
        ):
            with replacing(path) as stream:
                stream.write(text)
    return len(shapes)


def require_same_ears(data_dir: Path, checkpoint: str, slow_rate: int) -> None:
    """Raise ConfigError for a directory of frames that others than these ears have heard, if it says whose they are.

    Args:
        checkpoint: `ears_sum`; "" where a classifier does not know it.
    """
    if not checkpoint or not (data_dir / EARS).is_file():
        return
    made = read_table(data_dir / EARS)
    if made != {"checkpoint": checkpoint, "slow_rate": str(slow_rate)}:
        what = "another recogniser" if made.get("checkpoint") != checkpoint else f"a slow_rate of {made['slow_rate']}"
        raise ConfigError(f"{data_dir}: frames of {what}: take them again (espnet2_kd.bin.acoustic_frames, stage 5)")


def ears_sum(exp: str | Path, model_file: str) -> str:
    """SHA-256 of a recogniser's checkpoint."""
    return file_sha256(find_model(exp, model_file)[1])


def require_plain_ears(args: argparse.Namespace, where: str | Path) -> None:
    """Raise ConfigError for a recogniser with more behind its encoder: a classifier takes over no more than that."""
    if getattr(args, "postencoder", None) is not None:
        raise ConfigError(f"{where}: has a postencoder ({args.postencoder}); take a recogniser without one as ears")


def written_as(token_list: Sequence[str]) -> Callable[[str], str]:
    """How a recogniser that knows these tokens writes: in capitals, in small letters, or, where it knows both, as it is."""
    letters = "".join(token for token in token_list if not (token.startswith("<") and token.endswith(">")))
    small, capital = letters == letters.lower(), letters == letters.upper()
    if small == capital:
        return str
    return str.lower if small else str.upper
