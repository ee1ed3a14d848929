"""A solved roll: the schedule, what it costs in each scenario and why, what each limit is worth."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.page import table_html
from crosswind.problems.roll.model import FloatArray
from crosswind.problems.roll.program.assembly import COMPONENTS, Assembly, survival
from crosswind.solvers.tail.solution import TailSolution

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["FirstStep", "RollPlan"]


@dataclass(frozen=True)
class FirstStep:
    """What the plan does in the slice that begins now, in contracts that are not whole yet.

    Parameters
    ----------
    rest
        Spreads that rest at the best price: all that is not given up in this slice.
    cross
        Spreads to cross in the spread book.
    legs_at_once, legs_one_by_one
        Spreads through the legs: both crossed, or the second one resting for the slice.
    seconds
        Length of the slice.
    """

    rest: float
    cross: float
    legs_at_once: float
    legs_one_by_one: float
    seconds: float


@dataclass(frozen=True, eq=False)
class RollPlan:
    """The result of :meth:`crosswind.problems.roll.program.RollProblem.solve`.

    Attributes
    ----------
    name, quantity, side
        Of the order; ``quantity`` is what was still to be done, > 0.
    assembly, solution
        The program and the solver's answer with its certificate.
    plan
        x (n,) contracts of each slab, channel and slice.
    components
        Five costs of each scenario [currency]: (S, 5) frame, columns as in :data:`COMPONENTS`.
    costs
        Their sums (S,).
    mean, q95, cvar95
        E[C], the quantile and the tail mean at the settings' level [currency].
    underfill_probability, expected_underfill
        Chance that a contract at least is left to the forced cross, and how many in the mean.
    beyond_probability
        Chance that the book at the cutoff has less than is left to it (the rest must be carried).
    prices
        'completion' (J,): what one more contract costs; limit → (T + 1,): what one more unit of it saves [currency].
    carry
        Whether the plan follows the fills.
    notes
        What the user should know: channels left out, a fallback, an iterate that is not optimal.
    """

    name: str
    quantity: float
    side: int
    assembly: Assembly
    solution: TailSolution
    plan: FloatArray
    components: pd.DataFrame
    costs: FloatArray
    mean: float
    q95: float
    cvar95: float
    underfill_probability: float
    expected_underfill: float
    beyond_probability: float
    prices: dict[str, FloatArray]
    carry: bool = True
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> FirstStep:
        """What to do now."""
        now = self.assembly.grid(self.plan)[:, 0]
        return FirstStep(
            float(self.quantity - now.sum()),
            float(now[0]),
            float(now[1]),
            float(now[2]),
            float(self.assembly.scenarios.dt_s[0]),
        )

    @property
    def objective(self) -> float:
        """E[C] + λ₉₅ CVaR + λ_T E[underfill] + what legging exposure and unsteadiness are charged [currency]."""
        return self.solution.objective

    def to_frame(self) -> pd.DataFrame:
        """Return the schedule: one row per slice, the last one the forced cross.

        ``start_s``; planned if nothing ever fills: ``cross``, ``legs_at_once``, ``legs_one_by_one`` [contracts]; in the
        mean over the scenarios: ``rest`` at the slice's start, ``filled`` in it, ``crossed`` in all channels,
        ``remaining`` at its start with its 5–95 % band; ``<limit>_price`` [currency per unit].
        """
        a = self.assembly
        sc = a.scenarios
        planned = a.grid(self.plan)
        given = a.grid(self.plan, a.present).sum(axis=1)
        unfilled = self.unfilled()
        p = sc.probabilities
        remaining = unfilled.sum(axis=2)
        mean = p @ remaining
        gone = p @ given
        frame = pd.DataFrame(
            {
                "start_s": np.append(0.0, np.cumsum(sc.dt_s)),
                "cross": planned[0],
                "legs_at_once": planned[1],
                "legs_one_by_one": planned[2],
                "rest": mean - gone,
                "filled": np.append(mean[:-1] - gone[:-1] - mean[1:], 0.0),
                "crossed": gone,
                "remaining": mean,
                "remaining_q05": _band(remaining, p, 0.05),
                "remaining_q95": _band(remaining, p, 0.95),
            }
        )
        for limit, price in self.prices.items():
            if limit != "completion":
                frame[f"{limit}_price"] = price
        return frame.rename_axis("slice")

    def unfilled(self) -> FloatArray:
        """Return what is still to be done at each slice's start, by scenario and slab (S, T + 1, J) [contracts]."""
        a = self.assembly
        T, J = a.scenarios.slices, len(a.sizes)
        psi = survival(a.scenarios, a.sizes)
        later = np.zeros((T + 2, J))
        one = a.slab >= 0
        np.add.at(later, (a.slice[one], a.slab[one]), self.plan[one])
        np.add.at(later, a.slice[~one], np.repeat(self.plan[~one, None] / J, J, axis=1))
        still = np.cumsum(later[::-1], axis=0)[::-1][: T + 1]  # planned to be given up at t or later
        carried = np.asarray(psi * still)
        if not self.carry:  # what is to be crossed before the cutoff does not rest
            carried = psi * later[T] + (still - later[T])
        return carried

    def evaluate(self, scenarios: Any) -> pd.DataFrame:
        """Return the components (S', 5) of this plan in other scenarios of the same slices, for a test of it."""
        from crosswind.problems.roll.program.problem import evaluate

        return evaluate(self, scenarios)

    def summary(self) -> str:
        """Return a few lines: what to do now, costs by component, tail, completion, what the limits are worth."""
        q, first, a = self.quantity, self.first, self.assembly
        p = a.scenarios.probabilities
        means = p @ self.components.to_numpy()
        parts = ", ".join(f"{name} {value / q:+.3f}" for name, value in zip(COMPONENTS, means, strict=True))
        level = 100.0 * a.settings.alpha
        lines = [
            f"{self.name}: {'buy' if self.side > 0 else 'sell'} {q:.0f} spreads, "
            f"{a.scenarios.count} scenarios × {a.scenarios.slices} slices ({a.scenarios.source})",
            f"{self.solution.status.name}: {self.solution.status.text}",
            f"  now: rest {first.rest:.1f}, cross {first.cross:.1f}, "
            f"legs {first.legs_at_once + first.legs_one_by_one:.1f}"
            f" within {first.seconds:.0f} s",
            f"  cost a spread (positive: money lost): mean {self.mean / q:+.3f}, Q{level:.0f} {self.q95 / q:+.3f}, "
            f"CVaR{level:.0f} {self.cvar95 / q:+.3f}",
            f"  mean by component: {parts}",
            f"  left to the forced cross: {self.expected_underfill:.1f} spreads in the mean, with a chance of "
            f"{self.underfill_probability:.1%}; more than the book has: {self.beyond_probability:.1%}",
        ]
        for name, price in self.prices.items():
            if name == "completion":
                lines.append(f"  one more spread costs {float(price.max()):.3f}")
            elif price.max() > 1e-6 * abs(float(self.prices["completion"].max())):
                lines.append(
                    f"  {name}: binds in {int((price > 1e-9).sum())} slices, worth up to {price.max():.3f} a unit"
                )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def plot(self) -> go.Figure:
        """Return remaining quantity with its band, planned crossing, and the costs' distribution (plotly)."""
        from crosswind.problems.roll.program.plots import plan_figure

        return plan_figure(self)

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(line) for line in self.summary().splitlines())
        return f"<p>{lines}</p>{table_html(self.to_frame().round(2))}"


def _band(values: FloatArray, probabilities: FloatArray, level: float) -> FloatArray:
    """Return the weighted lower quantile of each column of values (S, T)."""
    order = np.argsort(values, axis=0, kind="stable")
    first = np.argmax(np.cumsum(probabilities[order], axis=0) >= level - 1e-12, axis=0)
    columns = np.arange(values.shape[1])
    out: FloatArray = values[order[first, columns], columns]
    return out
