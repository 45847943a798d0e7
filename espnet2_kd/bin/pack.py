"""Packs a trained model into a zip that ESPnet2 reads: weights, configuration and what it needs, and a card that tells of it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from espnet2_kd.bin.command import one_line_errors, true_or_false


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--exp", required=True, type=Path, help="experiment directory")
    parser.add_argument("--model_file", default="valid.loss_transducer.ave.pth", help="checkpoint in it")
    parser.add_argument(
        "--kind", default="asr", choices=("asr", "intent"), help="intents have ESPnet2's shortest names"
    )
    parser.add_argument(
        "--option", action="append", default=[], type=Path, help="one more file; those that config.yaml names are found"
    )
    parser.add_argument(
        "--tokenizer", type=Path, help="folder of a Hugging Face tokenizer, where config.yaml does not name it"
    )
    parser.add_argument("--decoding", type=Path, help="YAML of the search that the model was scored with")
    parser.add_argument("--results", type=Path, help="JSON of the recipe's report, for the table of the card")
    parser.add_argument("--corpus", default=_corpus(), help="name of the corpus, for the card")
    parser.add_argument("--lang", default="noinfo", help="language of the corpus, as en or zh, for the card")
    parser.add_argument("--license", default="", help="under which the model is given away, as cc-by-4.0, for the card")
    parser.add_argument("--synthetic", type=true_or_false, default=False, help="the speech is synthetic: say so")
    parser.add_argument("--outpath", required=True, type=Path, help="zip to write")
    return parser


def _corpus() -> str:
    """The corpus of the recipe that this is run in, from egs2/<corpus>/<task>."""
    *_, egs2, corpus, _ = ("", "", *Path.cwd().parts)
    return corpus if egs2 == "egs2" else ""


def main(cmd: list[str] | None = None) -> int:
    return one_line_errors(pack, get_parser().parse_args(cmd))


def named_files(config: Path) -> tuple[list[Path], Path | None]:
    """Files that the configuration of an experiment names, such as statistics, and the folder of its tokenizer, if it has one.

    Raises PackError for what cannot be found from here.
    """
    from espnet2_kd.asr.load import PATH_CONF_KEYS, PATH_OPTIONS, read_config
    from espnet2_kd.asr.model_pack import PackError

    settings = read_config(config)
    names = {option: settings.get(option) for option in PATH_OPTIONS}
    names |= {
        f"{conf}.{key}": (settings.get(conf) or {}).get(key) for conf, keys in PATH_CONF_KEYS.items() for key in keys
    }
    files, folder = [], None
    for option, name in names.items():
        path = Path(name) if isinstance(name, str) else None
        # Without pieces of BPE it may be a name, as of a tokenizer on the hub.
        a_name = option == "bpemodel" and settings.get("token_type") != "bpe"
        if path is None or (a_name and not os.path.exists(path)):
            continue
        if option == "bpemodel" and path.is_dir():
            folder = path
        elif os.path.isfile(path):
            files.append(path)
        elif not path.is_absolute():  # else it is refused as a place of this machine
            raise PackError(f"{config}: {option}: {path}: not found from here: pack it in the directory of its recipe")
    return files, folder


def pack(args: argparse.Namespace) -> None:
    """Write the archive that the options describe, and list its members; raises what ``main`` reports."""
    import yaml

    from espnet2_kd.asr.load import read_config
    from espnet2_kd.asr.model_pack import CARD, DECODING, PackError
    from espnet2_kd.asr.pack_writer import require_files, student_weights, write_pack
    from espnet2_kd.report.model_card import describe, render_card

    prefix = {"asr": "asr_", "intent": ""}[args.kind]
    model, config = args.exp / args.model_file, args.exp / "config.yaml"
    require_files([model, config, *args.option, *([args.decoding] if args.decoding else [])])
    if (args.kind == "intent") != ("acoustic_file" in read_config(config)):  # which only the task of intents has
        raise PackError(f"{config}: is of another kind than --kind {args.kind}")
    named, folder = named_files(config)
    weights = student_weights(model)
    shared = describe(
        *(args.exp, len(weights), args.outpath, args.kind, args.results, args.decoding),
        corpus=args.corpus,
        language="" if args.lang == "noinfo" else args.lang,
        license=args.license,
        synthetic=args.synthetic,
    )
    texts = {CARD: render_card(shared)}
    if shared.decoding:
        # A language model is a model of its own, and not in here.
        settings = {key: value for key, value in shared.decoding.items() if key not in ("lm", "lm_file", "lm_weight")}
        texts[DECODING] = yaml.safe_dump(settings, sort_keys=False)
    members = write_pack(
        args.outpath,
        {f"{prefix}model_file": model},
        {f"{prefix}train_config": config},
        sorted({*args.option, *named}),
        args.tokenizer or folder,
        texts,
        {model: weights},
    )
    for name, size in members.items():
        print(f"{size:>12}  {name}")
    print(f"{args.outpath}: {len(members)} files")


if __name__ == "__main__":
    sys.exit(main())
