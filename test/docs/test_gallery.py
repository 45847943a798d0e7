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


def test_every_recipe_is_in_the_gallery_with_its_numbers(docs_module):
    gallery = docs_module("gallery")
    recipes = gallery.find_recipes(ROOT)
    folders = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("egs2/*/*/run.sh")}
    assert {recipe.path for recipe in recipes} == folders
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    for recipe, row in zip(recipes, gallery.gallery_rows(ROOT, recipes), strict=True):
        report = ROOT / recipe.path / "RESULTS.md"
        if not report.is_file():
            assert row[3] == "not run"
            continue
        lines = [line for line in report.read_text(encoding="utf-8").splitlines() if "| distilled student" in line]
        scored = [re.split(r" *\| *", line.strip("| ")) for line in lines if re.search(r"[+-][\d.]+ % \|", line)]
        assert scored
        most = max(len(cells[2].split(",")) for cells in scored)
        wanted = [cells for cells in scored if len(cells[2].split(",")) == most]
        assert row[3].count("**") == 2 * len(wanted)
        for cells in wanted:
            assert f"{cells[3]} %, **{cells[6]}** ({cells[7]})" in row[3]
        synthetic = re.search(r"^## .*, synthetic speech", report.read_text(encoding="utf-8"), re.MULTILINE)
        assert ("(synthetic)" in row[3]) == bool(synthetic)


def test_a_heading_of_another_form_is_named(docs_module, tmp_path):
    readme = tmp_path / "egs2/x/asr1/README.md"
    readme.parent.mkdir(parents=True)
    readme.write_text("# x\n")
    with pytest.raises(ValueError, match=r"egs2/x/asr1/README\.md:1: heading '# x'"):
        docs_module("gallery").find_recipes(tmp_path)
