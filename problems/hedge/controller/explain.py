"""Why a decision trades what it trades: what one more unit costs now, what it saves, and which limits stand between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.problems.hedge.controller.messages import HedgeDecision
from crosswind.problems.hedge.controller.model import HedgeRank, HedgeSetup
from crosswind.problems.hedge.controller.program import ControllerProgram

if TYPE_CHECKING:
    import pandas as pd

    from crosswind.solvers.mpc import MpcPrices

__all__ = ["HedgeExplanation", "explain_decision"]

_TRADE = ("spread", "temporary", "own_impact", "displaced", "known", "later_trades")
_LAG = ("risk", "gap_cap", "unwinding")
_SHOWN = 1e-3  # bps below which a price is not worth a word


@dataclass(frozen=True, eq=False)
class HedgeExplanation:
    """The optimum's balance for the trade of the present slice, by instrument.

    For one more unit bought now, the other trades as planned:

        spread + temporary + own_impact + displaced + known + later_trades  =  risk + gap_cap + unwinding − clip − rate

    The left side is the marginal cost of trading, the right side that of lagging, less the shadow prices of the limits.
    Where nothing is traded, the spread may lie anywhere within ± its size: waiting is best as long as the rest does not
    exceed it.

    Parameters
    ----------
    decision
        What is explained.
    rows
        By instrument, in bps of a unit bought: the terms above, ``marginal_trade`` and ``marginal_lag``, their sums,
        and ``balance``, what is left over.
    prices
        What one more unit of a limit would save now, by "limit: name" [bps per unit].
    """

    decision: HedgeDecision
    rows: dict[str, dict[str, float]]
    prices: dict[str, float]

    def to_frame(self) -> pd.DataFrame:
        """Return the terms, one row per instrument [bps of a unit bought]; empty where no program was solved."""
        import pandas as pd

        columns = [*_TRADE, "marginal_trade", *_LAG, "marginal_lag", "clip", "rate", "balance"]
        return pd.DataFrame.from_dict(self.rows, orient="index", columns=columns)

    def summary(self) -> str:
        """Return a few lines of text."""
        d = self.decision
        lines = [f"step {d.sequence}, {d.rank.name}: {d.reason}"]
        if not self.rows:
            lines.append(d.rank.text)
        for j, (name, row) in enumerate(self.rows.items()):
            planned = d.wanted[j]
            rest = sum(row[t] for t in _TRADE[1:])
            if d.rank >= HedgeRank.RULE:
                verb = "the program did not decide; its balance"
            elif abs(planned) > 0.0:
                verb = f"{'buys' if planned > 0.0 else 'sells'} {abs(planned):,.0f}, sent as {d.lots[j]} lots"
            else:
                verb = "waits"
            side = math.copysign(1.0, planned if planned else row["marginal_lag"] - rest)
            spread = row["spread"] * side if planned else abs(row["spread"])
            lines.append(
                f"{name} {verb}: one more unit {'bought' if side > 0 else 'sold'} costs {spread + side * rest:.3f} bps "
                f"now (spread {spread:.3f}) and saves {side * row['marginal_lag']:.3f} bps of lag"
            )
        shown = {n: p for n, p in self.prices.items() if abs(p) > _SHOWN}
        if shown:
            lines.append("one more unit of a limit saves: " + ", ".join(f"{n} {p:.3f} bps" for n, p in shown.items()))
        lines += [f"the last check cut: {', '.join(d.binding)}"] if d.binding else []
        lines += [f"alarm: {alarm}" for alarm in d.alarms]
        return "\n".join(lines)


def explain_decision(
    setup: HedgeSetup, program: ControllerProgram, marginal: MpcPrices | None, decision: HedgeDecision
) -> HedgeExplanation:
    """Return the balance at the step's plan.

    Parameters
    ----------
    setup, program
        Whose data are still those of the step.
    marginal
        The program's prices; None where it gave no answer.
    decision
        What came of it.
    """
    if marginal is None:
        return HedgeExplanation(decision, {}, {})
    model, k, h = program.solvers[program.regime].model, program.k, program.trades
    E, first = np.asarray(setup.loadings), h[0]
    G = program.gap + np.cumsum(program.plan - h @ model.exposure.T, axis=0)
    own, displaced, later = np.zeros(program.m), np.zeros(program.m), np.zeros(program.m)
    for rho, L, z in zip(model.decays, model.impact_loadings, program.state, strict=True):
        own += L @ (L.T @ first)
        displaced += L @ z
        later += L @ (L.T @ (rho ** np.arange(1, len(h)) @ h[1:]))
    lag = {
        "risk": 2.0 * E.T @ (model.risk_weight @ (G @ model.covariance)[:, :k]),
        "gap_cap": E.T @ marginal.gap[:, :k].sum(axis=0),
        "unwinding": E.T @ (2.0 * model.terminal_weight[:k] * G[-1, :k] + marginal.gap[:, k:].sum(axis=0)),
    }
    trade = {
        "temporary": 2.0 * model.temporary @ first,
        "own_impact": own,
        "displaced": displaced,
        "known": program.linear[0],
        "later_trades": later,
    }
    rate = marginal.rate[0] - (marginal.rate[1] if len(h) > 1 else 0.0)
    clip = marginal.trade[0]
    rest = sum(lag.values()) - clip - rate - sum(trade.values())
    spread = np.where(
        first != 0.0, np.sign(first) * program.spread[0], np.clip(rest, -program.spread[0], program.spread[0])
    )
    rows: dict[str, dict[str, float]] = {}
    prices: dict[str, float] = {}
    for j, instrument in enumerate(setup.instruments):
        row: dict[str, Any] = {"spread": spread[j], **{n: v[j] for n, v in trade.items()}}
        row["marginal_trade"] = sum(row.values())
        row |= {n: v[j] for n, v in lag.items()}
        row["marginal_lag"] = sum(row[n] for n in _LAG)
        row |= {"clip": clip[j], "rate": rate[j], "balance": rest[j] - spread[j]}
        rows[instrument.name] = {n: 1e4 * float(v) for n, v in row.items()}
        prices[f"clip: {instrument.name}"] = 1e4 * abs(float(clip[j]))
        prices[f"rate: {instrument.name}"] = 1e4 * float(np.abs(marginal.rate[:, j]).sum())
    for i, name in enumerate(setup.exposures):
        prices[f"gap cap: {name}"] = 1e4 * float(np.abs(marginal.gap[:, i]).sum())
    return HedgeExplanation(decision, rows, prices)
