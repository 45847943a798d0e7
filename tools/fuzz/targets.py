"""What is fuzzed: for each reader of files, how its input is drawn and how it is called in a folder of its own.

A target may succeed or raise one of the project's declared errors. Commands are run as a shell would: they end with a status.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import examples
import yaml
from hypothesis import strategies as st
from mutations import files, mutated

from espnet2_kd.asr.model_pack import PackError, open_pack
from espnet2_kd.bin.command import end
from espnet2_kd.data.audio import AudioFault, read_audio
from espnet2_kd.data.check import check_data_dir
from espnet2_kd.data.download import DownloadError, unpack
from espnet2_kd.data.journal import Journal
from espnet2_kd.data.parts import Part, finished
from espnet2_kd.data.problems import DataError
from espnet2_kd.data.table import read_rows, read_table
from espnet2_kd.data.tokenizer import TokenSet
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.teachers.feature_cache import FeatureCache
from espnet2_kd.kd.term import parse_terms
from espnet2_kd.report.sclite import parse_summary, parse_utterances
from espnet2_kd.report.trn import escape, make_id, make_line, speaker_of, split_line, unescape

DECLARED = (DataError, AudioFault, ConfigError, PackError, DownloadError)
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Target:
    """How the input is drawn, and what reads it; the working directory is an empty folder."""

    strategy: st.SearchStrategy[Any]
    read: Callable[[Any], None]


TARGETS: dict[str, Target] = {}


def target(strategy: st.SearchStrategy[Any]) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Function decorator that adds a target of the function's name."""

    def add(read: Callable[[Any], None]) -> Callable[[Any], None]:
        TARGETS[read.__name__] = Target(strategy, read)
        return read

    return add


def put(content: Files) -> None:
    """Write files below the working directory."""
    for name, data in content.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def command(name: str, *argv: str) -> int:
    """Run one of the commands; its status is 0, 1 with at least a line on stderr, or 2 from the parser of options."""
    module = importlib.import_module(f"espnet2_kd.bin.{name}")
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            end(lambda: module.main(list(argv)))
        except SystemExit as left:
            status = left.code
    assert status in (0, 1, 2), status
    assert not status or complained.getvalue().strip(), "a failure without a word"
    assert "Traceback" not in complained.getvalue()
    return status


@target(st.tuples(st.sampled_from(sorted({**examples.DATA_DIR, **examples.SEGMENTED})), st.data()))
def tables(drawn: tuple[str, st.DataObject]) -> None:
    name, data = drawn
    put({name: data.draw(mutated([{**examples.SEGMENTED, **examples.DATA_DIR}[name]]))})
    problems: list[Any] = []
    rows = read_rows(name, problems)
    assert all(row.key and "\n" not in row.key for row in rows)
    command("data_dir", "spk2utt", name)
    command("data_dir", "utt2spk", name)
    read_table(name)


_VERBS = (
    *("validate data", "validate --no_text --no_wav --allow_empty_text data", "fix data", "fix --normalise data"),
    *("copy --utt_prefix x- --spk_prefix x- data out", "combine out data data", "subset data 2 out"),
    *("subset --shortest data 2 out", "subset --per_spk data 1 out", "subset --utt_list data/text data out"),
    *("split --num 2 data", "filter data out", "filter --fs 16k --min_wav_duration 0.03 data out"),
    *("spk2utt data", "utt2spk data"),
)
_SOUNDS = {f"{utt}.wav": examples.sound() for utt in examples.UTTS}


@target(
    st.tuples(st.one_of(*(files(kind) for kind in (examples.DATA_DIR, examples.SEGMENTED))), st.sampled_from(_VERBS))
)
def data_dirs(drawn: tuple[Files, str]) -> None:
    content, words = drawn
    put({f"data/{name}": data for name, data in content.items()} | _SOUNDS)
    status = command("data_dir", *words.split())
    if words == "fix --normalise data" and status == 0:
        assert not [
            problem
            for problem in check_data_dir("data", need_text=False, allow_empty_text=True, need_audio=False)
            if problem.fatal
        ]


@target(st.one_of(files(examples.DATA_DIR), files(examples.SEGMENTED)))
def format_audio(content: Files) -> None:
    put({f"data/{name}": data for name, data in content.items()} | _SOUNDS)
    command("format_audio", "--skip_bad_audio", "1", "--speed_perturb_factors", "0.9 1.0", "data", "out")


@target(st.one_of(files(examples.DATA_DIR), files(examples.SEGMENTED)))
def labels(content: Files) -> None:
    put({f"data/{name}": data for name, data in content.items()} | _SOUNDS)
    command("intent_classes", "--train", "data", "--others", "data", "--output", "classes/tokens.txt")


_TSV_OPTIONS = (
    "",
    "--intent_column intent speaker",
    "--only train",
    "--rename train=a/b",
    "--set x",
    "--text_column none",
)


@target(
    st.tuples(mutated([examples.TSV.encode()]), mutated([examples.STRINGS.encode()]), st.sampled_from(_TSV_OPTIONS))
)
def tsv(drawn: tuple[bytes, bytes, str]) -> None:
    table, strings, options = drawn
    put({"in.tsv": table, "strings.tsv": strings} | _SOUNDS)
    option, _, value = options.partition(" ")
    command("import_tsv", "in.tsv", "out", *([option, value] if option else []))
    command("import_tsv", "in.tsv", "joined", "--set", "s", "--strings", "strings.tsv")


@target(
    st.tuples(
        st.lists(st.text(min_size=1, max_size=80).map(lambda word: "".join(word.split()) or "x"), max_size=6),
        st.text(),
        st.text(min_size=1),
    )
)
def trn(drawn: tuple[list[str], str, str]) -> None:
    words, speaker, utt = drawn
    name = make_id(speaker, utt)
    line = make_line(words, name)
    assert line.count("\n") == line.count("\t") == 1
    text, found = split_line(line)
    assert found == name and len(text.split()) == len(words)
    # A long word is shortened, and cannot be undone.
    short = [word for word in (*words, speaker) if len(word) < 20]
    assert [unescape(escape(word)) for word in short] == short
    assert speaker not in short or unescape(speaker_of(name)) == speaker


@target(mutated([examples.RESULT]))
def sclite_results(data: bytes) -> None:
    text = data.decode(errors="replace")
    parse_utterances(text)
    with contextlib.suppress(ValueError):
        parse_summary(text)


_SCORED = {name: examples.DATA_DIR[name] for name in ("text", "utt2spk")}


@target(st.tuples(files(_SCORED), mutated([examples.DATA_DIR["text"]])))
def score(drawn: tuple[Files, bytes]) -> None:
    content, hypotheses = drawn
    put({**content, "hyp": hypotheses})
    command("score", "--ref", "text", "--hyp", "hyp", "--utt2spk", "utt2spk", "--output_dir", "out")


_SCORES = {
    "exp/t/run.json": examples.RUN.replace(b"train_kd", b"train_teacher").replace(b"distilled", b"teacher"),
    "exp/s/run.json": examples.RUN.replace(b"train_kd", b"train_student").replace(b"distilled", b"student"),
    "exp/k/run.json": examples.RUN,
    **{f"exp/{name}/tag/test/{file}": data for name in "tsk" for file, data in examples.SCORES.items()},
}


@target(files(_SCORES))
def report(content: Files) -> None:
    put(content)
    command(
        "report", "--exp_dirs", "exp/*", "--inference_tag", "tag", "--test_sets", "test", "--bootstrap_samples", "20"
    )


@target(files({"a.yaml": examples.CONFIG, "base.yaml": examples.BASE}))
def configs(content: Files) -> None:
    from espnet2_kd.tasks.config import ArgumentParser

    put(content)
    parser = ArgumentParser()
    for name in ("encoder", "encoder_conf", "max_epoch", "best_model_criterion", "optim"):
        parser.add_argument(f"--{name}")
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        parser.parse_args(["--config", "a.yaml"])
    assert "Traceback" not in said.getvalue()


@target(mutated([examples.TERMS]))
def terms(data: bytes) -> None:
    try:
        specs = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError):  # told by the reader of configurations
        return
    parse_terms(specs)


# Programs that have run in this process before may have it flush subnormal numbers, which hypothesis then cannot draw.
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_subnormal=False)
    | st.text(max_size=8)
    | st.sampled_from(["distance", "nonstreaming", "mse", "token"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "student",
                    "teacher",
                    "head",
                    "loss",
                    "losses",
                    "weight",
                    "per",
                    "match",
                    "mse",
                    "warmup",
                    "steps",
                    "x",
                ]
            )
            | st.integers(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@target(
    st.lists(
        st.fixed_dictionaries(
            {"name": st.just("t") | _values, "student": st.just("s") | _values},
            optional={key: _values for key in ("teacher", "head", "loss", "losses", "weight", "per", "match")},
        ),
        max_size=2,
    )
)
def term_values(specs: list[dict[str, Any]]) -> None:
    parse_terms(specs)


@target(mutated([examples.DECODE]))
def decode_configs(data: bytes) -> None:
    from espnet2_kd.asr.decode_config import DecodeConfig

    put({"decode.yaml": data})
    DecodeConfig.read("decode.yaml")


@target(files(examples.TOKENS))
def token_lists(content: Files) -> None:
    put({f"tokens/{name}": data for name, data in content.items()})
    TokenSet.load("tokens").text2ids("a lamp <noise>")


@target(st.tuples(mutated([examples.DATA_DIR["text"]]), st.sampled_from(["char", "word", "bpe"])))
def make_tokens(drawn: tuple[bytes, str]) -> None:
    text, kind = drawn
    put({"text": text})
    command("make_tokens", "--token_type", kind, "--nbpe", "16", "--text", "text", "--output_dir", "tokens")


@target(mutated([examples.INDEX]))
def teacher_caches(data: bytes) -> None:
    made_by = {"teacher": "espnet"}
    folder = FeatureCache(".", made_by).folder
    put({f"{folder}/index.jsonl": data, f"{folder}/shard.000000.safetensors": b"abcd"})
    cache = FeatureCache(".", made_by)
    cache.damaged(thorough=True)
    for entry in list(cache.where):
        cache.size(entry)
        cache.read(entry, "encoder")


@target(mutated([b'{"a": 1}\n[2, 3]\n"x"\n']))
def journals(data: bytes) -> None:
    put({"journal.jsonl": data})
    journal = Journal(Path("journal.jsonl"))
    journal.read()
    journal.append({"b": 2})
    assert journal.read()[-1] == {"b": 2}


@target(mutated([examples.STAMP]))
def stamps(data: bytes) -> None:
    put({"data/format.1.json": data, "data/format.1/a-1.flac": b"1234"})
    finished(Part(Path("data/format.1.json"), "f", None, 1))


@target(
    st.tuples(
        mutated([examples.TRAIN_LOG]), st.sampled_from(["train.log", "decode.1.log", "stats.2.log"]), st.booleans()
    )
)
def status(drawn: tuple[bytes, str, bool]) -> None:
    log, name, interrupted = drawn
    put(
        {
            f"exp/a/{name}": log,
            "exp/a/.done.lock": b"",
            "exp/a/.done.started" if interrupted else "exp/a/.done": log[:9],
            "data/.done.lock": b"",
        }
    )
    command("status", "--all")


_MEMBERS = st.one_of(
    mutated([examples.packed(examples.PACKED)]),
    files(examples.PACKED).map(examples.packed),
    st.dictionaries(
        st.sampled_from(["meta.yaml", "../x", "/x", "a/../../x", "a", "a/b", "exp/x/ave.pth", "c:\\x", "a" * 300, "."]),
        st.binary(max_size=20),
        max_size=4,
    ).map(examples.packed),
)


@target(_MEMBERS)
def packs(data: bytes) -> None:
    put({"in/model.zip": data})
    try:
        open_pack("in/model.zip")
    finally:
        outside = [
            path
            for path in Path().rglob("*")
            if path.is_file() and not str(path).startswith(("in/model.zip", "in/.model.zip"))
        ]
        assert not outside, outside


@target(mutated([examples.weights()]))
def checkpoints(data: bytes) -> None:
    from espnet2_kd.asr.load import ExperimentError, read_weights
    from espnet2_kd.tasks.training_state import read_state, require_weights

    put({"checkpoint.pth": data})
    for read in (
        lambda: read_weights(Path("checkpoint.pth")),
        lambda: read_state(Path("checkpoint.pth"), "cpu"),
        lambda: require_weights("checkpoint.pth"),
    ):
        with contextlib.suppress(ConfigError, ExperimentError):
            read()


@target(mutated([examples.packed(examples.PACKED)]))
def archives(data: bytes) -> None:
    put({"archive": data})
    unpack(Path("archive"), Path("out"), 1 << 20, 10)
    assert not zipfile.is_zipfile("archive") or Path("out").is_dir()


_WAVES = [
    examples.sound(),
    examples.sound(channels=2),
    examples.sound(subtype="FLOAT"),
    examples.sound("WAVEX", "PCM_24"),
    examples.sound("AIFF"),
    examples.sound("FLAC"),
    examples.sound("OGG", "VORBIS"),
    examples.sound("W64"),
    examples.sound("RF64"),
    examples.sound("AU"),
]


@target(
    st.tuples(
        mutated(_WAVES), st.sampled_from([None, "0", "mix"]), st.sampled_from([(0.0, -1.0), (0.01, 0.02), (0.04, 9.0)])
    )
)
def sounds(drawn: tuple[bytes, str | None, tuple[float, float]]) -> None:
    data, channel, (start, stop) = drawn
    put({"a.wav": data})
    samples, rate = read_audio("a.wav", start, stop, channel)
    assert samples.ndim == 1 and len(samples) and rate > 0


@target(
    st.tuples(
        mutated([examples.archive(wave) for wave in _WAVES[:1] + _WAVES[5:6]]),
        st.integers(0, 30) | st.sampled_from([2, 2, 2, 1 << 70]),
    )
)
def archived_sounds(drawn: tuple[bytes, int]) -> None:
    data, offset = drawn
    put({"a.ark": data})
    read_audio(f"a.ark:{offset}")
