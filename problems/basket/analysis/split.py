"""Who pays whom: the cost of a schedule by name, and the impact cost by pair of names or sectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["CostSplit", "split_costs"]


@dataclass(frozen=True, eq=False)
class CostSplit:
    """Cost of a schedule by name and by pair; a positive cost is money lost.

    Attributes
    ----------
    problem
        The basket.
    by_name
        (N × components) spread, temporary, impact_self, impact_cross, risk, terminal, total [currency]. A pair's cost
        is shared in halves between the two names, so that columns sum to the components of ``score``.
    pairs
        (N × N) impact cost of each pair [currency], symmetric, own impact on the diagonal; sums to the impact cost.
        Negative: the two trades spare each other cost.
    """

    problem: BasketProblem
    by_name: pd.DataFrame
    pairs: pd.DataFrame

    @property
    def cross_share(self) -> float:
        """Share of the impact cost that comes from cross terms, cross / (own + cross); negative where names net."""
        total = float(self.pairs.to_numpy().sum())
        own = float(np.trace(self.pairs.to_numpy()))
        return 1.0 - own / total if total != 0.0 else float("nan")

    def by_sector(self, sectors: pd.Series | None = None) -> pd.DataFrame:
        """Return the impact cost by pair of sectors [currency]; sums to the impact cost.

        Parameters
        ----------
        sectors
            Series name -> sector; default the problem's own.

        Raises
        ------
        InvalidInput
            Without sectors, or when a name has none.
        """
        sectors = self.problem.sectors if sectors is None else sectors
        if sectors is None:
            raise InvalidInput("needs sectors", field="sectors", value=None, remedy="pass a Series name -> sector")
        label = {str(n): str(s) for n, s in sectors.items()}
        missing = [n for n in self.problem.names if n not in label]
        if missing:
            raise InvalidInput("names without a sector", field="sectors", value=missing, remedy="give each a sector")
        groups = [label[n] for n in self.problem.names]
        present = list(dict.fromkeys(groups))
        member = np.array([[float(g == s) for g in groups] for s in present])
        return pd.DataFrame(member @ self.pairs.to_numpy() @ member.T, index=present, columns=present)

    def to_frame(self) -> pd.DataFrame:
        """Return the cost by name [bps of the whole parent notional], dearest first."""
        return self.by_name.map(self.problem.to_bps).sort_values("total", ascending=False, kind="stable")

    def summary(self) -> str:
        """Return the cross share, the dearest names and the dearest pairs in words."""
        lines = [f"cross-impact is {self.cross_share:.1%} of the impact cost"]
        lines += [f"  {name}: {row['total']:.3f} bps" for name, row in self.to_frame().head(5).iterrows()]
        matrix = self.pairs.to_numpy()
        i, j = np.triu_indices(len(matrix), 1)
        for k in np.argsort(-np.abs(matrix[i, j]), kind="stable")[:5]:
            a, b = self.problem.names[i[k]], self.problem.names[j[k]]
            lines.append(f"  {a} with {b}: {self.problem.to_bps(2.0 * matrix[i[k], j[k]]):+.4f} bps")
        return "\n".join(lines)

    def plot(self) -> Any:
        """Return a heatmap of the impact cost by pair, of sectors where the problem has them, else of names."""
        from crosswind.problems.basket.analysis.figures import pair_costs

        return pair_costs(self)

    def _repr_html_(self) -> str:
        return str(self.to_frame().round(4).to_html())


def split_costs(problem: BasketProblem, trades: pd.DataFrame) -> CostSplit:
    """Return the cost of any schedule by name and the impact cost by pair of names.

    A trade in i pays K_m,ij y^m_jt for what j's trades have pressed so far, y^m_t = ρ z^m_{t−1} + ½ u_t, so that the
    pair (i, j) pays ½ Σ_m K_m,ij Σ_t (u_it y^m_jt + u_jt y^m_it) in each of the two cells of ``pairs``.

    Parameters
    ----------
    problem
        The basket.
    trades
        Signed trades, slices × names (T × N) [currency].

    Raises
    ------
    InvalidInput
        On missing slices, missing names or non-finite trades.
    """
    from crosswind.optim.factored import dense_of, image

    u, a = problem.trade_array(trades), problem.arrays
    q = problem.remaining(u)[1:]
    pairs = np.zeros((problem.n_names, problem.n_names))
    for mode in problem.modes:
        share = np.broadcast_to(np.asarray(mode.share, dtype=np.float64).reshape(-1), (problem.n_slices,))
        v, z = share[:, None] * u, np.asarray(mode.state, dtype=np.float64)
        pressed = np.empty_like(u)
        for t, rho in enumerate(np.exp(-mode.rate_per_s * a.dt_s)):
            pressed[t] = rho * z + 0.5 * v[t]
            z = rho * z + v[t]
        half = dense_of(mode.matrix) * (v.T @ pressed)  # half[i, j] = Σ_t v_it K_ij (ρz + ½v)_jt
        pairs += 0.5 * (half + half.T)
    own = np.diag(pairs).copy()
    held = a.risk_weight[:, None] * q
    risk = np.zeros(problem.n_names)
    if a.covariance is not None and problem.risk_aversion > 0.0:
        risk = problem.risk_aversion * (held * image(q, a.covariance)).sum(axis=0)
    weight = np.where(a.hard, 0.0, a.terminal_weight)
    parts = {
        "spread": (a.spread * np.abs(u)).sum(axis=0),
        "temporary": (a.temporary * u**2).sum(axis=0),
        "impact_self": own,
        "impact_cross": pairs.sum(axis=1) - own,
        "risk": risk,
        "terminal": weight * (q[-1] - a.target) ** 2,
        "three_halves": (a.three_halves * np.abs(u) ** 1.5).sum(axis=0),
        "drift": (a.drift * q).sum(axis=0),
        "urgency": (held * q * a.urgency).sum(axis=0),
    }
    costs = problem.score(trades).drop("total")
    size = np.abs(a.inventory) / max(float(np.abs(a.inventory).sum()), 1e-300)
    # What no name owns (soft limits) is shared by the size of the orders.
    columns = {str(part): parts.get(str(part), float(costs[part]) * size) for part in costs.index}
    by_name = pd.DataFrame(columns, index=pd.Index(problem.names, name="name"))
    by_name["total"] = by_name.sum(axis=1)
    return CostSplit(problem, by_name, pd.DataFrame(pairs, index=list(problem.names), columns=list(problem.names)))
