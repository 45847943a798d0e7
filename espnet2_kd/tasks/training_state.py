"""The state of a training on disk: whole or not there, the one before it kept, and read as numbers, not as a program."""

from __future__ import annotations

import datetime
import errno
import logging
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.train.reporter import Reporter

from espnet2_kd.data.damage import UNREADABLE
from espnet2_kd.data.download import file_sha256
from espnet2_kd.data.problems import first_line
from espnet2_kd.data.table import replacing
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.tasks.epoch_report import ContinuedReporter

STATE, PREVIOUS = "checkpoint.pth", "checkpoint.previous.pth"
# Beside tensors and Python's own types, what ESPnet2's reporter keeps.
REPORTED = (
    *(datetime.timedelta, np.dtype, np.ndarray, np._core.multiarray.scalar),
    *(np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType),
)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MIB = 2**20


class DiskFull(OSError):
    """There is no room for the state of a training; the message says how much it takes."""


@contextmanager
def whole_files() -> Iterator[None]:
    """Have `torch.save` write to a temporary neighbour, flush it to the disk and rename it, and keep the last state of a training.

    ESPnet2's trainer writes over what it would resume from: a run that is killed meanwhile could not go on. Where the disk is
    full, DiskFull is raised.
    """
    save = torch.save

    def save_whole(content: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(file, (str, os.PathLike)):
            save(content, file, *args, **kwargs)
            return
        path = Path(file)
        try:
            with replacing(path, "wb") as stream:
                save(content, stream, *args, **kwargs)
                stream.flush()
                os.fsync(stream.fileno())
                if path.name == STATE and path.exists():
                    _keep(path)
            sync_folder(path.parent)
        except (OSError, RuntimeError) as error:
            explained = _disk_full(error, path, content)
            if explained is None:
                raise
            raise explained from error

    torch.save = save_whole
    try:
        yield
    finally:
        torch.save = save


def sync_folder(folder: Path) -> None:
    """Have the disk know of names that were just given."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # file systems that cannot
        logging.debug("%s: %s", folder, error)
    finally:
        os.close(descriptor)


def _disk_full(error: BaseException, path: Path, content: Any) -> DiskFull | None:
    """What to say where the disk was full, which torch may hide behind an error of its own; None for anything else."""
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "errno", None) not in FULL:
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    return DiskFull(
        f"{path}: disk full: need {_size(content) / MIB:.1f} MiB, have {shutil.disk_usage(path.parent).free / MIB:.1f} MiB "
        f"({os.strerror(cause.errno)}). What was saved before is kept: make room, and the same command goes on"
    )


def _size(content: Any) -> int:
    if isinstance(content, torch.Tensor):
        return content.untyped_storage().nbytes()
    if isinstance(content, Mapping):
        return sum(_size(value) for value in content.values())
    return sum(_size(value) for value in content) if isinstance(content, (list, tuple)) else 0


def _keep(path: Path) -> None:
    """A second name for what is about to be replaced, so that there is a state at every moment."""
    link = path.with_name(f".{PREVIOUS}.{os.getpid()}.tmp")
    try:
        os.link(path, link)
        os.replace(link, path.with_name(PREVIOUS))
    except OSError as error:  # some file systems have no such links
        logging.warning("%s: the state before it is not kept: %s", path, error)


def read_state(path: Path, device: str) -> dict[str, Any]:
    """The state at `path`, or where that is damaged or missing, the one before it.

    Raises:
        ConfigError: neither can be read.
    """
    faults = []
    for candidate in (path, path.with_name(PREVIOUS)):
        try:
            with torch.serialization.safe_globals(REPORTED):
                # torch reads past wrong bytes; the archive has a checksum of each of its parts.
                with zipfile.ZipFile(candidate) as archive:
                    if part := archive.testzip():
                        raise zipfile.BadZipFile(f"{part} is not what was written")
                state = torch.load(candidate, map_location=device, weights_only=True)
        except UNREADABLE as error:
            faults.append(f"{candidate}: {first_line(error)}")
            continue
        if faults:
            logging.warning("%s; the state before it is taken", faults[0])
        return state
    raise ConfigError(
        f"{'; '.join(faults)}: neither can be read as the state of a training; move {path.parent} away to train anew"
    )


def require_weights(init_param: str, trusted: bool = False) -> None:
    """Raise ConfigError unless what `--init_param FILE[:FROM[:TO[:EXCEPT]]]` names can be read without executing it.

    trusted: execute it, then, but say so.
    """
    path = Path(init_param.split(":")[0])
    if not path.is_file():
        raise ConfigError(f"--init_param {path}: no such file")
    error = why_no_weights(path)
    if error is None:
        return
    if not trusted:
        raise ConfigError(
            f"--init_param {path}: holds more than weights, or is damaged; a model of which you know who made it is read with "
            f"--trust_init_param true, which executes whatever it says. {error}"
        )
    # Logging is not set up yet.
    print(
        f"--init_param {path} (SHA-256 {file_sha256(path)}): holds more than weights and is executed", file=sys.stderr
    )


def why_no_weights(path: Path) -> str | None:
    """What keeps a file of weights from being read without executing it, or None."""
    try:
        with torch.serialization.safe_globals(REPORTED):
            torch.load(path, map_location="meta", weights_only=True)
    except UNREADABLE as error:
        return first_line(error)
    return None


def resume(
    checkpoint: Path,
    model: torch.nn.Module,
    reporter: ContinuedReporter,
    optimizers: Sequence[torch.optim.Optimizer],
    schedulers: Sequence[Any],
    scaler: Any,
    ngpu: int = 0,
    strict: bool = True,
) -> None:
    """Go on where the state at `checkpoint` was written; what a killed run left half-done is mended.

    Raises:
        ConfigError: no state can be read, or the weights of an epoch cannot, which are averaged by a program that would execute
            whatever they say.
    """
    for weights in sorted(checkpoint.parent.glob("*epoch.pth")):
        if fault := why_no_weights(weights):
            raise ConfigError(f"{weights}: holds more than weights, or is damaged: restore it, or train anew. {fault}")
    state = read_state(checkpoint, f"cuda:{torch.cuda.current_device()}" if ngpu > 0 else "cpu")
    model.load_state_dict(state["model"], strict=strict)
    reporter.load_state_dict(state["reporter"])
    # Frozen or absent parts are None on both sides.
    for part, own in (*zip(optimizers, state["optimizers"]), *zip(schedulers, state["schedulers"])):
        if part is not None:
            part.load_state_dict(own)
    if scaler is not None and state["scaler"] is not None:
        scaler.load_state_dict(state["scaler"])
    epoch = reporter.get_epoch()
    reporter.within = state.get("within")
    if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
        return
    for leftover in checkpoint.parent.glob(".*.pth.*.tmp"):
        leftover.unlink(missing_ok=True)
    if reporter.within is not None:
        batches = reporter.within["num_batches"]
        logging.info("Training goes on after batch %d of epoch %d, from %s", batches, epoch + 1, checkpoint)
        return
    weights = checkpoint.with_name(f"{epoch}epoch.pth")
    # They are written after the state, and averaging wants those of every good epoch.
    if epoch and not weights.exists():
        torch.save(state["model"], weights)
    logging.info("Training goes on after epoch %d, from %s", epoch, checkpoint)


def link_best(reporter: Reporter, folder: Path, criteria: Sequence[Sequence[str]]) -> None:
    """Let `latest.pth` and `<part>.<name>.best.pth` be what they say, also where a run was killed before it had set them.

    Args:
        criteria: part, name and `min` or `max`, as `best_model_criterion` has them.
    """
    epochs = {"latest": reporter.get_epoch()}
    for part, name, mode in criteria:
        if reporter.has(part, name):
            epochs[f"{part}.{name}.best"] = reporter.get_best_epoch(part, name, mode)
    for link, epoch in epochs.items():
        path, weights = folder / f"{link}.pth", f"{epoch}epoch.pth"
        if not (folder / weights).exists() or (path.is_symlink() and os.readlink(path) == weights):
            continue
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.symlink_to(weights)
        os.replace(temporary, path)
