"""Measures error rate and latency of trained models for every combination of chunk, left and right context.

Each point is decoded as a whole, scored by sclite, and partly decoded again as if live. Writes wer_latency.md (a table),
wer_latency.png and wer_latency.json into the output directory, and beside them what they were made of, so that a run
that was stopped goes on where it was. Models with full context are measured once, for comparison.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from espnet2_kd.bin.command import number, one_line_errors

if TYPE_CHECKING:
    from espnet2_kd.asr.decode_config import DecodeConfig
    from espnet2_kd.asr.encoder.chunk_conformer import ChunkConformerEncoder
    from espnet2_kd.report.wer_latency import Point


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--exp", required=True, nargs="+", type=Path, help="experiment directories")
    parser.add_argument("--model_file", default="valid.loss_transducer.ave.pth", help="checkpoint in each")
    parser.add_argument("--config", type=Path, help="YAML: search, beam_size, max_symbols, as for decoding")
    parser.add_argument("--data_dir", required=True, type=Path, help="formatted test set, as dump/raw/test")
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--chunk_ms", nargs="+", type=float, metavar="MS", help="default: the model's own")
    parser.add_argument(
        "--left_ms", nargs="+", type=float, metavar="MS", help="inf: all of the past; default: the model's own"
    )
    parser.add_argument("--right_ms", nargs="+", type=float, metavar="MS", help="default: the model's own")
    parser.add_argument("--align_exp", type=Path, help="experiment whose CTC (else transducer) gives word times")
    parser.add_argument("--max_utts", type=number(0), default=50, help="utterances decoded as if live, 0: all")
    parser.add_argument("--num_threads", type=number(), default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser


def main(cmd: list[str] | None = None) -> int:
    return one_line_errors(measure, get_parser().parse_args(cmd))


def measure(args: argparse.Namespace) -> None:
    """Measure every point and write the report; raises what ``main`` reports before anything is decoded where it can."""
    from espnet2_kd.asr.load import load_model
    from espnet2_kd.data.table import replacing
    from espnet2_kd.kd.registry import ConfigError
    from espnet2_kd.report.wer_latency import draw, render

    names = [exp.name for exp in args.exp]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"--exp {' '.join(map(str, args.exp))}: two have the same name, which stands for them in the table"
        )
    runs = []
    for exp in args.exp:
        model, _ = load_model(exp, args.model_file)
        for config in contexts(args, model.encoder):
            runs.append((exp, config, is_trained_with(model.encoder, config)))
    points = [measure_point(args, *run) for run in runs]
    with replacing(args.output_dir / "wer_latency.json") as stream:
        json.dump([point.to_dict() for point in points], stream, indent=2, allow_nan=False)
        stream.write("\n")
    draw(points, args.output_dir / "wer_latency.png")
    report = render(points, args.data_dir)
    with replacing(args.output_dir / "wer_latency.md") as stream:
        stream.write(report)
    print(report)


def contexts(args: argparse.Namespace, encoder: ChunkConformerEncoder) -> list[DecodeConfig]:
    """Return a config for every combination, with all sizes filled in; raises ConfigError for one the encoder refuses."""
    from espnet2_kd.asr.decode_config import DecodeConfig
    from espnet2_kd.kd.registry import ConfigError

    config = DecodeConfig.read(args.config)
    if config.context:
        raise ConfigError(f"{args.config}: {', '.join(config.context)}: give it as an option instead")
    context = getattr(encoder, "context", None)
    if context is None or context.full:
        return [config]
    own_left = math.inf if context.left is None else context.left * encoder.frame_ms
    own = (context.chunk * encoder.frame_ms, own_left, context.right * encoder.frame_ms)
    given = (args.chunk_ms, args.left_ms, args.right_ms)
    configs = []
    for chunk, left, right in itertools.product(*(g or [o] for g, o in zip(given, own, strict=True))):
        config = replace(config, chunk_ms=chunk, left_ms=left, right_ms=right)
        try:
            encoder.set_context_ms(chunk, left, right)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        configs.append(config)
    encoder.context = context
    return configs


def is_trained_with(encoder: ChunkConformerEncoder, config: DecodeConfig) -> bool:
    """Whether the encoder was trained with the context of a config, always or now and then."""
    if not config.context:
        return True
    trained = encoder.dynamic_contexts or (encoder.context,)
    kept = encoder.context
    encoder.set_context_ms(**config.context)
    context, encoder.context = encoder.context, kept
    return context in trained


def measure_point(args: argparse.Namespace, exp: Path, config: DecodeConfig, trained: bool) -> Point:
    """Decode, score and stream one point, as far as that is not done yet."""
    import yaml

    from espnet2_kd.asr.freshness import is_done, made_from, note_done
    from espnet2_kd.bin import decode, stream
    from espnet2_kd.data.table import replacing
    from espnet2_kd.report.metric import choose_metric
    from espnet2_kd.report.score import score_set
    from espnet2_kd.report.wer_latency import Point

    sizes = "_".join(f"{name.removesuffix('_ms')}{value:g}" for name, value in config.context.items())
    folder = args.output_dir / exp.name / (sizes or "full")
    settings = {"search": config.search, "beam_size": config.beam_size, "max_symbols": config.max_symbols}
    text = yaml.safe_dump({**settings, **config.context}, sort_keys=False)
    config_file = folder / "decode.yaml"
    with replacing(config_file) as out:
        out.write(text)
    options = {
        "exp": exp,
        "model_file": args.model_file,
        "config": config_file,
        "data_dir": args.data_dir,
        "output_dir": folder,
        "num_threads": args.num_threads,
        "device": args.device,
    }
    command = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    decode.decode(decode.get_parser().parse_args(command))
    scored = [folder / "text", args.data_dir / "text", args.data_dir / "utt2spk"]
    key, done = made_from(scored), [folder / "score.json"]
    if is_done(done, key):
        score = json.loads(done[0].read_text(encoding="utf-8"))
    else:
        score = score_set(scored[1], scored[0], scored[2], folder)
        note_done(done, key)
    align = ["--align_exp", str(args.align_exp)] if args.align_exp else []
    stream.run(stream.get_parser().parse_args([*command, *align, "--max_utts", str(args.max_utts)]))
    totals = json.loads((folder / "stream.json").read_text(encoding="utf-8"))
    wer, cer = (100 * score[name]["counts"]["err"] / score[name]["wrd"] for name in ("wer", "cer"))
    metric = choose_metric(folder).key
    num = score["wer"]["snt"], score["wer"]["wrd"]
    return Point(exp.name, config.chunk_ms, config.left_ms, config.right_ms, trained, *num, wer, cer, totals, metric)


if __name__ == "__main__":
    sys.exit(main())
