"""Whether the joint fit schedules better than what a desk would fit instead, and what choosing penalties by cost adds.

    python benchmarks/impact_study.py                 # print the page (about a quarter of an hour on one core)
    python benchmarks/impact_study.py --write         # also write docs/impact-study.md
    python benchmarks/impact_study.py --jobs 4        # the same page, seeds in parallel
    python benchmarks/impact_study.py --seeds 3 --names 8   # a look
    python benchmarks/impact_study.py --rows rows.csv --write   # go on where the file ends; a new model is added to it

Simulated flow, factors and noise; the impact is planted, so that the truth is known and can be separable or not.
Every figure and every sentence with a result in it is made from the numbers.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pandas as pd

from crosswind.problems.impact import (
    CrossImpact,
    DiagonalNNLS,
    ImpactModel,
    KyleImpact,
    SeparableImpact,
    make_dictionary,
    recovery,
)
from crosswind.problems.impact.assemble import SPLIT_GRID
from crosswind.problems.impact.calibrate import TunedHeuristic
from crosswind.problems.impact.decision import calibrate_decision, draw_parents
from crosswind.problems.market import MarketEvents, SimulatedTruth, simulate
from crosswind.solvers.errors import CrosswindError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "impact-study.md"
FIRST_SEED = 500  # seeds below were looked at while the methods were designed
LIVES_S = (30.0, 600.0)
BUCKET_S, DAYS = 30.0, 3
SIZES = {8: 2, 20: 4, 50: 5}  # names: sectors
R2 = (0.10, 0.03)
TRUTHS = ("separable", "not separable")
JOINT, SPLIT = "joint, ridge by CV", "joint, ridge and split by CV"
ROBUST = "joint, robust, ridge and pool by CV"
MONEY, BARE = "joint, ridge by cost", "joint, no penalty"
HEURISTIC, DIAGONAL, KYLE, SEPARABLE = "heuristic, tuned", "diagonal", "Kyle", "separable"
OWN = "diagonal, robust"
MODELS = (JOINT, SPLIT, ROBUST, MONEY, BARE, HEURISTIC, DIAGONAL, OWN, KYLE, SEPARABLE)
RIDGES = (0.3, 3.0, 30.0)  # of every choice
LEVEL = 0.9


# -- worlds -----------------------------------------------------------------------------------------------------------
def kernel_of(sectors: pd.Series, size: np.ndarray, separable: bool, rng: np.random.Generator) -> np.ndarray:
    """Return K (2, N, N) for the half-lives of 30 s and 600 s, in arbitrary units: one shape for all, or none alike.

    Separable: K_m = w_m DCD, C with levels within and across sectors whose loadings vary by name. Not separable: each
    name has its own split between fast and slow impact, and the fast cross terms are the market's, the slow ones the
    sector's. Both stay below a correlation of 0.6 and are PSD: loadings squared plus a diagonal rest.
    """
    n = len(sectors)
    same = sectors.to_numpy()[:, None] == sectors.to_numpy()[None, :]
    vary = 1.0 + 0.2 * rng.uniform(-1.0, 1.0, (2, n))
    levels = ((0.12, 0.23), (0.12, 0.23)) if separable else ((0.25, 0.05), (0.03, 0.40))
    fast = np.full(n, 0.6) if separable else rng.uniform(0.25, 0.85, n)
    out = np.empty((2, n, n))
    for m, ((across, within), share) in enumerate(zip(levels, (fast, 1.0 - fast), strict=True)):
        a, b = np.sqrt(across) * vary[0], np.sqrt(within) * vary[1]
        C = np.outer(a, a) + same * np.outer(b, b)
        np.fill_diagonal(C, 1.0)
        root = np.sqrt(size * share)
        out[m] = C * np.outer(root, root)
    return out


def plant(names: int, sectors: int, truth: str, r2: float, seed: int) -> tuple[MarketEvents, SimulatedTruth]:
    """Return events whose returns carry a planted impact, and its truth.

    Flow, factors, volatility and noise are the simulator's, without impact of its own. Impact explains ``r2`` of the
    variance of returns after factors, mean over names.
    """
    market = simulate(names=names, sectors=sectors, days=DAYS, bucket_s=BUCKET_S, seed=seed, impact_r2=0.0)
    assert market.truth is not None
    events, rng = market.events, np.random.default_rng([seed, 7])
    dictionary = make_dictionary("exponential", BUCKET_S, LIVES_S)
    flow, returns = events.flow.to_numpy(), events.returns.to_numpy()
    size = np.nanstd(returns, axis=0) / flow.std(axis=0) * np.exp(0.2 * rng.standard_normal(names))
    K = kernel_of(market.truth.sectors, size, truth == "separable", rng)
    session = events.session.to_numpy()
    impact = np.zeros_like(flow)
    for day in events.days:
        rows = session == day
        impact[rows] = dictionary.regressors(flow[rows]) @ K.transpose(1, 0, 2).reshape(names, -1).T
    idio = np.asarray(market.truth.parameters["names_idio_vol_daily"]) * np.sqrt(BUCKET_S / 23400.0)
    ratio = impact.var(axis=0) / idio**2
    low, high = -30.0, 30.0
    for _ in range(200):
        mid = 0.5 * (low + high)
        part = np.exp(mid) * ratio
        low, high = (mid, high) if np.mean(part / (1.0 + part)) < r2 else (low, mid)
    return with_impact(events, market.truth, float(np.exp(0.25 * (low + high))) * K)


def with_impact(events: MarketEvents, truth: SimulatedTruth, K: np.ndarray) -> tuple[MarketEvents, SimulatedTruth]:
    """Return events whose returns carry the impact of K (2, N, N) besides their own, and the truth that says so."""
    dictionary = make_dictionary("exponential", BUCKET_S, LIVES_S)
    K = 0.5 * (K + K.transpose(0, 2, 1))
    flow, session, given = events.flow.to_numpy(), events.session.to_numpy(), events.mid.to_numpy()
    moved, mid = np.nan_to_num(events.returns.to_numpy()), np.empty_like(flow)
    for day in events.days:
        rows = session == day
        part = moved[rows] + dictionary.regressors(flow[rows]) @ K.transpose(1, 0, 2).reshape(len(K[0]), -1).T
        part[0] = 0.0  # the first bucket of a session has no return
        mid[rows] = given[rows][0] * np.cumprod(1.0 + part, axis=0)
    frame = pd.DataFrame(mid, index=events.index, columns=events.mid.columns)
    return replace(events, mid=frame), replace(truth, rates_per_s=np.log(2.0) / np.array(LIVES_S), matrices=K)


# -- models -----------------------------------------------------------------------------------------------------------
def estimates(events: MarketEvents, sectors: pd.Series) -> dict[str, Callable[[], ImpactModel]]:
    """Return what is compared; every model gets the true half-lives and the same rows."""

    def fitted(estimator: Any) -> Callable[[], ImpactModel]:
        return lambda: estimator.fit(events).model_

    def by_cost() -> ImpactModel:
        # Baskets of random sides like those that are scored, but other draws.
        parents = draw_parents(events.names, 32, seed=1, dispersion=0.0)
        joint = CrossImpact(half_lives_s=LIVES_S, sectors=sectors)
        grid = {"ridge": RIDGES}
        return calibrate_decision(
            events, joint, parents, parameters=("ridge",), grid=grid, folds=DAYS, level=LEVEL, resamples=400
        ).model

    choice: dict[str, Any] = {"ridge_grid": RIDGES, "folds": DAYS}
    robust: dict[str, Any] = {"loss": "huber", "row_weights": "volatility"}
    apart: dict[str, Any] = {"pool": "cv", "pool_grid": RIDGES, **robust}
    return {
        JOINT: fitted(CrossImpact(half_lives_s=LIVES_S, sectors=sectors, **choice)),
        SPLIT: fitted(CrossImpact(half_lives_s=LIVES_S, sectors=sectors, split="cv", **choice)),
        ROBUST: fitted(CrossImpact(half_lives_s=LIVES_S, sectors=sectors, **apart, **choice)),
        MONEY: by_cost,
        BARE: fitted(CrossImpact(half_lives_s=LIVES_S, ridge=0.0)),
        HEURISTIC: fitted(TunedHeuristic(half_lives_s=LIVES_S, sectors=sectors, **choice)),
        DIAGONAL: fitted(DiagonalNNLS(half_lives_s=LIVES_S)),
        OWN: fitted(CrossImpact(half_lives_s=LIVES_S, corr_bound=0.0, ridge=0.0, pool=0.0, **robust)),
        KYLE: fitted(KyleImpact(half_lives_s=LIVES_S)),
        SEPARABLE: fitted(
            SeparableImpact(kernel="exponential", half_lives_s=LIVES_S, sectors=sectors, solver_tol=1e-6, **choice)
        ),
    }


@dataclass(frozen=True)
class Task:
    """One market: N names, truth, share of variance, seed."""

    names: int
    truth: str
    r2: float
    seed: int


def run(task: Task, models: Sequence[str] = MODELS) -> list[dict[str, Any]]:
    """Return one row per model and kind of sectors; what does not read sectors is fitted once."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        events, truth = plant(task.names, SIZES[task.names], task.truth, task.r2, task.seed)
        order = np.random.default_rng([task.seed, 11]).permutation(task.names)
        wrong = pd.Series(truth.sectors.to_numpy()[order], index=truth.sectors.index)
        rows: list[dict[str, Any]] = []
        for kind, sectors in (("right", truth.sectors), ("wrong", wrong)):
            for label, make in estimates(events, sectors).items():
                if label not in models:
                    continue
                if kind == "wrong" and label in (BARE, DIAGONAL, OWN, KYLE):
                    rows.append({**next(r for r in rows if r["model"] == label), "sectors": kind})
                    continue
                if kind == "wrong" and label == MONEY:
                    continue
                begun = time.process_time()  # wall time would tell who else is on the machine
                try:
                    excess = recovery(make(), truth).excess_cost
                except CrosswindError:
                    excess = float("inf")
                seconds = time.process_time() - begun
                rows.append({**vars(task), "sectors": kind, "model": label, "excess": excess, "seconds": seconds})
    return rows


# -- statistics -------------------------------------------------------------------------------------------------------
def median(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return a sample median that keeps infinities as they are."""
    return np.quantile(values, 0.5, axis=axis, method="nearest")


def draws(seeds: int, count: int = 2000) -> np.ndarray:
    """Return resampled seed numbers (count, seeds): the same for all models, so that comparisons are paired."""
    return np.random.default_rng(0).integers(0, seeds, size=(count, seeds))


def bounds(values: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of resampled figures."""
    tail = 0.5 * (1.0 - LEVEL)
    low, high = np.quantile(values, (tail, 1.0 - tail), method="nearest")
    return float(low), float(high)


def ratio(ours: np.ndarray, theirs: np.ndarray, pick: np.ndarray) -> tuple[float, float, float]:
    """Return the ratio of medians with its paired bootstrap interval; 0 against an infinite excess."""
    with np.errstate(invalid="ignore"):
        low, high = bounds(median(ours[pick]) / median(theirs[pick]))
        return float(median(ours) / median(theirs)), low, high


def percent(value: float) -> str:
    """Return a share as text."""
    return f"{value:.2%}" if np.isfinite(value) else "∞"


def cells(results: pd.DataFrame) -> list[tuple[str, str, int, float]]:
    """Return (truth, sectors, names, r2) in the order of the page."""
    keys = results[["truth", "sectors", "names", "r2"]].drop_duplicates()
    order = [(t, s, n, r) for t in TRUTHS for s in ("right", "wrong") for n in SIZES for r in R2]
    held = set(keys.itertuples(index=False, name=None))
    return [key for key in order if key in held]


def excesses(results: pd.DataFrame, cell: tuple[str, str, int, float]) -> dict[str, np.ndarray]:
    """Return the excess costs of one setting by model, seeds in order."""
    part = results[(results[["truth", "sectors", "names", "r2"]] == list(cell)).all(axis=1)].sort_values("seed")
    return {m: part.loc[part["model"] == m, "excess"].to_numpy() for m in MODELS if (part["model"] == m).any()}


def named(cell: tuple[str, str, int, float]) -> str:
    """Return a setting in words."""
    return f"{cell[0]}, sectors {cell[1]}, {cell[2]} names, R² {cell[3]:.0%}"


Ratios = dict[tuple[str, str, int, float], tuple[float, float, float]]


def against(results: pd.DataFrame, model: str, rival: str) -> Ratios:
    """Return the ratio of medians with its interval, by setting in which both were fitted."""
    found = {cell: excesses(results, cell) for cell in cells(results)}
    return {c: ratio(e[model], e[rival], draws(len(e[model]))) for c, e in found.items() if model in e and rival in e}


def verdicts(results: pd.DataFrame) -> list[str]:
    """Say from the numbers where the joint fits halve the excess, where they do not, and who beats them."""
    out = []
    for model in (JOINT, SPLIT, ROBUST):
        for kind in ("right", "wrong"):
            for rival in (HEURISTIC, DIAGONAL):
                part = {c: r for c, r in against(results, model, rival).items() if c[1] == kind}
                missed = [f"{named(c)} ({r[0]:.2f})" for c, r in part.items() if r[0] > 0.5]
                sure = sum(r[2] <= 0.5 for r in part.values())
                out.append(
                    f"- *{model}*, sectors {kind}: the median excess is at most half of that of *{rival}* in "
                    f"{len(part) - len(missed)} of {len(part)} settings, with the whole interval in {sure}."
                    + (f" Not in: {'; '.join(missed)}." if missed else "")
                )
    for model in (JOINT, SPLIT, ROBUST):
        for rival in (KYLE, SEPARABLE, DIAGONAL, HEURISTIC):
            found = against(results, model, rival)
            lost = [f"{named(c)}{' (beyond doubt)' if r[1] > 1.0 else ''}" for c, r in found.items() if r[0] > 1.0]
            out.append(
                f"- **{rival}** has a lower median excess than *{model}* in {len(lost)} of {len(found)}: "
                f"{'; '.join(lost)}."
                if lost
                else f"- *{rival}* never has a lower median excess than *{model}*."
            )
    for model, other in ((MONEY, JOINT), (SPLIT, JOINT), (ROBUST, JOINT), (OWN, DIAGONAL), (ROBUST, OWN)):
        found = against(results, model, other)
        better = [c for c, r in found.items() if r[2] < 1.0]
        worse = [c for c, r in found.items() if r[1] > 1.0]
        out.append(
            f"- *{model}* against *{other}*: lower beyond doubt in {len(better)}, higher beyond doubt in {len(worse)} "
            f"of {len(found)} settings." + (f" Higher in: {'; '.join(named(c) for c in worse)}." if worse else "")
        )
    return out


def table(results: pd.DataFrame, truth: str, sectors: str) -> str:
    """Return the medians of one world, models by settings."""
    held = {c: excesses(results, c) for c in cells(results) if c[:2] == (truth, sectors)}
    lines = [
        "| model | " + " | ".join(f"{n} names, R² {r:.0%}" for _, _, n, r in held) + " |",
        "|---|" + "---|" * len(held),
    ]
    for model in [m for m in MODELS if any(m in e for e in held.values())]:
        row = []
        for every in held.values():
            values = every[model]
            low, high = bounds(median(values[draws(len(values))]))
            mid = float(median(values))
            text = f"{percent(mid)} ({percent(low)} … {percent(high)})"
            row.append(f"**{text}**" if mid == min(float(median(v)) for v in every.values()) else text)
        lines.append(f"| {model} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def ratios(results: pd.DataFrame, model: str) -> str:
    """Return the ratio of a model's median excess to each baseline's, by setting."""
    rivals = (HEURISTIC, DIAGONAL, KYLE, SEPARABLE)
    found = {rival: against(results, model, rival) for rival in rivals}
    lines = [f"| truth, sectors | names, R² | {' | '.join(rivals)} |", "|---|---|" + "---|" * len(rivals)]
    for cell in found[HEURISTIC]:
        row = ["{:.2f} ({:.2f} … {:.2f})".format(*found[rival][cell]) for rival in rivals]
        lines.append(f"| {cell[0]}, {cell[1]} | {cell[2]}, {cell[3]:.0%} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def page(results: pd.DataFrame) -> str:
    """Return the whole page."""
    import scipy

    seeds = results["seed"].nunique()
    text = [
        "# Which model schedules best? A study",
        "",
        "Printed by `benchmarks/impact_study.py --write`; nothing on this page is typed by hand.",
        "",
        f"{seeds} simulated markets per setting, seeds {results['seed'].min()} to {results['seed'].max()}; three days "
        f"of buckets of {BUCKET_S:g} s. Flow, factors and noise are the simulator's; the impact is planted with "
        f"half-lives of {LIVES_S[0]:g} s and {LIVES_S[1]:g} s, which every model is told, and explains the stated "
        "share (R²) of the variance of returns after factors.",
        "",
        "- **Excess true cost**: what the schedules optimised on the estimate cost under the truth, over the optimum, "
        "less 1; ∞ where the estimate sees a round trip that pays without end. 16 baskets of random sides and equal "
        "self-cost, 12 slices over 20 minutes, a temporary cost of a tenth of the self-impact.",
        f"- Shown: the median over seeds and its {LEVEL:.0%} bootstrap interval; ratios are of medians, seeds "
        "resampled in pairs. The best median of a column is bold.",
        "- **Separable** truth: one decay, one matrix. **Not separable**: names heal at different speeds; fast cross "
        "terms are the market's, slow ones the sector's.",
        "- **Wrong** sectors: the true labels, shuffled over names. Joint, heuristic and separable fits shrink to "
        "blocks of the sectors given.",
        "- *Ridge by cost*: the same ridges, chosen by `calibrate_decision` on baskets drawn with another seed "
        '(sectors right). *Ridge and split*: `CrossImpact(split="cv")`, which also pulls the decay of every entry to '
        'the common one. *Robust*: `CrossImpact(row_weights="volatility", loss="huber", pool="cv")`, which weighs rows '
        "by how quiet the market is around them, bounds wild returns, and chooses the pull of own decays apart from "
        "that of the cross terms; chosen on seeds 100 to 139, then run here once. *Diagonal, robust*: the same weights "
        "and loss for own flow alone. *Tuned*: the sequential heuristic with a ridge to the same blocks, chosen on the "
        "same folds.",
        f"- Ridges and pools to choose from: {', '.join(f'{r:g}' for r in RIDGES)}; splits: "
        f"{', '.join(f'{r:g}' for r in SPLIT_GRID)}.",
        "",
    ]
    for truth in TRUTHS:
        for sectors in ("right", "wrong"):
            if any(c[:2] == (truth, sectors) for c in cells(results)):
                text += [f"## Truth {truth}, sectors {sectors}", "", table(results, truth, sectors), ""]
    text += ["## What it says", "", *verdicts(results), ""]
    text += [f"## Ratio of the excess of *{JOINT}* to each baseline's", "", ratios(results, JOINT), ""]
    text += [f"## The same for *{SPLIT}*", "", ratios(results, SPLIT), ""]
    text += [f"## The same for *{ROBUST}*", "", ratios(results, ROBUST), ""]
    right = results[results["sectors"] == "right"]
    spent = right.pivot_table("seconds", "model", "names", "median")
    timed = right.dropna(subset=["seconds"]).groupby(["model", "names"])["seconds"].size()
    over = f"{timed.min()}" if timed.min() == timed.max() else f"{timed.min()} to {timed.max()}"
    lines = ["| model | " + " | ".join(f"{n} names" for n in spent.columns) + " |", "|---|" + "---|" * spent.shape[1]]
    lines += [f"| {m} | " + " | ".join(f"{spent.loc[m, n]:.2f}" for n in spent.columns) + " |" for m in MODELS]
    text += ["## CPU seconds of one calibration", "", f"Medians over {over} markets of each size.", "", *lines, ""]
    text += [
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, {platform.machine()}, "
        "one BLAS thread.",
        "",
    ]
    return "\n".join(text)


def study(seeds: int, names: Sequence[int], jobs: int, kept: Path | None = None) -> pd.DataFrame:
    """Return all rows; with a file, each market's rows are kept in it as they come, and what it holds is not run again.

    A market of which the file lacks some models is run for these alone.

    Seeds are the outer loop, so a run that was cut short holds whole seeds first.
    """
    tasks = [
        Task(n, truth, r2, seed)
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)
        for n in names
        for truth in TRUTHS
        for r2 in R2
    ]
    held = pd.read_csv(kept) if kept is not None and kept.exists() else pd.DataFrame()
    done: dict[Task, set[str]] = {}
    if not held.empty:
        for *key, model in held[[*vars(tasks[0]), "model"]].itertuples(index=False, name=None):
            done.setdefault(Task(*key), set()).add(model)
    lacking = {task: [m for m in MODELS if m not in done.get(task, set())] for task in tasks}
    lacking = {task: models for task, models in lacking.items() if models}
    parts = [held]
    with ProcessPoolExecutor(jobs) as pool:
        for rows in pool.map(run, lacking, lacking.values()):
            parts.append(pd.DataFrame(rows))
            if kept is not None:
                parts[-1].to_csv(kept, mode="a", index=False, header=not kept.exists())
    return pd.concat(parts, ignore_index=True)


def whole(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of seeds that have every setting."""
    count = results.groupby("seed")["excess"].size()
    return results[results["seed"].isin(count.index[count == count.max()])]


def main() -> None:
    """Run the study and print or write its page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=20, help="simulated markets per setting")
    parser.add_argument("--names", type=int, nargs="+", default=list(SIZES), choices=list(SIZES), help="sizes to run")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--rows", type=Path, help="keep the rows in this CSV file and go on where it ends")
    parser.add_argument(
        "--page", action="store_true", help="run nothing: the page of the seeds that --rows holds whole"
    )
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} in docs/")
    args = parser.parse_args()
    results = pd.read_csv(args.rows) if args.page else study(args.seeds, args.names, args.jobs, args.rows)
    text = page(whole(results))
    print(text)
    if args.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
