"""The schedules a desk knows already, on equal footing: same inventory, same slices, same cost function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.inputs import FloatArray, as_scalar
from crosswind.problems.basket.schedule import BasketSchedule
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem
    from crosswind.problems.basket.strategies import Strategy
    from crosswind.problems.impact.model import ImpactModel

__all__ = ["almgren_chriss", "compare", "diagonal_only", "frontier", "pov", "standard_schedules", "twap", "vwap"]


def _order(problem: BasketProblem) -> FloatArray:
    """Return the signed notional to trade in all (N,)."""
    return problem.arrays.inventory - problem.arrays.target


def twap(problem: BasketProblem) -> pd.DataFrame:
    """Return equal trades, u_it = (q_0i − q_Ti) / T (T × N) [currency]; knows no limit."""
    return problem.frame(np.tile(_order(problem) / problem.n_slices, (problem.n_slices, 1)))


def _volume(problem: BasketProblem, field: str) -> FloatArray:
    if problem.arrays.volume is None:
        raise InvalidInput(
            f"{field} follows the volume forecast, and there is none", field="volume", value=None, remedy="pass volume"
        )
    return problem.arrays.volume


def vwap(problem: BasketProblem) -> pd.DataFrame:
    """Return trades in proportion to the forecast volume, u_it = (q_0i − q_Ti) V_it / Σ_s V_is (T × N) [currency].

    A name without any volume falls back to equal trades: the profile says nothing about it.

    Raises
    ------
    InvalidInput
        When the problem has no volume forecast.
    """
    V = _volume(problem, "VWAP")
    total = V.sum(axis=0)
    share = np.divide(V, total, out=np.full_like(V, 1.0 / problem.n_slices), where=total > 0.0)
    return problem.frame(share * _order(problem))


def pov(problem: BasketProblem, rate: float | None = None) -> pd.DataFrame:
    """Return trades at a fixed share of the volume until the order is done, |u_it| = min(rate · V_it, what is left).

    Parameters
    ----------
    problem
        The basket.
    rate
        Share of the volume; default: the problem's participation, or 10 % where it has none. An order that is larger
        than this share of the day stays unfinished, and the comparison says so.

    Raises
    ------
    InvalidInput
        When the problem has no volume forecast or the rate is not positive.
    """
    V = _volume(problem, "POV")
    if rate is not None:
        most = as_scalar(rate, "rate", strict=True) * V
    else:
        cap = problem.arrays.participation_cap
        most = 0.1 * V if cap is None else cap
    order = _order(problem)
    done = np.minimum(np.cumsum(most, axis=0), np.abs(order))
    return problem.frame(np.diff(done, axis=0, prepend=np.zeros((1, problem.n_names))) * np.sign(order))


def almgren_chriss(problem: BasketProblem) -> pd.DataFrame:
    r"""Return the closed-form schedule of Almgren and Chriss (2000) for each name on its own (T × N) [currency].

    Per name and per slice, minimise Σ η̃ u_t² + λσ² Σ_{t=1..T} q_t² with q_T fixed:

        q_j = X sinh(κ(T − j)) / sinh(κT),   2(cosh κ − 1) = λσ²/η̃

    with σ² the variance per slice and η̃ = mean_t η_it + ½ Σ_m (1 − ρ_m) K_m,ii the own temporary cost plus the share of
    the own transient impact that decays within a slice; what does not decay costs ½KX² whatever the schedule. Exact for
    one name with permanent impact, constant η and equal slices. Knows no limit.
    """
    from crosswind.optim.factored import diagonal_of

    a, T = problem.arrays, problem.n_slices
    step = float(np.median(a.dt_s))
    eta = a.temporary.mean(axis=0)
    for mode in problem.modes:
        eta = eta - 0.5 * np.expm1(-mode.rate_per_s * step) * diagonal_of(mode.matrix)
    risk = problem.risk_aversion * a.variance + a.urgency
    left = np.empty((T + 1, problem.n_names))
    for i in range(problem.n_names):
        left[:, i] = _remaining_share(T, float(risk[i]), float(eta[i]))
    return problem.frame(-np.diff(left, axis=0) * _order(problem))


def _remaining_share(T: int, risk: float, eta: float) -> FloatArray:
    """Return x_j = sinh(κ(T − j)) / sinh(κT), j = 0..T; linear without risk, at once without cost."""
    j = np.arange(T + 1, dtype=np.float64)
    if risk <= 0.0:
        return 1.0 - j / T
    if eta <= 0.0:
        return np.where(j == 0.0, 1.0, 0.0)
    kappa = 2.0 * np.arcsinh(0.5 * np.sqrt(risk / eta))  # cosh κ − 1 = 2 sinh²(κ/2), exact for small κ
    if kappa * T < 1e-6:
        return 1.0 - j / T
    # sinh(κ(T−j))/sinh(κT) = e^{−κj} (1 − e^{−2κ(T−j)}) / (1 − e^{−2κT}): no overflow for an impatient desk
    share = np.exp(-kappa * j) * np.expm1(-2.0 * kappa * (T - j)) / np.expm1(-2.0 * kappa * T)
    return np.asarray(share, dtype=np.float64)


def diagonal_only(problem: BasketProblem, solver: str | tuple[str, ...] = "auto") -> pd.DataFrame:
    """Return the optimal schedule of a desk that ignores cross-impact (T × N): same program, K_m → diag K_m."""
    return problem.replace(model=problem.model.diagonal()).solve(solver).trades


def standard_schedules(problem: BasketProblem, solver: str | tuple[str, ...] = "auto") -> dict[str, pd.DataFrame]:
    """Return the baselines that the inputs allow, by name; VWAP and POV need a volume forecast."""
    table = {"TWAP": twap(problem)}
    if problem.arrays.volume is not None:
        table |= {"VWAP": vwap(problem), "POV": pov(problem)}
    return table | {"Almgren-Chriss": almgren_chriss(problem), "diagonal only": diagonal_only(problem, solver)}


def _named(
    schedules: Mapping[str, pd.DataFrame | BasketSchedule | Strategy] | Iterable[Strategy] | None,
    problem: BasketProblem,
    solver: str | tuple[str, ...],
) -> dict[str, pd.DataFrame]:
    """Return frames of trades by name from whatever describes schedules."""
    from crosswind.problems.basket.strategies import Strategy

    if schedules is None:
        return {"crosswind": problem.solve(solver).trades}
    if isinstance(schedules, Mapping):
        items: list[tuple[str, Any]] = [(str(label), value) for label, value in schedules.items()]
    else:
        items = [(str(getattr(s, "name", type(s).__name__)), s) for s in schedules]
    out: dict[str, pd.DataFrame] = {}
    for label, value in items:
        if label in out:
            raise InvalidInput("two schedules share a name", field="schedules", value=label, remedy="pass name=")
        if isinstance(value, BasketSchedule):
            out[label] = value.trades
        elif isinstance(value, pd.DataFrame):
            out[label] = value
        elif isinstance(value, Strategy):
            out[label] = value.schedule(problem)
        else:
            raise InvalidInput(
                f"{label} is no schedule",
                field="schedules",
                value=type(value).__name__,
                remedy="pass frames of trades, solved schedules or strategies such as TWAP()",
            )
    return out


def _under(problem: BasketProblem, truth: ImpactModel | BasketProblem | None) -> BasketProblem:
    """Return the problem whose costs count; its inventory and slices must be those of ``problem``."""
    if truth is None:
        return problem
    from crosswind.problems.impact.model import ImpactModel

    judge = problem.replace(model=truth) if isinstance(truth, ImpactModel) else truth
    if judge.names != problem.names or not judge.times.equals(problem.times):
        raise InvalidInput(
            "has other names or slices than the problem",
            field="truth",
            value=repr(judge),
            remedy="derive it by problem.replace(...)",
        )
    return judge


def compare(
    problem: BasketProblem,
    schedules: Mapping[str, pd.DataFrame | BasketSchedule | Strategy] | Iterable[Strategy] | None = None,
    *,
    include_standard: bool = True,
    solver: str | tuple[str, ...] = "auto",
    truth: ImpactModel | BasketProblem | None = None,
) -> pd.DataFrame:
    """Return the costs of several schedules under one cost function, and where they break the limits.

    Parameters
    ----------
    problem
        The basket that the schedules are made for, and whose limits count.
    schedules
        Further schedules: frames of trades, solved schedules or strategies by name, or a list of strategies. ``None``
        solves ``problem`` as "crosswind".
    include_standard
        Whether TWAP, VWAP, POV, Almgren–Chriss per name and diagonal-only come along.
    solver
        Backend for the schedules that are solved here.
    truth
        What the costs are charged by instead of ``problem``: an impact model, or a problem with the same names and
        slices (other volumes, spreads, risk). Every schedule is made from ``problem`` and never sees it, so that the
        figures say what the believed model is worth.

    Returns
    -------
    Frame indexed by schedule, cheapest first among those that finish: each component, ``total`` (components summed,
    risk included) and ``expected`` (total without risk) [bps of parent notional], ``executed`` (share of the parent
    notional), ``breaches`` (number of limit and name pairs broken), ``worst_breach`` (which) and ``breach`` [currency].
    A schedule that does not finish is not cheap: read its total with ``executed`` beside it.

    Raises
    ------
    InvalidInput
        On schedules that are none, two of one name, or a truth of other names or slices.
    """
    judge = _under(problem, truth)
    entries: dict[str, pd.DataFrame] = standard_schedules(problem, solver) if include_standard else {}
    entries |= _named(schedules, problem, solver)
    rows: dict[str, dict[str, object]] = {}
    for name, trades in entries.items():
        costs = judge.score(trades)
        broken = problem.breaches(trades)
        done = float(np.abs(problem.trade_array(trades).sum(axis=0)[: len(problem.order_names)]).sum())
        worst = "" if broken.empty else f"{broken['limit'][0]}: {broken['where'][0]}"
        rows[name] = {
            **{str(part): problem.to_bps(float(value)) for part, value in costs.items()},
            "expected": problem.to_bps(float(costs["total"] - costs["risk"])),
            "executed": done / problem.parent_notional if problem.parent_notional > 0.0 else float("nan"),
            "breaches": len(broken),
            "worst_breach": worst,
            "breach": 0.0 if broken.empty else float(broken["breach"][0]),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "schedule"
    unfinished = table["executed"] < 1.0 - 1e-6
    return table.assign(_late=unfinished).sort_values(["_late", "total"], kind="stable").drop(columns="_late")


def frontier(
    problem: BasketProblem,
    risk_aversions: np.ndarray | list[float] | None = None,
    solver: str | tuple[str, ...] = "auto",
) -> pd.DataFrame:
    """Return the efficient frontier: expected cost against risk over a sweep of risk aversions.

    Parameters
    ----------
    problem
        The basket; its own risk aversion is replaced.
    risk_aversions
        λ ≥ 0 [1/currency]; default: thirty values, geometric over six decades around 1 / parent notional.
    solver
        Backend.

    Returns
    -------
    Frame indexed by λ in the given order: ``expected_bps`` (all costs but risk), ``sd_bps`` (√Σ_{t≥1} q_t'Σq_t), both
    of the parent notional, and the relative ``gap`` of the certificate.

    Raises
    ------
    InvalidInput
        When there is no covariance or a λ is negative.
    """
    from crosswind.optim.factored import image

    cov = problem.arrays.covariance
    if cov is None:
        raise InvalidInput("a frontier needs a covariance", field="covariance", value=None, remedy="pass it")
    if risk_aversions is None:
        base = 1.0 / max(problem.parent_notional, 1.0)
        risk_aversions = np.geomspace(1e-3 * base, 1e3 * base, 30)
    rows = []
    for value in risk_aversions:
        lam = as_scalar(value, "risk_aversions")
        schedule = problem.replace(risk_aversion=lam).solve(solver)
        left = schedule.inventory.to_numpy()[1:]
        held = problem.arrays.risk_weight[:, None] * left
        sd = float(np.sqrt(max(float(np.sum(held * image(left, cov))), 0.0)))
        expected = float(schedule.costs["total"] - schedule.costs["risk"])
        rows.append((lam, problem.to_bps(expected), problem.to_bps(sd), schedule.certificate.gap_rel))
    return pd.DataFrame(rows, columns=["risk_aversion", "expected_bps", "sd_bps", "gap"]).set_index("risk_aversion")
