"""The numerical content of a basket problem: every input aligned to slices × names, as read-only float64 arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.optim.factored import FactorMatrix, diagonal_of
from crosswind.problems.basket.auctions import auction_rows, slice_lengths
from crosswind.problems.basket.factors import aligned_factors
from crosswind.problems.basket.inputs import (
    FloatArray,
    as_scalar,
    covariance_matrix,
    per_name,
    require_names,
    slice_frame,
)
from crosswind.problems.basket.options import drift_path, volume_at_quantile
from crosswind.problems.basket.windows import Blackout, BoolArray, blocked_cells
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["DEFAULT_TEMPORARY", "BasketArrays", "Blackout", "blocked_cells", "derive", "sector_rows"]

# A slice that trades its whole forecast volume pays this share of the name's volatility over the slice as temporary
# impact. Small on purpose: measured impact belongs into the model, this term keeps the schedule unique and smooth.
DEFAULT_TEMPORARY = 0.1


@dataclass(frozen=True)
class BasketArrays:
    """Aligned arrays of a basket, T slices and N names (orders, then hedges), notionals in currency.

    Attributes
    ----------
    inventory
        (N,) signed parent orders q_0, buy positive; of a hedge, minus the position held.
    target
        (N,) remaining inventory wanted after the last slice, q_T; of a free hedge its inventory.
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
        (N, N) covariance of relative returns per slice, a FactorMatrix of it, or None where there is no risk term.
    variance
        (N,) its diagonal, zeros without one.
    terminal_weight
        (N,) inf where q_T = target is a limit, the penalty [1/currency] where it is priced, 0 for a free hedge.
    hedge
        (N,) mask of the hedge instruments.
    lengths
        (T,) seconds of each slice, 0 for an auction.
    risk_weight
        (T,) length of each slice over ``slice_s``: the weight of the risk of what remains after it.
    three_halves
        (T, N) κ [1/√currency], cost κ|u|^{3/2}.
    drift
        (T, N) expected relative return over each slice, paid by what remains after its trade.
    urgency
        (N,) υ_i σ_i² per slice [1/currency], cost of q_i² beyond the risk of the basket.
    transient_share
        (T,) part of each trade that meets and leaves decaying impact, 1 but in auctions.
    """

    inventory: FloatArray
    target: FloatArray
    side: FloatArray
    dt_s: FloatArray
    volume: FloatArray | None
    participation_cap: FloatArray | None
    spread: FloatArray
    temporary: FloatArray
    covariance: FloatArray | FactorMatrix | None
    variance: FloatArray
    terminal_weight: FloatArray
    hedge: BoolArray
    lengths: FloatArray
    risk_weight: FloatArray
    three_halves: FloatArray
    drift: FloatArray
    urgency: FloatArray
    transient_share: FloatArray

    @property
    def hard(self) -> BoolArray:
        """Mask (N,) of the names whose end is a limit."""
        return np.isinf(self.terminal_weight)

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)


def derive(problem: BasketProblem) -> BasketArrays:
    """Check and align everything that is an array; see :class:`BasketProblem` for the arguments.

    Raises
    ------
    InvalidInput
        On any malformed table, overlapping slices, or an ingredient that another one needs and that is missing.
    """
    p, names, times = problem, problem.names, problem.times
    T, N = len(times), len(names)
    rows = auction_rows(p.auctions, times)
    lengths = slice_lengths(times, p.slice_s, rows)
    gaps = np.diff(times.as_unit("ns").asi8) * 1e-9
    short = gaps - lengths[:-1] * (1.0 - 1e-9)
    if T > 1 and short.min() < 0.0:
        tight = float(gaps[int(np.argmin(short))])
        raise InvalidInput(
            "slices overlap: two starts are closer than slice_s",
            field="times",
            value=f"{tight:g} s",
            remedy=f"use slice_s <= {tight:g} or thin out the starts",
        )
    orders = p.inventory.to_numpy(dtype=np.float64)
    held = np.zeros(0) if p.hedges is None else pd.Series(p.hedges).to_numpy(dtype=np.float64)
    hedge = np.arange(N) >= len(orders)
    inventory = np.concatenate([orders, 0.0 - held])  # what is still to trade: a position held is a sale to come
    target, weight = _ends(p, inventory, hedge)
    book = [t for t in range(T) if t not in rows]
    V = _by_slice(p.volume, problem, book, "volume")
    cov: FloatArray | FactorMatrix | None = aligned_factors(p.covariance, names, p.slice_s)
    if cov is None and p.covariance is not None:
        cov = covariance_matrix(p.covariance, names) * p.slice_s
    urgency = per_name(p.urgency, names, "urgency")
    for label, active in (("risk_aversion", p.risk_aversion > 0.0), ("urgency", bool(urgency.any()))):
        if active and cov is None:
            raise InvalidInput(
                f"{label} > 0 needs a covariance", field="covariance", value=None, remedy=f"pass it or {label}=0"
            )
    variance = np.zeros(N) if cov is None else diagonal_of(cov)
    half_spread = per_name(p.spread, names, "spread")
    if (half_spread >= 1.0).any():
        raise InvalidInput(
            "is a share of the price and must lie below 1",
            field="spread",
            value=float(half_spread.max()),
            remedy="pass 1e-4 for a half-spread of 1 bp",
        )
    spread = np.tile(half_spread, (T, 1))
    temporary = _temporary(problem, book, V, None if cov is None else variance)
    power = _by_slice(p.three_halves, problem, book, "three_halves")
    power = np.zeros((T, N)) if power is None else power
    cap = _participation(problem, V)
    share = np.ones(T)
    for t, auction in rows.items():
        matched = per_name(auction.volume, names, "auction.volume")
        if V is not None:
            V[t] = matched
        if auction.participation is not None or (matched == 0.0).any():
            cap = np.full((T, N), np.inf) if cap is None else cap
            rate = np.inf if auction.participation is None else auction.participation
            cap[t] = np.where(matched > 0.0, rate * np.where(matched > 0.0, matched, 1.0), 0.0)
        elif cap is not None:
            cap[t] = np.inf
        spread[t] = per_name(auction.spread, names, "auction.spread")
        power[t] = per_name(auction.three_halves, names, "auction.three_halves")
        if auction.temporary is not None:
            temporary[t] = per_name(auction.temporary, names, "auction.temporary")
        elif cov is not None:
            filled = np.where(matched > 0.0, matched, np.inf)
            temporary[t] = DEFAULT_TEMPORARY * np.sqrt(variance) / filled
        else:
            raise InvalidInput(
                "the default temporary cost of an auction needs a covariance",
                field="auction.temporary",
                value=None,
                remedy="pass the covariance, or temporary explicitly (0.0 is allowed)",
            )
        share[t] = auction.transient
    seconds = np.concatenate([[0.0], np.cumsum(gaps), [gaps.sum() + lengths[-1]]])
    return BasketArrays(
        inventory=inventory,
        target=target,
        side=np.sign(inventory - target),
        dt_s=np.concatenate([[p.slice_s], gaps]),
        volume=V,
        participation_cap=cap,
        spread=spread,
        temporary=temporary,
        covariance=cov,
        variance=variance,
        terminal_weight=weight,
        hedge=hedge,
        lengths=lengths,
        risk_weight=lengths / p.slice_s,
        three_halves=power,
        drift=drift_path(problem, seconds),
        urgency=urgency * variance,
        transient_share=share,
    )


def _ends(problem: BasketProblem, inventory: FloatArray, hedge: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return what shall remain at the end (N,) and its weight (N,): inf is hard, 0 leaves a hedge free."""
    orders = problem.order_names
    target, weight = np.zeros(len(inventory)), np.full(len(inventory), np.inf)
    if isinstance(problem.completion, pd.Series):
        require_names(problem.completion.index, orders, "completion")
        target[~hedge] = per_name(problem.completion, orders, "completion", minimum=-np.inf)
    elif isinstance(problem.completion, float):
        weight[~hedge] = problem.completion
    if hedge.any():
        assert problem.hedges is not None
        names = list(pd.Series(problem.hedges).index)
        target[hedge], weight[hedge] = inventory[hedge], 0.0
        if problem.hedge_target is not None:
            asked = [str(n) for n in problem.hedge_target.index]
            unknown = [n for n in asked if n not in names]
            if unknown:
                raise InvalidInput(
                    f"unknown hedges: {', '.join(unknown)}",
                    field="hedge_target",
                    value=unknown,
                    remedy="name only hedges",
                )
            wanted = per_name(problem.hedge_target, tuple(asked), "hedge_target", minimum=-np.inf)
            for name, value in zip(asked, wanted, strict=True):
                i = int(np.argmax(hedge)) + names.index(name)
                target[i], weight[i] = -value, np.inf
    return target, weight


def _participation(problem: BasketProblem, volume: FloatArray | None) -> FloatArray | None:
    """Return the largest |u| (T, N) by a share of the volume or of its quantile; None for no limit."""
    p = problem
    if p.volume_quantile is not None or p.volume_sd is not None:
        if p.volume_quantile is None or p.volume_sd is None or p.participation is None or volume is None:
            raise InvalidInput(
                "a quantile of the volume needs volume, volume_sd, volume_quantile and participation",
                field="volume_quantile",
                value=p.volume_quantile,
                remedy="pass all four, or neither volume_sd nor volume_quantile",
            )
        quantile = as_scalar(p.volume_quantile, "volume_quantile", strict=True)
        if quantile >= 1.0:
            raise InvalidInput("must lie in (0, 1)", field="volume_quantile", value=quantile, remedy="0.1, say")
    if p.participation is None:
        return None
    if volume is None:
        raise InvalidInput(
            "a participation limit needs the volume forecast",
            field="volume",
            value=None,
            remedy="pass volume or participation=None",
        )
    rate = per_name(p.participation, p.names, "participation")
    if (rate > 1.0).any():
        raise InvalidInput(
            "is a share of the volume and cannot exceed 1",
            field="participation",
            value=float(rate.max()),
            remedy="pass 0.1 for 10 %, or None for no limit",
        )
    if p.volume_sd is not None:
        rows = auction_rows(p.auctions, p.times)
        sd = _by_slice(p.volume_sd, p, [t for t in range(p.n_slices) if t not in rows], "volume_sd")
        assert sd is not None
        volume = volume_at_quantile(volume, sd, p.volume_quantile)
    return np.asarray(rate * volume, dtype=np.float64)


def _by_slice(
    value: pd.DataFrame | pd.Series | float | None, problem: BasketProblem, book: list[int], field: str
) -> FloatArray | None:
    """Return (T, N) from a frame (rows of auctions may be missing: they have their own), a Series or a number."""
    if value is None:
        return None
    shape = (problem.n_slices, problem.n_names)
    if isinstance(value, pd.DataFrame) or field == "volume":
        out = np.zeros(shape)
        if book:
            out[book] = slice_frame(value, problem.times[book], problem.names, field)
        return out
    return np.tile(per_name(value, problem.names, field), (shape[0], 1))


def _temporary(
    problem: BasketProblem, book: list[int], volume: FloatArray | None, variance: FloatArray | None
) -> FloatArray:
    """Return η (T, N): as given, or η_it = DEFAULT_TEMPORARY · σ_i / V_it with σ_i the volatility over a slice."""
    given = _by_slice(problem.temporary, problem, book, "temporary")
    if given is not None:
        return given
    if volume is None or variance is None:
        raise InvalidInput(
            "the default temporary cost is a share of volatility over volume and needs both",
            field="temporary",
            value=None,
            remedy="pass volume and covariance, or temporary explicitly (0.0 is allowed)",
        )
    # Where nothing trades, η has no meaning; the smallest volume seen keeps it finite and dear.
    least = np.where(volume > 0.0, volume, np.inf)[book].min(axis=0, initial=np.inf)
    filled = np.where(volume > 0.0, volume, least)
    return np.asarray(DEFAULT_TEMPORARY * np.sqrt(variance) / filled, dtype=np.float64)


def sector_rows(
    sectors: pd.Series | None, sector_cap: pd.Series | float | None, names: tuple[str, ...], hedges: int = 0
) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
    """Return membership (g, N), cap (g,) [currency per slice] and labels of the capped sectors that hold a name.

    Sectors without a cap and caps of sectors without a name in the basket fall away; the last ``hedges`` names may go
    without a sector.

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
    orders = names[: len(names) - hedges]
    require_names(sectors.index, orders, "sectors")
    of_name = {str(n): s for n, s in sectors.items()}
    lost = [n for n in orders if pd.isna(of_name[n])]
    if lost:
        raise InvalidInput("names without a sector", field="sectors", value=lost, remedy="give each name a sector")
    labels = [str(of_name[n]) if n in of_name and not pd.isna(of_name[n]) else None for n in names]
    present = tuple(dict.fromkeys(label for label in labels if label is not None))
    if isinstance(sector_cap, pd.Series):
        given = {str(s): as_scalar(v, f"sector_cap[{s}]") for s, v in sector_cap.items()}
        # A sector of the universe without a name in the basket is fine; one that no name belongs to is a typo.
        unknown = sorted(set(given) - {str(s) for s in of_name.values()})
        if unknown:
            raise InvalidInput(
                f"unknown sectors: {', '.join(unknown)}",
                field="sector_cap",
                value=unknown,
                remedy="use the labels of sectors",
            )
        capped = tuple(s for s in present if s in given)
        cap = np.array([given[s] for s in capped], dtype=np.float64)
    else:
        capped = present
        cap = np.full(len(capped), as_scalar(sector_cap, "sector_cap"))
    where = {s: g for g, s in enumerate(capped)}
    membership = np.zeros((len(capped), len(names)))
    for i, label in enumerate(labels):
        if label in where:
            membership[where[label], i] = 1.0
    return membership, cap, capped
