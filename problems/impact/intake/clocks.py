"""Are the clocks in step? Shifted-bucket curves, the shift of each name with its interval, and the remedy.

A name whose stamps are late by three seconds seems to follow all others: a free regression reads that as others leading
it, a symmetric fit loses its cross terms. So the shift is measured before the fit, name by name, and put right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from crosswind.problems.impact.features import session_rows
from crosswind.problems.impact.intake.lead_lag import LeadLag, check_draws, lead_lag_of, resampled
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["ClockReport", "clock_report", "lagged_correlation", "pair_shift", "shift_clock"]

Array = NDArray[np.float64]
_PAIR = 4.0  # a pair's peak must be this many standard errors high to say anything about its clocks


@dataclass(frozen=True, eq=False)
class ClockReport:
    """The shift of every name's clock against the others', and of its trades' clock against its quotes'.

    Parameters
    ----------
    table
        By name: ``shift_s`` (positive: its stamps are late), ``low_s``, ``high_s`` (interval), ``correlation`` with the
        others at the shift and ``unshifted``, ``flagged``; ``flow_shift_s`` (positive: its trades are stamped later
        than its quotes), ``flow_low_s``, ``flow_high_s``, ``flow_flagged``. NaN for a name that never moved.
    curves
        Shift [s] × name: correlation of the name's return, so much later, with the mean of the others.
    flow_curves
        Shift [s] × name: correlation of the name's return, so much later, with its own flow.
    level
        Of the intervals.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    flow_curves: pd.DataFrame
    level: float

    @property
    def flagged(self) -> tuple[str, ...]:
        """Names whose clock is shifted against the others or between their trades and quotes."""
        rows = self.table["flagged"] | self.table["flow_flagged"]
        return tuple(str(n) for n in self.table.index[rows])

    @property
    def corrections(self) -> dict[str, float]:
        """Flagged shifts against the others, name → seconds, as :func:`shift_clock` takes them."""
        rows = self.table[self.table["flagged"]]
        return {str(n): float(s) for n, s in rows["shift_s"].items()}

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Say which clocks are shifted."""
        step = float(self.curves.index[1] - self.curves.index[0])
        span = float(self.curves.index[-1])
        head = f"clocks of {len(self.table)} names, shifts within ±{span:g} s in steps of {step:g} s"
        lines = []
        for name, row in self.table.iterrows():
            if row["flagged"]:
                lines.append(
                    f"  {name}: {row['shift_s']:+g} s against the others ({self.level:.0%} interval {row['low_s']:g} "
                    f"to {row['high_s']:g} s), correlation {row['correlation']:.3f}, {row['unshifted']:.3f} unshifted"
                )
            if row["flow_flagged"]:
                lines.append(
                    f"  {name}: trades {row['flow_shift_s']:+g} s against its own quotes ({self.level:.0%} interval "
                    f"{row['flow_low_s']:g} to {row['flow_high_s']:g} s)"
                )
        return "\n".join([head, *(lines or ["  none is shifted"])])

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>{self.table.to_html()}"

    def plot(self) -> Any:
        """Return a plotly figure: the curve of every name, flagged ones in full colour."""
        from crosswind.problems.plotting import PALETTE, figure

        fig = figure("Clocks", "the name's return so much later [s], peak > 0: its clock is late", "correlation")
        colours = iter(PALETTE * (1 + len(self.flagged) // len(PALETTE)))
        for name in self.curves.columns:
            if name in self.flagged:
                fig.add_scatter(x=self.curves.index, y=self.curves[name], name=name, line={"color": next(colours)})
            else:
                grey = {"color": "rgba(127,127,127,0.35)", "width": 1}
                fig.add_scatter(x=self.curves.index, y=self.curves[name], name=name, line=grey, showlegend=False)
        return fig.add_vline(x=0.0, line_dash="dot")


def lagged_correlation(
    events: MarketEvents, first: str, second: str, max_shift_s: float | None = None, of: str = "returns"
) -> pd.Series:
    """Correlation of what the first name does in a bucket with the second one's return so much later.

    Parameters
    ----------
    events
        Buckets; pairs of them never span two sessions.
    first, second
        Names; the same for a curve of self-impact.
    max_shift_s
        Longest shift [s]; default 10 buckets.
    of
        "returns": the shifted-bucket curve of co-movement, whose peak off zero is a shifted clock (or a real lead).
        "flow": the impact curve, return of the second on flow of the first; before zero, returns that come before the
        flow they should follow from.

    Returns
    -------
    pd.Series
        Shift [s] → correlation about zero. Peaks at positive shifts: the first leads.

    Raises
    ------
    InvalidInput
        An unknown name or word, or a shift that is shorter than a bucket.
    DataGap
        A name that does not move, or trade.
    """
    reach = _reach(events, max_shift_s)
    a, b = _pair(events, first, second, of)
    parts = _block_products(a, b, events, reach, None)
    shifts = pd.Index(np.arange(-reach, reach + 1) * events.bucket_s, name="shift_s")
    return pd.Series(parts.sum(axis=0)[:, 0], shifts, name=f"{first} → {second}")


def pair_shift(
    events: MarketEvents,
    first: str,
    second: str,
    max_shift_s: float | None = None,
    *,
    of: str = "returns",
    block_s: float | None = None,
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> LeadLag:
    """Return how much the second name's clock is behind the first one's, with an interval.

    Parameters
    ----------
    events, first, second, max_shift_s, of
        As for :func:`lagged_correlation`.
    block_s
        Length of the blocks of time that are drawn [s]; default six times the span of shifts.
    draws, level, seed
        Bootstrap draws, level of the interval, seed.

    Raises
    ------
    InvalidInput
        As :func:`lagged_correlation`; parameters of the bootstrap out of range.
    DataGap
        A name that does not move, or trade; fewer than two blocks.
    """
    check_draws(draws, level)
    reach = _reach(events, max_shift_s)
    a, b = _pair(events, first, second, of)
    codes = _block_codes(events, 6.0 * (2 * reach + 1) * events.bucket_s if block_s is None else block_s)
    parts = _block_products(a, b, events, reach, codes)[:, :, 0]
    shifts: Array = np.asarray(np.arange(-reach, reach + 1) * events.bucket_s, dtype=np.float64)
    return lead_lag_of(parts, shifts, 1.0, draws, level, seed)


def _pair(events: MarketEvents, first: str, second: str, of: str) -> tuple[Array, Array]:
    for field, name in (("first", first), ("second", second)):
        if name not in events.names:
            raise InvalidInput("unknown name", field=field, value=name, remedy=f"one of {', '.join(events.names)}")
    if of not in ("returns", "flow"):
        raise InvalidInput('"returns" or "flow"', field="of", value=of)
    source = events.returns if of == "returns" else events.flow
    a, b = (_unit(frame[[name]].to_numpy()) for frame, name in ((source, first), (events.returns, second)))
    still = [n for n, v in ((first, a), (second, b)) if not v.any()]
    if still:
        raise DataGap("a name does not move or trade", field="events", value=still, remedy="leave it out")
    return a, b


def clock_report(
    events: MarketEvents,
    max_shift_s: float | None = None,
    *,
    block_s: float | None = None,
    draws: int = 500,
    level: float = 0.99,
    seed: int = 0,
) -> ClockReport:
    """Measure the shift of every name's clock and flag those that are shifted beyond doubt.

    A name's return, ℓ buckets later, is correlated with the mean of the others' standardised returns, which were first
    put in step by the median of their pairwise shifts; the clock's shift is where that peaks. It is flagged where the
    bootstrap interval excludes zero and both the peak and its excess over the unshifted correlation are significant at
    ``level`` after allowing for the number of names and shifts looked at.

    Parameters
    ----------
    events
        Buckets, no longer than the shifts looked for: the resolution is one bucket.
    max_shift_s
        Longest shift [s]; default 10 buckets.
    block_s
        Length of the blocks of time that are drawn [s]; default six times the span of shifts.
    draws, level, seed
        Bootstrap draws, level, seed.

    Raises
    ------
    InvalidInput
        Parameters out of range.
    DataGap
        Fewer than two names that move, or fewer than two blocks.

    Notes
    -----
    Shifts are against the majority: with two names only their difference is known, and both are flagged. A real lead,
    of a future over its stocks, say, looks like a shifted clock; so does slow pricing of an illiquid name.
    """
    check_draws(draws, level)
    reach = _reach(events, max_shift_s)
    shifts = np.arange(-reach, reach + 1)
    z = _unit(events.returns.to_numpy())
    moving = z.any(axis=0)
    if moving.sum() < 2:
        raise DataGap(
            "two names that move are needed", field="events", value=int(moving.sum()), remedy="read more names"
        )
    u = _unit(events.flow.to_numpy())
    codes = _block_codes(events, 6.0 * len(shifts) * events.bucket_s if block_s is None else block_s)
    rng = np.random.default_rng(seed)
    offsets = _pairwise_offsets(z, events, reach, shifts)
    aligned = np.column_stack([_moved(z[:, i], int(o), events) for i, o in enumerate(offsets)])
    others = _unit(aligned.sum(axis=1, keepdims=True) - aligned)
    count = int(moving.sum()) * len(shifts)
    co = _peaks(_block_products(others, z, events, reach, codes), shifts, events.bucket_s, draws, level, count, rng)
    own = _peaks(_block_products(u, z, events, reach, codes), -shifts, events.bucket_s, draws, level, count, rng)
    table = pd.DataFrame(co, index=list(events.names))
    flow = pd.DataFrame(own, index=list(events.names)).drop(columns=["correlation", "unshifted"]).add_prefix("flow_")
    table = table.join(flow)
    numbers = [c for c in table.columns if not c.endswith("flagged")]
    table.loc[~moving, numbers] = np.nan
    table.loc[~moving, ["flagged", "flow_flagged"]] = False
    silent = ~u.any(axis=0)
    table.loc[silent, ["flow_shift_s", "flow_low_s", "flow_high_s"]] = np.nan
    axis = pd.Index(shifts * events.bucket_s, name="shift_s")
    curves, flows = (
        pd.DataFrame(_block_products(a, z, events, reach, None).sum(axis=0), axis, list(events.names))
        for a in (others, u)
    )
    return ClockReport(table, curves, flows, level)


def shift_clock(events: MarketEvents, late_s: Mapping[str, float]) -> MarketEvents:
    """Return the events with some names' clocks put right.

    Parameters
    ----------
    events
        Buckets.
    late_s
        Name → how late its stamps are [s], as in `ClockReport.corrections`; rounded to whole buckets.

    Returns
    -------
    MarketEvents
        The first and last buckets of each session, where a moved name has no data, are left out.

    Raises
    ------
    InvalidInput
        An unknown name or a shift that is not finite.
    DataGap
        No session is longer than the shifts.
    """
    steps: dict[str, int] = {}
    for name, seconds in late_s.items():
        if name not in events.names or not np.isfinite(seconds):
            raise InvalidInput("unknown name or shift", field="late_s", value=(name, seconds))
        steps[name] = round(float(seconds) / events.bucket_s)
    ahead, behind = max(0, *steps.values(), 0), max(0, *(-k for k in steps.values()), 0)
    keep: list[NDArray[np.int64]] = []
    for part in session_rows(events.session.to_numpy()):
        keep.append(np.arange(part.start + behind, part.stop - ahead))
    rows = np.concatenate(keep) if keep else np.zeros(0, dtype=np.int64)
    if not len(rows):
        raise DataGap("no session is longer than the shifts", field="late_s", value=dict(late_s))
    frames: dict[str, Any] = {}
    for field in ("flow", "mid", "spread", "volume", "depth"):
        frame = getattr(events, field)
        values = np.column_stack([frame[n].to_numpy()[rows + steps.get(n, 0)] for n in events.names])
        frames[field] = pd.DataFrame(values, events.index[rows], frame.columns)
    frames["factors"] = None if events.factors is None else events.factors.iloc[rows]
    return replace(events, **frames)


def _reach(events: MarketEvents, max_shift_s: float | None) -> int:
    reach = 10 if max_shift_s is None else int(np.floor(max_shift_s / events.bucket_s + 1e-9))
    if reach < 1:
        raise InvalidInput(
            "is shorter than a bucket",
            field="max_shift_s",
            value=max_shift_s,
            remedy=f"read shorter buckets than {events.bucket_s:g} s",
        )
    return reach


def _unit(values: Array) -> Array:
    """Return the columns at length 1, undefined entries 0; a column that is 0 stays so."""
    held = np.nan_to_num(values)
    size = np.sqrt((held**2).sum(axis=0))
    return np.asarray(np.divide(held, size, out=np.zeros_like(held), where=size > 0))


def _block_codes(events: MarketEvents, block_s: float) -> NDArray[np.int64]:
    """Return the number of the block of each row: stretches of a session."""
    if not block_s >= events.bucket_s:
        raise InvalidInput("must be a bucket or longer", field="block_s", value=block_s, remedy="e.g. 600.0")
    ns = events.index.asi8
    day = pd.factorize(events.session)[0].astype(np.int64)
    _, codes = np.unique(np.column_stack([day, ns // round(block_s * 1e9)]), axis=0, return_inverse=True)
    out = np.asarray(codes, dtype=np.int64).reshape(-1)
    if out.max() < 1:
        raise DataGap("fewer than two blocks", field="block_s", value=block_s, remedy="shorter blocks or longer data")
    return out


def _block_products(a: Array, b: Array, events: MarketEvents, reach: int, codes: NDArray[Any] | None) -> Array:
    """Return Σ_t a_t b_{t+ℓ} by block of t, shift and column, (blocks, 2·reach + 1, N); one block without codes."""
    blocks = 1 if codes is None else int(codes.max()) + 1
    out = np.zeros((blocks, 2 * reach + 1, b.shape[1]))
    for part in session_rows(events.session.to_numpy()):
        x, y = a[part], np.pad(b[part], ((reach, reach), (0, 0)))
        for k in range(2 * reach + 1):
            product = x * y[k : k + len(x)]
            if codes is None:
                out[0, k] += product.sum(axis=0)
            else:
                own = codes[part]  # ascending within a session
                starts = np.flatnonzero(np.append(True, own[1:] != own[:-1]))
                out[own[starts], k] += np.add.reduceat(product, starts, axis=0)
    return out


def _moved(column: Array, late: int, events: MarketEvents) -> Array:
    """Return the column set back by ``late`` rows within each session, zeros where there is nothing."""
    out = np.zeros_like(column)
    for part in session_rows(events.session.to_numpy()):
        held = column[part]
        n = max(0, len(held) - abs(late))
        if late >= 0:
            out[part.start : part.start + n] = held[late : late + n]
        else:
            out[part.stop - n : part.stop] = held[:n]
    return out


def _pairwise_offsets(z: Array, events: MarketEvents, reach: int, shifts: NDArray[Any]) -> NDArray[np.int64]:
    """Return how late each name is [buckets]: the median over the others of the pairs' peaks, where these are clear."""
    N, rows = z.shape[1], len(z)
    curve = np.zeros((len(shifts), N, N))  # ℓ, j, i: name i later than name j
    for part in session_rows(events.session.to_numpy()):
        x, y = z[part], np.pad(z[part], ((reach, reach), (0, 0)))
        for k in range(len(shifts)):
            curve[k] += x.T @ y[k : k + len(x)]
    size = np.abs(curve)
    # Among equal peaks the shift nearest to zero: a name that equals another has many.
    order = np.argsort(np.abs(shifts), kind="stable")
    peak = shifts[order[np.argmax(size[order], axis=0)]]
    clear = size.max(axis=0) * np.sqrt(rows) > _PAIR
    out = np.zeros(N, dtype=np.int64)
    for i in range(N):
        votes = np.sort(np.append(0, peak[clear[:, i] & (np.arange(N) != i), i]))
        middle = votes[[(len(votes) - 1) // 2, len(votes) // 2]]
        out[i] = middle[np.argmin(np.abs(middle))]
    return out


def _peaks(
    parts: Array, shifts: NDArray[Any], bucket_s: float, draws: int, level: float, tests: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Return shift, interval and whether it is beyond doubt, by column of parts (blocks, shifts, N)."""
    total = parts.sum(axis=0)
    order = np.argsort(np.abs(shifts), kind="stable")
    best = order[np.argmax(np.abs(total[order]), axis=0)]
    names, centre = np.arange(total.shape[1]), int(np.flatnonzero(shifts == 0)[0])
    drawn = np.abs(resampled(parts, draws, rng)[:, order])
    tops = shifts[order[np.argmax(drawn, axis=1)]]
    tail = 0.5 * (1.0 - level)
    low, high = np.quantile(tops, [tail, 1.0 - tail], axis=0, method="nearest")
    sign = np.sign(total[best, names])
    at_peak, at_zero = sign * parts[:, best, names], sign * parts[:, centre, :]
    bar = float(norm.isf((1.0 - level) / tests))
    clear = (_score(at_peak) > bar) & (_score(at_peak - at_zero) > bar)
    return {
        "shift_s": shifts[best] * bucket_s,
        "low_s": low * bucket_s,
        "high_s": high * bucket_s,
        "correlation": total[best, names],
        "unshifted": total[centre],
        "flagged": clear & ((low > 0) | (high < 0)),
    }


def _score(parts: Array) -> Array:
    """Return the sum over blocks in standard errors."""
    blocks = len(parts)
    error = np.sqrt(blocks) * parts.std(axis=0, ddof=1)
    return np.asarray(np.divide(parts.sum(axis=0), error, out=np.zeros(parts.shape[1]), where=error > 0))
