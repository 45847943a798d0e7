"""The same faults in ESPnet2's own programs, sclite and kaldiio, imported once; a process is forked for each run.

Run in a copy of the recipe, it prints `{row: answer}` as JSON.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import yaml
from program import Program
from recipe import HERE, Recipe
from sound import sound

NUM_UTTS = 12
CONFIG = {
    "frontend": "default",
    "frontend_conf": {"n_fft": 128, "hop_length": 160, "n_mels": 8},
    "encoder": "transformer",
    "encoder_conf": {"output_size": 4, "attention_heads": 1, "linear_units": 4, "num_blocks": 1},
    "decoder": "rnn",
    "decoder_conf": {"num_layers": 1, "hidden_size": 4},
    "model_conf": {"ctc_weight": 1.0},
    "token_list": ["<blank>", "<unk>", "<space>", "'", *"abcdefghijklmnopqrstuvwxyz", "<sos/eos>"],
    "token_type": "char",
    "batch_type": "unsorted",
    "batch_size": 4,
    "num_workers": 0,
    "num_att_plot": 0,
    "ngpu": 0,
    "optim": "adam",
    "use_tensorboard": False,
    "use_matplotlib": False,
    "max_epoch": 1,
    "keep_nbest_models": 1,
    "best_model_criterion": [["valid", "loss", "min"]],
    "valid_data_path_and_name_and_type": [["wav.scp", "speech", "sound"], ["text", "text", "text"]],
}


def stock_answers(base: Recipe, project: Path) -> dict[str, str]:
    """What they did, row by row."""
    recipe = base.copy(project)
    done = recipe.call("python3", str(HERE / "baseline.py"))
    return json.loads(done.line(r"^\{.*\}$"))


class Data:
    """A folder with a few utterances in it."""

    def __init__(self, name: str) -> None:
        self.folder = Path("stock", name)
        self.folder.mkdir(parents=True)
        self.wav = dict(line.split() for line in Path("data/train/wav.scp").read_text().splitlines()[:NUM_UTTS])
        self.wav = {utt: str(Path(path).resolve()) for utt, path in self.wav.items()}
        lines = (line.split(" ", 1) for line in Path("data/train/text").read_text().splitlines())
        self.text = {utt: text for utt, text in lines if utt in self.wav}
        self.utt = list(self.wav)[4]

    def replace(self, content: bytes, suffix: str = "wav") -> None:
        """Let the fifth utterance be another file."""
        path = self.folder.resolve() / f"fault.{suffix}"
        path.write_bytes(content)
        self.wav[self.utt] = str(path)

    def write(self) -> None:
        """The tables, in order."""
        for name, table in (("wav.scp", self.wav), ("text", self.text)):
            lines = [f"{utt} {value}".rstrip() + "\n" for utt, value in table.items()]
            (self.folder / name).write_text("".join(lines))
        (self.folder / "shape").write_text("".join(f"{utt} 16000\n" for utt in self.wav))


def in_child(folder: Path, work: Callable[[], object]) -> str:
    """Exit status and last words of work in a process and a folder of its own."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.chdir(folder)
        status = 1
        try:
            work()
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:  # noqa: BLE001  (a program ends with a traceback whatever it was)
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lines = [line for line in (folder / "said").read_text(errors="replace").splitlines() if line.strip()]
    return f"exit {status}: {' '.join(lines[-1].split())[:120]}" if status else "exit 0"


def run(data: Data, *options: str, kind: str = "sound") -> str:
    """Statistics, then an epoch."""
    from espnet2.bin import asr_train

    data.write()
    (data.folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    common = ["--config", "config.yaml", "--train_shape_file", "shape", "--valid_shape_file", "shape", *options]
    for table, name, of in (("wav.scp", "speech", kind), ("text", "text", "text")):
        common += ["--train_data_path_and_name_and_type", f"{table},{name},{of}"]
    stats = in_child(data.folder, lambda: asr_train.main([*common, "--output_dir", "stats", "--collect_stats", "true"]))
    if stats != "exit 0":
        return f"statistics: {stats}"
    trained = in_child(data.folder, lambda: asr_train.main([*common, "--output_dir", "exp"]))
    return "accepted and trained, exit 0" if trained == "exit 0" else f"statistics: exit 0; training: {trained}"


def audio_rows() -> dict[str, str]:
    """F1 to F14."""
    half = {name: sound(container=name) for name in ("WAV", "FLAC")}
    half = {name: content[: len(content) // 2] for name, content in half.items()}
    contents = {
        "F1": b"RIFFgarbage" * 100,
        "F2": half["WAV"],
        "F3": half["FLAC"],
        "F4": sound(0),
        "F5": sound(0.05),
        "F6": sound(rate=8000),
        "F7": sound(channels=2),
        "F15": sound(300.0),
    }
    answers = {}
    for number, content in contents.items():
        data = Data(number)
        data.replace(content)
        answers[number] = run(data)
    for number in ("F8", "F9", "F12", "F13", "F14"):
        data = Data(number)
        if number == "F8":
            data.wav[data.utt] = "nowhere.wav"
        elif number == "F9":
            del data.text[data.utt]
        else:
            data.text[data.utt] = {"F12": "", "F13": "ж щ", "F14": " ".join(["lights"] * 200)}[number]
        answers[number] = run(data)
    for number, name in (("F10", "wav"), ("F11", "text")):
        data = Data(number)
        table = getattr(data, name)
        setattr(data, name, {**table, f"{data.utt} ": table[data.utt]})
        data.write = lambda data=data, write=data.write: (write(), unpad(data.folder))
        answers[number] = run(data)
    data = Data("F19")
    data.wav[data.utt] = f"touch {data.folder.resolve()}/executed; cat {data.wav[data.utt]} |"
    answers["F19"] = run(data, kind="kaldi_ark")
    answers["F19"] += ", command EXECUTED" * (data.folder / "executed").exists()
    return answers


def unpad(folder: Path) -> None:
    """Two keys that differed by a blank become one that is there twice."""
    for name in ("wav.scp", "text"):
        path = folder / name
        path.write_text(re.sub(r"(?m)^(\S+) +", r"\1 ", path.read_text()))


def training_rows() -> dict[str, str]:
    """F20, F22, F36, F37 and S1."""
    import torch

    answers = {}
    data = Data("F20")
    run(data)
    state = data.folder / "exp/checkpoint.pth"
    state.write_bytes(state.read_bytes()[:-2000])
    answers["F20"] = f"resume from a cut state: {run(data, '--resume', 'true', '--max_epoch', '2')}"
    data = Data("F22")
    answers["F22"] = f"every loss NaN: {run(data, '--model_conf', 'ctc_weight=.nan')}"
    data = Data("F36")
    run(data)
    changed = ("--resume", "true", "--max_epoch", "2", "--optim_conf", "lr=0.5")
    answers["F36"] = f"resumed with another learning rate: {run(data, *changed)}"
    for number, options in (
        ("F37", ("--init_param", "program.pth")),
        ("S1", ("--encoder_conf", "x=!!python/object/apply:os.system [touch executed]")),
    ):
        data = Data(number)
        torch.save({"x": Program("touch executed")}, data.folder / "program.pth")
        answer = run(data, *options)
        answers[number] = answer + ", EXECUTED" * (data.folder / "executed").exists()
    return answers


def score_rows() -> dict[str, str]:
    """F23 to F25: sclite on three utterances, the way that ESPnet2's scripts call it."""
    refs = {"a": "one two", "b": "three four", "c": "five six"}
    answers = {}
    for number, hyps in (
        ("F23", [("a", "one two"), ("c", "five six")]),
        ("F24", []),
        ("F25", [*refs.items(), ("a", "one two"), ("d", "seven")]),
    ):
        folder = Path("stock", number)
        folder.mkdir()
        for name, pairs in (("ref", refs.items()), ("hyp", hyps)):
            (folder / f"{name}.trn").write_text("".join(f"{text}\t(s-{utt})\n" for utt, text in pairs))
        done = subprocess.run(
            ["sclite", "-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "rm", "-o", "all", "stdout"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        row = re.search(r"Sum/Avg *\| *(\d+) .*?([\d.]+) +[\d.]+ *\|$", done.stdout, re.MULTILINE)
        answers[number] = f"sclite: exit {done.returncode}" + (f", {row[2]} % of {row[1]} utterances" if row else "")
    return answers


def archive_rows() -> dict[str, str]:
    """F27 and F38."""
    import kaldiio
    import numpy as np
    from espnet2.main_funcs.pack_funcs import Archiver, unpack

    folder = Path("stock/F27")
    folder.mkdir()
    kaldiio.save_ark(str(folder / "x.ark"), {"u": np.ones((100, 8), np.float32)}, scp=str(folder / "x.scp"))
    (folder / "x.ark").write_bytes((folder / "x.ark").read_bytes()[:-100])
    answers = {"F27": f"kaldiio: {in_child(Path('.'), lambda: kaldiio.load_scp('stock/F27/x.scp')['u'])}"}
    folder = Path("stock/F38/deep")
    folder.mkdir(parents=True)
    meta = yaml.safe_dump({"files": {}, "yaml_files": {"c": "../escaped.yaml"}}).encode()
    with Archiver(folder / "m.zip", "w") as archive:
        for name, content in (("meta.yaml", meta), ("../escaped.yaml", b"a: 1")):
            archive.addfile(archive.generate_info(name, len(content)), io.BytesIO(content))
    status = in_child(folder, lambda: unpack("m.zip", "out"))
    answers["F38"] = status + (", WRITTEN OUTSIDE" if (folder / "escaped.yaml").exists() else "")
    return answers


def main() -> None:
    shutil.rmtree("stock", ignore_errors=True)
    import espnet2.bin.asr_train  # noqa: F401  (once, for all that are forked)

    answers = {**audio_rows(), **training_rows(), **score_rows(), **archive_rows()}
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
