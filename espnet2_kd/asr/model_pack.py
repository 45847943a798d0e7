"""Models as ESPnet2's model zoo shares them: a zip or tar archive, its unpacked directory, or a name on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from espnet2_kd.data.documents import read_yaml
from espnet2_kd.data.download import DownloadError, file_sha256, unpack
from espnet2_kd.data.problems import DataError

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
# Beside meta.yaml: how the model was decoded when it was scored. ESPnet2 passes it over.
DECODING = "decode.yaml"
CARD = "README.md"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
MAX_BYTES = 20 * 2**30
MAX_FILES = 10_000


class PackError(ValueError):
    """A packed model that cannot be used; the message names the file and what to do."""


def is_pack(path: str | Path) -> bool:
    """Whether `path` is an archive, the directory of an unpacked one, or, where nothing has that name, a name on the hub."""
    path = Path(path)
    if path.exists():
        return path.name.endswith(ARCHIVES) or ((path / "meta.yaml").is_file() and not (path / "config.yaml").is_file())
    return is_hub_name(path)


def is_hub_name(path: str | Path) -> bool:
    """Whether nothing here has that name, and it may be one on the Hugging Face hub, `user/name`."""
    path = Path(path)
    return not path.exists() and bool(HUB_NAME.fullmatch(str(path))) and not path.parent.exists()


def require_model(name: str | Path) -> None:
    """Raise PackError for what can be no model, before seconds have gone into importing what would load it."""
    if not Path(name).exists() and not is_hub_name(name):
        raise PackError(
            f"{name}: no such file or directory: give an experiment directory, a pack, or user/name on the hub"
        )


def open_pack(path: str | Path) -> tuple[Path, Path]:
    """Return `config.yaml` and the checkpoint of a packed model.

    An archive is unpacked once, to `<archive>.unpacked` beside it, or where nothing can be written there in `~/.cache/espnet2_kd`;
    only plain files below that folder are accepted.

    Raises:
        PackError: an unsafe or damaged archive, no meta.yaml, no model in it, or a hub that cannot be reached.
    """
    path = Path(path)
    if not path.exists():
        path = fetch(str(path))
    elif path.is_file():
        path = _unpacked(path)
    return model_in(path)


def _unpacked(archive: Path) -> Path:
    # The name holds what is in it: another archive of the same name is unpacked again.
    beside = archive.with_name(f"{archive.name}.unpacked")
    if not os.access(archive.parent, os.W_OK) and not beside.is_dir():
        beside = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "espnet2_kd" / beside.name
    target = beside / file_sha256(archive)[:16]
    if not target.exists():
        try:
            unpack(archive, target, MAX_BYTES, MAX_FILES)
        except (DownloadError, OSError) as error:
            raise PackError(str(error)) from error
    return target


def fetch(name: str, revision: str | None = None) -> Path:
    """Return the directory of a model of the Hugging Face hub, downloaded once, from where `HF_ENDPOINT` says.

    revision: a branch, a tag or, to have the same model for ever, a commit.

    Raises:
        PackError: no such model or revision, no permission, or a hub that cannot be reached.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub = constants.ENDPOINT
    try:
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, GatedRepoError):
            why = f"{hub} asks for its terms to be accepted: accept them there, and set HF_TOKEN"
        elif isinstance(error, RepositoryNotFoundError):
            why = f"{hub} has no such model, or it is private: correct the name, or set HF_TOKEN to a token that may read it"
        elif isinstance(error, RevisionNotFoundError):
            why = f"{hub} has no revision {revision} of it: choose another"
        elif isinstance(error, LocalEntryNotFoundError):
            why = f"{hub} cannot be reached: download it where there is a network, and give its path"
        else:
            why = f"{type(error).__name__} at {hub}: try again, or give the path of a copy"
        raise PackError(
            f"{name}: no such file or directory, and not fetched from the Hugging Face hub: {why}"
        ) from error


def model_in(folder: Path) -> tuple[Path, Path]:
    """Return `config.yaml` and the checkpoint of an unpacked model; raises PackError."""
    meta = folder / "meta.yaml"
    if not meta.is_file():
        raise PackError(f"{folder}: no meta.yaml: is this a model packed by ESPnet2 (espnet2.bin.pack)?")
    try:
        content = read_yaml(meta)
    except DataError as error:
        raise PackError(str(error.problems[0])) from error
    parts = [content.get(part) for part in ("files", "yaml_files")] if isinstance(content, dict) else []
    paths = {str(key): Path(str(value)) for part in parts if isinstance(part, dict) for key, value in part.items()}
    configs = [paths[key] for key in paths if re.fullmatch(r"(?!lm_)\w*train_config", key)]
    models = [paths[key] for key in paths if re.fullmatch(r"(?!lm_)\w*model_file", key)]
    if len(configs) != 1 or len(models) != 1:
        found = f"{len(configs)} training configs and {len(models)} model files"
        raise PackError(f"{meta}: names {found}, where one of each is needed")
    for path in (configs[0], models[0]):
        if path.is_absolute() or ".." in path.parts or not os.path.isfile(folder / path):
            raise PackError(f"{meta}: names {path}, which is not in the pack")
    return folder / configs[0], folder / models[0]
