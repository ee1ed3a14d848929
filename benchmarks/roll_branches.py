"""Measure the roll's branch model on held-out sessions: reliability, costs' coverage, the mixture's tail, legging.

    python benchmarks/roll_branches.py            # print the page
    python benchmarks/roll_branches.py --write    # also write docs/roll/branches-measured.md and its figures

Sessions are simulated, calm and stressed, as the roll's replay draws them; the fit and the held-out sessions have
different seeds. Costs are currency per spread, positive: money lost. Times are CPU seconds.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pandas as pd

from crosswind.optim.tails import brier, log_loss, pinball_loss, tail_risk
from crosswind.problems.roll.branches import (
    BRANCHES,
    BranchForecaster,
    BranchSamples,
    LeggingCost,
    ProbingPolicy,
    branch_samples,
    simulated_samples,
)

ROOT = Path(__file__).resolve().parents[1]
FIT_DAYS, HELD_OUT_DAYS = 400, 300
FIT_SEED, HELD_OUT_SEED = 1, 2
REGIMES = {"green": "PRE_ROLL", "amber": "CROWDED", "red": "BASIS_STRESS", "safe": "DEADLINE"}
NAMES = {
    "spread_fill": "spread fill",
    "legged_fill": "legged fill",
    "partial_retry": "partial + retry",
    "forced_cross": "forced cross",
}
TIE = 1e-6  # costs are sums of ticks: what is equal but for rounding is equal
RECORDED = ("2013-12-18", "2013-12-02")


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def covered(cost: Any, quantile: Any) -> str:
    """Return the share at or below a quantile, with the share strictly below where ties make a difference."""
    at, below = float(np.mean(cost <= quantile + TIE)), float(np.mean(cost < quantile - TIE))
    return f"{at:.3f}" if at - below < 0.02 else f"{at:.3f} ({below:.3f} below)"


def probability_lines(forecaster: BranchForecaster, fit: BranchSamples, test: BranchSamples) -> list[str]:
    """Return slopes, Brier score with its parts, and the score of the frequencies of the fit."""
    scores = forecaster.model_.score(test)
    rows = [
        [
            NAMES[name],
            f"{line['frequency']:.1%}",
            f"**{line['slope']:.3f}**",
            f"{line['low']:.3f} … {line['high']:.3f}",
            f"{line['intercept']:+.4f}",
            f"{line['error']:.4f}",
        ]
        for name, line in scores.to_frame().iterrows()
    ]
    usual = np.bincount(fit.branch, minlength=len(BRANCHES)) / len(fit)
    climate = np.tile(usual, (len(test), 1))
    by_regime = np.vstack(
        [
            np.bincount(fit.branch[fit.regime == kind], minlength=len(BRANCHES)) / (fit.regime == kind).sum()
            for kind in REGIMES
        ]
    )[[list(REGIMES).index(kind) for kind in test.regime]]
    raw = forecaster.model_.logistic_.predict_proba(forecaster.model_._basis(test.features))
    b = scores.brier
    compared = [
        ["the model", f"{b.score:.4f}", f"{b.skill:.1%}", f"{scores.log_loss:.4f}"],
        ["before its calibration", *_pair(raw, test)],
        ["frequencies by regime", *_pair(by_regime, test)],
        ["frequencies (climatology)", *_pair(climate, test)],
    ]
    return [
        *table(["branch", "frequency", "slope", "95 % interval", "intercept", "calibration error"], rows),
        "",
        "The slope is that of the least-squares line of outcome on probability, its interval is over whole sessions. "
        "Asked: 0.9 to 1.1.",
        "",
        *table(["probabilities", "Brier", "skill", "log loss"], compared),
        "",
        f"Brier {b.score:.4f} = reliability {b.reliability:.4f} − resolution {b.resolution:.4f} + uncertainty "
        f"{b.uncertainty:.4f} + within bins {b.within:+.4f}.",
        "",
        "![Reliability of the branch probabilities](../img/roll-branches-reliability.png)",
        "",
    ]


def _pair(P: Any, test: BranchSamples) -> list[str]:
    score = brier(P, test.branch)
    return [f"{score.score:.4f}", f"{score.skill:.1%}", f"{log_loss(P, test.branch):.4f}"]


def cost_lines(forecaster: BranchForecaster, test: BranchSamples) -> list[str]:
    """Return the coverage of q50, q90, q95 by branch and regime."""
    laws = forecaster.costs_.laws(test)
    means = forecaster.costs_.mean(test)
    rows = []
    for k, name in enumerate(BRANCHES):
        for kind, label in {"": "all", **REGIMES}.items():
            inside = (test.branch == k) & ((test.regime == kind) if kind else True)
            n = int(inside.sum())
            if n < 30:
                continue
            cost = test.cost[inside]
            shares = [covered(cost, laws[name].quantile(level)[inside]) for level in (0.5, 0.9, 0.95)]
            mean = [f"{cost.mean():.2f}", f"{means[inside, k].mean():.2f}"]
            rows.append([NAMES[name] if not kind else "", label, f"{n:,}", *shares, *mean])
    return table(["branch", "regime", "decisions", "≤ q50", "≤ q90", "≤ q95", "mean cost", "foreseen"], rows)


def mixture_lines(forecaster: BranchForecaster, test: BranchSamples) -> tuple[list[str], str]:
    """Return the coverage of the mixture's q95 against Σ P·q95, by how likely the spread fill is."""
    f = forecaster.predict(test)
    p = f.probabilities["spread_fill"].to_numpy()
    edges = (0.0, 0.2, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
    rows = []
    for low, high in [(0.0, 1.0), *pairwise(edges)]:
        inside = (p >= low) & ((p < high) | (high == 1.0))
        cost, over = test.cost[inside], test.cost[inside] > f.q95[inside]
        rows.append(
            [
                "all" if high - low == 1.0 else f"{low:g} … {high:g}",
                f"{int(inside.sum()):,}",
                *(covered(cost, q[inside]) for q in (f.q50, f.q90, f.q95)),
                covered(cost, f.naive_q95[inside]),
                f"{f.q95[inside].mean():.1f} / {f.naive_q95[inside].mean():.1f}",
                f"{cost[over].mean():.1f} / {f.cvar95[inside][over].mean():.1f}",
                f"{cost.mean():.2f} / {f.mean[inside].mean():.2f}",
            ]
        )
    worst = []
    for quantile in (f.q95, f.naive_q95):
        bins = pd.qcut(f.q95, 10, labels=False, duplicates="drop")
        shares = pd.Series(test.cost <= quantile + TIE).groupby(bins).mean()
        worst.append(f"{shares.min():.3f} … {shares.max():.3f}")
    losses = [float(pinball_loss(q[:, None], test.cost, 0.95)[0]) for q in (f.q95, f.naive_q95)]
    text = (
        f"By tenths of the forecast q95, coverage lies in {worst[0]} for the mixture and in {worst[1]} for Σ P·q95; "
        f"mean pinball loss at 0.95: {losses[0]:.3f} against {losses[1]:.3f}."
    )
    head = [
        *("P(spread fill)", "decisions", "≤ q50", "≤ q90", "≤ q95", "≤ Σ P·q95", "mean q95 / Σ P·q95"),
        *("beyond q95: came / CVaR95", "mean: came / Ĉ"),
    ]
    whole = tail_risk(test.cost, 0.95, groups=test.day)
    return table(head, rows), text + f" All held-out decisions together: {whole.summary()}."


def legging_lines(model: LeggingCost, test: BranchSamples) -> list[str]:
    """Return E[C | LET] of the model and its coverage on held-out sessions, by class of LET."""
    rows = []
    legged = test.select(np.isfinite(test.let_s))
    sigma = legged.features["leg_move"].to_numpy() / np.sqrt(np.exp(legged.features["log_max_let"].to_numpy()))
    found = model.predict(legged.let_s, sigma)
    for low, high in ((0, 1e9), (0, 15), (15, 30), (30, 60), (60, 120), (120, 1e9)):
        inside = (legged.let_s > low) & (legged.let_s <= high)
        y, p = legged.legging[inside], found[inside]
        risk = tail_risk(y, 0.95, groups=legged.day[inside])
        rows.append(
            [
                "all" if low == 0 and high == 1e9 else f"{low} … {high}" if high < 1e9 else f"> {low}",
                f"{len(y):,}",
                f"{y.mean():.1f} / {p['mean'].mean():.1f}",
                *(covered(y, p[name].to_numpy()) for name in ("q50", "q90", "q95")),
                f"{risk.var:.0f} / {p['q95'].mean():.0f}",
                "{:.0f} [{:.0f}, {:.0f}] / {:.0f}".format(risk.cvar, *risk.cvar_interval, p["cvar95"].mean()),
            ]
        )
    head = [
        "LET [s]",
        "decisions",
        "mean: came / E",
        "≤ q50",
        "≤ q90",
        "≤ q95",
        "q95: came / mean of it",
        "CVaR95: came / mean of it",
    ]
    return table(head, rows)


def recorded_lines(forecaster: BranchForecaster) -> list[str]:
    """Return how the model that was fitted on simulated sessions does on recorded ES days, spread book made up."""
    from crosswind.problems.roll.replay import real_roll_day
    from crosswind.solvers.errors import DataGap

    folder = Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data")) / "lean"
    try:
        days = [real_roll_day(day, "09:00", "15:00", 100, data=folder, history_s=1800.0) for day in RECORDED]
    except DataGap as gap:
        return [f"Left out: {gap.message}."]
    samples = branch_samples([day.market for day in days], ProbingPolicy(probes=400), 3, labels=list(RECORDED))
    scores = forecaster.model_.score(samples)
    f = forecaster.predict(samples)
    b = scores.brier
    rows = [
        [NAMES[name], f"{line['frequency']:.1%}", f"{f.probabilities[name].mean():.1%}", f"{line['slope']:.2f}"]
        for name, line in scores.to_frame().iterrows()
    ]
    return [
        f"{len(samples)} decisions on {', '.join(RECORDED)} (ES, minutes; spread book {days[0].market.source}); Brier "
        f"{b.score:.3f}, skill {b.skill:.0%}; cost ≤ q95 in {covered(samples.cost, f.q95)}:",
        "",
        *table(["branch", "came", "mean probability", "slope"], rows),
    ]


def page(images: Path | None) -> str:
    """Return the page; the figures go to ``images``."""
    clock = time.process_time()
    fit = simulated_samples(FIT_DAYS, seed=FIT_SEED)
    drawn_s = time.process_time() - clock
    test = simulated_samples(HELD_OUT_DAYS, seed=HELD_OUT_SEED)
    clock = time.process_time()
    forecaster = BranchForecaster().fit(fit)
    fit_s = time.process_time() - clock
    legging = LeggingCost().fit(fit)
    clock = time.process_time()
    one = test.features.iloc[:1]
    for _ in range(20):
        forecaster.predict(one)
    single_ms = 1e3 * (time.process_time() - clock) / 20
    if images is not None:
        forecaster.model_.score(test).plot().write_image(
            images / "roll-branches-reliability.png", width=900, height=560
        )
        legging.plot().write_image(images / "roll-branches-legging.png", width=900, height=520)
    mixture, mixture_text = mixture_lines(forecaster, test)
    certificate = forecaster.model_.logistic_.certificate_
    programs = max(q.certificate_.worst for q in forecaster.costs_.quantiles_.values())
    lines = [
        "# The branch model, measured",
        "",
        "Printed by `python benchmarks/roll_branches.py --write`; [the guide](branches.md) says what the words mean. "
        "Costs are currency per spread of ES, positive: money lost. The sessions are simulated, as no exchange-quoted "
        "spread book is at hand, but for those at the end.",
        "",
        f"Fit: {FIT_DAYS} sessions (seed {FIT_SEED}), {len(fit):,} decisions, drawn in {drawn_s:.0f} CPU s "
        f"({len(fit) / drawn_s * 60:,.0f} a minute). Held out: {HELD_OUT_DAYS} sessions (seed {HELD_OUT_SEED}), "
        f"{len(test):,} decisions. Fit of probabilities and costs: {fit_s:.0f} CPU s; ridge "
        f"{forecaster.model_.logistic_.ridge_:g} by cross-validation, gradient {certificate.gradient:.0e}; largest "
        f"relative residual of the quantile programs {programs:.0e}. A forecast of one decision: {single_ms:.0f} ms.",
        "",
        "```text",
        test.summary(),
        "```",
        "",
        "## Probabilities",
        "",
        *probability_lines(forecaster, fit, test),
        "## Costs by branch",
        "",
        "Share of the held-out costs at or below the quantile; where many costs are the same to the tick, also the "
        "share strictly below: the level then lies between the two. The last columns are the mean cost and the mean of "
        "the forecasts.",
        "",
        *cost_lines(forecaster, test),
        "",
        *(f"- {line}" for line in forecaster.costs_.summary().splitlines()),
        "",
        "## The mixture's tail",
        "",
        *mixture,
        "",
        mixture_text,
        "",
        "## Cost of waiting for the second leg",
        "",
        *legging_lines(legging, test),
        "",
        "At the median volatility: " + legging.summary().replace("\n  ", "; ") + ".",
        "",
        "![Cost of waiting for the second leg, with its tail](../img/roll-branches-legging.png)",
        "",
        "## Recorded days",
        "",
        *recorded_lines(forecaster),
        "",
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy "
        f"{metadata.version('numpy')}, scipy {metadata.version('scipy')}, piqp {metadata.version('piqp')}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page; with ``--write`` put it and its figures into the docs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/roll/branches-measured.md and its figures")
    asked = parser.parse_args()
    text = page(ROOT / "docs" / "img" if asked.write else None)
    print(text)
    if asked.write:
        (ROOT / "docs" / "roll" / "branches-measured.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
