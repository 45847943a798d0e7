"""Intents from speech, with distillation; data is `speech` and `label`, classes named `slot=value`.

`speech` may be slow frames that `bin.acoustic_frames` took beforehand. A teacher reads `text`, the transcript, and may want
`spans`, which says when its word pieces were spoken.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

# isort: split
import espnet2_kd.register  # noqa: F401  (before espnet2: it makes that import quick)

# isort: split
from espnet2.tasks import asr, cls
from espnet2.torch_utils.initialize import initialize
from espnet2.utils.types import str_or_none

from espnet2_kd.asr.load import find_model, read_config, read_weights, resolve_paths
from espnet2_kd.asr.remote_code import require_no_remote_code
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.slu.classifiers import GRUClassifier, TransformerClassifier
from espnet2_kd.slu.frames import ears_sum, require_plain_ears, require_same_ears
from espnet2_kd.slu.intent_model import IntentModel
from espnet2_kd.slu.sentence import SentenceReader
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
        group.add_argument("--acoustic_sum", type=str, default="", help="SHA-256 of it; filled in")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return (*super().optional_data_names(train, inference), "text", "spans")

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable | None:
        preprocess = super().build_preprocess_fn(args, train)
        if preprocess is None or getattr(args, "teacher", None) != "hf_sentence":
            return preprocess
        return ReadsText(preprocess, SentenceReader(args.teacher_conf["model"]))

    @classmethod
    def probe_batch(cls, model: IntentModel, args: argparse.Namespace) -> dict[str, torch.Tensor]:
        """Two seconds of noise that mean the first value of every slot, said in a few words."""
        labels = torch.tensor([[classes[0] for classes in model.slots.values()]] * 2)
        num = 6
        batch = {
            "speech": torch.randn(2, 32000, generator=torch.Generator().manual_seed(0)) * 0.1,
            "speech_lengths": torch.full((2,), 32000),
            "label": labels,
            "label_lengths": torch.full((2,), labels.shape[1]),
            "text": torch.arange(1, num + 1).expand(2, num),
            "text_lengths": torch.full((2,), num),
        }
        if any(name == "spans" for _, name, _ in args.train_data_path_and_name_and_type):
            edges = torch.arange(num).float()
            spans = torch.stack((edges, edges + 1), dim=1).expand(2, num, 2)
            batch |= {"spans": spans, "spans_lengths": batch["text_lengths"]}
        return batch

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


class ReadsText:
    """ESPnet2's preprocessing, and transcripts as ids of the teacher's word pieces."""

    def __init__(self, preprocess: Callable, reader: SentenceReader) -> None:
        self.preprocess, self.reader = preprocess, reader

    def __call__(self, uid: str, data: dict[str, Any]) -> dict[str, np.ndarray]:
        text = data.pop("text", None)
        data = self.preprocess(uid, data)
        if text is not None:
            data["text"] = self.reader.ids(text)
        return data


def _build(name: str, args: argparse.Namespace, **more: Any) -> torch.nn.Module | None:
    kind = getattr(args, name, None)
    if kind is None:
        return None
    return getattr(cls, f"{name}_choices").get_class(kind)(**more, **getattr(args, f"{name}_conf"))


def _take_over(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Put what a recogniser's configuration says of its acoustic parts into `args`; return its weights.

    Raises ConfigError for more than acoustic parts, and for frames that it has not heard.
    """
    config, checkpoint = find_model(args.acoustic_exp, args.acoustic_file)
    other = argparse.Namespace(**read_config(config))
    require_no_remote_code(vars(other), str(config))
    require_plain_ears(other, args.acoustic_exp)
    args.acoustic_sum = ears_sum(args.acoustic_exp, args.acoustic_file)
    for path, name, _ in (*args.train_data_path_and_name_and_type, *args.valid_data_path_and_name_and_type):
        if name == "speech":
            require_same_ears(Path(path).parent, args.acoustic_sum, args.model_conf.get("slow_rate", 1))
    resolve_paths(other, config.parent)
    for name in ("input_size", *ACOUSTIC, *(f"{name}_conf" for name in ACOUSTIC)):
        setattr(args, name, getattr(other, name, None))
    stats = (args.normalize_conf or {}).get("stats_file")
    if stats is not None and args.output_dir is not None:
        # Of its own, so that nothing is asked of the recogniser's directory any more.
        own = Path(args.output_dir) / "acoustic_stats.npz"
        own.parent.mkdir(parents=True, exist_ok=True)  # ESPnet2 makes it later
        shutil.copyfile(stats, own)
        args.normalize_conf["stats_file"] = str(own)
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
