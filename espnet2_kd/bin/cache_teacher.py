"""Runs a student's teacher over its speech once and keeps what it says, so that training need not run it."""

from __future__ import annotations

import argparse
import fcntl
import sys
from pathlib import Path
from typing import Any

from espnet2_kd.bin.command import one_line_errors, rate


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--config", required=True, type=Path, help="the student's configuration: teacher and kd_terms")
    parser.add_argument(
        "--teacher_exp", help="experiment of an espnet teacher, where the configuration does not name it"
    )
    parser.add_argument(
        "--data_dir", required=True, type=Path, nargs="+", help="formatted speech; needs no transcripts"
    )
    parser.add_argument(
        "--cache_dir", required=True, type=Path, help="where the features go, a folder per teacher and taps"
    )
    parser.add_argument("--dtype", default="float16", choices=("float16", "float32"), help="precision on disk")
    parser.add_argument("--fs", type=rate, default=16000, help="sampling rate of the speech, such as 16k")
    parser.add_argument(
        "--shard_utts", type=int, default=500, help="utterances in a file; a killed run loses at most as many"
    )
    parser.add_argument("--batch_seconds", type=float, default=120.0, help="audio in a padded batch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--num_threads", type=int, default=0, help="CPU threads, 0 leaves it to torch")
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
    if kind is None:
        print(f"{args.config}: names no teacher, nothing to cache")
        return
    if args.teacher_exp:
        conf["exp"] = args.teacher_exp
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
    import torch

    from espnet2_kd.asr.utterances import Utterances
    from espnet2_kd.data.problems import DataError
    from espnet2_kd.kd.registry import ConfigError
    from espnet2_kd.kd.teachers import TEACHERS
    from espnet2_kd.kd.teachers.cached import FeatureCache, made_by, probe_ids

    store = FeatureCache(args.cache_dir, made_by(kind, conf, terms))
    if damaged := store.damaged(thorough=True):
        print(f"{store.folder}: {', '.join(damaged)} missing or damaged, made again")
        store.drop(damaged)
    probes = probe_ids(2)
    sets = [Utterances(path, args.fs) for path in args.data_dir]
    todo = [{utt for utt in utterances.ids if utt not in store.where} for utterances in sets]
    changed = [
        f"{utt} of {utterances.data.path}"
        for utterances in sets
        for utt in utterances.ids
        if utt in store.where and store.num_samples(utt) != utterances.num_samples(utt)
    ]
    if changed:
        raise ConfigError(
            f"{store.folder}: {len(changed)} utterances have other audio now ({', '.join(changed[:3])}): remove the folder and "
            "cache again"
        )
    if any(todo) or not store.where.keys() >= set(probes):
        teacher = TEACHERS.build({kind: conf}, "teacher")
        teacher.model.to(args.device)
        for term in terms:
            term.teacher_attention = teacher.attention
        store.attention = dict(teacher.attention)
        teacher.watch({path for term in terms for path in term.teacher_taps().values()})
        keeper = _Keeper(teacher, store, getattr(torch, args.dtype), args)
        if not store.where.keys() >= set(probes):
            generator = torch.Generator().manual_seed(0)
            keeper.hear(probes, list(torch.randn(2, args.fs, generator=generator) * 0.1))
            keeper.write()
        for utterances, missing in zip(sets, todo, strict=True):
            keeper.hear_all(utterances, missing)
    if problems := [problem for utterances in sets for problem in utterances.problems]:
        raise DataError(problems)
    num_bytes = sum(shard["bytes"] for shard in store.shards.values())
    print(
        f"{store.folder}: {len(store.where) - len(probes)} utterances, {num_bytes / 1e6:.1f} MB in {len(store.shards)} shards"
    )


class _Keeper:
    """Collects what the teacher says until there is enough for a shard."""

    def __init__(self, teacher: Any, store: Any, dtype: Any, args: argparse.Namespace) -> None:
        self.teacher, self.store, self.dtype, self.args = teacher, store, dtype, args
        self.features: dict[str, dict[str, Any]] = {}
        self.num_samples: dict[str, int] = {}

    def hear_all(self, utterances: Any, missing: set[str]) -> None:
        import torch

        from espnet2_kd.data.progress import Progress

        with Progress(f"cache {utterances.data.path}", len(missing)) as progress:
            for batch in utterances.batches(self.args.batch_seconds) if missing else []:
                read = {utt: utterances.read(utt) for utt in batch if utt in missing}
                speech = {utt: torch.from_numpy(x) for utt, x in read.items() if x is not None}
                if not speech:
                    continue
                self.hear(list(speech), list(speech.values()))
                progress.step(len(read))
                if len(self.features) >= self.args.shard_utts:
                    self.write()
        self.write()

    def hear(self, utts: list[str], speech: list[Any]) -> None:
        import torch

        from espnet2_kd.kd.registry import ConfigError

        lens = torch.tensor([len(x) for x in speech])
        padded = torch.nn.utils.rnn.pad_sequence(speech, batch_first=True)
        batch = {"speech": padded.to(self.args.device), "speech_lengths": lens.to(self.args.device), "utt_id": utts}
        for path, seq in self.teacher.observe(batch, {}).items():
            for b, utt in enumerate(utts):
                x = seq.x[b, : seq.lens[b]].to("cpu", self.dtype)
                if not x.isfinite().all():
                    raise ConfigError(f"{utt}: {path} is not finite in {self.args.dtype}: use --dtype float32")
                # A copy: a view would keep the whole batch in memory.
                self.features.setdefault(utt, {})[path] = x.clone()
        self.num_samples.update(zip(utts, lens.tolist(), strict=True))

    def write(self) -> None:
        if self.features:
            self.store.add(self.features, self.num_samples)
        self.features, self.num_samples = {}, {}


if __name__ == "__main__":
    sys.exit(main())
