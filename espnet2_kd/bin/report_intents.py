"""Write RESULTS.md from trained and scored intent classifiers."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet2_kd.bin.command import end, true_or_false
from espnet2_kd.report.page.options import add_page_options, page_options


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.report_intents",
        description="Text and speech classifiers side by side, clean and at every SNR: exact match over seeds, changes "
        "and their significance, slots, size, with the commands and the environment that made them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--exp_dirs", required=True, help='<system>_seed<number>, globs allowed, as "exp/text_* exp/intent_*"'
    )
    parser.add_argument("--tag", required=True, help="folder of the labels in an experiment, as predict_valid.acc.ave")
    parser.add_argument(
        "--test_sets",
        required=True,
        help='names, noisy copies as <set>_<noise>_<snr>db: "test test_babble_10db test_white_0db"',
    )
    parser.add_argument("--output", default="RESULTS.md", help="the report")
    parser.add_argument(
        "--json",
        default="exp/report/results.json",
        help="the same numbers for programs, with accuracy_<noise>.png beside it",
    )
    parser.add_argument(
        "--title", default=Path.cwd().parent.name, help="heading of the report: in a recipe, without one, its corpus"
    )
    parser.add_argument("--synthetic", type=true_or_false, default=False, help="the test speech is synthetic: say so")
    parser.add_argument(
        "--baseline",
        help="system that changes are measured from, as intent_train_none (default: the first without distillation)",
    )
    add_page_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    import json

    from espnet2_kd.data.problems import one_problem
    from espnet2_kd.data.progress import tracked
    from espnet2_kd.data.table import replacing
    from espnet2_kd.report.comparison import choose_base
    from espnet2_kd.report.intent_comparison import compare
    from espnet2_kd.report.intent_conditions import read_conditions
    from espnet2_kd.report.intent_experiments import find_intent_experiments, read_intent_systems
    from espnet2_kd.report.intent_results import closing_table, draw, render, to_dict

    conditions = read_conditions(args.test_sets.split())
    if not conditions:
        raise one_problem("--test_sets", "no set is named", 'give names, as "test test_babble_10db"')
    shown = page_options(args, args.test_sets.split())
    paths, missing = find_intent_experiments(args.exp_dirs.split())
    if not paths:
        raise one_problem(args.exp_dirs, "no directory <system>_seed<number>", "train first, or correct --exp_dirs")
    systems = read_intent_systems(paths, args.tag, [condition.test_set for condition in conditions], missing)
    if not any(system.scored(condition.test_set) for system in systems for condition in conditions):
        what = f"no system has a score of {args.test_sets} in {args.tag}"
        raise one_problem(args.exp_dirs, what, "score first, or correct --test_sets or --tag")
    base = choose_base(systems, args.baseline)
    comparisons = [compare(systems, condition, base, args.tag) for condition in tracked("compare systems", conditions)]
    with replacing(args.output) as stream:
        stream.write(render(comparisons, systems, missing, args.tag, args.title, args.synthetic))
    draw(comparisons, Path(args.json).parent)
    with replacing(args.json) as stream:
        json.dump(to_dict(comparisons, systems, missing, args.tag), stream, indent=2, allow_nan=False)
        stream.write("\n")
    print(closing_table(comparisons, args.output, args.synthetic))
    if args.page:
        from espnet2_kd.report.page.document import render as render_page
        from espnet2_kd.report.page.intent_page import intent_page

        page = intent_page(comparisons, systems, missing, args.tag, args.title, args.synthetic, shown)
        with replacing(args.page) as stream:
            stream.write(render_page(page))
        print(f"page: {args.page}")


if __name__ == "__main__":
    end(main)
