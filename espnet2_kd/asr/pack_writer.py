"""Packing a trained model into an archive that ESPnet2 reads, without a word about the machine that it was trained on."""

from __future__ import annotations

import getpass
import io
import os
import platform
import re
import socket
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet2_kd.asr.model_pack import PackError
from espnet2_kd.data.documents import parse_yaml
from espnet2_kd.data.table import replacing

# Of the options of a training, those that say where it ran and what it read. Nothing that builds the model asks for them.
_OF_THE_TRAINING = (
    *("config", "output_dir", "init_param", "pretrain_path", "dist_init_method", "dist_master_addr", "dist_launcher"),
    *("wandb_project", "wandb_id", "wandb_entity", "wandb_name", "deepspeed_config"),
    *("train_data_path_and_name_and_type", "valid_data_path_and_name_and_type", "train_shape_file", "valid_shape_file"),
    *("unlabelled_data_path_and_name_and_type", "unlabelled_shape_file", "teacher", "teacher_conf", "teacher_cache"),
    *("kd_terms", "cmd"),
)
# Of the folder of a Hugging Face tokenizer, what reads and writes text; not the model beside it.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json", "tokens.txt")
_TOKENIZER = (*_VOCABULARIES[:-1], "tokenizer_config.json", "special_tokens_map.json", "config.json")
_TOKENIZER += ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
# What users write, in which any word may stand.
_TEXT = ("token_list",)
_ABSOLUTE = re.compile(r"^/\w|(?<![\w.~/:-])(/[\w.+~-]+){2,}|\bfile:/|\b[A-Za-z]:\\\w|~[\w.-]*/\w")
_OUTSIDE = "files"


def write_pack(
    path: str | Path,
    files: Mapping[str, Path],
    yaml_files: Mapping[str, Path],
    options: Sequence[Path] = (),
    tokenizer: Path | None = None,
    texts: Mapping[str, str] | None = None,
    weights: Mapping[Path, bytes] | None = None,
) -> dict[str, int]:
    """Write a zip of configurations and of what they need, as `espnet2.bin.pack` arranges it; give the size of each member.

    Files below the working directory keep their relative names, others lie in `files/`, and configurations name them so. Options
    that only tell of the training are left empty, and weights of distillation left out.

    Args:
        files: `asr_model_file` or the like: weights.
        yaml_files: `asr_train_config` or the like.
        options: more files that configurations name: statistics, a model of word pieces.
        tokenizer: the folder of a Hugging Face tokenizer that configurations name.
        texts: more members by name, such as a model card.
        weights: what `student_weights` says of `files`, where it is known already.

    Raises:
        PackError: a file that is not there, or one that names a place of this machine, its user or itself.
    """
    paths = [*yaml_files.values(), *files.values(), *options]
    require_files(paths)
    names = {source: _name(source) for source in paths}
    folders = {}
    if tokenizer is not None:
        base = _name(tokenizer)
        # A word without a slash would be taken for a name on the hub.
        folders[tokenizer] = base if "/" in base else f"{_OUTSIDE}/{base}"
        names |= {source: f"{folders[tokenizer]}/{source.name}" for source in _tokenizer_files(tokenizer)}
        options = [*options, *_tokenizer_files(tokenizer)]
        paths = list(names)
    if len(set(names.values())) < len({source.resolve() for source in paths}):
        raise PackError(f"{path}: files of the same name: {', '.join(sorted(names.values()))}")
    members = {
        "meta.yaml": yaml.safe_dump(
            {
                "files": {key: names[source] for key, source in files.items()},
                "yaml_files": {key: names[source] for key, source in yaml_files.items()},
                "python": platform.python_version(),
            }
        ).encode()
    }
    for source in yaml_files.values():
        members[names[source]] = _stripped(source, {**names, **folders})
    for source in files.values():
        members[names[source]] = (weights or {}).get(source) or student_weights(source)
    for source in options:
        members[names[source]] = source.read_bytes()
    for name, text in (texts or {}).items():
        members.setdefault(name, text.encode())
    for name, content in members.items():
        if (fault := private_in(name, content, members)) is not None:
            raise PackError(f"{_source_of(name, names)}: {fault}")
    with replacing(path, "wb") as stream, zipfile.ZipFile(stream, "w") as bundle:
        for name, content in members.items():
            # Dates of the zip format begin in 1980; the same model makes the same archive.
            bundle.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return {name: len(content) for name, content in members.items()}


def require_files(paths: Iterable[Path]) -> None:
    """Raise PackError unless all of them are files."""
    for path in paths:
        if not path.is_file():
            raise PackError(f"{path}: no such file: it cannot be packed")


def _name(source: Path) -> str:
    # Links too are packed as what they lead to, under a name that the checkpoint had in its directory.
    here, there = Path.cwd(), Path(os.path.abspath(source))
    return str(there.relative_to(here) if there.is_relative_to(here) else Path(_OUTSIDE) / there.name)


def _stripped(source: Path, names: Mapping[Path, str]) -> bytes:
    config = yaml.safe_load(source.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise PackError(f"{source}: is no configuration: a mapping is expected")
    for key in _OF_THE_TRAINING:
        if key in config:
            config[key] = type(config[key])() if isinstance(config[key], (list, dict)) else None
    packed = {os.path.abspath(file): name for file, name in names.items()}
    config = _renamed(config, packed)
    if (fault := _private_in_config(config, set(names.values()))) is not None:
        raise PackError(f"{source}: {fault}")
    stream = io.StringIO()
    yaml.safe_dump(config, stream, sort_keys=False, allow_unicode=True)
    return stream.getvalue().encode()


def student_weights(checkpoint: Path) -> bytes:
    """Return a file of the weights without those that only distillation needs, the very same where there are none; raises PackError."""
    import torch

    from espnet2_kd.asr.load import TRAINING_ONLY, ExperimentError, read_weights

    try:
        state = read_weights(checkpoint)
    except ExperimentError as error:
        raise PackError(str(error)) from error
    kept = {key: value for key, value in state.items() if not key.startswith(TRAINING_ONLY)}
    if len(kept) == len(state):
        return checkpoint.read_bytes()
    stream = io.BytesIO()
    torch.save(kept, stream)
    return stream.getvalue()


def _renamed(value: Any, packed: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(one, packed) for key, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, packed) for one in value]
    if isinstance(value, str) and "/" in value:
        return packed.get(os.path.abspath(value), value)
    return value


def _words(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _words(one, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for one in value:
            yield from _words(one, where)
    elif isinstance(value, str):
        yield where, value


def _tells(word: str) -> str | None:
    if _ABSOLUTE.search(word):
        return "is a place on this machine"
    for kind, name in (("its user", _user()), ("its name", socket.gethostname())):
        # Short ones, and a word that is nothing else, may mean anything.
        if len(name) > 2 and word != name and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", word):
            return f"tells of this machine {kind}"
    return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return ""


def private_in(name: str, content: bytes, members: Collection[str] = ()) -> str | None:
    """Say what a member of a pack tells of this machine and what to do about it, None where it tells nothing.

    Looked at: every value of a configuration, every word of a text, and in whatever file the paths of the working and the
    home directory.

    members: names of all members, which configurations may give.
    """
    for place in _places():
        if place.encode() in content:
            return f"holds the path {place} of this machine: make the file again with relative paths"
    suffix = Path(name).suffix
    if suffix in (".yaml", ".yml"):
        return _private_in_config(parse_yaml(content.decode("utf-8", errors="replace"), name), members)
    if suffix in (".md", ".txt", ".json") and Path(name).name not in _VOCABULARIES:
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
            for word in line.split():
                if (fault := _tells_in_text(word.strip("\"'`()[]<>,;"))) is not None:
                    return f"line {number}: {word!r} {fault}: write it without"
    return None


def _private_in_config(config: Any, members: Collection[str]) -> str | None:
    if isinstance(config, dict):
        config = {key: value for key, value in config.items() if key not in _TEXT}
    for where, word in _words(config):
        if word not in members and (fault := _tells(word)):
            return (
                f"{where}: {word!r} {fault}: give a path below the recipe's directory, or pack the file too (--option)"
            )
    return None


def _tells_in_text(word: str) -> str | None:
    if _ABSOLUTE.search(word):
        return "is a place on this machine"
    names = {name for name in (_user(), socket.gethostname()) if len(name) > 1}
    if any(word.startswith(f"{name}@") or word.endswith(f"@{name}") for name in names):
        return "tells of this machine and its user"
    return None


def _tokenizer_files(folder: Path) -> list[Path]:
    files = [path for path in sorted(folder.iterdir()) if path.name in _TOKENIZER] if folder.is_dir() else []
    if not files:
        raise PackError(f"{folder}: no folder with the files of a Hugging Face tokenizer")
    return files


def _source_of(member: str, names: Mapping[Path, str]) -> str:
    return next((str(source) for source, name in names.items() if name == member), member)


def _places() -> Iterable[str]:
    # Fewer letters may stand among numbers by chance.
    return {place for place in (str(Path.cwd()), str(Path.home())) if len(place) > 5}
