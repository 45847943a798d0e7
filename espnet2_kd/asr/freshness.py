"""Whether a decoding has to be done again."""

from collections.abc import Iterable
from pathlib import Path

from espnet2_kd.asr.model_pack import DECODING


def is_fresh(outputs: Iterable[Path], inputs: Iterable[Path]) -> bool:
    """Whether every output exists and is newer than every input that exists."""
    outputs = list(outputs)
    if not all(path.is_file() for path in outputs):
        return False
    oldest = min(path.stat().st_mtime_ns for path in outputs)
    return all(path.stat().st_mtime_ns < oldest for path in inputs if path.exists())


def decoding_inputs(exp: Path, model_file: str, config: Path | None, data_dir: Path) -> list[Path]:
    """Return the files that decide what a decoding gives, whether they exist or not."""
    model = [exp / "config.yaml", exp / model_file, Path(model_file)]
    return [*model, config or exp / DECODING, *(data_dir / name for name in ("wav.scp", "segments", "text"))]
