"""The gallery says what the results files say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = """# RESULTS

## quiet: 10 utterances, 20 words

| system | role | seeds | WER % | per seed | CER % | WER change | 95 % interval | MAPSSWE p |
| :-- | :-- | --: | --: | --: | --: | --: | --: | --: |
| big | teacher | 1 | 5.00 | 5.00 | 1.00 | -50.0 % | -60.0 % .. -40.0 % | 0.010 * |
| plain | student, no distillation | 1, 2, 3 | 10.00 ± 1.00 | 9.00, 10.00, 11.00 | 2.00 | base | - | - |
| once † | distilled student | 1 | 4.00 | 4.00 | 2.00 | -60.0 % | -70.0 % .. -50.0 % | 0.010 * |
| thrice | distilled student | 1, 2, 3 | 9.00 ± 1.00 | 8.00, 9.00, 10.00 | 2.00 | -10.0 % | -20.0 % .. +1.0 % | 0.050 * |

| system | role | parameters |
| :-- | :-- | --: |
| thrice | distilled student | 1.00 M |

## noisy, synthetic speech: 10 utterances, 20 words

| system | role | seeds | WER % | per seed | CER % | WER change | 95 % interval | MAPSSWE p |
| :-- | :-- | --: | --: | --: | --: | --: | --: | --: |
| plain | student, no distillation | 1 | 30.00 | 30.00 | 2.00 | base | - | - |
| thrice | distilled student | - | not scored | - | - | - | - | - |
"""


def test_gains_are_those_of_the_systems_with_most_seeds(docs_module):
    gallery = docs_module("gallery")
    (gain,) = gallery.read_gains(RESULTS)
    assert (gain.test_set, gain.system, gain.seeds, gain.synthetic) == ("quiet", "thrice", "1, 2, 3", False)
    assert (gain.before, gain.after, gain.change) == ("10.00 ± 1.00", "9.00 ± 1.00", "-10.0 %")
    assert gain.interval == "-20.0 % .. +1.0 %"


CHARACTERS = """## test: 10 utterances, 90 characters

| system | role | seeds | CER % | per seed | CER change | 95 % interval | MAPSSWE p |
| :-- | :-- | --: | --: | --: | --: | --: | --: |
| plain | student, no distillation | 1, 2 | 6.00 ± 1.00 | 5.00, 7.00 | base | - | - |
| acd | distilled student | 1, 2 | 5.40 ± 1.00 | 5.00, 5.80 | -10.0 % | -12.0 % .. -8.0 % | 0.010 * |
"""


def test_gains_in_characters_where_these_are_compared(docs_module):
    (gain,) = docs_module("gallery").read_gains(CHARACTERS)
    assert (gain.metric, gain.before, gain.after) == ("CER", "6.00 ± 1.00", "5.40 ± 1.00")
    assert (gain.change, gain.interval) == ("-10.0 %", "-12.0 % .. -8.0 %")


INTENTS = """# RESULTS

## test, synthetic speech: 90 utterances

### test, change against none

| set | system | seeds | points | 95 % interval | seeds p | lost:won | utterances p |
| :-- | :-- | --: | --: | --: | --: | --: | --: |
| test | gru | 1, 2, 3 | -1.00 | -2.00 .. +0.00 | 0.100 n.s. | 3:1 | 0.100 n.s. |
| test | std † | 1, 2 | +4.00 | +3.00 .. +5.00 | 0.010 * | 1:5 | 0.010 * |
| test | once | 1 | +9.00 | - | - | 1:9 | 0.010 * |
| test_babble_0db | std † | 1, 2 | +7.00 | +6.00 .. +8.00 | 0.010 * | 1:8 | 0.010 * |

## Systems

| system | input | seeds | parameters | training | config |
| :-- | :-- | --: | --: | --: | --: |
| none | speech, no distillation | 1, 2, 3 | 1.00 M | 1 min | conf/none.yaml |
| gru | speech | 1, 2, 3 | 1.00 M | 1 min | conf/gru.yaml |
| std † | speech, distilled | 1, 2 | 1.00 M | 1 min | conf/std.yaml |
| once | speech, distilled | 1 | 1.00 M | 1 min | conf/once.yaml |
"""


def test_points_are_those_of_distilled_classifiers_in_quiet(docs_module):
    wanted = "`std`, test (synthetic), 2 seeds: **+4.00** points of accuracy (+3.00 .. +5.00)"
    assert docs_module("gallery").read_points(INTENTS) == [wanted]


def test_the_reports_call_their_systems_so(docs_module):
    from espnet2_kd.report.intent_results import ROLE_NAMES as INTENT_ROLES
    from espnet2_kd.report.results import ROLE_NAMES

    assert docs_module("gallery").DISTILLED_INTENTS == INTENT_ROLES["distilled"]
    assert [role for role in ROLE_NAMES.values() if role.startswith("distilled")] == [ROLE_NAMES["distilled"]]


def test_every_recipe_is_in_the_gallery_with_its_numbers(docs_module):
    gallery = docs_module("gallery")
    recipes = gallery.find_recipes(ROOT)
    folders = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("egs2/*/*/run.sh")}
    assert {recipe.path for recipe in recipes} == folders
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    for recipe, row in zip(recipes, gallery.gallery_rows(ROOT, recipes), strict=True):
        reports = sorted((ROOT / recipe.path).glob("RESULTS*.md"))
        if not reports:
            assert row[3] == "not run"
            continue
        wanted, synthetic = [], False
        for report in reports:
            text = report.read_text(encoding="utf-8")
            synthetic |= bool(re.search(r"^## .*, synthetic speech", text, re.MULTILINE))
            if recipe.task == "slu1":
                quiet = re.search(r"^## ([^,:]+)", text, re.MULTILINE)[1]
                distilled = re.findall(r"^\| (\S+) +\| speech, distilled ", text, re.MULTILINE)
                for name in distilled:
                    cells = re.search(
                        rf"^\| {quiet} +\| {name} +\| +[\d, ]+ \| +([+-][\d.]+) \| +(\S+ \.\. \S+|-) ",
                        text,
                        re.MULTILINE,
                    )
                    wanted.append(f"**{cells[1]}** points of accuracy ({cells[2]})")
                continue
            lines = [line for line in text.splitlines() if "| distilled student" in line]
            scored = [re.split(r" *\| *", line.strip("| ")) for line in lines if re.search(r"[+-][\d.]+ % \|", line)]
            if not scored:
                assert lines and not re.search(r"\d", "".join(lines)) and "without distillation only" in row[3]
                continue
            most = max(len(cells[2].split(",")) for cells in scored)
            best = [cells for cells in scored if len(cells[2].split(",")) == most]
            wanted += [f"{cells[3]} %, **{cells[6]}** ({cells[7]})" for cells in best]
        assert row[3].count("**") == 2 * len(wanted)
        for numbers in wanted:
            assert numbers in row[3]
        assert ("(synthetic)" in row[3]) == synthetic


def test_a_heading_of_another_form_is_named(docs_module, tmp_path):
    readme = tmp_path / "egs2/x/asr1/README.md"
    readme.parent.mkdir(parents=True)
    readme.write_text("# x\n")
    with pytest.raises(ValueError, match=r"egs2/x/asr1/README\.md:1: heading '# x'"):
        docs_module("gallery").find_recipes(tmp_path)
