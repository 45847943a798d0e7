"""Shows trained models at work: a web page with microphone or files, words appearing as they are spoken.

    python -m espnet2_kd.bin.demo --model exp/asr_teacher exp/asr_student

Every model, a recogniser or a classifier of intents, has a column; a model that needs the whole utterance answers at its
end, with a guess now and then before. The server listens on this machine only unless --host says otherwise, keeps nothing
of what it hears, and sends it nowhere. Programs that bring their own audio speak the same WebSocket: doc/live_demo.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from espnet2_kd.asr.model_pack import require_model
from espnet2_kd.bin.command import number, one_line_errors

DEFAULT = "-"


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        required=True,
        nargs="+",
        action="extend",
        help="experiment directories, packs, or names on the hub",
    )
    each = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument("--name", **each, help="title for each model (default: names of the directories)")
    parser.add_argument(
        "--model_file",
        **each,
        help="checkpoint of all models or of each, - for the default: valid.*.ave.pth, else best",
    )
    parser.add_argument(
        "--config",
        **each,
        help="YAML with decoding settings for all models or for each, - for those that it was scored with",
    )
    parser.add_argument(
        "--guess_ms", type=float, default=1000.0, help="models with full context guess so often, 0: never"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--num_threads", type=number(), default=1, help="CPU threads for each model (default: 1)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one (default: 8765)")
    parser.add_argument("--allow_host", **each, help="other names under which browsers reach this server")
    parser.add_argument("--max_clients", type=int, default=8, help="clients at a time (default: 8)")
    parser.add_argument("--max_seconds", type=float, default=60.0, help="longest utterance (default: 60)")
    return parser


def main(cmd: list[str] | None = None) -> int:
    parser = get_parser()
    args = parser.parse_args(cmd)
    num = len(args.model)
    for option in ("name", "model_file", "config"):
        given = getattr(args, option)
        if len(given) not in ((0, num) if option == "name" else (0, 1, num)):
            parser.error(f"--{option}: {len(given)} given for {num} models")
    for option in ("max_clients", "max_seconds", "num_threads"):
        if not getattr(args, option) > 0:
            parser.error(f"--{option} must be positive")
    if not 0 <= args.port < 65536:
        parser.error("--port must be from 0 to 65535")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s: %(message)s")
    try:
        return one_line_errors(run, args)
    except KeyboardInterrupt:
        return 130


def run(args: argparse.Namespace) -> None:
    """Load the models and serve until told to stop; raises what ``main`` reports."""
    for exp in args.model:
        require_model(exp)
    import asyncio

    from espnet2_kd.live.server import DemoServer, is_loopback, serve
    from espnet2_kd.live.systems import load_system

    num = len(args.model)
    names, files, configs = (spread(given, num) for given in (args.name, args.model_file, args.config))
    systems = []
    for exp, name, file, config in zip(args.model, names, files, configs, strict=True):
        print(f"loading {exp}", flush=True)
        systems.append(load_system(exp, name, file, config, args.device, args.num_threads, args.guess_ms))
        systems[-1].warm_up()
        if systems[-1].about["note"] is not None:
            print(
                f"{exp}: does not stream, answers at the end: {systems[-1].about['note']}", file=sys.stderr, flush=True
            )
    if not is_loopback(args.host):
        print(
            f"warning: {args.host} can be reached by others, without encryption or password. Browsers give a microphone only to "
            "https pages and to this machine: put a proxy with a certificate before it, or tunnel with ssh -L",
            file=sys.stderr,
            flush=True,
        )
    server = DemoServer(systems, args.host, args.max_clients, args.max_seconds, args.allow_host)
    asyncio.run(
        serve(server, args.host, args.port, lambda url: print(f"open {url} (Ctrl-C ends the demo)", flush=True))
    )


def spread(given: Sequence[str], num: int) -> list[str | None]:
    """One value for each of ``num`` models: none, the same for all, or their own; DEFAULT is None."""
    values = [None if value == DEFAULT else value for value in given] or [None]
    return values * num if len(values) == 1 else values


if __name__ == "__main__":
    sys.exit(main())
