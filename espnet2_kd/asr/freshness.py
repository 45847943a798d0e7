"""Whether a decoding has to be done again: by what it was made of, not by dates."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from espnet2_kd.asr.model_pack import DECODING
from espnet2_kd.data.data_dir import AUDIO_SUM
from espnet2_kd.data.download import file_sha256
from espnet2_kd.data.parts import fingerprint
from espnet2_kd.data.table import replacing


def made_from(files: Iterable[Path], **options: Any) -> str:
    """Hash the content of files, whether they exist or not, and options that JSON can hold."""
    return fingerprint([file_sha256(path) if path.is_file() else None for path in files], options)


def decoding_made_from(exp: Path, model_file: str, config: Path | None, data_dir: Path, **options: Any) -> str:
    """As `made_from`, of the files that decide what a decoding gives; a name on the hub stands for itself."""
    model = [exp, exp / "config.yaml", exp / model_file, Path(model_file), config or exp / DECODING]
    tables = [data_dir / name for name in ("wav.scp", "segments", "text", AUDIO_SUM)]
    return made_from([*model, *tables], exp=None if exp.exists() else str(exp), **options)


def is_done(outputs: Iterable[Path], key: str) -> bool:
    """Whether every output exists, and `note_done` said so of this key."""
    outputs = list(outputs)
    note = _note(outputs)
    return all(path.is_file() for path in (*outputs, note)) and note.read_text() == key


def note_done(outputs: Iterable[Path], key: str) -> None:
    """Say, after the last of them was written, what the outputs were made of."""
    with replacing(_note(list(outputs))) as stream:
        stream.write(key)


def _note(outputs: list[Path]) -> Path:
    return outputs[0].parent / f".{outputs[0].name}_made_from"
