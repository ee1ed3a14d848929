"""The numerical content of a basket problem: every input aligned to slices × names, as read-only float64 arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crosswind.problems.basket.inputs import (
    FloatArray,
    as_instant,
    as_scalar,
    covariance_matrix,
    per_name,
    require_names,
    slice_frame,
)
from crosswind.solvers.errors import InvalidInput

__all__ = ["DEFAULT_TEMPORARY", "BasketArrays", "Blackout", "blocked_cells", "derive", "sector_rows"]

# A slice that trades its whole forecast volume pays this share of the name's volatility over the slice as temporary
# impact. Small on purpose: measured impact belongs into the model, this term keeps the schedule unique and smooth.
DEFAULT_TEMPORARY = 0.1


@dataclass(frozen=True)
class Blackout:
    """A window in which names must not trade: every slice that overlaps [start, end) is closed.

    Parameters
    ----------
    start, end
        Time-zone-aware limits of the window, ``start < end``; stored in UTC.
    names
        The names it applies to; ``None`` for all of the basket.

    Raises
    ------
    InvalidInput
        When a limit is naive or the window is empty.
    """

    start: pd.Timestamp
    end: pd.Timestamp
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", as_instant(self.start, "blackout.start"))
        object.__setattr__(self, "end", as_instant(self.end, "blackout.end"))
        if self.end <= self.start:
            raise InvalidInput(
                "the window is empty", field="blackout", value=f"{self.start} .. {self.end}", remedy="swap the ends"
            )
        if self.names is not None:
            object.__setattr__(self, "names", tuple(str(n) for n in self.names))


@dataclass(frozen=True)
class BasketArrays:
    """Aligned arrays of a basket, T slices and N names, notionals in currency.

    Attributes
    ----------
    inventory
        (N,) signed parent orders q_0, buy positive.
    target
        (N,) remaining inventory wanted after the last slice, q_T.
    side
        (N,) sign of inventory − target.
    dt_s
        (T,) seconds from the trade before; the first is one slice.
    volume
        (T, N) forecast traded notional, or None.
    participation_cap
        (T, N) largest |u|, or None.
    spread
        (T, N) relative half-spread c, cost c|u|.
    temporary
        (T, N) coefficient η [1/currency], cost ηu².
    covariance
        (N, N) covariance of relative returns per slice, or None where there is no risk term.
    """

    inventory: FloatArray
    target: FloatArray
    side: FloatArray
    dt_s: FloatArray
    volume: FloatArray | None
    participation_cap: FloatArray | None
    spread: FloatArray
    temporary: FloatArray
    covariance: FloatArray | None

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)


def derive(
    *,
    names: tuple[str, ...],
    inventory: FloatArray,
    times: pd.DatetimeIndex,
    slice_s: float,
    volume: pd.DataFrame | None,
    covariance: pd.DataFrame | None,
    spread: pd.Series | float,
    temporary: pd.DataFrame | pd.Series | float | None,
    risk_aversion: float,
    participation: pd.Series | float | None,
    completion: str | float | pd.Series,
) -> BasketArrays:
    """Check and align everything that is an array; see :class:`BasketProblem` for the arguments.

    Raises
    ------
    InvalidInput
        On any malformed table, overlapping slices, or an ingredient that another one needs and that is missing.
    """
    T, N = len(times), len(names)
    gaps = np.diff(times.as_unit("ns").asi8) * 1e-9
    if T > 1 and gaps.min() < slice_s * (1.0 - 1e-9):
        raise InvalidInput(
            "slices overlap: two starts are closer than slice_s",
            field="times",
            value=f"{gaps.min():g} s",
            remedy=f"use slice_s <= {gaps.min():g} or thin out the starts",
        )
    V = None if volume is None else slice_frame(volume, times, names, "volume")
    cov = None if covariance is None else covariance_matrix(covariance, names) * slice_s
    if risk_aversion > 0.0 and cov is None:
        raise InvalidInput(
            "risk_aversion > 0 needs a covariance", field="covariance", value=None, remedy="pass it or risk_aversion=0"
        )
    cap = None
    if participation is not None:
        if V is None:
            raise InvalidInput(
                "a participation limit needs the volume forecast",
                field="volume",
                value=None,
                remedy="pass volume or participation=None",
            )
        rate = per_name(participation, names, "participation")
        if (rate > 1.0).any():
            raise InvalidInput(
                "is a share of the volume and cannot exceed 1",
                field="participation",
                value=float(rate.max()),
                remedy="pass 0.1 for 10 %, or None for no limit",
            )
        cap = rate * V
    if isinstance(completion, pd.Series):
        require_names(completion.index, names, "completion")
        target = per_name(completion, names, "completion", minimum=-np.inf)
    else:
        target = np.zeros(N)
    half_spread = per_name(spread, names, "spread")
    if (half_spread >= 1.0).any():
        raise InvalidInput(
            "is a share of the price and must lie below 1",
            field="spread",
            value=float(half_spread.max()),
            remedy="pass 1e-4 for a half-spread of 1 bp",
        )
    return BasketArrays(
        inventory=inventory.copy(),
        target=target,
        side=np.sign(inventory - target),
        dt_s=np.concatenate([[slice_s], gaps]),
        volume=V,
        participation_cap=cap,
        spread=np.tile(half_spread, (T, 1)),
        temporary=_temporary(temporary, names, times, V, cov),
        covariance=cov,
    )


def _temporary(
    temporary: pd.DataFrame | pd.Series | float | None,
    names: tuple[str, ...],
    times: pd.DatetimeIndex,
    volume: FloatArray | None,
    covariance: FloatArray | None,
) -> FloatArray:
    """Return η (T, N): as given, or η_it = DEFAULT_TEMPORARY · σ_i / V_it with σ_i the volatility over a slice."""
    if isinstance(temporary, pd.DataFrame):
        return slice_frame(temporary, times, names, "temporary")
    if temporary is not None:
        return np.tile(per_name(temporary, names, "temporary"), (len(times), 1))
    if volume is None or covariance is None:
        raise InvalidInput(
            "the default temporary cost is a share of volatility over volume and needs both",
            field="temporary",
            value=None,
            remedy="pass volume and covariance, or temporary explicitly (0.0 is allowed)",
        )
    # Where nothing trades, η has no meaning; the smallest volume seen keeps it finite and dear.
    filled = volume.copy()
    for i in range(len(names)):
        column = filled[:, i]
        positive = column[column > 0.0]
        column[column <= 0.0] = positive.min() if positive.size else np.inf
    return np.asarray(DEFAULT_TEMPORARY * np.sqrt(np.diag(covariance)) / filled, dtype=np.float64)


def blocked_cells(
    blackouts: Sequence[Blackout], names: tuple[str, ...], times: pd.DatetimeIndex, slice_s: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which cells (T, N) overlap a blackout window.

    Raises
    ------
    InvalidInput
        When a window names something that is not in the basket.
    """
    closed = np.zeros((len(times), len(names)), dtype=np.bool_)
    ends = times + pd.Timedelta(slice_s, unit="s")
    for window in blackouts:
        if window.names is not None:
            unknown = [n for n in window.names if n not in names]
            if unknown:
                raise InvalidInput(
                    f"unknown names: {', '.join(unknown)}",
                    field="blackouts",
                    value=unknown,
                    remedy="name only names of the inventory",
                )
        rows = np.asarray((times < window.end) & (ends > window.start))
        columns = np.ones(len(names), dtype=np.bool_) if window.names is None else np.isin(names, window.names)
        closed |= rows[:, None] & columns[None, :]
    return closed


def sector_rows(
    sectors: pd.Series | None, sector_cap: pd.Series | float | None, names: tuple[str, ...]
) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
    """Return membership (g, N), cap (g,) [currency per slice] and labels of the capped sectors that hold a name.

    Sectors without a cap and caps of sectors without a name in the basket fall away.

    Raises
    ------
    InvalidInput
        When a cap is given without sectors, is negative or NaN, or a name has no sector.
    """
    if sector_cap is None:
        return np.zeros((0, len(names))), np.zeros(0), ()
    if sectors is None:
        raise InvalidInput(
            "a sector cap needs the sectors", field="sectors", value=None, remedy="pass a Series name -> sector"
        )
    if not isinstance(sectors, pd.Series):
        raise InvalidInput(
            "must be a Series", field="sectors", value=type(sectors).__name__, remedy="pass a Series name -> sector"
        )
    require_names(sectors.index, names, "sectors")
    by_name = pd.Series(sectors.to_numpy(), index=[str(n) for n in sectors.index])
    if by_name[list(names)].isna().any():
        lost = [n for n in names if pd.isna(by_name[n])]
        raise InvalidInput("names without a sector", field="sectors", value=lost, remedy="give each name a sector")
    labels = [str(by_name[n]) for n in names]
    present = tuple(dict.fromkeys(labels))
    if isinstance(sector_cap, pd.Series):
        given = {str(s): as_scalar(v, f"sector_cap[{s}]") for s, v in sector_cap.items()}
        capped = tuple(s for s in present if s in given)
        cap = np.array([given[s] for s in capped], dtype=np.float64)
    else:
        capped = present
        cap = np.full(len(capped), as_scalar(sector_cap, "sector_cap"))
    if isinstance(sector_cap, pd.Series):
        # A sector of the universe without a name in the basket is fine; one that no name belongs to is a typo.
        unknown = sorted(set(map(str, sector_cap.index)) - {str(s) for s in by_name})
        if unknown:
            raise InvalidInput(
                f"unknown sectors: {', '.join(unknown)}",
                field="sector_cap",
                value=unknown,
                remedy="use the labels of sectors",
            )
    membership = np.array([[1.0 if label == s else 0.0 for label in labels] for s in capped], dtype=np.float64)
    return membership.reshape(len(capped), len(names)), cap, capped
