"""Recipes made up here, with everything a page can show and texts that try to be more than text."""

import json
import random
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_kd.bin.report import main as report
from espnet2_kd.bin.report_intents import main as report_intents
from espnet2_kd.report.intent_score import score_intents
from espnet2_kd.report.sclite import DEBIAN_FOLDER
from espnet2_kd.report.score import score_set

SCLITE = shutil.which("sclite") or shutil.which("sclite", path=str(DEBIAN_FOLDER))
TAG = "decode_decode_valid.loss_transducer.ave"
INTENT_TAG = "classify_valid.acc.ave"
SYSTEMS = {
    "train_teacher": ("teacher", (1,), 0.05, 8_000_000),
    "train_student_nokd": ("student", (1, 2), 0.3, 1_234_567),
    "train_kd_aux": ("distilled", (1, 2), 0.15, 1_234_567),
}
HOSTILE = {
    "<script>window.hacked=1</script>": "</script><script>window.hacked=1</script> <img src=x onerror=window.hacked=1>",
    "quote\"'&amp;`": "\" ' ` & &lt; {{ 7*7 }} ${7*7} %00 <!-- --> ]]>",
    "rtl-\u05e9\u05dc\u05d5\u05dd": "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u202eevil\u202c \u0645\u0631\u062d\u0628\u0627",
    "long": "x" * 600 + " " + "y" * 150,  # sclite aligns characters too, in time that grows with their square
    "u" * 300: "a b c",
}
REF = {
    f"u{n:03d}": " ".join(random.Random(n).choices("turn the light on off play stop music".split(), k=3 + n % 6))
    for n in range(30)
}
REF |= HOSTILE
EPOCHS = 3


def curve(name: str, part: str, epoch: int, seed: int) -> float:
    """A value that nothing else has, so that it can be found again."""
    return round(10 / epoch + len(name) + seed / 10 + (0.05 if part == "valid" else 0), 3)


def train_log(terms: list[str], seed: int, epochs: int = EPOCHS, planned: int = EPOCHS) -> str:
    lines = ["# python3 -m espnet2_kd.bin.asr_train", "# Started at Mon Jan  1 00:00:00 UTC 2024", "#"]
    for epoch in range(1, epochs + 1):
        lines.append(f"[host] 2024-01-01 00:0{epoch}:00,000 (trainer:336) INFO: {epoch}/{planned}epoch started")
        parts = {
            part: ", ".join(f"{term}={curve(term, part, epoch, seed):.3f}" for term in terms)
            for part in ("train", "valid")
        }
        lines.append(
            f"[host] 2024-01-01 00:0{epoch}:30,000 (trainer:394) INFO: {epoch}epoch results: [train] iter_time=0.010, "
            f"{parts['train']}, optim0_lr0=5.9e-04, train_time=0.2, time=1 minute and 9.36 seconds, total_count=300, "
            f"gpu_max_cached_mem_GB=1.5, [valid] {parts['valid']}, wer_transducer=nan, time=6.42 seconds, total_count=58"
        )
    return "\n".join(lines) + "\n"


def write_wavs(folder: Path, utts: list[str]) -> None:
    """A data directory of tones, of 0.5 to 1.4 s, in stereo and another rate for one."""
    (folder / "wav").mkdir(parents=True)
    with (folder / "wav.scp").open("w") as table:
        for n, utt in enumerate(utts):
            rate, seconds = (8000, 0.5) if n == 1 else (16000, 0.5 + n % 10 / 10)
            tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)
            path = folder / f"wav/{n}.wav"
            soundfile.write(path, np.stack([tone, tone], 1) if n == 1 else tone, rate)
            table.write(f"{utt} {path}\n")


def stamp(path: Path, stage: str, seconds: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"0123abcd  -\nstage={stage} seconds={seconds}\n")
    path.with_name(path.name + ".lock").touch()


def job_log(path: Path, seconds: int, peak_kb: int) -> None:
    path.write_text(
        f"# x\n# Accounting: time={seconds} threads=1\n# Accounting: peak_memory_kb={peak_kb}\n# Ended (code 0) at x\n"
    )


def run_json(exp: Path, name: str, role: str, seed: int, size: int, **more) -> None:
    run = {
        **{"name": name, "role": role, "seed": seed, "config": f"conf/{name}.yaml"},
        "command": f"python3 -m espnet2_kd.bin.asr_train --seed {seed} --output_dir {exp}",
        **{"git_hash": "0123456789abcdef", "git_date": "2026-01-02T03:04:05+00:00", "git_dirty": False},
        "versions": {"python": "3.11.4", "torch": "2.11.0", "espnet": "202511"},
        "machine": {"cpu": "Test CPU", "cores": 2, "gpu": None},
        **{"num_parameters": size, "train_seconds": 4000.0 + seed, "teacher": None},
    }
    (exp / "run.json").write_text(json.dumps(run | more))


def misheard(text: str, rate: float, draw: random.Random) -> str:
    words = []
    for word in text.split():
        what = draw.random()
        if what < rate / 2:
            words.append(draw.choice(["play", "pause"]))
        elif what < 0.8 * rate:
            continue
        elif what < rate:
            words += [word, "uh"]
        else:
            words.append(word)
    return " ".join(words)


def stream_record(utt: str, text: str, seed: int) -> dict:
    words = text.split()
    return {
        **{"utt": utt, "text": text, "audio_seconds": 1.0, "compute_seconds": 0.1, "rtf": 0.1, "first_token_ms": 300.0},
        "words": [{"word": word, "ms": 300.0 + 150 * n + seed} for n, word in enumerate(words)],
        "reference_words": [{"word": word, "end_ms": 200.0 + 150 * n} for n, word in enumerate(words)],
        "frames_ms": [250.0 + 150 * n for n, _ in enumerate(words)],
    }


def make_asr_recipe(folder: Path) -> None:
    for test_set in ("test", "test_babble_5db"):
        data = folder / f"dump/raw/{test_set}"
        write_wavs(data, list(REF))
        (data / "text").write_text("".join(f"{utt} {text}\n" for utt, text in REF.items()))
        (data / "utt2spk").write_text("".join(f"{utt} s{n % 6}\n" for n, utt in enumerate(REF)))
    for name, (role, seeds, rate, size) in SYSTEMS.items():
        for seed in seeds:
            exp = folder / f"exp/asr_{name}_seed{seed}"
            for test_set, more in (("test", 0.0), ("test_babble_5db", 0.2)):
                if role == "teacher" and more:
                    continue
                out = exp / TAG / test_set
                out.mkdir(parents=True)
                draw = random.Random(f"{name}{seed}{test_set}")
                hyp = {utt: misheard(text, rate + more, draw) for utt, text in REF.items()}
                (out / "text").write_text("".join(f"{utt} {text}\n" for utt, text in hyp.items()))
                data = folder / "dump/raw" / test_set
                score_set(data / "text", out / "text", data / "utt2spk", out)
                records = [stream_record(utt, hyp[utt], seed) for utt in list(REF)[:10]]
                (out / "stream.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
                stream = {
                    **{"rtf": 0.05, "first_token_from": "first_word_end", "chunk_ms": 160, "num_utts": 10},
                    "first_token_ms": {"mean": 300.0 + seed, "p90": 500.0},
                    "emission_delay_ms": None if role == "teacher" else {"mean": 100.0 + 7 * seed, "p90": 260.0},
                    "mode": "offline" if role == "teacher" else "streaming",
                }
                (out / "stream.json").write_text(json.dumps(stream))
                stamp(out / "logdir/.done", "decode", 50)
                stamp(out / ".streamed", "decode", 30)
                job_log(out / "stream.log", 29, 300_000)
            run_json(exp, name, role, seed, size)
            terms = (
                ["loss", "loss_task"] if role != "distilled" else ["loss", "loss_task", "loss_kd_l4", "weight_kd_l4"]
            )
            (exp / "train.log").write_text(train_log(terms, seed))
            stamp(exp / ".done", "teacher" if role == "teacher" else "distill", 600)
            with (exp / "train.log").open("a") as log:
                log.write(
                    "# Accounting: time=599 threads=1\n# Accounting: peak_memory_kb=1500000\n# Ended (code 0) at x\n"
                )
    failed = folder / "exp/asr_train_kd_token_seed1"
    failed.mkdir()
    (failed / "train.log").write_text(train_log(["loss", "loss_kd_token"], 1, epochs=2, planned=9))
    pictures = folder / "exp/asr_train_kd_aux_seed1/att_ws"
    write_pictures(pictures)
    stamp(folder / "data/.done", "data", 12)


def write_pictures(folder: Path) -> None:
    from PIL import Image

    for utt in ("v1", "v2<b>"):
        (folder / utt).mkdir(parents=True)
        for epoch in (1, 3):
            Image.new("RGB", (40, 30), (epoch * 50, 0, 0)).save(folder / utt / f"firing.{epoch}ep.png")


def report_asr(folder: Path, *options: str, exp_dirs: str = "", test_sets: str = "test test_babble_5db") -> str:
    exps = [f"exp/asr_{name}_seed{seed}" for name, (_, seeds, _, _) in SYSTEMS.items() for seed in seeds]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        dirs = " ".join(f"dump/raw/{name}" for name in test_sets.split())
        report(
            [
                *("--exp_dirs", exp_dirs or " ".join([*exps, "exp/asr_train_kd_token_seed1"]), "--inference_tag", TAG),
                *("--test_sets", test_sets, "--data_dirs", dirs, "--page", "exp/report/index.html"),
                *("--bootstrap_samples", "300", "--title", "Made up <b>&", *options),
            ]
        )
    return (folder / "exp/report/index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def asr_page(tmp_path_factory):
    """Folder of a recipe with recognisers, and its page as text."""
    if SCLITE is None:
        pytest.skip("sclite is not installed")
    folder = tmp_path_factory.mktemp("asr")
    make_asr_recipe(folder)
    return folder, report_asr(folder, "--synthetic", "true")


INTENTS = {"text_bert": ((1,), 0.02), "intent_train_none": ((1, 2), 0.3), "intent_train_std": ((1, 2), 0.1)}
VALUES = {"drink": ["latte", "<i>mocha</i>", "tea"], "milk": ["none", "soy", "a&b"]}
INTENT_SETS = ("test", "test_white_10db", "test_white_0db")
UTTS = [f"u{n:03d}" for n in range(24)] + ["<script>window.hacked=1</script>", "\u05e9\u05dc\u05d5\u05dd"]


def slots_of(utt: str, draw: random.Random | None = None, rate: float = 0.0) -> dict[str, str]:
    truth = random.Random(utt)
    found = {slot: truth.choice(values) for slot, values in VALUES.items()}
    if draw is None:
        return found
    return {slot: draw.choice(VALUES[slot]) if draw.random() < rate else value for slot, value in found.items()}


def write_labels(path: Path, table: dict[str, dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{utt} {' '.join(f'{slot}={value}' for slot, value in slots.items())}\n" for utt, slots in table.items())
    path.write_text("".join(lines))


@pytest.fixture(scope="session")
def intent_page(tmp_path_factory):
    """Folder of a recipe with intent classifiers, and its page as text."""
    folder = tmp_path_factory.mktemp("slu")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("espnet2_kd.report.intent_score.plot_confusions", lambda *_: None)
        patch.setattr("espnet2_kd.report.intent_results.plot_accuracy", lambda *_: None)
        for n, test_set in enumerate(INTENT_SETS):
            data = Path(f"dump/raw/{test_set}")
            write_wavs(data, UTTS)
            write_labels(data / "label", {utt: slots_of(utt) for utt in UTTS})
            (data / "text").write_text(
                "".join(
                    f"{utt} a </script> {'word ' * (k % 5)}{'z' * 10_000 * (k == 3)}\n" for k, utt in enumerate(UTTS)
                )
            )
            for name, (seeds, rate) in INTENTS.items():
                for seed in seeds:
                    if name.startswith("text") and n:
                        continue
                    out = Path(f"exp/{name}_seed{seed}/{INTENT_TAG}/{test_set}")
                    draw = random.Random(f"{name}{seed}{test_set}")
                    write_labels(out / "label", {utt: slots_of(utt, draw, rate + 0.2 * n) for utt in UTTS})
                    (out / "probability").write_text("".join(f"{utt} {draw.random():.4f} 0.9500\n" for utt in UTTS))
                    score_intents(data / "label", out / "label", out)
        for name, (seeds, _) in INTENTS.items():
            for seed in seeds:
                exp = Path(f"exp/{name}_seed{seed}")
                if name.startswith("text"):
                    epochs = [
                        {"epoch": e, "loss": 3 / e, "valid_loss": 4 / e, "valid_accuracy": 0.1 * e, "seconds": 9}
                        for e in (1, 2)
                    ]
                    (exp / "train.json").write_text(json.dumps({"epochs": epochs, "options": {"seed": seed}}))
                    continue
                role = "distilled" if name.endswith("std") else "student"
                run_json(exp, name, role, seed, 400_000)
                (exp / "train.log").write_text(train_log(["loss", "loss_kd_cls", "acc"], seed))
        exps = [f"exp/{name}_seed{seed}" for name, (seeds, _) in INTENTS.items() for seed in seeds]
        dirs = " ".join(f"dump/raw/{name}" for name in INTENT_SETS)
        report_intents(
            [
                *("--exp_dirs", " ".join([*exps, "exp/intent_train_gru_seed1"]), "--tag", INTENT_TAG),
                *("--test_sets", " ".join(INTENT_SETS), "--data_dirs", dirs, "--page", "exp/report/index.html"),
                *("--baseline", "intent_train_none", "--title", "Made up"),
            ]
        )
    return folder, (folder / "exp/report/index.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """What a browser would see of a page: tables (header and rows of texts), texts, tags, and the data of its programs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "script" in self._open:
            self.scripts[-1] += data
            return
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def table(self, *header: str) -> list[list[str]]:
        """Rows of the first table whose header begins so."""
        return next(rows[1:] for rows in self.tables if rows[0][: len(header)] == list(header))
