"""Uploads a packed model to the Hugging Face hub, where from_pretrained("user/name") and ESPnet2 find it.

The token is taken from HF_TOKEN or from `hf auth login`, the hub from HF_ENDPOINT. What goes out is listed; a pack with paths
of this machine, its name or its user's is refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from espnet2_kd.bin.command import true_or_false


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", required=True, type=Path, help="zip that espnet2_kd.bin.pack, or stage pack, wrote")
    parser.add_argument("--repo", required=True, help="user/name on the hub; made where it is not there")
    parser.add_argument("--private", type=true_or_false, default=False, help="make it a private one (false)")
    parser.add_argument(
        "--dry_run", type=true_or_false, nargs="?", const=True, default=False, help="only list what would go out"
    )
    return parser


def main(cmd: list[str] | None = None) -> int:
    parser = get_parser()
    args = parser.parse_args(cmd)
    from espnet2_kd.asr.hub_upload import lay_out, upload
    from espnet2_kd.asr.model_pack import HUB_NAME, PackError

    if not HUB_NAME.fullmatch(args.repo):
        parser.error(f"--repo {args.repo}: give user/name")
    try:
        if not args.pack.is_file():
            raise PackError(f"{args.pack}: no such file: pack the model first: python -m espnet2_kd.bin.pack")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "model")
            files = lay_out(args.pack, folder, args.repo)
            for name, size in files.items():
                print(f"{size:>12}  {name}")
            if args.dry_run:
                print(f"{args.repo}: {len(files)} files would be uploaded; nothing was sent")
                return 0
            print(f"{upload(folder, args.repo, args.private)}: {len(files)} files uploaded")
    except PackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
