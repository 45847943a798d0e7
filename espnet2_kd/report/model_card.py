"""The card of a shared model, README.md with the header that the Hugging Face hub reads, from what its recipe knows of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from espnet2_kd.data.documents import read_json, read_yaml
from espnet2_kd.data.problems import one_problem
from espnet2_kd.report.environment import relative_command
from espnet2_kd.report.markdown import table
from espnet2_kd.report.results import (
    NONE,
    NOT_SCORED,
    ROLE_NAMES,
    SYNTHETIC_NOTE,
    format_duration,
    format_parameters,
    format_seeds,
    wrap,
)

ASR, INTENT = "asr", "intent"
_SEED = re.compile(r"_seed(\d+)$")
_PLACE = re.compile(r"(?<![\w.~/:-])~?(?:/[\w.+~-]+)+")
_TASKS = {ASR: "automatic-speech-recognition", INTENT: "audio-classification"}
_INTENT_ROLES = {**ROLE_NAMES, "text": "text, from transcripts", "speech": "speech", "teacher": "speech, teacher"}


@dataclass(frozen=True)
class Shared:
    """What a card is written from.

    kind: `asr` or `intent`.
    name: of the experiment.
    file: of the pack, which the examples open.
    model_bytes: size of its weights.
    run: `run.json` of the training; empty where there is none.
    config: its `config.yaml`.
    results: what the recipe's report says in JSON; None before anything was scored.
    corpus, language, license: as the hub calls them; empty where nobody said.
    synthetic: whether the speech of the corpus is synthetic.
    speech: number of training utterances and seconds of speech, what is known.
    decoding: settings of the search that scored the model.
    """

    kind: str
    name: str
    file: str
    model_bytes: int
    run: Mapping[str, Any]
    config: Mapping[str, Any]
    results: Any = None
    corpus: str = ""
    language: str = ""
    license: str = ""
    synthetic: bool = False
    speech: tuple[int | None, float | None] = (None, None)
    decoding: Mapping[str, Any] = field(default_factory=dict)

    @property
    def system(self) -> str:
        """As reports call it: intents by their directories, recognisers by their configurations."""
        of_folder = _SEED.sub("", self.name)
        return of_folder if self.kind == INTENT else str(self.run.get("name") or of_folder)

    @property
    def seed(self) -> int | None:
        match = _SEED.search(self.name)
        return self.run.get("seed", int(match[1]) if match else None)


def describe(
    exp: Path,
    model_bytes: int,
    pack: Path,
    kind: str = ASR,
    results: Path | None = None,
    decoding: Path | None = None,
    **told: Any,
) -> Shared:
    """Collect what an experiment has left behind.

    model_bytes: size of the weights as they are packed.
    results: JSON of the recipe's report, which need not be there.
    decoding: YAML of the search that scored the model.
    told: `corpus`, `language`, `license`, `synthetic`.

    Raises DataError for files that cannot be read.
    """
    config = read_yaml(exp / "config.yaml")
    if not isinstance(config, dict):
        raise one_problem(exp / "config.yaml", "is no configuration", "a mapping is expected")
    run = read_json(exp / "run.json", {}) if (exp / "run.json").is_file() else {}
    settings = read_yaml(decoding) if decoding else None
    return Shared(
        kind,
        exp.name,
        pack.name,
        model_bytes,
        run,
        config,
        read_json(results) if results and results.is_file() else None,
        speech=training_speech(config),
        decoding=settings if isinstance(settings, dict) else {},
        **told,
    )


def training_speech(config: Mapping[str, Any]) -> tuple[int | None, float | None]:
    """Utterances and seconds that a configuration trains on, from the tables that it names; None where these are gone."""
    for path, _, _ in config.get("train_data_path_and_name_and_type") or ():
        folder = Path(str(path)).parent
        lens, shapes = folder / "utt2num_samples", folder / "frames_shape"
        if lens.is_file():
            counts = [int(line.split()[1]) for line in lens.read_text(encoding="utf-8").splitlines()]
            return len(counts), sum(counts) / _rate(config)
        if shapes.is_file():
            return len(shapes.read_text(encoding="utf-8").splitlines()), None
    return None, None


def _rate(config: Mapping[str, Any]) -> int:
    fs = str((config.get("frontend_conf") or {}).get("fs", 16000))
    return int(float(fs.removesuffix("k")) * (1000 if fs.endswith("k") else 1))


def render_card(shared: Shared) -> str:
    """Write the card."""
    header = yaml.safe_dump(_header(shared), sort_keys=False, allow_unicode=True)
    parts = [
        f"# {shared.name}",
        wrap(_summary(shared)),
        SYNTHETIC_NOTE if shared.synthetic else "",
        "## Results",
        *_results(shared),
        "## Use",
        *_use(shared),
        "## Size and speed",
        _size(shared),
        "## Training",
        *_training(shared),
        "## Limits",
        wrap(_limits(shared)),
    ]
    return f"---\n{header}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _header(shared: Shared) -> dict[str, Any]:
    tags = ["espnet", "espnet2_kd", "audio", _TASKS[shared.kind]]
    tags += ["streaming"] if _streams(shared.config) else []
    tags += ["knowledge-distillation"] if _terms(shared.config) else []
    header: dict[str, Any] = {
        "language": shared.language or None,
        "license": shared.license or None,
        "library_name": "espnet",
        "pipeline_tag": _TASKS[shared.kind],
        "tags": tags,
        "datasets": [shared.corpus] if shared.corpus else None,
        "metrics": list(_metrics(shared)),
        "model-index": _model_index(shared),
    }
    return {key: value for key, value in header.items() if value is not None}


def _model_index(shared: Shared) -> list[dict[str, Any]] | None:
    results = []
    for test_set, row in _own_rows(shared):
        metrics = [
            {
                "type": metric,
                "value": round(rate, 2),
                "name": f"{metric.upper() if metric != 'accuracy' else 'Exact match'} (%)",
            }
            for metric in _metrics(shared)
            if (rate := _rate_of(row, metric, shared.seed)) is not None
        ]
        if metrics:
            name = f"{shared.corpus or 'the recipe'}, {test_set}" + (" (synthetic speech)" if shared.synthetic else "")
            results.append(
                {
                    "task": {"type": _TASKS[shared.kind]},
                    "dataset": {"name": name, "type": shared.corpus or "unknown", "split": test_set},
                    "metrics": metrics,
                }
            )
    return [{"name": shared.name, "results": results}] if results else None


def _comparisons(shared: Shared) -> list[tuple[str, Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Test set, what is said of it, and the rows of its systems; of either kind of report."""
    found = shared.results
    if shared.kind == INTENT:
        roles = {one["system"]: one["role"] for one in (found or {}).get("systems", ())}
        sets = (found or {}).get("sets", ())
        return [
            (
                one["test_set"],
                one,
                [{**row, "name": row["system"], "role": roles.get(row["system"], "speech")} for row in one["rows"]],
            )
            for one in sets
        ]
    return [(one["test_set"], one, one["rows"]) for one in found or ()]


def _metrics(shared: Shared) -> tuple[str, ...]:
    """Rates to show, the first being what models are compared by; no words where a word would be a whole utterance."""
    if shared.kind == INTENT:
        return ("accuracy",)
    found = {about.get("metric") for _, about, _ in _comparisons(shared)}
    return ("cer",) if found == {"cer"} else ("wer", "cer")


def _own_rows(shared: Shared) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        (test_set, row)
        for test_set, _, rows in _comparisons(shared)
        for row in rows
        if row.get("name") == shared.system
    ]


def _rate_of(row: Mapping[str, Any], metric: str, seed: int | None) -> float | None:
    """The score of one seed; None where it has none."""
    values = (row.get(metric) or {}).get("values", {})
    return values.get(str(seed), values.get(seed))


def _results(shared: Shared) -> list[str]:
    comparisons = _comparisons(shared)
    if not any(row.get("name") == shared.system for _, _, rows in comparisons for row in rows):
        return [f"{NOT_SCORED.capitalize()}: its recipe had no report when this model was packed."]
    parts: list[str] = []
    for test_set, about, rows in comparisons:
        shown = _shown(shared, about, rows)
        size = f": {about['num_utts']} utterances" if about.get("num_utts") else ""
        parts.append(f"### {test_set}{size}{', synthetic speech' if shared.synthetic else ''}")
        if shared.kind == ASR:
            rates = (f"{metric.upper()} %" for metric in _metrics(shared))
            header = ("system", "role", *rates, "parameters", "RTF", "first token ms", "emission delay ms")
        else:
            header = ("system", "role", "exact match %", "slot F1 %", "parameters")
        parts.append(table(header, [_result_row(shared, label, row, seed) for label, row, seed in shown], left=2))
    notes = "Rates of one seed where one is named, else mean ± standard deviation over seeds. "
    if shared.kind == ASR:
        rates = "WER, CER: word and character" if "wer" in _metrics(shared) else "CER: character"
        notes += (
            f"{rates} error rate by sclite. RTF: computing time over audio time. First token, emission "
            "delay: from the first word, or a word, being spoken until it is shown, waiting for the chunk included."
        )
    else:
        notes += "Exact match: all slots of an utterance are right."
    return [*parts, wrap(notes)]


def _shown(
    shared: Shared, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, Mapping[str, Any], int | None]]:
    """Rows for a table: teacher, student without distillation, this model; those of which there is nothing to say too."""
    own = next((row for row in rows if row.get("name") == shared.system), {"role": "student"})
    others = [row for row in rows if row is not own and row.get("role") in ("teacher", "text")]
    base = next((row for row in rows if row.get("name") and row["name"] == about.get("base")), None)
    others += [base] if base is not None and base is not own and base not in others else []
    shown = [(str(row.get("name") or NONE), row, None) for row in others]
    shown.append((f"**{shared.name}**", own, shared.seed))
    if len((own.get(_metrics(shared)[0]) or {}).get("values", {})) > 1:
        shown.append((f"{shared.system}, all seeds", own, None))
    return shown


def _result_row(shared: Shared, label: str, row: Mapping[str, Any], seed: int | None) -> tuple[str, ...]:
    role = (ROLE_NAMES if shared.kind == ASR else _INTENT_ROLES).get(str(row.get("role")), NONE)
    if shared.kind == INTENT:
        size = next(
            (one["num_parameters"] for one in shared.results["systems"] if one["system"] == row.get("name")), None
        )
        return (
            label,
            role,
            _shown_rate(shared, row, "accuracy", seed),
            _shown_rate(shared, row, "slot_f1", seed),
            format_parameters(size),
        )
    speed = row.get("speed") or {}
    return (
        label,
        role,
        *(_shown_rate(shared, row, metric, seed) for metric in _metrics(shared)),
        format_parameters(row.get("num_parameters")),
        _spread(speed.get("rtf"), seed, 3),
        _spread(speed.get("first_token_ms"), seed, 0),
        _spread(speed.get("emission_delay_ms"), seed, 0),
    )


def _shown_rate(shared: Shared, row: Mapping[str, Any], metric: str, seed: int | None) -> str:
    shown = _spread(row.get(metric), seed, 2)
    return NOT_SCORED if shown == NONE and metric == _metrics(shared)[0] else shown


def _spread(spread: Mapping[str, Any] | None, seed: int | None, digits: int) -> str:
    if not spread:
        return NONE
    if seed is not None:
        value = spread["values"].get(str(seed), spread["values"].get(seed))
        return NONE if value is None else f"{value:.{digits}f}"
    std = "" if spread.get("std") is None else f" ± {spread['std']:.{digits}f}"
    return f"{spread['mean']:.{digits}f}{std}"


def _streams(config: Mapping[str, Any]) -> bool:
    conf = config.get("encoder_conf") or {}
    return config.get("encoder") == "chunk_conformer" and any(conf.get(key) for key in ("chunk_ms", "chunk_frames"))


def _terms(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [term for term in config.get("kd_terms") or () if isinstance(term, Mapping)]


def _summary(shared: Shared) -> str:
    config, conf = shared.config, shared.config.get("encoder_conf") or {}
    if shared.kind == INTENT:
        what = f"A classifier of intents, `{config.get('decoder')}` on the frames of a frozen speech encoder"
    else:
        model = (
            "continuous integrate-and-fire (CIF)"
            if config.get("model") == "cif"
            else f"a `{config.get('decoder')}` decoder"
        )
        what = f"A speech recogniser with full context: {model} on a `{config.get('encoder')}` encoder"
        if _streams(config):
            chunk = f"{conf['chunk_ms']:g} ms" if conf.get("chunk_ms") else f"{conf['chunk_frames']} frames"
            what = (
                f"A streaming speech recogniser: {model} on a `{config.get('encoder')}` encoder, in chunks of {chunk}"
            )
    if _terms(config):
        teacher = shared.run.get("teacher") or config.get("teacher")
        what += f", distilled from {_public(teacher) if teacher else 'a teacher'}"
    return f"{what}. Trained with espnet2_kd on ESPnet2."


def _public(teacher: Any) -> str:
    """What a teacher may be called elsewhere: the name of its experiment, or on the hub."""
    path = Path(str(teacher))
    return f"`{path.name if path.is_absolute() or len(path.parts) > 2 or path.parts[0] == 'exp' else path.as_posix()}`"


def _use(shared: Shared) -> list[str]:
    example = (
        "print(model((samples, 16000)))               # or samples with their rate\n\n"
        "with model.stream() as session:              # words while they are spoken\n"
        "    for piece in pieces_of_samples:\n"
        "        print(session.accept(piece))\n"
        "print(session.text)"
        if shared.kind == ASR
        else 'print(model((samples, 16000)))               # {"slot": ("value", probability)}'
    )
    program = "stream" if shared.kind == ASR else "classify"
    lines = [
        "With the package `espnet2_kd`:",
        "```python\nfrom espnet2_kd import from_pretrained\n\n"
        f'model = from_pretrained("{shared.file}")\n'
        f'print(model("speech.wav"))                   # a file of any rate\n{example}\n```',
        "On a command line, a file or a microphone:",
        f"```sh\npython -m espnet2_kd.bin.{program} --exp {shared.file} speech.wav\n"
        f"arecord -q -f S16_LE -r {_rate(shared.config)} -t raw | python -m espnet2_kd.bin.{program} --exp {shared.file} -\n```",
    ]
    if shared.kind == ASR:
        lines.append(
            wrap(
                "The archive is laid out as ESPnet2's own packs are (`meta.yaml`, `config.yaml`, weights). Its parts that are not "
                "ESPnet2's need one import, `import espnet2_kd.register`, before `espnet2.bin` opens it. Nothing of the teacher and "
                "of distillation, which only training needs, is in it."
            )
        )
    return lines


def _size(shared: Shared) -> str:
    lines = [
        f"- parameters: {format_parameters(shared.run.get('num_parameters'))}",
        f"- file of weights: {shared.model_bytes / 2**20:.1f} MiB",
        f"- sampling rate: {_rate(shared.config)} Hz",
    ]
    if shared.kind == ASR:
        lines.append(
            f"- output units: {len(shared.config.get('token_list') or ())} ({shared.config.get('token_type')})"
        )
    for test_set, row in _own_rows(shared):
        speed = row.get("speed") or {}
        if speed:
            shown = [
                f"{label} {_spread(speed.get(key), shared.seed, digits)}{unit}"
                for key, label, digits, unit in (
                    ("rtf", "real-time factor", 3, ""),
                    ("chunk_ms", "chunk", 0, " ms"),
                    ("first_token_ms", "first token after", 0, " ms"),
                    ("first_token_ms_p90", "(90 % within", 0, " ms)"),
                    ("emission_delay_ms", "words after", 0, " ms"),
                )
                if _spread(speed.get(key), shared.seed, digits) != NONE
            ]
            lines.append(f"- {test_set}, as if live: {', '.join(shown).replace(', (', ' (')}")
    machine = shared.run.get("machine") or {}
    if machine:
        gpu = f", GPU: {machine['gpu']}" if machine.get("gpu") else ""
        lines.append(f"- trained on: {machine.get('cpu')}, {machine.get('cores')} cores{gpu}")
    return "\n".join(lines)


def _training(shared: Shared) -> list[str]:
    run = shared.run
    utts, seconds = shared.speech
    speech = [f"{utts} utterances"] if utts else []
    speech += [f"{seconds / 3600:.1f} hours"] if seconds else []
    synthetic = ", synthetic speech" if shared.synthetic else ""
    dirty = " with uncommitted changes" if run.get("git_dirty") else ""
    versions = ", ".join(f"{name} {version}" for name, version in (run.get("versions") or {}).items())
    seeds = _seeds(shared)
    rows = [
        ("corpus", f"{shared.corpus or 'not stated'}{synthetic}"),
        ("speech, copies at other speeds included", ", ".join(speech) or None),
        ("configuration", run.get("config") and f"`{Path(str(run['config'])).name}`"),
        (
            "seed",
            None
            if shared.seed is None
            else f"{shared.seed}" + (f" of {format_seeds(seeds)}" if len(seeds) > 1 else ""),
        ),
        ("teacher", _public(run["teacher"]) if run.get("teacher") else None),
        ("training time", None if run.get("train_seconds") is None else format_duration(run["train_seconds"])),
        ("git hash of espnet2_kd", run.get("git_hash") and f"`{run['git_hash']}`{dirty}"),
        ("versions", versions or None),
        ("search when scored", ", ".join(f"{k}: {v}" for k, v in shared.decoding.items() if k != "lm_file") or None),
        ("license", shared.license or "not stated: ask whoever trained it, and mind that of the corpus"),
    ]
    parts = ["\n".join(f"- {name}: {value}" for name, value in rows if value)]
    terms = _terms(shared.config)
    if terms:
        names = [
            (str(term.get("name")), f"`{term.get('student')}`", f"`{term.get('teacher')}`", _losses(term))
            for term in terms
        ]
        parts.append("What it learned from its teacher:")
        parts.append(table(("term", "student", "teacher", "loss"), names, left=4))
    if run.get("command"):
        parts.append(f"Command:\n\n```sh\n{_portable(run['command'])}\n```")
    return parts


def _seeds(shared: Shared) -> list[int]:
    metric = _metrics(shared)[0]
    found = {int(seed) for _, row in _own_rows(shared) for seed in (row.get(metric) or {}).get("values", {})}
    return sorted(found)


def _losses(term: Mapping[str, Any]) -> str:
    losses = term.get("losses") or term.get("loss") or {}
    return ", ".join(losses) if isinstance(losses, Mapping) else str(losses)


def _portable(command: str) -> str:
    """The command with the last parts only of places outside the recipe."""
    return _PLACE.sub(lambda match: match[0].rpartition("/")[2], relative_command(command))


def _limits(shared: Shared) -> str:
    said = [
        "The numbers above are those of one corpus: speech of other people, places and topics will be recognised worse, and "
        "nothing was done about rare voices or accents."
    ]
    if shared.synthetic:
        said.append("It was trained and tested on synthetic speech; it is not for use on people's.")
    if shared.decoding.get("lm"):
        said.append("It was scored with a language model, which is not in this pack: expect more errors without.")
    return " ".join(said)
