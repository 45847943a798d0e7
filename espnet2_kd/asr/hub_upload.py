"""A packed model on its way to the Hugging Face hub: looked through first, then sent as ESPnet2's own models lie there."""

from __future__ import annotations

import re
from pathlib import Path

from espnet2_kd.asr.model_pack import CARD, MAX_BYTES, MAX_FILES, PackError, model_in
from espnet2_kd.asr.pack_writer import private_in
from espnet2_kd.data.download import DownloadError, unpack
from espnet2_kd.data.problems import DataError

_EXAMPLE = re.compile(r'from_pretrained\("([^"\n]+)"\)')


def lay_out(pack: Path, folder: Path, repo: str) -> dict[str, int]:
    """Unpack a model into a new `folder` as it is to lie on the hub, and give the size of each file.

    The examples of its card then open `repo` instead of the archive.

    Raises:
        PackError: an unsafe or damaged archive, no model or no card in it, or a file that tells of this machine, its user or
            itself; all of those are named.
    """
    try:
        unpack(pack, folder, MAX_BYTES, MAX_FILES)
    except (DownloadError, OSError) as error:
        raise PackError(str(error)) from error
    try:
        model_in(folder)
    except PackError as error:
        raise PackError(str(error).replace(str(folder), str(pack))) from error
    card = folder / CARD
    if not card.is_file():
        raise PackError(f"{pack}: has no {CARD}: pack the model again: python -m espnet2_kd.bin.pack")
    text = card.read_text(encoding="utf-8")
    for example in dict.fromkeys(_EXAMPLE.findall(text)):
        text = re.sub(rf"(?<![\w./-]){re.escape(example)}(?![\w/-])", repo, text)
    card.write_text(text, encoding="utf-8")
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    told = []
    for name, path in files.items():
        try:
            fault = private_in(name, path.read_bytes(), files)
        except DataError as error:
            fault = str(error.problems[0])
        if fault is not None:
            told.append(f"{name}: {fault}")
    if told:
        raise PackError(
            f"{pack}: is not for others to see; nothing was sent:\n" + "\n".join(f"  {line}" for line in told)
        )
    return {name: path.stat().st_size for name, path in files.items()}


def upload(folder: Path, repo: str, private: bool = False) -> str:
    """Send a folder to a model of the hub, which is made where it is not there, and return its address.

    The hub is where `HF_ENDPOINT` says; the token comes from `HF_TOKEN` or from `hf auth login`.

    Raises:
        PackError: no token, no permission, or no connection.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        # With token=True whoever has none is told before anything is asked of the hub.
        api = HfApi(token=True)
        address = api.create_repo(repo, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Model, configuration and card")
    except LocalTokenNotFoundError as error:
        raise PackError(f"{repo}: no token for {api.endpoint}: `hf auth login`, or set HF_TOKEN") from error
    except HFValidationError as error:
        raise PackError(f"{repo}: {error}: give user/name") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        why = "the token was not accepted, or may not write there" if status in (401, 403) else f"answered {status}"
        said = f" ({error.server_message})" if error.server_message else ""
        raise PackError(f"{repo}: {api.endpoint}: {why}{said}: run it again when that is mended") from error
    except (HTTPError, OSError) as error:
        raise PackError(f"{repo}: {api.endpoint} cannot be reached ({error}): run it again where it can") from error
    return str(address)
