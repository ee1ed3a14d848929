"""What a decision-focused calibration found."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

from crosswind.problems.impact.decision.parents import ParentBaskets
from crosswind.problems.impact.decision.refine import Refinement
from crosswind.problems.impact.model import ImpactModel

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["DecisionCalibration"]


@dataclass(frozen=True, eq=False)
class DecisionCalibration:
    """Penalties chosen by the money their schedules cost on data that they have not seen.

    Attributes
    ----------
    parameters
        Names of the penalties that were chosen.
    chosen, likelihood, least
        Penalties by name: the choice; that of the best held-out R²; that of the least estimated cost, which is a noisy
        minimum and not the choice unless its saving is beyond doubt.
    table
        One row per point tried: penalties; "r2", held-out, mean over folds and names; and in units of what the
        likelihood's schedules promise, "cost" and "promised", and "saving" against the likelihood's choice with bounds
        "low" and "high" that hold for all points together.
    saving, low, high
        Those of the choice; 0, 0, 0 where it is the likelihood's.
    level
        Coverage of the bounds.
    folds
        One row per fold: rows of the ruler, cost of either choice, saving, share of parents that it helps.
    path
        Penalties and cost by step of the gradient search; None without one.
    model
        The model of all rows at the chosen penalties (its kernel refined, where asked and worth it).
    suboptimality
        Proven distance of that fit from its optimum, relative to 1 + |objective|.
    refinement
        What moving the kernel was worth; None where not asked.
    parents
        The baskets.
    settings
        What was asked.
    """

    parameters: tuple[str, ...]
    chosen: pd.Series
    likelihood: pd.Series
    least: pd.Series
    table: pd.DataFrame
    saving: float
    low: float
    high: float
    level: float
    folds: pd.DataFrame
    path: pd.DataFrame | None
    model: ImpactModel
    suboptimality: float
    refinement: Refinement | None
    parents: ParentBaskets
    settings: dict[str, Any]

    @property
    def agrees(self) -> bool:
        """Whether the choice is that of held-out R²."""
        return bool(self.chosen.equals(self.likelihood))

    def to_frame(self) -> pd.DataFrame:
        """Return the table, with a column "role" that says which rows are the choices."""
        out = self.table.copy()
        roles = {"likelihood": self.likelihood, "chosen": self.chosen}
        out["role"] = ""
        for role, point in roles.items():
            where = (out[list(self.parameters)] == point.to_numpy()).all(axis=1)
            out.loc[where, "role"] = out.loc[where, "role"].map(lambda held, r=role: f"{held} {r}".strip())
        return out

    def summary(self) -> str:
        """Say what was chosen, what it saves, and what else was near."""

        def show(point: pd.Series) -> str:
            return ", ".join(f"{name} {value:.3g}" for name, value in point.items())

        lines = [
            f"decision-focused calibration of {', '.join(self.parameters)} for {self.parents.count} parents on "
            f"{len(self.folds)} folds",
            f"  by held-out R²   {show(self.likelihood)}",
        ]
        if self.agrees:
            lines.append(f"  by realised cost the same: no saving is beyond doubt at {self.level:.0%}")
        else:
            lines.append(f"  by realised cost {show(self.chosen)}")
            lines.append(
                f"  saving           {self.saving:.2%} of the promised cost "
                f"({self.low:.2%} … {self.high:.2%}, {self.level:.0%} for all points together)"
            )
        best = self.table.iloc[int(self.table["saving"].to_numpy().argmax())]
        if not (best[list(self.parameters)] == self.chosen.to_numpy()).all():
            lines.append(
                f"  least cost seen  {show(self.least)}: {best['saving']:.2%} ({best['low']:.2%} … {best['high']:.2%})"
            )
        if self.refinement is not None:
            lines.append(f"  refinement       {self.refinement.summary()}")
        return "\n".join(lines)

    def plot(self) -> go.Figure:
        """Draw the saving against the likelihood's choice at every point tried, by its held-out R²."""
        from crosswind.problems.impact.decision.figures import plot_surface

        return plot_surface(self)

    def plot_path(self) -> go.Figure:
        """Draw the cost by step of the gradient search."""
        from crosswind.problems.impact.decision.figures import plot_path

        return plot_path(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>{self.to_frame().round(4).to_html(index=False)}"
