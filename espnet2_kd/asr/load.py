"""Loading a trained experiment."""

import argparse
import importlib
import inspect
import logging
import os
from pathlib import Path
from typing import Any

import torch

import espnet2_kd.register  # noqa: F401  (makes our encoder and loss known to the task that builds the model)
from espnet2_kd.asr.model_pack import PackError, is_pack, open_pack
from espnet2_kd.asr.remote_code import require_no_remote_code
from espnet2_kd.data.damage import UNREADABLE
from espnet2_kd.data.documents import read_yaml
from espnet2_kd.data.problems import DataError, first_line
from espnet2_kd.kd.registry import ConfigError

# What building a model of a wrong configuration raises, or reading a file that it names.
WRONG_CONFIG = (
    TypeError,
    ValueError,
    KeyError,
    AttributeError,
    RuntimeError,
    AssertionError,
    OSError,
    ImportError,
    EOFError,
)
# Training-only parameters of distillation live under this name; see kd/student.py.
TRAINING_ONLY = "kd."
PATH_OPTIONS = ("token_list", "bpemodel", "non_linguistic_symbols")
PATH_CONF_KEYS = {"normalize_conf": ("stats_file",)}


class ExperimentError(ValueError):
    """An experiment that cannot be used; the message names the file and what to do."""


def load_model(
    exp: str | Path,
    model_file: str | Path,
    device: str | torch.device = "cpu",
    task: str | type = "asr",
    heads: bool = False,
) -> tuple[torch.nn.Module, argparse.Namespace]:
    """Build the model of an ESPnet2 experiment, load its weights, and return it in evaluation mode with its options.

    Unlike ``build_model_from_file`` nothing in the checkpoint is executed and no weight may be missing or left over,
    except those of distillation heads. Relative paths in the configuration are taken from the directory that contains
    ``exp/``, or else from here.

    Args:
        exp: experiment directory with ``config.yaml``, or a packed model, see `model_pack`.
        model_file: checkpoint, a name in ``exp`` or a path; a packed model has one of its own.
        device: where the model goes.
        task: module name under ``espnet2.tasks``, or the task itself.
        heads: the weights of distillation heads are wanted too, so the task must build them.

    Raises:
        ExperimentError: no configuration or checkpoint, or no file that the configuration names; it builds no model, or the
            checkpoint does not hold exactly this model's weights; the device cannot be used.
        ConfigError: the configuration asks for code of a model's repository.
    """
    config, checkpoint = find_model(exp, model_file)
    args = argparse.Namespace(**read_config(config))
    require_no_remote_code(vars(args), str(config))
    resolve_paths(args, config.parent)
    try:
        model = (_task_class(task) if isinstance(task, str) else task).build_model(args)
    except WRONG_CONFIG as error:
        if isinstance(error, (ConfigError, ExperimentError)):
            raise
        logging.debug("%s", config, exc_info=True)
        raise ExperimentError(f"{config}: builds no model ({type(error).__name__}: {first_line(error)})") from error
    state = read_weights(checkpoint)
    if not heads:
        state = {key: value for key, value in state.items() if not key.startswith(TRAINING_ONLY)}
    _require_equal_keys(model.state_dict(), state, checkpoint)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        wrong = [line.strip() for line in str(error).splitlines()[1:]]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ExperimentError(f"{checkpoint}: does not fit the model of {config}: {wrong[0]}{more}") from error
    try:
        return model.to(device).eval(), args
    except (RuntimeError, AssertionError) as error:
        raise ExperimentError(f"device {device} cannot be used: {first_line(error)}") from error


def read_config(path: Path) -> dict[str, Any]:
    """Read the `config.yaml` of an experiment; raises ``ExperimentError``."""
    try:
        config = read_yaml(path)
    except DataError as error:
        raise ExperimentError(f"{first_line(error)}, or do not use this model") from error
    if not isinstance(config, dict):
        raise ExperimentError(f"{path}: is no configuration: a mapping is expected")
    return config


def find_model(exp: str | Path, model_file: str | Path) -> tuple[Path, Path]:
    """Return the configuration and the checkpoint that `load_model` reads; raises ``ExperimentError``."""
    exp = Path(exp)
    if not is_pack(exp):
        return _find(exp, "config.yaml"), _find(exp, model_file)
    try:
        return open_pack(exp)
    except PackError as error:
        raise ExperimentError(str(error)) from error


def sample_rate(args: argparse.Namespace) -> int:
    """Return the sampling rate in Hz that the frontend was configured for."""
    rate = (args.frontend_conf or {}).get("fs", 16000)
    return int(float(rate[:-1]) * 1000) if isinstance(rate, str) and rate.endswith("k") else int(rate)


def _find(exp: Path, name: str | Path) -> Path:
    for path in (exp / name, Path(name)):
        if os.path.isfile(path):
            return path
    if not exp.is_dir():
        raise ExperimentError(f"{exp}: no such experiment directory")
    kind = Path(name).suffix or Path(name).name
    there = sorted(path.name for path in exp.iterdir() if path.suffix == kind)
    raise ExperimentError(f"{exp / name}: not found; *{kind} files there: {', '.join(there) or 'none'}")


def resolve_paths(args: argparse.Namespace, exp: Path) -> None:
    """Let the files that a configuration names be found, from the directory that contains `exp/` or else from here."""
    holder = vars(args)
    for name in PATH_OPTIONS:
        if isinstance(holder.get(name), str):
            holder[name] = _resolve(holder[name], exp, name)
    for conf, keys in PATH_CONF_KEYS.items():
        for key in keys:
            if isinstance((holder.get(conf) or {}).get(key), str):
                holder[conf][key] = _resolve(holder[conf][key], exp, f"{conf}.{key}")


def _resolve(value: str, exp: Path, option: str) -> str:
    # Token types that need no file put a word there, such as the name of a pretrained tokenizer.
    is_path = "/" in value or Path(value).suffix != ""
    if not is_path:
        return value
    # From the experiment first: a recipe that uses another's teacher may have files of the same names.
    for parent in exp.resolve().parents:
        if os.path.exists(parent / value):
            return str(parent / value)
    if os.path.exists(value):
        return value
    if option == "bpemodel":
        return value
    raise ExperimentError(f"{exp / 'config.yaml'}: {option}: {value}: not found from here nor above the experiment")


def _task_class(task: str) -> type:
    module = importlib.import_module(f"espnet2.tasks.{task}")
    name = f"{task.replace('_', '')}task"
    for attribute, value in vars(module).items():
        if attribute.lower() == name and inspect.isclass(value):
            return value
    raise ExperimentError(f"espnet2.tasks.{task} has no class {name.upper()}")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint, those of distillation heads too; raises ``ExperimentError``."""
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise ExperimentError(
            f"{path}: is damaged or holds more than weights (a training state such as checkpoint.pth?): "
            f"choose an averaged or epoch file ({first_line(error)})"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ExperimentError(f"{path}: is not a file of weights: choose an averaged or epoch file")
    return state


def _some(names: list[str]) -> str:
    return (", ".join(names[:3]) or "none") + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _require_equal_keys(expected: dict[str, Any], found: dict[str, Any], path: Path) -> None:
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unexpected:
        raise ExperimentError(
            f"{path}: does not fit the model of its config.yaml: "
            f"missing {_some(missing)}; unexpected {_some(unexpected)}"
        )
