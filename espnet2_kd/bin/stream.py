"""Decodes audio piece by piece as if it were spoken now, and reports speed and latency.

Audio files and standard input (`-`: wav, or raw 16-bit samples) show the words as they come. A data directory gives
stream.jsonl (one line per utterance) and stream.json (all utterances) in the output directory.

Times, in milliseconds from the start of the audio. A word comes out when work ends on the piece of audio that
completed its last token; work on a piece starts when the piece has been spoken and the one before is done.
  emission_delay_ms    when a word came out, minus the end of that word by forced alignment of the reference
                       transcript with --align_exp; over the words recognised correctly
  first_token_ms       when the first token came out, minus the end of the first reference word by that alignment
                       (first_token_from: first_word_end); without an alignment, from the start of the audio
                       (first_token_from: audio_start)
  frames_ms            end of the encoder frame that gave each token, where a CIF recogniser fired
  lookahead_ms         right context of the encoder; algorithmic_latency_ms adds its chunk, the reach of the subsampling
                       and the analysis window: the audio from the start of a chunk that its first frame waits for
  chunk_compute_ms     compute time per chunk, that is from one completion of encoder frames to the next
  rtf                  compute time over audio time
Models with full context (mode: offline) start to work when the audio has ended; the same definitions apply.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet2_kd.asr.freshness import decoding_made_from, is_done, made_from, note_done
from espnet2_kd.asr.model_pack import require_model
from espnet2_kd.bin.command import number, one_line_errors, true_or_false

if TYPE_CHECKING:
    from espnet2_kd.asr.latency import Step
    from espnet2_kd.asr.recognizer import Recognizer


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="*", help="wav, flac, ... files, or - for standard input")
    parser.add_argument("--ref_channel", help="channel to take from files with several (0 is the first), or mix")
    parser.add_argument("--exp", required=True, type=Path, help="experiment directory")
    parser.add_argument("--model_file", default="valid.loss_transducer.ave.pth", help="checkpoint in it, or a path")
    parser.add_argument(
        "--config",
        type=Path,
        help="YAML: search, beam_size, max_symbols, chunk_ms, left_ms, right_ms (default: as scored)",
    )
    parser.add_argument("--data_dir", type=Path, help="data directory, instead of files")
    parser.add_argument("--output_dir", type=Path, help="for stream.json and stream.jsonl; needed with --data_dir")
    parser.add_argument("--align_exp", type=Path, help="experiment whose CTC (else transducer) gives word times")
    parser.add_argument("--align_model_file", help="checkpoint in it (default: --model_file)")
    parser.add_argument("--max_utts", type=number(0), default=0, help="only the first so many utterances, 0: all")
    parser.add_argument("--piece_ms", type=float, default=40.0, help="audio handed over at a time (default: 40)")
    parser.add_argument("--num_threads", type=number(), default=1, help="CPU threads (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument(
        "--quantize", type=true_or_false, default=False, help="8-bit linear layers in the encoder, on the CPU (false)"
    )
    parser.add_argument(
        "--force", action="store_true", help="measure although the report is of this model and this data"
    )
    return parser


def main(cmd: list[str] | None = None) -> int:
    parser = get_parser()
    args = parser.parse_args(cmd)
    if bool(args.audio) == (args.data_dir is not None):
        parser.error("give either audio files (or -) or --data_dir")
    if args.data_dir is not None and args.output_dir is None:
        parser.error("--data_dir needs --output_dir")
    if args.piece_ms <= 0:
        parser.error("--piece_ms must be positive")
    return one_line_errors(run, args)


def run(args: argparse.Namespace) -> None:
    """Decode what the options name; raises what ``main`` reports."""
    if args.data_dir is not None and not args.force and is_done(outputs(args), measured_from(args)):
        print(f"{args.output_dir / 'stream.json'} is of this model and this data: nothing to do")
        return
    from espnet2_kd.data.audio import AudioFault

    require_model(args.exp)
    for name in args.audio:
        if name != "-" and not Path(name).is_file():
            raise AudioFault(f"file not found: {name}", "correct the path")

    import torch

    from espnet2_kd.asr.decode_config import DecodeConfig
    from espnet2_kd.asr.recognizer import Recognizer

    torch.set_num_threads(args.num_threads)
    decoding = DecodeConfig.for_model(args.exp, args.config)
    recognizer = Recognizer.load(args.exp, args.model_file, decoding, args.device, args.quantize)
    size = max(1, round(args.piece_ms * recognizer.rate / 1000.0))
    if args.data_dir is not None:
        measure(recognizer, size, args)
        return
    for name in args.audio:
        show(recognizer, name, size, args.ref_channel)


def measure(recognizer: Recognizer, size: int, args: argparse.Namespace) -> None:
    """Decode a data directory in pieces of ``size`` samples; write stream.jsonl and stream.json."""
    import torch

    from espnet2_kd.asr.live_decoder import LiveDecoder
    from espnet2_kd.asr.live_report import LiveReport
    from espnet2_kd.asr.utterances import Utterances
    from espnet2_kd.asr.word_times import WordAligner
    from espnet2_kd.data.problems import DataError
    from espnet2_kd.data.progress import Progress
    from espnet2_kd.data.table import replacing

    utterances = Utterances(args.data_dir, recognizer.rate)
    ids = utterances.ids[: args.max_utts] if args.max_utts else utterances.ids
    aligner = None
    if args.align_exp is not None:
        aligner = WordAligner.load(args.align_exp, args.align_model_file or args.model_file, recognizer.rate)
    report, warm = LiveReport(recognizer, aligner), False
    with Progress(f"stream {args.data_dir}", len(ids)) as progress:
        for utt in ids:
            samples = utterances.read(utt)
            progress.step()
            if utterances.problems:
                continue
            speech = torch.from_numpy(samples)
            if not warm:
                # The first run pays for memory and lazily made tables; it is not counted.
                LiveDecoder(recognizer).run(speech, size)
                warm = True
            report.add(utt, samples, LiveDecoder(recognizer).run(speech, size), utterances.text(utt))
    if utterances.problems:
        raise DataError(utterances.problems)
    with replacing(args.output_dir / "stream.jsonl") as stream:
        stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in report.records)
    totals = {**report.totals(), **conditions(args)}
    with replacing(args.output_dir / "stream.json") as stream:
        stream.write(json.dumps(totals, indent=2) + "\n")
    note_done(outputs(args), measured_from(args))
    print(json.dumps({name: totals[name] for name in ("mode", "rtf", "first_token_ms", "emission_delay_ms")}))


def conditions(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options under which a measurement was made."""
    return {
        "piece_ms": args.piece_ms,
        "threads": args.num_threads,
        "device": args.device,
        "max_utts": args.max_utts,
        "align_exp": str(args.align_exp) if args.align_exp else None,
        "quantize": args.quantize,
    }


def outputs(args: argparse.Namespace) -> list[Path]:
    """What a measurement writes."""
    return [args.output_dir / "stream.jsonl", args.output_dir / "stream.json"]


def measured_from(args: argparse.Namespace) -> str:
    """A hash of all that a measurement depends on."""
    aligner = [args.align_exp / (args.align_model_file or args.model_file)] if args.align_exp is not None else []
    options = {**conditions(args), "aligner": made_from(aligner)}
    return decoding_made_from(args.exp, args.model_file, args.config, args.data_dir, **options)


def show(recognizer: Recognizer, name: str, size: int, ref_channel: str | None) -> None:
    """Decode one file or standard input; print the words whenever they change and a line of figures at the end."""
    import torch

    from espnet2_kd.asr.audio_pieces import read_pieces
    from espnet2_kd.asr.live_decoder import LiveDecoder

    decoder = LiveDecoder(recognizer)
    steps: list[Step] = []
    shown = ""

    def accept(samples: torch.Tensor, final: bool = False) -> None:
        nonlocal shown
        steps.append(decoder.accept(samples, final))
        text = recognizer.text(steps[-1].hypothesis)
        if text != shown:
            print(f"{steps[-1].audio_ms / 1000.0:8.2f} s  {text}", flush=True)
            shown = text

    for piece in read_pieces(name, recognizer.rate, size, ref_channel):
        accept(torch.from_numpy(piece))
    accept(torch.zeros(0), final=True)
    seconds, compute = steps[-1].audio_ms / 1000.0, sum(step.compute_ms for step in steps) / 1000.0
    print(f"{name} {shown}".rstrip())
    if seconds:
        print(
            f"{seconds:.2f} s of audio, {compute:.2f} s of work: real-time factor {compute / seconds:.3f}", flush=True
        )


if __name__ == "__main__":
    sys.exit(main())
