"""How much the settings of path.sh and asr_train speed up training on a CPU: one step of a trained model, with and without.

    python tools/bench/train_step.py --exp exp/asr_train_teacher_seed1 --data_dir dump/raw/valid --token_dir data/token_list/bpe_unigram100

Each setting runs in processes of its own, in turn, since an allocator is chosen when a process starts.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time

from timing import ALLOCATORS

HOT = ALLOCATORS["hot"]
HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "THP_MEM_ALLOC_ENABLE": "1"}
FLUSH = {"BENCH_FLUSH_DENORMAL": "1"}
SETTINGS = {
    "as the system has it": {},
    "freed memory kept": HOT,
    "huge pages": HUGE,
    "both": {**HOT, **HUGE},
    "both, denormals flushed": {**HOT, **HUGE, **FLUSH},
}


def measure(args: argparse.Namespace) -> None:
    """Print the median seconds of a step: forward, backward, clipping, AdamW."""
    import torch

    from espnet2_kd.asr.load import load_model
    from espnet2_kd.asr.utterances import Utterances
    from espnet2_kd.data.token_list import TokenSet

    torch.set_num_threads(1)
    torch.set_flush_denormal("BENCH_FLUSH_DENORMAL" in os.environ)
    model, _ = load_model(args.exp, args.checkpoint)
    text2tokens = TokenSet.load(args.token_dir).tokenizer.text2tokens
    numbers = {token: number for number, token in enumerate(model.token_list)}
    utterances = Utterances(args.data_dir, args.fs)
    batches = utterances.batches(args.batch_seconds)
    batches = random.Random(0).sample(batches, min(args.num_batches, len(batches)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    model.train()
    times = []
    for batch in [*batches[:2], *batches]:
        speech = [torch.from_numpy(utterances.read(utt)) for utt in batch]
        text = [torch.tensor([numbers.get(token, 1) for token in text2tokens(utterances.text(utt))]) for utt in batch]
        data = {}
        for name, rows, padding in (("speech", speech, 0.0), ("text", text, -1)):
            data[name] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
            data[f"{name}_lengths"] = torch.tensor([len(row) for row in rows])
        start = time.perf_counter()
        optimizer.zero_grad()
        model(**data)[0].sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        times.append(time.perf_counter() - start)
    print(statistics.median(times[2:]))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", required=True)
    parser.add_argument("--checkpoint", default="valid.loss_transducer.ave.pth")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--token_dir", required=True)
    parser.add_argument("--fs", type=int, default=16000)
    parser.add_argument("--batch_seconds", type=float, default=25.0)
    parser.add_argument("--num_batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args)
        return
    kept = {k: v for k, v in os.environ.items() if k not in {**HOT, **HUGE, **FLUSH}}
    seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for _ in range(args.rounds):
        for name, settings in SETTINGS.items():
            command = [sys.executable, *sys.argv, "--measure"]
            done = subprocess.run(command, env={**kept, **settings}, capture_output=True, text=True, check=True)
            seconds[name].append(float(done.stdout.split()[-1]))
            print(f"  {name}: {seconds[name][-1]:.3f} s", file=sys.stderr, flush=True)
    print(
        f"{args.exp}, {args.batch_seconds:g} s per step, {args.rounds} rounds; median of medians, ratio within a round"
    )
    first = next(iter(SETTINGS))
    for name, values in seconds.items():
        ratio = statistics.median(value / base for value, base in zip(values, seconds[first], strict=True))
        print(f"{name:<26} {statistics.median(values):>8.3f} s {ratio:>6.2f}")


if __name__ == "__main__":
    main()
