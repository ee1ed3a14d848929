"""``crosswind fit``: estimate cross-impact, compare it with the baselines, calibrate and promote."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from crosswind.cli.common import (
    EXIT_FALLBACK,
    EXIT_GUARD,
    EXIT_OK,
    Outcome,
    data_options,
    progress_on_terminal,
    split_names,
    split_numbers,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

NAME = "fit"
HELP = "estimate cross-impact under all constraints, beside the baselines; calibrate and promote"
DESCRIPTION = (
    "Fit the impact matrices on all days but the last and score them, with every baseline, on the last.\n"
    "With --out FILE the fitted model is written there (npz), for crosswind schedule --model.\n"
    "\n"
    "--calibrate measures every estimator on all days but the last by purged time blocks, with resampled intervals,\n"
    "costs on held-out halves, stability and drift. --promote picks what these support, be it a model without cross\n"
    "terms, and holds it against own flow on the last day. --out DIR then gets calibration.html, summary.json, tables\n"
    "and model.npz. Exit codes: 3 where no candidate may be promoted, or the promoted one is worse than own flow on\n"
    "the last day by more than its interval (no model is written then); 4 where the joint fit failed and another one\n"
    "stands in."
)
EXAMPLE = "crosswind fit --data sim:names=4,days=3,close_local=11:00 --promote --out crosswind-out/calibration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the estimator and of its calibration."""
    data_options(parser)
    parser.add_argument(
        "--half-lives", metavar="S,S", help="half-lives of the decay in seconds (default: 2, 20 and 200 buckets)"
    )
    parser.add_argument("--corr-bound", type=float, default=0.6, help="ρ of |K_ij| ≤ ρ√(K_ii K_jj) (default: 0.6)")
    parser.add_argument("--ridge", default="cv", help="penalty on cross terms, a number or cv (default: cv)")
    parser.add_argument("--out", metavar="PATH", help="write the fitted model (npz); with --calibrate a folder")
    parser.add_argument("--calibrate", action="store_true", help="cross-validate, resample and account out of sample")
    parser.add_argument("--promote", action="store_true", help="calibrate, and pick what the data support")
    parser.add_argument("--folds", type=int, default=5, help="time blocks of the calibration (default: 5)")
    parser.add_argument("--draws", type=int, default=100, help="resampled refits of the calibration (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling (default: 0)")


def _ridge(word: str) -> float | str:
    """Return ``"cv"`` as it is, anything else as a number."""
    from crosswind.solvers.errors import InvalidInput

    try:
        return word if word == "cv" else float(word)
    except ValueError:
        raise InvalidInput("needs a number or cv", field="--ridge", value=word, remedy="write 1.0 or cv") from None


def execute(args: argparse.Namespace) -> Outcome:
    """Fit, compare and save; or calibrate, promote and save."""
    return _calibrate(args) if args.calibrate or args.promote else _fit(args)


def _fit(args: argparse.Namespace) -> Outcome:
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


def _calibrate(args: argparse.Namespace) -> Outcome:
    from pathlib import Path

    from crosswind.problems.atomic import check_target
    from crosswind.problems.impact.calibrate import calibrate, default_estimators, promote
    from crosswind.problems.market import read
    from crosswind.problems.workflow.run import split_days

    if args.out:
        check_target(Path(args.out))
    with progress_on_terminal(quiet=args.quiet) as progress:
        if progress:
            progress("read", 0.0)
        market = read(args.data, names=split_names(args.names, "--names"), bucket_s=args.bucket)
        train, test = split_days(market.events)
        sectors = None if market.truth is None else market.truth.sectors
        found = calibrate(
            train,
            default_estimators(
                half_lives_s=split_numbers(args.half_lives, "--half-lives"),
                corr_bound=args.corr_bound,
                ridge=_ridge(args.ridge),
                sectors=sectors,
            ),
            folds=args.folds,
            draws=args.draws,
            truth=market.truth,
            sectors=sectors,
            seed=args.seed,
            progress=progress,
        )
    decision = promote(found) if args.promote else None
    verified = None if decision is None else decision.verify(test)
    holds = verified is None or bool(verified["holds"].iloc[0])
    text = [found.summary()]
    payload: dict[str, Any] = {
        "data": market.source,
        "train_days": [str(d) for d in train.days],
        "test_days": [str(d) for d in test.days],
        "settings": found.settings,
        "candidates": found.to_frame(),
        "out_of_sample": _records(found.out_of_sample()),
        "differences": _records(found.differences()),
        "costs": found.costs,
        "halves": found.halves,
        "drift": found.drift,
        "errors": dict(found.errors),
        "out": args.out,
    }
    if decision is not None and verified is not None:
        verdict = "holds" if holds else "REFUSED: worse than own flow by more than its interval"
        text += ["", decision.summary(), "", f"on {test.days[0]} against {decision.baseline[0]}: {verdict}"]
        text.append(verified.to_string(float_format="{:.4f}".format))
        payload |= {
            "promoted": decision.choice,
            "decision": decision.to_frame(),
            "rule": dict(decision.rule),
            "verified": verified,
            "holds": holds,
        }
    if args.out:
        _write(Path(args.out), found, decision, holds, verified, payload)
        text += ["", f"written to {args.out}"]
    code = EXIT_OK if found.main in found.scores.held else EXIT_FALLBACK
    return Outcome("\n".join(text), payload, code if holds else EXIT_GUARD)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table with several index levels as objects."""
    return [{str(k): v for k, v in row.items()} for row in table.reset_index().to_dict(orient="records")]


def _write(
    folder: Path, found: Any, decision: Any, holds: bool, verified: pd.DataFrame | None, payload: dict[str, Any]
) -> None:
    """Write the page, the tables and what was decided; the folder appears whole or not at all."""
    from crosswind.problems.atomic import atomic_directory
    from crosswind.problems.workflow.output import write_json, write_tables
    from crosswind.solvers.errors import MissingDependency

    tables = found.tables()
    if decision is not None and verified is not None:
        tables |= {"decision": decision.to_frame(), "verified": verified}
    with atomic_directory(folder) as work:
        write_json(work / "summary.json", payload)
        write_tables(work / "tables", tables)
        if decision is not None and holds:
            decision.model.save(work / "model.npz")
        try:
            found.to_html(work / "calibration.html", decision)
        except MissingDependency as error:  # tables need no plotly
            (work / "calibration.txt").write_text(f"no page: {error}\n\n{found.summary()}\n", encoding="utf-8")
