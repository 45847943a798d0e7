"""Any trained student in one line, from an experiment, a pack, or the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from espnet2_kd.asr.decode_config import DecodeConfig
from espnet2_kd.asr.load import ExperimentError, read_config
from espnet2_kd.asr.model_pack import PackError, fetch, is_hub_name, is_pack, open_pack
from espnet2_kd.asr.recognizer import Recognizer
from espnet2_kd.tasks.intent_classifier import IntentClassifier


def from_pretrained(
    model: str | PathLike,
    *,
    model_file: str | None = None,
    decoding: str | PathLike | Mapping[str, Any] | DecodeConfig | None = None,
    device: str = "cpu",
    quantize: bool = False,
    revision: str | None = None,
) -> Recognizer | IntentClassifier:
    """Load a trained recogniser or classifier of intents.

        recognizer = from_pretrained("exp/asr_train_kd_aux_seed1")
        print(recognizer("speech.wav"))                  # also (samples, rate)
        with recognizer.stream() as session: ...         # see Session
        print(from_pretrained("user/name")("speech.wav"))  # {"intent": ("light_on", 0.98)} of a classifier

    model: an experiment directory, a pack (zip), its unpacked directory, or a name on the hub, which is asked where `HF_ENDPOINT`
        says, for the cache where `HF_HUB_OFFLINE` is set.
    model_file: checkpoint in an experiment; None: the average of the best epochs. A pack has one of its own.
    decoding: of recognisers: a YAML file of search and chunk settings, or the settings; None: those that the model was scored
        with, else greedy search.
    device: `cpu` or `cuda`.
    quantize: of streaming recognisers on the CPU: 8-bit linear layers in the encoder of streams.
    revision: of a name on the hub: branch, tag or commit.

    Raises:
        ExperimentError: nothing that can be loaded, as a line that says what to do.
        ConfigError: settings that do not fit the model; DataError: its tokenizer is missing.
    """
    where = Path(model).expanduser()
    if is_hub_name(where):
        try:
            where = fetch(str(model), revision)
        except PackError as error:
            raise ExperimentError(str(error)) from error
    elif revision is not None:
        raise ExperimentError(f"{model}: revision {revision}: only models on the hub have one: leave it out")
    config, checkpoint = _find(where, model_file)
    if "acoustic_exp" in read_config(config):
        for name, given in (("decoding", decoding is not None), ("quantize", quantize)):
            if given:
                raise ExperimentError(f"{model}: {name}: a classifier of intents has no use for it: leave it out")
        return IntentClassifier.from_pretrained(where, checkpoint, device)
    return Recognizer.load(where, checkpoint, _decoding(where, decoding), device, quantize)


def _find(where: Path, model_file: str | None) -> tuple[Path, str]:
    """The configuration and the name of the checkpoint, which a pack knows itself."""
    if is_pack(where):
        try:
            config, checkpoint = open_pack(where)
        except PackError as error:
            raise ExperimentError(str(error)) from error
        return config, checkpoint.name
    config = where / "config.yaml"
    if not config.is_file():
        what = "no such file or directory" if not where.exists() else "neither an experiment nor a packed model"
        raise ExperimentError(f"{where}: {what}: give an experiment directory, a zip of it, or user/name on the hub")
    return config, model_file or best_checkpoint(where)


def best_checkpoint(exp: Path) -> str:
    """The name of the averaged checkpoint that `best_model_criterion` of the configuration asks for; raises ExperimentError."""
    criteria = read_config(exp / "config.yaml").get("best_model_criterion") or []
    names = [f"{phase}.{metric}.ave.pth" for phase, metric, *_ in criteria]
    found = [name for name in names if (exp / name).is_file()]
    found += sorted(path.name for path in exp.glob("valid.*.ave.pth"))
    if not found:
        raise ExperimentError(
            f"{exp}: no valid.*.ave.pth: has its training come to its end? An epoch's file can be had by name (model_file)"
        )
    return found[0]


def _decoding(where: Path, given: str | PathLike | Mapping[str, Any] | DecodeConfig | None) -> DecodeConfig:
    if isinstance(given, DecodeConfig):
        return given
    if isinstance(given, Mapping):
        return DecodeConfig.of(given, "decoding")
    return DecodeConfig.for_model(where, given)
