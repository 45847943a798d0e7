"""Intents from speech, with distillation; data is `speech` and `label`, classes named `slot=value`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import yaml

# isort: split
import espnet2_kd.register  # noqa: F401  (before espnet2: it makes that import quick)

# isort: split
from espnet2.tasks import asr, cls
from espnet2.torch_utils.initialize import initialize
from espnet2.utils.types import str_or_none

from espnet2_kd.asr.load import find_model, read_weights, resolve_paths
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.slu.classifiers import GRUClassifier, TransformerClassifier
from espnet2_kd.slu.intent_model import IntentModel
from espnet2_kd.tasks.kd import with_kd

ACOUSTIC = ("frontend", "normalize", "preencoder", "encoder")

# Whatever recognisers have, an acoustic front-end may be.
for name in ACOUSTIC:
    getattr(cls, f"{name}_choices").classes.update(getattr(asr, f"{name}_choices").classes)
cls.decoder_choices.classes |= {"speech_transformer": TransformerClassifier, "gru": GRUClassifier}


class IntentTask(cls.CLSTask):
    """ESPnet2's classification task around our model."""

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_task_arguments(parser)
        group = parser.add_argument_group("Acoustic front-end")
        group.add_argument(
            "--acoustic_exp",
            type=str_or_none,
            default=None,
            help="Experiment of a recogniser, or its pack, whose front-end and encoder are taken over",
        )
        group.add_argument("--acoustic_file", type=str, default="valid.loss_transducer.ave.pth", help="Its checkpoint")

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> IntentModel:
        """Raises ConfigError for an acoustic model that has not got what its configuration says, and what its parts raise."""
        if isinstance(args.token_list, str):
            args.token_list = Path(args.token_list).read_text(encoding="utf-8").split()
        weights = _take_over(args) if args.acoustic_exp else None
        parts: dict[str, Any] = {}
        size = args.input_size
        if size is None:
            parts["frontend"] = _build("frontend", args)
            size = parts["frontend"].output_size()
        for name in ("specaug", "normalize"):
            parts[name] = _build(name, args)
        parts["preencoder"] = _build("preencoder", args)
        if parts["preencoder"] is not None:
            size = parts["preencoder"].output_size()
        parts["encoder"] = _build("encoder", args, input_size=size)
        num_classes = len([token for token in args.token_list if token != "<unk>"])
        parts["decoder"] = _build(
            "decoder", args, vocab_size=num_classes, encoder_output_size=parts["encoder"].output_size()
        )
        model = IntentModel(args.token_list, **{"frontend": None, **parts}, **args.model_conf)
        if args.init is not None:
            initialize(model, args.init)
        if weights is not None:
            _load(model, weights, args.acoustic_exp)
            # From here on the configuration says all, and the weights are the model's own.
            args.acoustic_exp = None
        return model


KDIntentTask = with_kd(IntentTask)


def _build(name: str, args: argparse.Namespace, **more: Any) -> torch.nn.Module | None:
    kind = getattr(args, name, None)
    if kind is None:
        return None
    return getattr(cls, f"{name}_choices").get_class(kind)(**more, **getattr(args, f"{name}_conf"))


def _take_over(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Put what a recogniser's configuration says of its acoustic parts into `args`; return its weights."""
    config, checkpoint = find_model(args.acoustic_exp, args.acoustic_file)
    other = argparse.Namespace(**yaml.safe_load(config.read_text(encoding="utf-8")))
    resolve_paths(other, config.parent)
    for name in ("input_size", *ACOUSTIC, *(f"{name}_conf" for name in ACOUSTIC)):
        setattr(args, name, getattr(other, name, None))
    return read_weights(checkpoint)


def _load(model: IntentModel, weights: dict[str, torch.Tensor], where: str) -> None:
    for name in ACOUSTIC:
        part = getattr(model, name)
        if part is None:
            continue
        mine = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
        try:
            part.load_state_dict(mine)
        except RuntimeError as error:
            raise ConfigError(f"acoustic_exp {where}: its {name} does not fit its configuration: {error}") from error
