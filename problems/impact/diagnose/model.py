"""`diagnose`: one fit looked at from all sides."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from crosswind.problems.impact.diagnose.noise import CrossSignal, cross_signal, effective_rank
from crosswind.problems.impact.diagnose.prices import LimitPrices, limit_prices
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import CrosswindError, InvalidInput

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from crosswind.optim.admissibility import Admissibility
    from crosswind.problems.impact.calibrate.bands import Bands

__all__ = ["Diagnosis", "diagnose"]


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `diagnose` found; a part that does not apply is None, and ``notes`` say why.

    Parameters
    ----------
    model
        The model looked at.
    figures_of_merit
        Series: cross share, condition number, effective rank, worst violation, profit of the worst round trip.
    prices
        Slack and price of every limit; None for an estimator without limits.
    signal
        Cross terms against noise.
    round_trip
        Admissibility with the worst round trip.
    bands
        Resampled matrices, where given.
    lead_lag
        Lead–lag curves, where given.
    sectors
        Name → sector, for the order of the heatmap.
    notes
        What could not be computed, and why.
    """

    model: ImpactModel
    figures_of_merit: pd.Series
    prices: LimitPrices | None
    signal: CrossSignal | None
    round_trip: Admissibility | None
    bands: Bands | None
    lead_lag: pd.DataFrame | None
    sectors: pd.Series | None
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Figures of merit in one column."""
        return self.figures_of_merit.to_frame()

    def figures(self) -> dict[str, Any]:
        """Every figure that applies, by name: "matrix", "signal", "prices", "decay", "round_trip", "lead_lag"."""
        from crosswind.problems.impact.diagnose import figures as draw
        from crosswind.problems.impact.plots import plot_decay, plot_matrix

        out = {"matrix": plot_matrix(self.model, self.sectors)}
        if self.signal is not None:
            out["signal"] = draw.plot_signal(self.signal)
        if self.prices is not None:
            out["prices"] = draw.plot_prices(self.prices)
        if self.bands is not None:
            out["decay"] = draw.plot_bands(self.bands, self.bands.lags_s())
        else:
            out["decay"] = plot_decay(self.model)
        if self.round_trip is not None:
            out["round_trip"] = draw.plot_round_trip(self.model)
        if self.lead_lag is not None:
            out["lead_lag"] = draw.plot_lead_lag(self.lead_lag)
        return out

    def plot(self) -> go.Figure:
        """Heatmap of the matrix in the order of sectors or clusters, with its spectrum."""
        return self.figures()["matrix"]

    def to_html(self, path: str | Path) -> Path:
        """Write the diagnosis as one self-contained page: the file appears whole or not at all.

        Raises
        ------
        InvalidInput
            The path cannot be written.
        MissingDependency
            plotly is not installed.
        """
        from crosswind.problems.atomic import atomic_file
        from crosswind.problems.impact.diagnose.page import diagnosis_html

        text = diagnosis_html(self)
        with atomic_file(path) as target:
            target.write_text(text, encoding="utf-8")
        return Path(path)

    def summary(self) -> str:
        """Say in a few lines what was found."""
        f = self.figures_of_merit
        lines = [
            f"diagnosis of {len(self.model.names)} names",
            f"  cross share {f['cross_share']:.1%}, condition {f['condition']:.3g}, effective rank "
            f"{f['effective_rank']:.2f} of {len(self.model.names)}, worst violation {f['violation']:.1e}",
        ]
        if self.round_trip is not None:
            lines.append(f"  {self.round_trip.summary()}")
        if self.signal is not None:
            lines.append(f"  {self.signal.summary()}")
        if self.prices is not None:
            lines.append(f"  {self.prices.summary()}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"Diagnosis({len(self.model.names)} names; see .summary())"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>"


def diagnose(
    estimator: ImpactEstimator,
    sectors: pd.Series | None = None,
    bands: Bands | None = None,
    lead_lag: pd.DataFrame | None = None,
    prices: bool = True,
) -> Diagnosis:
    """Look at a fitted estimator: limits and their prices, noise, spectrum, admissibility, decay.

    Parameters
    ----------
    estimator
        Fitted.
    sectors
        Series name → sector; None orders the heatmap by clusters of the matrix.
    bands
        From `bootstrap_matrices` or a `Calibration`; adds bands to the decay.
    lead_lag
        Lead–lag curves to show beside: index lag [s], one column per pair.
    prices
        False leaves the prices of the limits out: they take a general cone solver, seconds beyond some twenty names.

    Returns
    -------
    Diagnosis
        Tables and figures. A part that cannot be computed (no limits, too many names for prices, too few rows for the
        noise's law, a flow transform) is None with a note.

    Raises
    ------
    InvalidInput
        Not a fitted estimator.
    """
    if not isinstance(estimator, ImpactEstimator) or not hasattr(estimator, "model_"):
        raise InvalidInput(
            "is not a fitted estimator", field="estimator", value=type(estimator).__name__, remedy="call .fit(events)"
        )
    model = estimator.model_
    notes: list[str] = []
    priced: LimitPrices | None = None
    problem = getattr(getattr(estimator, "fitted_", None), "problem", None)
    if problem is None:
        notes.append(f"{type(estimator).__name__} is fitted without limits, so none has a price")
    elif prices:
        try:
            priced = limit_prices(problem, model.dictionary.labels, model.names)
        except CrosswindError as error:
            notes.append(f"no prices: {error}")
    signal: CrossSignal | None = None
    try:
        signal = cross_signal(estimator.grams_.total, model)
    except CrosswindError as error:
        notes.append(f"no noise edge: {error}")
    trip: Admissibility | None = None
    if model.transform is None:
        trip = model.admissible()
    else:
        notes.append("impact is a power of the flow: some round trip always pays, so none is shown")
    merit = pd.Series(
        {
            "cross_share": model.cross_share(),
            "condition": model.condition_number,
            "effective_rank": effective_rank(model),
            "violation": float(model.constraint_violations()["worst"]),
            "round_trip_bps": float("nan") if trip is None else float(trip.profit_bps),
            "noise_edge": float("nan") if signal is None else signal.edge,
            "above_noise": float("nan") if signal is None else float(signal.above),
        },
        name="value",
    ).rename_axis("figure")
    return Diagnosis(model, merit, priced, signal, trip, bands, lead_lag, sectors, tuple(notes))
