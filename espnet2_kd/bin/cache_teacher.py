"""Runs a student's teacher over its speech, or its transcripts, once and keeps what it says, so that training need not run it."""

from __future__ import annotations

import argparse
import fcntl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet2_kd.bin.command import SECONDS, number, one_line_errors, rate

if TYPE_CHECKING:
    from torch import Tensor

    from espnet2_kd.kd.teachers.feature_cache import FeatureCache
    from espnet2_kd.kd.teachers.teacher import Teacher
    from espnet2_kd.tasks.cache_inputs import CacheInput


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--config", required=True, type=Path, help="the student's configuration: teacher and kd_terms")
    parser.add_argument(
        "--teacher_exp", help="experiment of an espnet teacher, where the configuration does not name it"
    )
    parser.add_argument("--teacher_file", help="its checkpoint, where the configuration does not name it")
    parser.add_argument(
        "--data_dir", required=True, type=Path, nargs="+", help="formatted speech; transcripts only matter to hf_text"
    )
    parser.add_argument("--token_dir", type=Path, help="the student's token list, in which hf_text reads transcripts")
    parser.add_argument(
        "--cache_dir", required=True, type=Path, help="where the features go, a folder per teacher and taps"
    )
    parser.add_argument("--dtype", default="float16", choices=("float16", "float32"), help="precision on disk")
    parser.add_argument("--fs", type=rate, default=16000, help="sampling rate of the speech, such as 16k")
    parser.add_argument(
        "--shard_utts", type=number(), default=500, help="utterances in a file; a killed run loses at most as many"
    )
    parser.add_argument("--batch_seconds", type=SECONDS, default=120.0, help="audio in a padded batch")
    parser.add_argument("--batch_units", type=number(), default=4096, help="labels in a padded batch of transcripts")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--num_threads", type=number(0), default=0, help="CPU threads, 0 leaves it to torch")
    return parser


def main(cmd: list[str] | None = None) -> int:
    return one_line_errors(cache, get_parser().parse_args(cmd))


def cache(args: argparse.Namespace) -> None:
    """Keep the features that are missing; raises ConfigError, DataError or ExperimentError."""
    import torch

    from espnet2_kd.kd.registry import ConfigError
    from espnet2_kd.kd.teachers.cached import why_not_cached
    from espnet2_kd.kd.term import parse_terms
    from espnet2_kd.tasks.config import load_config

    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    try:
        config = load_config(args.config)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    kind, conf = config.get("teacher"), dict(config.get("teacher_conf") or {})
    if kind is None or not config.get("kd_terms"):
        print(f"{args.config}: no terms with a teacher, nothing to cache")
        return
    if args.teacher_exp and kind == "espnet":
        conf["exp"] = args.teacher_exp
        if args.teacher_file:
            conf.setdefault("checkpoint", args.teacher_file)
    terms = parse_terms(config.get("kd_terms") or [])
    if reason := why_not_cached(kind, conf, terms):
        print(f"{args.config}: not cached, {reason}; the teacher will run with the student")
        return
    args.cache_dir.mkdir(parents=True, exist_ok=True)
    with (args.cache_dir / ".lock").open("w") as lock:
        # Students that train side by side share a teacher: the second one finds everything made.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _fill(args, kind, conf, terms)


def _fill(args: argparse.Namespace, kind: str, conf: dict[str, Any], terms: list[Any]) -> None:
    from espnet2_kd.data.problems import DataError
    from espnet2_kd.kd.registry import ConfigError
    from espnet2_kd.kd.teachers import TEACHERS
    from espnet2_kd.kd.teachers.cached import made_by
    from espnet2_kd.kd.teachers.feature_cache import FeatureCache

    token_list, inputs = _inputs(args, kind)
    store = FeatureCache(args.cache_dir, made_by(kind, conf, terms, token_list))
    if damaged := store.damaged(thorough=True):
        print(f"{store.folder}: {', '.join(damaged)} missing or damaged, made again")
        store.drop(damaged)
    changed = [
        f"{entry} of {part.name}"
        for part in inputs
        for entry in part.entries
        if entry in store.where and store.size(entry) != part.size(entry)
    ]
    if changed:
        raise ConfigError(
            f"{store.folder}: {len(changed)} utterances have other audio now ({', '.join(changed[:3])}): remove the folder and "
            "cache again"
        )
    if any(entry not in store.where for part in inputs for entry in part.entries):
        teacher = TEACHERS.build({kind: conf}, "teacher")
        teacher.model.to(args.device)
        if token_list:
            teacher.use_tokens(token_list)
        for term in terms:
            term.teacher_attention = teacher.attention
        store.attention = dict(teacher.attention)
        teacher.watch({path for term in terms for path in term.teacher_taps().values()})
        for part in inputs:
            _Keeper(teacher, store, args).observe_all(part)
    if problems := [problem for part in inputs for problem in part.problems]:
        raise DataError(problems)
    num_bytes = sum(shard["bytes"] for shard in store.shards.values())
    num = len(store.where.keys() - set(inputs[0].entries))
    what = "texts" if token_list else "utterances"
    print(f"{store.folder}: {num} {what}, {num_bytes / 1e6:.1f} MB in {len(store.shards)} shards")


def _inputs(args: argparse.Namespace, kind: str) -> tuple[list[str], list[CacheInput]]:
    """The student's tokens, where the teacher reads them, and what it observes: first what a model is built with."""
    from espnet2_kd.data.tokenizer import TokenSet
    from espnet2_kd.kd.registry import ConfigError
    from espnet2_kd.kd.teachers import TEACHERS
    from espnet2_kd.tasks.cache_inputs import NoiseInput, SpeechInput, TextInput

    if TEACHERS.classes[kind].reads != "text":
        return [], [NoiseInput(), *(SpeechInput(path, args.fs, args.batch_seconds) for path in args.data_dir)]
    if not args.token_dir:
        raise ConfigError(
            f"teacher {kind} reads the student's labels: give its token list, --token_dir data/token_list/..."
        )
    tokens = TokenSet.load(args.token_dir)
    texts = [TextInput.read(path, tokens, args.batch_units) for path in args.data_dir]
    return tokens.tokens, [TextInput.probe(tokens), *texts]


class _Keeper:
    """Collects what the teacher says until there is enough for a shard."""

    def __init__(self, teacher: Teacher, store: FeatureCache, args: argparse.Namespace) -> None:
        self.teacher, self.store, self.args = teacher, store, args
        self.features: dict[str, dict[str, Tensor]] = {}

    def observe_all(self, part: CacheInput) -> None:
        """Keep what is missing of a set."""
        from espnet2_kd.data.progress import Progress

        missing = [entry for entry in part.entries if entry not in self.store.where]
        with Progress(f"cache {part.name}", len(missing)) as progress:
            for entries, batch in part.batches(missing) if missing else []:
                self._observe(entries, batch)
                progress.step(len(entries))
                if len(self.features) >= self.args.shard_utts:
                    self._write(part)
        if self.features:
            self._write(part)

    def _observe(self, entries: list[str], batch: dict[str, Any]) -> None:
        import torch

        from espnet2_kd.kd.registry import ConfigError

        device, dtype = self.args.device, getattr(torch, self.args.dtype)
        batch = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
        for path, seq in self.teacher.observe(batch, {}).items():
            for b, entry in enumerate(entries):
                x = seq.x[b, : seq.lens[b]].to("cpu", dtype)
                if not x.isfinite().all():
                    utt = batch.get("utt_id", entries)[b]
                    raise ConfigError(f"{utt}: {path} is not finite in {self.args.dtype}: use --dtype float32")
                # A copy: a view would keep the whole batch in memory.
                self.features.setdefault(entry, {})[path] = x.clone()

    def _write(self, part: CacheInput) -> None:
        self.store.add(self.features, {entry: part.size(entry) for entry in self.features})
        self.features = {}


if __name__ == "__main__":
    sys.exit(main())
