"""Adds distillation to a stock ESPnet2 task; the only place that knows `AbsTask`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import torch
from espnet2.tasks.abs_task import AbsTask
from espnet2.text.token_id_converter import TokenIDConverter
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str2triple_str, str_or_none

from espnet2_kd.asr.remote_code import require_no_remote_code
from espnet2_kd.data.documents import parse_yaml
from espnet2_kd.data.problems import DataError
from espnet2_kd.data.table import read_table
from espnet2_kd.data.tokenizer import UNK
from espnet2_kd.kd.inheritance import inherit
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.student import compile_layers, distill, use_autocast
from espnet2_kd.kd.teachers import TEACHERS
from espnet2_kd.kd.teachers.cached import PROBE_SAMPLES, CachedTextTeacher, cached_teacher, why_not_cached
from espnet2_kd.kd.teachers.teacher import Teacher
from espnet2_kd.kd.term import parse_terms
from espnet2_kd.tasks.guarded import guarded
from espnet2_kd.tasks.trainer import PicturingTrainer
from espnet2_kd.tasks.unlabelled import check_unlabelled, mix_unlabelled, without_labels

# The data loader asks a task for its optional inputs before any config is read, so their names are fixed.
DUMPED_NAMES = tuple(f"teacher_{number}" for number in range(1, 33))


def yaml_list(text: str) -> list:
    """A YAML list given on the command line."""
    try:
        value = parse_yaml(text, "the value")
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error.problems[0])) from error
    if not isinstance(value, list):
        raise argparse.ArgumentTypeError(f"a YAML list is expected, not {text!r}")
    return value


def with_kd(task: type[AbsTask]) -> type[AbsTask]:
    """Subclass of an ESPnet2 task whose students can be distilled; without `kd_terms` it behaves as the stock task."""

    class KDTask(task):
        trainer = PicturingTrainer
        num_parameters: int | None = None

        @classmethod
        def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
            super().add_task_arguments(parser)
            group = parser.add_argument_group("Knowledge distillation")
            group.add_argument("--teacher", type=str_or_none, default=None, help=f"One of {sorted(TEACHERS.classes)}")
            group.add_argument("--teacher_conf", action=NestedDictAction, default={}, help="The teacher's keywords")
            group.add_argument(
                "--teacher_cache",
                type=str_or_none,
                default=None,
                help="Where the teacher's features were cached (espnet2_kd.bin.cache_teacher): it need not run any more",
            )
            group.add_argument(
                "--teacher_init",
                type=yaml_list,
                default=[],
                help="Parts that start with the weights of an espnet teacher, e.g. '[decoder, joint_network.lin_out]'",
            )
            group.add_argument("--kd_terms", type=yaml_list, default=[], help="List of distillation terms")
            group.add_argument(
                "--unlabelled_data_path_and_name_and_type",
                type=str2triple_str,
                action="append",
                default=[],
                help="Speech without labels, e.g. dump/raw/unlabelled/wav.scp,speech,sound",
            )
            group.add_argument(
                "--unlabelled_shape_file",
                type=str,
                action="append",
                default=[],
                help="Its lengths, e.g. dump/raw/unlabelled/utt2num_samples",
            )
            group.add_argument(
                "--unlabelled_ratio",
                type=float,
                default=0.0,
                help="How much unlabelled speech comes with a labelled batch, in what batch_type counts: 1.0 is as much again",
            )
            group.add_argument(
                "--pseudo_labels",
                type=float,
                default=None,
                help="Asks run.sh to add speech that the teacher transcribed, where it is this sure of a token (0 to 1)",
            )
            group.add_argument(
                "--autocast",
                type=str_or_none,
                default=None,
                help="bfloat16: run the forward pass under autocast, on a GPU or a CPU",
            )
            group.add_argument(
                "--compile",
                type=str_or_none,
                default=None,
                help="inductor or another backend of torch.compile: translate the layers of the encoder, but those with a tap inside",
            )

        @classmethod
        def build_model(cls, args: argparse.Namespace):
            require_no_remote_code(vars(args), getattr(args, "config", None) or "options")
            model = super().build_model(args)
            # Before any head is added: this is the size of what inference loads.
            cls.num_parameters = sum(p.numel() for p in model.parameters())
            if args.collect_stats:
                return model
            check_unlabelled(args)
            if args.autocast:
                use_autocast(model, args.autocast)
            if args.teacher_init:
                inherit(model, teacher_model(args), args.teacher_init)
            if args.kd_terms:
                if args.teacher is None:
                    raise ConfigError(
                        "kd_terms are given but no teacher; set `teacher: espnet` and `teacher_conf: {exp: ...}`"
                    )
                teacher = cls.build_teacher(args)
                probe = cls.probe_batch(model, args)
                unlabelled = without_labels(probe, args) if args.unlabelled_ratio else None
                distill(model, teacher, args.kd_terms, probe, unlabelled)
            elif args.teacher is not None and not args.teacher_init:
                raise ConfigError("a teacher is given but no kd_terms; list what to distil, or remove the teacher")
            if getattr(args, "compile", None):  # configurations of earlier versions have not got it
                compile_layers(model, args.compile)
            return model

        @classmethod
        def probe_batch(cls, model: torch.nn.Module, args: argparse.Namespace) -> dict[str, Any]:
            """Two short utterances, enough to run every part of student and teacher once."""
            of_task = getattr(super(), "probe_batch", probe_batch)
            return of_task(model, args)

        @classmethod
        def build_preprocess_fn(cls, args: argparse.Namespace, train: bool):
            preprocess = super().build_preprocess_fn(args, train)
            if preprocess is not None and args.token_type == "hugging_face" and UNK in _tokens(args.token_list):
                # ESPnet2 would number word pieces as the tokenizer does, whatever the token list says.
                preprocess.token_id_converter = TokenIDConverter(args.token_list, unk_symbol=UNK)
            return preprocess

        @classmethod
        def build_teacher(cls, args: argparse.Namespace) -> Teacher:
            if not args.teacher_cache:
                return TEACHERS.build({args.teacher: args.teacher_conf}, "teacher")
            terms = parse_terms(args.kd_terms)
            if reason := why_not_cached(args.teacher, args.teacher_conf, terms):
                logging.warning("The teacher is not cached, %s: it runs with the student", reason)
                return TEACHERS.build({args.teacher: args.teacher_conf}, "teacher")
            cached = cached_teacher(args.teacher_cache, args.teacher, args.teacher_conf, terms, args.token_list)
            if isinstance(cached, CachedTextTeacher):
                cls.require_texts(cached, args)
                return cached
            for files in (args.train_shape_file, args.valid_shape_file, args.unlabelled_shape_file):
                if files:
                    cached.require({utt: utt for utt in read_table(files[0])}, files[0])
            return cached

        @classmethod
        def require_texts(cls, cached: CachedTextTeacher, args: argparse.Namespace) -> None:
            """Raise ConfigError unless every transcript is in the cache, read as the student will read it."""
            preprocess = cls.build_preprocess_fn(args, train=False)
            for path, name, kind in (
                *args.train_data_path_and_name_and_type,
                *args.valid_data_path_and_name_and_type,
            ):
                if (name, kind) == ("text", "text") and preprocess is not None:
                    texts = read_table(path)
                    keys = {line: cached.key(preprocess("", {"text": line})["text"]) for line in set(texts.values())}
                    cached.require({utt: keys[line] for utt, line in texts.items()}, path)

        @classmethod
        def build_iter_factory(
            cls, args: argparse.Namespace, distributed_option, mode: str, kwargs: dict | None = None
        ):
            factory = super().build_iter_factory(args, distributed_option, mode, kwargs)
            if mode != "train" or not args.unlabelled_ratio:
                return factory
            return mix_unlabelled(cls, factory, args, distributed_option)

        @classmethod
        def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
            return (*super().optional_data_names(train, inference), *DUMPED_NAMES)

    KDTask.__name__ = KDTask.__qualname__ = f"KD{task.__name__}"
    return guarded(KDTask)


def _tokens(token_list: str | list[str]) -> list[str]:
    if isinstance(token_list, str):
        return Path(token_list).read_text(encoding="utf-8").splitlines()
    return list(token_list)


def teacher_model(args: argparse.Namespace) -> torch.nn.Module:
    """The model that `teacher_init` takes weights from."""
    if args.teacher != "espnet":
        raise ConfigError(f"teacher_init takes weights from an espnet teacher, not from {args.teacher}")
    return TEACHERS.build({args.teacher: args.teacher_conf}, "teacher").model


def probe_batch(model: torch.nn.Module, args: argparse.Namespace) -> dict[str, Any]:
    """Two short utterances of noise with labels, enough to run every part of a speech-to-text model once.

    Dumped teacher features are stood in for by zeros of the student's frame count; their width comes from the first entry.
    """
    generator = torch.Generator().manual_seed(0)
    input_size = getattr(args, "input_size", None)
    shape = (2, PROBE_SAMPLES) if input_size is None else (2, 100, input_size)
    batch = {
        "speech": torch.randn(shape, generator=generator) * 0.1,
        "speech_lengths": torch.full((2,), shape[1]),
        "text": torch.full((2, 2), model.vocab_size - 2),
        "text_lengths": torch.full((2,), 2),
    }
    if args.teacher == "dumped":
        batch.update(_dumped_probe(model, args, batch))
    return batch


def _dumped_probe(model: torch.nn.Module, args: argparse.Namespace, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    from espnet2_kd.data.kaldi_ark import first_matrix

    was_training = model.training
    model.eval()
    with torch.no_grad(), torch.random.fork_rng():
        lens = model.encode(batch["speech"], batch["speech_lengths"])[1]
    model.train(was_training)
    paths = {name: path for path, name, _ in args.train_data_path_and_name_and_type}
    features = {}
    for name in args.teacher_conf.get("taps", {}).values():
        if name not in paths:
            raise ConfigError(f"teacher dumped: no {name!r} among --train_data_path_and_name_and_type")
        width = first_matrix(paths[name])[1].shape[-1]
        features[name] = torch.zeros(2, int(lens.max()), width)
        features[f"{name}_lengths"] = lens
    return features
