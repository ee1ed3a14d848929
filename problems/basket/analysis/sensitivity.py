r"""How the optimal cost and the optimal schedule move with any parameter of a basket.

The cost by the envelope theorem, the schedule by the implicit function theorem on the limits that hold it
(:mod:`crosswind.solvers.differentiate`). A parameter is a path of problems, ε ↦ problem(ε), with problem(0) the solved
one; the derivative of the program's data along the path is taken by central differences of the *data*, which are smooth
(mostly linear) in every parameter, and never of solutions:

.. math::

    \frac{dC^*}{d\varepsilon} = \frac{\partial L}{\partial \varepsilon}(u^*, y^*), \qquad
    \frac{du^*}{d\varepsilon} = -K^{-1} \frac{\partial}{\partial \varepsilon} (\nabla_u L, \text{active limits})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from crosswind.problems.basket.analysis.parameters import applicable, path_of, value_of
from crosswind.problems.basket.inputs import FloatArray
from crosswind.solvers.errors import InvalidInput, SolverFailure

if TYPE_CHECKING:
    from crosswind.optim.lowered import Lowered
    from crosswind.optim.program import MultistageProgram
    from crosswind.problems.basket.model import BasketProblem
    from crosswind.problems.basket.schedule import BasketSchedule
    from crosswind.solvers.differentiate import Sensitivities

__all__ = ["ScheduleSensitivities", "sensitivities"]

Path = Callable[[float], "BasketProblem"]
_STEP = 1e-4  # of the data's differences: truncation 1e-8 of what is nonlinear, rounding 1e-12


@dataclass(frozen=True, eq=False)
class ScheduleSensitivities:
    """First-order response of an optimal schedule, per relative change of each parameter.

    Attributes
    ----------
    schedule
        The optimum.
    cost
        Parameter -> dC*/dε [currency], ε the relative change of the parameter (for a path of one's own, its argument).
    moves
        Parameter -> du*/dε (T × N) [currency].
    values
        Parameter -> its value where it is one number, else NaN.
    degenerate
        True when the derivative of the schedule is not unique: it is then one-sided. The cost's derivative is not
        touched by limits that just bind.
    reason
        Why, naming limits in the words of the program.
    """

    schedule: BasketSchedule
    cost: pd.Series
    moves: dict[str, pd.DataFrame]
    values: pd.Series
    degenerate: bool
    reason: str

    def per_unit(self, parameter: str) -> float:
        """Return dC*/dθ, the cost per unit of a parameter that is one number; NaN where it is none or zero."""
        self._known(parameter)
        value = float(self.values[parameter])
        return float(self.cost[parameter]) / value if np.isfinite(value) and value != 0.0 else float("nan")

    def trades(self, parameter: str, change: float = 0.01) -> pd.DataFrame:
        """Return the schedule to first order after a relative ``change`` of a parameter (T × N) [currency]."""
        self._known(parameter)
        return self.schedule.trades + change * self.moves[parameter]

    def total(self, parameter: str, change: float = 0.01) -> float:
        """Return the optimal total cost to first order after a relative ``change`` of a parameter [currency]."""
        self._known(parameter)
        return float(self.schedule.costs["total"] + change * self.cost[parameter])

    def _known(self, parameter: str) -> None:
        if parameter not in self.moves:
            raise InvalidInput(
                "was not asked for", field="parameter", value=parameter, remedy=f"one of {', '.join(self.moves)}"
            )

    def to_frame(self) -> pd.DataFrame:
        """Return one row per parameter, the most telling first.

        Columns: ``value``, ``cost_per_unit`` [currency per unit of the parameter], ``cost_bps`` (change of the cost per
        +1 % of the parameter, bps of the parent notional), ``moved`` (½ Σ|du| per +1 %, share of the parent notional).
        """
        p = self.schedule.problem
        gross = max(p.parent_notional, 1e-300)
        rows = {
            name: {
                "value": self.values[name],
                "cost_per_unit": self.per_unit(name),
                "cost_bps": 0.01 * p.to_bps(float(self.cost[name])),
                "moved": 0.01 * 0.5 * float(np.abs(move.to_numpy()).sum()) / gross,
            }
            for name, move in self.moves.items()
        }
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")
        return table.sort_values("cost_bps", key=lambda c: -c.abs(), kind="stable")

    def summary(self) -> str:
        """Return the table and whether the derivative is unique."""
        head = "per +1 % of each parameter: cost [bps of the parent], moved [share of the parent]"
        flag = f"ONE-SIDED: {self.reason}" if self.degenerate else "regular: the derivatives are two-sided"
        return f"{head}\n{self.to_frame().to_string(float_format=lambda v: f'{v:.4g}')}\n{flag}"

    def plot(self) -> Any:
        """Return bars of the cost's change per +1 % of each parameter."""
        from crosswind.problems.basket.analysis.figures import sensitivity_bars

        return sensitivity_bars(self)

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html())


def sensitivities(
    schedule: BasketSchedule,
    parameters: Iterable[str] | Mapping[str, Path] | None = None,
    *,
    weak: str = "free",
    tol: float | None = None,
) -> ScheduleSensitivities:
    """Return how the optimal cost and schedule respond to parameters.

    Parameters
    ----------
    schedule
        A solved basket. Where it was solved by other means than the general program (a structured solver), the general
        program is solved once here.
    parameters
        Names out of ``risk_aversion``, ``spread``, ``temporary``, ``impact``, ``decay``, ``covariance``, ``volume``,
        ``participation``, ``sector_cap``, ``cash_band``, ``max_change``, ``inventory``, ``completion`` (a penalty),
        ``three_halves``, ``drift``, ``urgency``, ``beta_band``, each scaled as a whole; or with a label,
        ``spread[IBM]``, ``inventory[IBM]``, ``volume[IBM]``, ``temporary[IBM]``, ``participation[IBM]``,
        ``max_change[IBM]``, ``sector_cap[tech]``, ``impact[0]`` (one mode). Or a mapping name -> path ε ↦ problem
        with the solved problem at 0, for anything else. ``None``: every whole parameter that the problem uses. A
        volume moves the participation cap, and η where that is the default 0.1 σ/V, as the covariance does.
    weak
        Where a limit just binds: ``"free"`` lets the schedule leave it, ``"held"`` keeps it there; the two one-sided
        derivatives.
    tol
        Room and multiplier below which a limit just binds; see :func:`crosswind.solvers.differentiate.sensitivities`.

    Returns
    -------
    ScheduleSensitivities
        Derivatives, and a flag where they are one-sided.

    Raises
    ------
    InvalidInput
        On unknown parameters, or where a parameter sits at a value at which the program changes its form (λ = 0).
    SolverFailure
        When the optimum cannot be certified.

    Notes
    -----
    Fiacco (1983), Introduction to Sensitivity and Stability Analysis in Nonlinear Programming.
    """
    from crosswind.optim.lowering import lower

    problem = schedule.problem
    paths = _paths(problem, parameters)
    at = _Expansion.of(schedule)
    base = lower(at.program(problem)[0])
    point = _prepared(schedule, base, weak, tol)
    cost, moves = {}, {}
    for name, path in paths.items():
        direction, constant = _direction(base, at, path, name)
        change = point.jvp(**direction)
        cost[name] = change.value * base.cost_scale + constant
        moves[name] = problem.frame(change.x[base.trades] * base.var_scale[base.trades])
    values = {name: value_of(problem, name) if not isinstance(parameters, Mapping) else float("nan") for name in paths}
    return ScheduleSensitivities(
        schedule=schedule,
        cost=pd.Series(cost, dtype=np.float64, name="currency"),
        moves=moves,
        values=pd.Series(values, dtype=np.float64, name="value"),
        degenerate=point.degenerate,
        reason=point.reason,
    )


def _paths(problem: BasketProblem, parameters: Iterable[str] | Mapping[str, Path] | None) -> dict[str, Path]:
    if isinstance(parameters, Mapping):
        return dict(parameters)
    if isinstance(parameters, str):
        parameters = (parameters,)
    names = applicable(problem) if parameters is None else tuple(dict.fromkeys(parameters))
    return {name: path_of(problem, name) for name in names}


@dataclass(frozen=True, eq=False)
class _Expansion:
    """κ|u|^{3/2} to second order at the optimum: the same optimum and the same derivatives, in a quadratic program.

    At u = 0 its curvature ¾κ/√u has no bound; there it is taken at a small trade, which holds the trade as it is.
    """

    trades: FloatArray
    size: FloatArray

    @classmethod
    def of(cls, schedule: BasketSchedule) -> _Expansion:
        u = schedule.trades.to_numpy()
        return cls(u, np.maximum(np.abs(u), 1e-7 * max(schedule.problem.parent_notional, 1e-300)))

    def program(self, problem: BasketProblem) -> tuple[MultistageProgram, float]:
        """Return the quadratic program of ``problem`` and the constant that the expansion leaves out [currency]."""
        program = problem.program()
        kappa = program.three_halves
        if not kappa.any():
            return program, 0.0
        u, s = self.trades, self.size
        slope, bend = 1.5 * kappa * np.sign(u) * np.sqrt(np.abs(u)), 0.75 * kappa / np.sqrt(s)
        quadratic = replace(
            program,
            three_halves=np.zeros_like(kappa),
            temporary=program.temporary + 0.5 * bend,
            drift=program.drift + slope - bend * u,
        )
        return quadratic, float(np.sum(kappa * np.abs(u) ** 1.5 - slope * u + 0.5 * bend * u**2))


def _prepared(schedule: BasketSchedule, base: Lowered, weak: str, tol: float | None) -> Sensitivities:
    """Return the derivatives' point, from the schedule's own solution where it is one of this program."""
    from crosswind.solvers.differentiate import sensitivities as prepare
    from crosswind.solvers.solution import Solution
    from crosswind.solvers.solve import solve

    held = schedule.solution.solution
    if isinstance(held, Solution) and held.x.shape == (base.qp.n,) and held.y.shape == (base.qp.m,):
        try:
            return prepare(base.qp, held, tol, weak)
        except SolverFailure:
            pass  # stopped early: solved again below
        except InvalidInput as err:
            if err.field != "solution":
                raise
    chain: str | tuple[str, ...] = ("clarabel", "piqp") if base.qp.P.nnz + base.qp.A.nnz > 50_000 else "auto"
    for asked in (1e-9, 1e-8):
        found = solve(base.qp, solver=chain, tol=asked)
        if found.status.ok:
            break
    return prepare(base.qp, found, tol, weak)


def _direction(base: Lowered, at: _Expansion, path: Path, name: str) -> tuple[dict[str, Any], float]:
    """Return d(data)/dε in the units of the base program, and the derivative of the constant [currency]."""
    ahead, step_ahead = _data(base, at, path, _STEP)
    back, step_back = _data(base, at, path, -_STEP)
    if ahead is None or back is None:
        middle = _unscaled(base)
        ahead, step_ahead = (middle, 0.0) if ahead is None else (ahead, step_ahead)
        back, step_back = (middle, 0.0) if back is None else (back, step_back)
    width = step_ahead - step_back
    if width == 0.0:
        raise InvalidInput(
            "no neighbouring problem is valid", field=name, value=_STEP, remedy="check the path around 0"
        )
    D, E, s = base.var_scale, base.row_scale, base.cost_scale
    out: dict[str, Any] = {}
    for key, scale in (("q", D / s), ("l", 1.0 / E), ("u", 1.0 / E), ("lb", 1.0 / D), ("ub", 1.0 / D)):
        if not np.array_equal(np.isfinite(ahead[key]), np.isfinite(back[key])):
            raise _other_form(name)
        with np.errstate(invalid="ignore"):
            moved = np.where(np.isfinite(ahead[key]), ahead[key] - back[key], 0.0)
        out[key] = scale * moved / width
    for key, left, right in (("P", D / s, D), ("A", 1.0 / E, D)):
        pattern = base.qp.P if key == "P" else base.qp.A
        change: Any = sparse.csc_matrix(sparse.diags(left) @ ((ahead[key] - back[key]) / width) @ sparse.diags(right))
        change.eliminate_zeros()
        if change.nnz:
            marked = abs(sparse.csc_matrix(pattern, copy=True))
            marked.data[:] = 1.0
            if (change - change.multiply(marked)).nnz:
                raise _other_form(name)
            out[key] = change
    return out, float(ahead["constant"] - back["constant"]) / width


def _other_form(name: str) -> InvalidInput:
    return InvalidInput(
        "the program changes its form at this value, so that there is no derivative",
        field=name,
        value=None,
        remedy="move the parameter a little away from its boundary (such as risk_aversion=0)",
    )


def _data(base: Lowered, at: _Expansion, path: Path, step: float) -> tuple[dict[str, Any] | None, float]:
    """Return the unscaled data of problem(ε = step), or None where that problem is not valid (an end of a range)."""
    from crosswind.optim.lowering import lower

    try:
        program, constant = at.program(path(step))
        moved = lower(program, base.scaling, names=False)
    except InvalidInput:
        return None, 0.0
    if (moved.qp.n, moved.qp.m) != (base.qp.n, base.qp.m):
        raise _other_form("path")
    data = _unscaled(moved)
    return data | {"constant": data["constant"] + constant}, step


def _unscaled(lowered: Lowered) -> dict[str, Any]:
    qp, D, E, s = lowered.qp, lowered.var_scale, lowered.row_scale, lowered.cost_scale
    inverse: FloatArray = 1.0 / D
    return {
        "P": sparse.diags(s * inverse) @ qp.P @ sparse.diags(inverse),
        "q": s * qp.q * inverse,
        "A": sparse.diags(E) @ qp.A @ sparse.diags(inverse),
        "l": qp.l * E,
        "u": qp.u * E,
        "lb": qp.lb * D,
        "ub": qp.ub * D,
        "constant": s * qp.constant,
    }
