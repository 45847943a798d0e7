"""Scores against a second alignment, jiwer and counts written out; every way in which files do not belong together."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import jiwer
import pytest

from espnet2_kd.data.problems import DataError
from espnet2_kd.report.pairs import read_pairs
from espnet2_kd.report.sclite import DEBIAN_FOLDER, INSTALL, find_tool, parse_summary, parse_utterances
from espnet2_kd.report.score import format_summary, score_set

needs_sclite = pytest.mark.skipif(
    shutil.which("sclite") is None and shutil.which("sclite", path=str(DEBIAN_FOLDER)) is None,
    reason="sclite is not installed",
)


def write(folder: Path, name: str, table: dict) -> Path:
    path = folder / name
    path.write_text("".join(f"{key} {value}".rstrip() + "\n" for key, value in table.items()), encoding="utf-8")
    return path


def score(folder: Path, ref: dict, hyp: dict, speakers: dict | None = None, **options) -> dict:
    files = [write(folder, "ref", ref), write(folder, "hyp", hyp)]
    files.append(write(folder, "utt2spk", speakers or dict.fromkeys(ref, "spk")))
    return score_set(*files, folder / "out", **options)


def counts(scores: dict, metric: str = "wer") -> list[int]:
    return [scores[metric]["counts"][key] for key in ("corr", "sub", "del", "ins")]


def nist_cost(ref: list[str], hyp: list[str]) -> int:
    """Least cost of an alignment with sclite's weights: 4 a substitution, 3 an insertion or deletion."""
    row = [3 * j for j in range(len(hyp) + 1)]
    for i, word in enumerate(ref, 1):
        diagonal, row[0] = row[0], 3 * i
        for j, other in enumerate(hyp, 1):
            best = min(row[j] + 3, row[j - 1] + 3, diagonal + 4 * (word != other))
            diagonal, row[j] = row[j], best
    return row[-1]


def disturb(words: list[str], rate: float, vocabulary: list[str]) -> list[str]:
    out = []
    for word in words:
        kind = random.random() / rate
        if kind < 0.33:
            continue
        out.append(random.choice(vocabulary) if kind < 0.67 else word)
        if 0.67 <= kind < 1:
            out.append(random.choice(vocabulary))
    return out


@needs_sclite
def test_thousand_random_utterances(tmp_path):
    random.seed(7)
    vocabulary = [
        "(a)",
        "a",
        "{b",
        "b}",
        "/",
        "@",
        ";;",
        "c;d",
        "c;e",
        "**",
        "x*",
        "\\",
        "%",
        "é",
        "语",
        '"',
        "-z",
        "<unk>",
    ]
    ref = {f"u{i:04d}": random.choices(vocabulary, k=random.randint(1, 14)) for i in range(1000)}
    hyp = {utt: disturb(words, random.choice([0.1, 0.3, 0.9]), vocabulary) for utt, words in ref.items()}
    shuffled = random.sample(sorted(hyp), len(hyp))
    speakers = {utt: f"s-{random.randint(0, 9)}" for utt in ref}
    scores = score(
        tmp_path,
        {utt: " ".join(words) for utt, words in ref.items()},
        {utt: " ".join(hyp[utt]) for utt in shuffled},
        speakers,
    )
    result = (tmp_path / "out/score_wer/result.txt").read_text(encoding="utf-8")
    by_utt = {trn_id.partition("-")[2]: found for trn_id, found in parse_utterances(result).items()}
    assert by_utt.keys() == ref.keys()
    jiwer_errors = 0
    for utt, found in by_utt.items():
        assert found.words == len(ref[utt]) and found.corr + found.sub + found.ins == len(hyp[utt])
        assert 4 * found.sub + 3 * (found.dele + found.ins) == nist_cost(ref[utt], hyp[utt])
        # jiwer weighs all errors alike, so it finds at most as many.
        peer = jiwer.process_words(" ".join(ref[utt]), " ".join(hyp[utt]))
        errors = peer.substitutions + peer.deletions + peer.insertions
        assert errors <= found.errors
        jiwer_errors += errors
    totals = [sum(getattr(found, name) for found in by_utt.values()) for name in ("corr", "sub", "dele", "ins")]
    assert counts(scores) == totals
    assert scores["wer"]["snt"] == 1000 and scores["wer"]["wrd"] == sum(map(len, ref.values()))
    assert scores["wer"]["counts"]["err"] == sum(totals[1:])
    assert scores["wer"]["counts"]["s_err"] == sum(found.errors > 0 for found in by_utt.values())
    assert abs(scores["wer"]["err"] - 100 * sum(totals[1:]) / scores["wer"]["wrd"]) <= 0.0501
    assert 0 <= sum(totals[1:]) - jiwer_errors <= 0.01 * jiwer_errors


@needs_sclite
def test_light_errors_are_as_many_as_jiwers(tmp_path):
    random.seed(3)
    vocabulary = [f"w{i}" for i in range(300)]
    ref = {f"u{i}": " ".join(random.choices(vocabulary, k=12)) for i in range(200)}
    hyp = {utt: " ".join(disturb(text.split(), 0.1, vocabulary)) for utt, text in ref.items()}
    scores = score(tmp_path, ref, hyp)
    words = jiwer.process_words(list(ref.values()), [hyp[utt] for utt in ref])
    # The kinds may differ, as sclite weighs them differently; their sum must not.
    assert scores["wer"]["counts"]["err"] == words.substitutions + words.deletions + words.insertions > 200
    assert scores["wer"]["wrd"] == words.hits + words.substitutions + words.deletions
    characters = jiwer.process_characters(list(ref.values()), [hyp[utt] for utt in ref])
    errors = characters.substitutions + characters.deletions + characters.insertions
    assert scores["cer"]["wrd"] == sum(map(len, ref.values()))
    assert errors <= scores["cer"]["counts"]["err"] <= 1.02 * errors


@needs_sclite
def test_words_that_sclite_interprets_are_literal(tmp_path):
    """F26: each of these pairs is equal, or not counted, for a bare sclite."""
    pairs = {
        "a;b": "a;c",
        "x*": "x",
        "@": "y",
        "(o)": "",
        "{a": "a",
        "/": "//",
        "\\z": "z",
        ";;": ";",
        "**": "*",
        "%": "%25",
    }
    ref = {f"u{i}": word for i, word in enumerate(pairs)}
    hyp = {f"u{i}": word for i, word in enumerate(pairs.values())}
    assert counts(score(tmp_path, ref, hyp)) == [0, 9, 1, 0]
    assert counts(score(tmp_path, ref, ref)) == [10, 0, 0, 0]
    alternatives = score(tmp_path, {"u": "{ um / uh / @ } (so) it is"}, {"u": "it is"})
    assert counts(alternatives) == [2, 0, 8, 0]
    assert alternatives["policy"]["escaped_utts"] == 1


@needs_sclite
def test_words_too_long_for_sclite(tmp_path):
    ref = {"u1": "a" * 3000, "u2": "b" * 3000, "u3": "語" * 900}
    hyp = {"u1": "a" * 3001, "u2": "b" * 3000, "u3": "語" * 900}
    scores = score(tmp_path, ref, hyp)
    assert counts(scores) == [2, 1, 0, 0]
    assert counts(scores, "cer") == [6900, 0, 0, 1]


@needs_sclite
def test_case_is_ignored_in_every_script_unless_asked(tmp_path, caplog):
    ref, hyp = {"u1": "Über ABC Иван", "u2": "same"}, {"u1": "über abc иван", "u2": "same"}
    assert counts(score(tmp_path, ref, hyp)) == [4, 0, 0, 0]
    assert "1 of 2 utterances hold words that differ in case only; counted as correct" in caplog.text
    scores = score(tmp_path, ref, hyp, case_sensitive=True)
    assert counts(scores) == [1, 3, 0, 0] and scores["policy"]["case_only_utts"] == 1
    assert "1 of 2 utterances hold words wrong by case only; counted as errors" in caplog.text


@needs_sclite
def test_unicode_of_equal_look_is_equal(tmp_path):
    assert counts(score(tmp_path, {"u": "cafe\u0301 한국"}, {"u": "caf\u00e9 \u1112\u1161\u11ab국"})) == [2, 0, 0, 0]


@needs_sclite
def test_chinese_characters_and_spaces(tmp_path):
    scores = score(tmp_path, {"u": "今天 天气好"}, {"u": "今天天汽好"})
    assert counts(scores) == [0, 1, 1, 0]
    assert counts(scores, "cer") == [4, 1, 1, 0]
    assert (tmp_path / "out/score_cer/ref.trn").read_text(encoding="utf-8") == "今 天 <space> 天 气 好\t(spk-u)\n"


@needs_sclite
def test_files_are_those_of_espnet2(tmp_path):
    ref = {"a.1/x": "one two", "b-2": "three", "(c)": "four"}
    speakers = {"a.1/x": "s.1", "b-2": "s-2", "(c)": "s_3"}
    scores = score(tmp_path, ref, {"a.1/x": "one two", "b-2": "", "(c)": "for"}, speakers)
    assert counts(scores) == [2, 1, 1, 0]
    wer = tmp_path / "out/score_wer"
    assert (wer / "ref.trn").read_text() == "one two\t(s.1-a.1/x)\nthree\t(s%2D2-b-2)\nfour\t(s_3-%28c%29)\n"
    assert (wer / "hyp.trn").read_text() == "one two\t(s.1-a.1/x)\n\t(s%2D2-b-2)\nfor\t(s_3-%28c%29)\n"
    assert sorted(path.name for path in wer.iterdir()) == ["hyp.trn", "ref.trn", "result.txt"]
    result = (wer / "result.txt").read_text()
    found = [line.split() for line in result.splitlines() if "Avg" in line or "SPKR" in line][:2]
    assert found[0][:2] == ["|", "SPKR"]
    assert found[1] == ["|", "Sum/Avg|", "3", "4", "|", "50.0", "25.0", "25.0", "0.0", "50.0", "66.7", "|"]
    assert [line.split()[1] for line in result.splitlines() if line.lstrip().startswith("| s")][:3] == [
        "s.1",
        "s%2D2",
        "s_3",
    ]
    assert json.loads((tmp_path / "out/score.json").read_text()) == scores
    rates = dict(zip(("corr", "sub", "del", "ins", "err", "s_err"), (50.0, 25.0, 25.0, 0.0, 50.0, 66.7), strict=True))
    numbers = dict(zip(rates, (2, 1, 1, 0, 2, 2), strict=True))
    assert scores["wer"] == {"snt": 3, "wrd": 4, **rates, "counts": numbers}
    assert format_summary(scores, "out").splitlines()[1].split()[:4] == ["WER", "3", "4", "50.0"]


@needs_sclite
def test_speakers_named_like_rows_of_the_table(tmp_path):
    ref = {f"u{i}": "a b" for i in range(3)}
    scores = score(tmp_path, ref, {**ref, "u0": "a"}, {"u0": "Sum", "u1": "Sum/Avg", "u2": "Mean"})
    assert counts(scores) == [5, 0, 1, 0] and scores["wer"]["snt"] == 3 and scores["wer"]["err"] == 16.7


@needs_sclite
def test_token_error_rate(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    import sentencepiece

    text = write(tmp_path, "train", {f"t{i}": "turn on the light turn off the light now" for i in range(50)})
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tokens / "bpe"), vocab_size=27, model_type="unigram", minloglevel=2
    )
    (tokens / "tokens.txt").write_text("<blank>\n<unk>\n<sos/eos>\n")
    (tokens / "token_type").write_text("bpe\n")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokens / "bpe.model"))
    ref, hyp = {"u": "Turn on the light"}, {"u": "turn of the light"}
    scores = score(tmp_path, ref, hyp, token_dir=tokens)
    cut = [[piece.lower() for piece in pieces.encode(text["u"], out_type=str)] for text in (ref, hyp)]
    corr, sub, dele, ins = counts(scores, "ter")
    assert corr + sub + dele == len(cut[0]) and corr + sub + ins == len(cut[1])
    assert 4 * sub + 3 * (dele + ins) == nist_cost(*cut) > 0


REF = {"u1": "one", "u2": "two", "u3": "three"}
FAULTS = {
    "F23 missing": (
        "u1 one\nu3 three\n",
        [
            "{hyp}:0: u2: hypothesis is missing: decode it again (its reference is {ref}:2)",
            "1 problem(s), 0 warning(s)",
        ],
    ),
    "F24 empty": ("", ["{hyp}:0: -: hypothesis file is empty: decode again", "1 problem(s), 0 warning(s)"]),
    "F24 blank lines": ("\n \n", ["{hyp}:0: -: hypothesis file is empty: decode again", "1 problem(s), 0 warning(s)"]),
    "F25 extra and doubled": (
        "u1 one\nu2 two\nu3 three\nu4 four\nu2 two\nu5\n",
        [
            "{hyp}:5: u2: id is already on line 2: keep one line for each id",
            "{hyp}:4: u4: no such utterance in {ref}: decode the set that is scored, or remove the line",
            "{hyp}:6: u5: no such utterance in {ref}: decode the set that is scored, or remove the line",
            "3 problem(s), 0 warning(s)",
        ],
    ),
    "cut off": (
        "u1 one\nu2 two\nu3 thr",
        [
            "{hyp}:3: -: no newline at the end (cut off?): check the last line, add a newline",
            "1 problem(s), 0 warning(s)",
        ],
    ),
}


@needs_sclite
@pytest.mark.parametrize("fault", FAULTS)
def test_refused_with_every_id_and_nothing_left(tmp_path, fault):
    score(tmp_path, REF, REF)
    content, messages = FAULTS[fault]
    hyp = tmp_path / "hyp"
    hyp.write_text(content)
    names = {"ref": tmp_path / "ref", "hyp": hyp}
    command = [sys.executable, "-m", "espnet2_kd.bin.score", "--ref", names["ref"], "--hyp", hyp]
    command += ["--utt2spk", tmp_path / "utt2spk", "--output_dir", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [message.format(**names) for message in messages]
    assert not (tmp_path / "out/score.json").exists()
    write(tmp_path, "hyp", REF)
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert (tmp_path / "out/score.json").exists()


def test_all_missing_ids_are_listed(tmp_path):
    ref = {f"u{i:04d}": "a" for i in range(1000)}
    files = [
        write(tmp_path, "ref", ref),
        write(tmp_path, "hyp", {"u0000": "a"}),
        write(tmp_path, "utt2spk", {"u0001": "s"}),
    ]
    with pytest.raises(DataError) as caught:
        read_pairs(*files)
    whats = [problem.what for problem in caught.value.problems]
    assert whats.count("hypothesis is missing") == 999 and whats.count("speaker is missing") == 999


def test_references_without_a_word_are_refused(tmp_path):
    files = [write(tmp_path, name, {"u1": "", "u2": ""}) for name in ("ref", "hyp")]
    with pytest.raises(DataError, match="every reference is empty"):
        read_pairs(*files, write(tmp_path, "utt2spk", {"u1": "s", "u2": "s"}))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent:0: -: cannot be read \(No such file or directory\)"):
        read_pairs(
            write(tmp_path, "ref", REF), tmp_path / "absent", write(tmp_path, "utt2spk", dict.fromkeys(REF, "s"))
        )


def test_missing_sclite_gives_the_install_line(tmp_path, monkeypatch):
    """F40."""
    monkeypatch.delenv("KD_SCLITE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("espnet2_kd.report.sclite.DEBIAN_FOLDER", tmp_path)
    with pytest.raises(DataError) as caught:
        score(tmp_path, REF, REF)
    assert str(caught.value).splitlines()[0] == f"sclite:0: -: program not found: {INSTALL}"
    assert "sudo apt-get install sctk" in INSTALL
    assert not (tmp_path / "out").exists()


def test_sclite_is_the_chosen_one(tmp_path, monkeypatch):
    chosen = tmp_path / "sclite"
    chosen.write_text("#!/bin/sh\n")
    chosen.chmod(0o755)
    monkeypatch.setenv("KD_SCLITE", str(chosen))
    assert find_tool() == chosen
    with pytest.raises(DataError, match="sc_stats is no program"):
        find_tool("sc_stats")
    chosen.chmod(0o644)
    with pytest.raises(DataError, match=r"KD_SCLITE:0: -: .*sclite is no program: set it to the path of sclite"):
        find_tool()


def test_a_failing_sclite_is_reported(tmp_path, monkeypatch):
    chosen = tmp_path / "sclite"
    chosen.write_text("#!/bin/sh\necho 'Error: double reference text' >&2\nexit 0\n")
    chosen.chmod(0o755)
    monkeypatch.setenv("KD_SCLITE", str(chosen))
    with pytest.raises(DataError, match="sclite failed with status 0 Error: double reference text"):
        score(tmp_path, REF, REF)
    assert not (tmp_path / "out/score.json").exists() and not (tmp_path / "out/score_wer/result.txt").exists()


def test_other_text_is_no_result():
    with pytest.raises(ValueError, match="not the output of sclite"):
        parse_summary("Segmentation fault")


def test_help_imports_no_torch():
    code = "import sys\nfrom espnet2_kd.bin import score, report\n"
    code += "import espnet2_kd.report.score, espnet2_kd.report.results\n"
    code += "print(sorted({'torch', 'espnet2', 'espnet', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for verb in ("score", "report"):
        command = [sys.executable, "-m", f"espnet2_kd.bin.{verb}", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f"espnet2_kd.bin.{verb}" in done.stdout
