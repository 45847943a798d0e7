"""Exports the streaming encoder of a trained model to ONNX, for programs that have neither torch nor ESPnet.

Writes encoder.onnx (a chunk of any number of streams, caches in and out, normalisation within), features.npz (window and
mel matrix of the features) and, with --quantize true, encoder.int8.onnx. Each is compared with the model before it is
kept. doc/onnx.md shows how to run them with numpy and onnxruntime alone. Needs onnx, onnxscript and onnxruntime.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet2_kd.bin.command import one_line_errors, true_or_false


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", required=True, type=Path, help="experiment directory")
    parser.add_argument("--model_file", default="valid.loss_transducer.ave.pth", help="checkpoint in it, or a path")
    parser.add_argument("--config", type=Path, help="YAML of decoding; only chunk_ms, left_ms and right_ms matter here")
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

    config = DecodeConfig.read(args.config)
    model, _ = load_model(args.exp, args.model_file)
    config.apply_context(model)
    errors = export_encoder(model, args.output_dir, args.quantize)
    print(f"{args.output_dir / 'features.npz'}: largest difference to the model {errors['features']:.1e}")
    print(f"{args.output_dir / 'encoder.onnx'}: largest difference to the model {errors['float32']:.1e}")
    if args.quantize:
        print(f"{args.output_dir / 'encoder.int8.onnx'}: relative difference to the model {errors['int8']:.1e}")


if __name__ == "__main__":
    sys.exit(main())
