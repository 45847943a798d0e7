"""Exports a trained streaming recogniser to ONNX, for programs that have neither torch nor ESPnet.

Writes encoder.onnx (a chunk of any number of streams, caches in and out, normalisation within), features.npz (window and
mel matrix of the features) and, with --quantize true, encoder.int8.onnx; of a transducer predictor.onnx and joint.onnx, of
a CIF recogniser cif.onnx and decoder.onnx; tokens.txt and search.json. Each is compared with the model before it is kept.
tools/onnx_recognize.py runs them with numpy and onnxruntime alone; doc/onnx.md describes them. Needs onnx, onnxscript and
onnxruntime.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet2_kd.bin.command import one_line_errors, true_or_false


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", required=True, type=Path, help="experiment directory, pack, or name on the hub")
    parser.add_argument("--model_file", default="valid.loss_transducer.ave.pth", help="checkpoint in it, or a path")
    parser.add_argument(
        "--config",
        type=Path,
        help="YAML of decoding; only chunk_ms, left_ms, right_ms, max_symbols and tail matter here",
    )
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument(
        "--quantize", type=true_or_false, default=False, help="write a model with 8-bit linear layers too (false)"
    )
    return parser


def main(cmd: list[str] | None = None) -> int:
    return one_line_errors(run, get_parser().parse_args(cmd))


def run(args: argparse.Namespace) -> None:
    """Export what the options name; raises what ``main`` reports."""
    from espnet2_kd.asr.decode_config import DecodeConfig
    from espnet2_kd.asr.load import load_model
    from espnet2_kd.asr.onnx_export import export_encoder
    from espnet2_kd.asr.onnx_search import export_search

    config = DecodeConfig.read(args.config)
    model, options = load_model(args.exp, args.model_file)
    config.apply_context(model)
    errors = export_encoder(model, args.output_dir, args.quantize)
    print(f"{args.output_dir / 'features.npz'}: largest difference to the model {errors['features']:.1e}")
    print(f"{args.output_dir / 'encoder.onnx'}: largest difference to the model {errors['float32']:.1e}")
    if args.quantize:
        print(f"{args.output_dir / 'encoder.int8.onnx'}: relative difference to the model {errors['int8']:.1e}")
    symbols = {} if config.max_symbols is None else {"max_symbols": config.max_symbols}
    for name, error in export_search(model, args.output_dir, options.token_type, tail=config.tail, **symbols).items():
        print(f"{args.output_dir / name}: largest difference to the model {error:.1e}")


if __name__ == "__main__":
    sys.exit(main())
