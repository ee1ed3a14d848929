"""``crosswind fit``: estimate cross-impact and compare it with the baselines."""

from __future__ import annotations

import argparse

from crosswind.cli.common import Outcome, data_options, progress_on_terminal, split_names, split_numbers

NAME = "fit"
HELP = "estimate cross-impact under all constraints, beside the baselines"
DESCRIPTION = (
    "Fit the impact matrices on all days but the last and score them, with every baseline, on the last.\n"
    "With --out FILE the fitted model is written there (npz), for crosswind schedule --model."
)
EXAMPLE = "crosswind fit --data sim:names=6 --half-lives 20,200 --out crosswind-out/model.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the estimator."""
    data_options(parser)
    parser.add_argument(
        "--half-lives", metavar="S,S", help="half-lives of the decay in seconds (default: 2, 20 and 200 buckets)"
    )
    parser.add_argument("--corr-bound", type=float, default=0.6, help="ρ of |K_ij| ≤ ρ√(K_ii K_jj) (default: 0.6)")
    parser.add_argument("--ridge", default="cv", help="penalty on cross terms, a number or cv (default: cv)")
    parser.add_argument("--out", metavar="FILE", help="write the fitted model (npz)")


def _ridge(word: str) -> float | str:
    """Return ``"cv"`` as it is, anything else as a number."""
    from crosswind.solvers.errors import InvalidInput

    try:
        return word if word == "cv" else float(word)
    except ValueError:
        raise InvalidInput("needs a number or cv", field="--ridge", value=word, remedy="write 1.0 or cv") from None


def execute(args: argparse.Namespace) -> Outcome:
    """Fit, compare and save."""
    from pathlib import Path

    from crosswind.problems.atomic import atomic_file, check_file
    from crosswind.problems.impact import CrossImpact
    from crosswind.problems.market import read
    from crosswind.problems.workflow.fitting import JOINT, estimators, fit_stage
    from crosswind.problems.workflow.run import split_days

    if args.out:
        check_file(Path(args.out))
    with progress_on_terminal(quiet=args.quiet) as progress:
        if progress:
            progress("read", 0.0)
        market = read(args.data, names=split_names(args.names, "--names"), bucket_s=args.bucket)
        train, test = split_days(market.events)
        if progress:
            progress("fit", 0.3)
        joint = CrossImpact(
            half_lives_s=split_numbers(args.half_lives, "--half-lives"),
            corr_bound=args.corr_bound,
            ridge=_ridge(args.ridge),
            sectors=None if market.truth is None else market.truth.sectors,
        )
        models = {**estimators(), JOINT: joint}
        stage = fit_stage(train, test, market.truth, models)
    if args.out:
        with atomic_file(args.out) as target:
            stage.model.save(target)
    text = [
        joint.summary(),
        "",
        "out-of-sample R² by name",
        stage.out_of_sample.to_string(float_format="{:.3f}".format),
    ]
    if stage.recovery is not None:
        text += ["", "distance to the truth", stage.recovery.to_string(float_format="{:.3f}".format)]
    text += list(stage.notes) + ([f"written to {args.out}"] if args.out else [])
    return Outcome(
        text="\n".join(text),
        payload={
            "data": market.source,
            "train_days": [str(d) for d in train.days],
            "test_days": [str(d) for d in test.days],
            "ridge": joint.ridge_,
            "suboptimality": joint.suboptimality_,
            "violations": joint.constraint_violations(),
            "out_of_sample": stage.out_of_sample,
            "recovery": stage.recovery,
            "notes": list(stage.notes),
            "out": args.out,
        },
    )
