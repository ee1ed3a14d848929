"""Which limits bind, and what each costs the fit: multipliers of floor, correlation bound and definiteness.

With s = b − Ax in the cone and y its multiplier, a limit that depends on θ changes the optimum by
df*/dθ = y'(∂A/∂θ x − ∂b/∂θ) (the envelope theorem), so no second solve is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.program import FitProblem, lower, triangle
from crosswind.solvers.errors import InvalidInput, SolverFailure

__all__ = ["LimitPrices", "limit_prices"]

Array = NDArray[np.float64]
_LARGEST = 60  # names: the cone program grows with N²M, and with its cube in time
_USABLE = 1e-6


@dataclass(frozen=True, eq=False)
class LimitPrices:
    """Slack and price of every limit of one fit.

    Parameters
    ----------
    table
        Rows (limit, mode, name, other), limit "floor", "correlation" or "psd"; columns "slack" (relative to the limit;
        for "psd" the smallest eigenvalue relative to the mean diagonal), "price" (fall of the objective per unit by
        which d_i falls, ρ rises for this pair, or K ⪰ −εI is loosened, in scaled coordinates), "worth_1pct" (fall of
        the objective where the limit is loosened by 1 %, relative to its size at the optimum) and "binding".
    objective
        Optimal objective, in scaled coordinates.
    pinned
        Per mode, the N × r directions (portfolios of scaled flow) that the PSD limit holds at zero impact.
    """

    table: pd.DataFrame
    objective: float
    pinned: tuple[Array, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return the binding limits, dearest first."""
        return self.table[self.table["binding"]].sort_values("worth_1pct", ascending=False)

    def counts(self) -> pd.DataFrame:
        """Return by kind of limit how many there are, how many bind, and what 1 % of all of them is worth."""
        by = self.table.groupby(level="limit", sort=False)
        out = pd.DataFrame(
            {"limits": by.size(), "binding": by["binding"].sum().astype(int), "worth_1pct": by["worth_1pct"].sum()}
        )
        return out.rename_axis("limit")

    def summary(self) -> str:
        """Say which kinds of limit bind and which single one is dearest."""
        parts = [
            f"{kind} {int(row['binding'])} of {int(row['limits'])} ({row['worth_1pct']:.2%})"
            for kind, row in self.counts().iterrows()
        ]
        text = f"binding limits, in brackets what 1 % of each kind is worth: {', '.join(parts)}"
        top = self.to_frame()
        if len(top):
            kind, mode, name, other = top.index[0]
            whose = f" of {' and '.join(x for x in (name, other) if x)}" if name else ""
            text += f"; dearest: {kind}{whose} ({mode})"
        return text


def limit_prices(
    problem: FitProblem, labels: tuple[str, ...], names: tuple[str, ...], tol: float = 1e-9
) -> LimitPrices:
    """Solve the fit as a cone program and read the prices of its limits from the multipliers.

    Parameters
    ----------
    problem
        The fit in scaled coordinates, ``estimator.fitted_.problem``.
    labels, names
        Labels of the M decay shapes and the N names.
    tol
        Asked accuracy.

    Raises
    ------
    InvalidInput
        More names than the cone program can carry.
    SolverFailure
        No solve accurate enough for prices.
    """
    from crosswind.solvers.solve import solve

    n, m = problem.names, problem.shapes
    if n > _LARGEST:
        raise InvalidInput(
            f"prices are read from a cone program, which carries {_LARGEST} names at most",
            field="names",
            value=n,
            remedy="ask for the prices of a fit on part of the names",
        )
    lowered = lower(problem)
    solution = solve(lowered.program, tol=tol)
    if not solution.status.ok:
        solution = solve(lowered.program, tol=_USABLE)
    if not solution.status.ok:
        raise SolverFailure("no prices", field="solver", value=solution.status.name, remedy=solution.status.text)
    K = lowered.matrices(solution.x)
    y = np.asarray(solution.y)
    value = float(problem.objective(K))
    rows, columns = triangle(n)
    off = np.flatnonzero(rows != columns)
    pairs, rho = m * off.size, problem.corr_bound

    at = pairs if rho == 0 else 0
    floor_price = y[at : at + n * m].reshape(m, n)
    at += n * m
    if problem.l1 > 0:
        at += 2 * pairs
    parts = [_floor_rows(problem, K, floor_price, labels, names)]
    i, j = rows[off], columns[off]
    if 0 < rho < 1 and pairs:
        cone = y[at : at + 3 * pairs].reshape(m, off.size, 3)
        at += 3 * pairs
        parts.append(_correlation_rows(problem, K, cone, i, j, labels, names))
    elif rho == 0 and pairs:
        # |K_ij| ≤ ρ√(K_ii K_jj) at ρ = 0 has slope |y| √(K_ii K_jj) in ρ.
        held = np.abs(y[:pairs]).reshape(m, off.size)
        price = held * np.sqrt(K[:, i, i] * K[:, j, j])
        parts.append(_pair_frame(np.zeros_like(price), price, 1.0, i, j, labels, names))
    pinned: list[Array] = []
    if rho > 0:
        multipliers = y[at:].reshape(m, rows.size) / np.where(rows == columns, 1.0, np.sqrt(2.0))
        frame, pinned = _psd_rows(K, multipliers, labels)
        parts.append(frame)
    table = pd.concat(parts)
    size = abs(value) if value else 1.0
    table["worth_1pct"] = table["price"] * table.pop("unit") * 0.01 / size
    # At an interior point's answer both are small but positive; the larger one tells which is zero.
    table["binding"] = 100.0 * table["worth_1pct"] > table["slack"]
    return LimitPrices(table, value, tuple(pinned))


def _index(rows: list[tuple[str, str, str, str]]) -> pd.MultiIndex:
    return pd.MultiIndex.from_tuples(rows, names=["limit", "mode", "name", "other"])


def _floor_rows(
    problem: FitProblem, K: Array, price: Array, labels: tuple[str, ...], names: tuple[str, ...]
) -> pd.DataFrame:
    own = np.diagonal(K, axis1=1, axis2=2)
    floor = np.broadcast_to(problem.floor, own.shape)
    unit = np.where(floor > 0, floor, 1.0)
    slack = np.maximum(own - floor, 0.0) / unit
    data = {"slack": slack.ravel(), "price": price.ravel(), "unit": unit.ravel()}
    return pd.DataFrame(data, _index([("floor", mode, name, "") for mode in labels for name in names]))


def _correlation_rows(
    problem: FitProblem,
    K: Array,
    cone: Array,
    i: NDArray[np.intp],
    j: NDArray[np.intp],
    labels: tuple[str, ...],
    names: tuple[str, ...],
) -> pd.DataFrame:
    first, second = K[:, i, i], K[:, j, j]
    price = 0.5 * (cone[:, :, 0] * (first + second) + cone[:, :, 1] * (first - second))
    bound = problem.corr_bound * np.sqrt(np.maximum(first * second, np.finfo(float).tiny))
    slack = np.maximum(bound - np.abs(K[:, i, j]), 0.0) / bound
    return _pair_frame(slack, price, problem.corr_bound, i, j, labels, names)


def _pair_frame(
    slack: Array,
    price: Array,
    unit: float,
    i: NDArray[np.intp],
    j: NDArray[np.intp],
    labels: tuple[str, ...],
    names: tuple[str, ...],
) -> pd.DataFrame:
    rows = [("correlation", mode, names[a], names[b]) for mode in labels for a, b in zip(i, j, strict=True)]
    return pd.DataFrame({"slack": slack.ravel(), "price": price.ravel(), "unit": unit}, _index(rows))


def _psd_rows(K: Array, held: Array, labels: tuple[str, ...]) -> tuple[pd.DataFrame, list[Array]]:
    n = K.shape[1]
    rows, columns = triangle(n)
    data, pinned = [], []
    for matrix, entries in zip(K, held, strict=True):
        Z = np.zeros((n, n))
        Z[rows, columns] = Z[columns, rows] = entries
        mean = float(np.trace(matrix)) / n or 1.0
        values, vectors = np.linalg.eigh(matrix)
        price = float(np.trace(Z))
        data.append({"slack": max(float(values[0]), 0.0) / mean, "price": price, "unit": mean})
        weight = np.einsum("ik,ij,jk->k", vectors, Z, vectors)
        pinned.append(vectors[:, weight > np.maximum(values, 0.0)])
    return pd.DataFrame(data, _index([("psd", mode, "", "") for mode in labels])), pinned
