"""Write RESULTS.md from trained, decoded and scored experiments."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet2_kd.bin.command import end, number, true_or_false
from espnet2_kd.report.page.options import add_page_options, page_options


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_kd.bin.report",
        description="Teacher, student without distillation and distilled students side by side: error rates over "
        "seeds, significance, size and latency, with the commands and the environment that made them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--exp_dirs", required=True, help='experiments, globs allowed, as "exp/asr_*"')
    parser.add_argument("--inference_tag", required=True, help="as decode_decode_valid.loss_transducer.ave")
    parser.add_argument("--test_sets", required=True, help='names, as "test_clean test_other"')
    parser.add_argument("--output", default="RESULTS.md", help="the report")
    parser.add_argument("--json", default="exp/report/results.json", help="the same numbers for programs")
    parser.add_argument(
        "--title", default=Path.cwd().parent.name, help="heading of the report: in a recipe, without one, its corpus"
    )
    parser.add_argument("--synthetic", type=true_or_false, default=False, help="the test speech is synthetic: say so")
    parser.add_argument("--baseline", help="config name that changes are measured from (default: the first student)")
    parser.add_argument(
        "--cluster", choices=("auto", "speaker", "utterance"), default="auto", help="unit of the bootstrap"
    )
    parser.add_argument(
        "--metric",
        choices=("auto", "wer", "cer"),
        default="auto",
        help="what systems are compared by; auto: characters where a language has no blanks between words, else words",
    )
    parser.add_argument("--bootstrap_samples", type=number(), default=2000, help="draws of the bootstrap")
    add_page_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    import json

    from espnet2_kd.data.problems import one_problem
    from espnet2_kd.data.progress import tracked
    from espnet2_kd.data.table import replacing
    from espnet2_kd.report.comparison import choose_base, compare
    from espnet2_kd.report.experiments import find_experiments, read_systems
    from espnet2_kd.report.metric import METRICS
    from espnet2_kd.report.results import closing_table, render

    test_sets = args.test_sets.split()
    shown = page_options(args, test_sets)
    paths, missing = find_experiments(args.exp_dirs.split())
    if not paths:
        raise one_problem(args.exp_dirs, "no experiment with a run.json", "train first, or correct --exp_dirs")
    systems = read_systems(paths, args.inference_tag, test_sets)
    if not any(system.scored(name) for system in systems for name in test_sets):
        what = f"no system has a score of {' or '.join(test_sets)} in {args.inference_tag}"
        raise one_problem(args.exp_dirs, what, "score first, or correct --test_sets or --inference_tag")
    base = choose_base(systems, args.baseline)
    cluster = None if args.cluster == "auto" else args.cluster
    metric = None if args.metric == "auto" else METRICS[args.metric]
    comparisons = [
        compare(systems, name, base, cluster, args.bootstrap_samples, metric)
        for name in tracked("compare systems", test_sets)
    ]
    with replacing(args.output) as stream:
        stream.write(render(comparisons, systems, missing, args.inference_tag, args.title, args.synthetic))
    with replacing(args.json) as stream:
        json.dump([comparison.to_dict() for comparison in comparisons], stream, indent=2, allow_nan=False)
        stream.write("\n")
    print(closing_table(comparisons, args.output, args.synthetic))
    if args.page:
        from espnet2_kd.report.page.asr_page import asr_page
        from espnet2_kd.report.page.document import render as render_page

        page = asr_page(comparisons, systems, missing, args.title, args.synthetic, shown)
        with replacing(args.page) as stream:
            stream.write(render_page(page))
        print(f"page: {args.page}")


if __name__ == "__main__":
    end(main)
