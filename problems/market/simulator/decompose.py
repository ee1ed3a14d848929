"""Split simulated returns into factor, impact and noise by the truth that came with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.market.model import MarketData, MarketEvents
from crosswind.problems.market.simulator.prices import impact_returns
from crosswind.solvers.errors import DataGap

__all__ = ["ReturnParts", "decompose"]

_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReturnParts:
    """The parts of simulated returns, T × N each; their sum is ``events.returns``.

    Parameters
    ----------
    factor
        ``L f_t``, the market's jumps excepted; in a correlation break the market's column counts by its coupling.
    impact
        ``Σ_m K_m ζ^m_t``, the price impact of the flow of the session so far.
    noise
        What is left; NaN in each session's first bucket, whose return spans the night.
    jumps
        Jumps of the market and of the names themselves; None in a market without them.
    """

    factor: pd.DataFrame
    impact: pd.DataFrame
    noise: pd.DataFrame
    jumps: pd.DataFrame | None = None

    def _parts(self) -> dict[str, pd.DataFrame]:
        parts = {"factor": self.factor, "impact": self.impact, "noise": self.noise}
        return parts if self.jumps is None else {**parts, "jumps": self.jumps}

    def shares(self) -> pd.DataFrame:
        """Return the variance of each part over the variance of the returns, name × part; flow's column is its R²."""
        inside = self.noise.notna().all(axis=1)
        parts = {name: part[inside] for name, part in self._parts().items()}
        total = sum(parts.values()).var()  # type: ignore[union-attr]
        return pd.DataFrame({name: part.var() / total for name, part in parts.items()})

    def to_frame(self) -> pd.DataFrame:
        """Return the parts side by side: T × (part, name)."""
        return pd.concat(self._parts(), axis=1)

    def summary(self) -> str:
        """Return one line per name with the share of each part."""
        rows = [
            f"  {name}: " + ", ".join(f"{part} {share:.1%}" for part, share in row.items())
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
    factors = events.factors.to_numpy()
    coupling, market_jumps, own_jumps = _shocks(events, truth.parameters)
    if market_jumps is not None:
        factors = factors - market_jumps[:, None] * np.eye(1, factors.shape[1])
    factor = factors @ loadings.T
    if coupling is not None:
        factor = factor + (coupling - 1.0)[:, None] * factors[:, :1] * loadings[:, 0]
    flow = events.flow.to_numpy()
    session = events.session.to_numpy()
    starts = np.flatnonzero(np.append(True, session[1:] != session[:-1]))
    blocks = np.split(flow, starts[1:])
    impact = np.concatenate(
        [impact_returns(block, truth.rates_per_s, truth.matrices, events.bucket_s) for block in blocks]
    )
    noise = events.returns.to_numpy() - factor - impact
    jumps = None
    if market_jumps is not None and own_jumps is not None:
        jumps = market_jumps[:, None] * loadings[:, 0] + own_jumps
        noise = noise - jumps

    def frame(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> pd.DataFrame:
        return pd.DataFrame(values, index=events.index, columns=events.flow.columns)

    return ReturnParts(frame(factor), frame(impact), frame(noise), None if jumps is None else frame(jumps))


def _shocks(events: MarketEvents, truth: Mapping[str, Any]) -> tuple[_Array | None, _Array | None, _Array | None]:
    """Return coupling (T,), the market's jumps (T,) and the names' own (T, N); None for what the market has not."""
    coupling = market = own = None
    if "break_windows" in truth:
        coupling = np.ones(len(events.index))
        for start, end, value in truth["break_windows"]:
            coupling[(events.index > pd.Timestamp(start)) & (events.index <= pd.Timestamp(end))] = value
    if "jumps" in truth:
        market, own = np.zeros(len(events.index)), np.zeros(events.flow.shape)
        for time, name, size in truth["jumps"]:
            at = events.index.searchsorted(pd.Timestamp(time))
            if name == "market":
                market[at] += size
            else:
                own[at, events.names.index(name)] += size
    return coupling, market, own
