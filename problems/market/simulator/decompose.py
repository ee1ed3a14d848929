"""Split simulated returns into factor, impact and noise by the truth that came with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crosswind.problems.market.model import MarketData
from crosswind.problems.market.simulator.prices import impact_returns
from crosswind.solvers.errors import DataGap

__all__ = ["ReturnParts", "decompose"]


@dataclass(frozen=True, eq=False)
class ReturnParts:
    """The three parts of simulated returns, T × N each; their sum is ``events.returns``.

    Parameters
    ----------
    factor
        ``L f_t``.
    impact
        ``Σ_m K_m ζ^m_t``, the price impact of the flow of the session so far.
    noise
        What is left; NaN in each session's first bucket, whose return spans the night.
    """

    factor: pd.DataFrame
    impact: pd.DataFrame
    noise: pd.DataFrame

    def shares(self) -> pd.DataFrame:
        """Return the variance of each part over the variance of the returns, name × part; flow's column is its R²."""
        inside = self.noise.notna().all(axis=1)
        parts = {"factor": self.factor[inside], "impact": self.impact[inside], "noise": self.noise[inside]}
        total = (parts["factor"] + parts["impact"] + parts["noise"]).var()
        return pd.DataFrame({name: part.var() / total for name, part in parts.items()})

    def to_frame(self) -> pd.DataFrame:
        """Return the parts side by side: T × (part, name)."""
        return pd.concat({"factor": self.factor, "impact": self.impact, "noise": self.noise}, axis=1)

    def summary(self) -> str:
        """Return one line per name with the share of each part."""
        rows = [
            f"  {name}: factor {row.factor:.1%}, impact {row.impact:.1%}, noise {row.noise:.1%}"
            for name, row in self.shares().iterrows()
        ]
        return "\n".join(["share of the variance of bucket returns", *rows])


def decompose(data: MarketData) -> ReturnParts:
    """Split the returns of a simulated market by its own truth.

    Parameters
    ----------
    data
        As :func:`~crosswind.problems.market.simulator.simulate.simulate` returned it: whole sessions in the simulated
        buckets.

    Returns
    -------
    ReturnParts

    Raises
    ------
    DataGap
        If the data have no truth or no factor returns, or their buckets were cut or resampled.
    """
    events, truth = data.events, data.truth
    if truth is None or "loadings" not in truth.parameters:
        raise DataGap("these data were not simulated", field="truth", remedy="pass what simulate() returned")
    if events.factors is None:
        raise DataGap("factor returns were left out", field="factors", remedy="simulate with with_factors=True")
    if events.bucket_s != truth.parameters["bucket_s"]:
        raise DataGap(
            "differs from the simulated bucket", field="bucket_s", value=events.bucket_s, remedy="do not resample"
        )
    loadings = np.asarray(truth.parameters["loadings"], dtype=np.float64)
    factor = events.factors.to_numpy() @ loadings.T
    flow = events.flow.to_numpy()
    session = events.session.to_numpy()
    starts = np.flatnonzero(np.append(True, session[1:] != session[:-1]))
    blocks = np.split(flow, starts[1:])
    impact = np.concatenate(
        [impact_returns(block, truth.rates_per_s, truth.matrices, events.bucket_s) for block in blocks]
    )
    noise = events.returns.to_numpy() - factor - impact

    def frame(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> pd.DataFrame:
        return pd.DataFrame(values, index=events.index, columns=events.flow.columns)

    return ReturnParts(frame(factor), frame(impact), frame(noise))
