"""Markouts: where the mid stands some seconds after a trade or a fill, seen from the side that traded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import check_positive
from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.features.arrays import Float, Int, check_events, check_quotes, positives, times, vector
from crosswind.problems.market.lee_ready import lee_ready
from crosswind.problems.market.orders import ChildFills
from crosswind.problems.market.shown import Shown
from crosswind.problems.market.ticks import QuoteTape, TradeTape
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["HORIZONS_S", "Markouts", "fill_markouts", "markouts", "trade_markouts"]

HORIZONS_S = (1.0, 5.0, 30.0, 300.0)
_SIDES = {"buy": 1, "sell": -1, "all": 0}


@dataclass(frozen=True, eq=False, repr=False)
class Markouts(Shown):
    """Average markouts by reference, side and horizon. Positive: the mid went the trader's way, money made.

    Parameters
    ----------
    table
        Index: (``reference``, ``side``, ``horizon_s``). The reference is ``price`` (what was paid) or ``mid`` (at the
        trade). Columns: ``trades``; ``dropped`` (the horizon lies beyond the session, or nothing was quoted yet);
        ``plain_bps``, ``plain_se_bps`` (each trade counts alike); ``weighted_bps``, ``weighted_se_bps`` (by notional);
        ``blocks`` behind the standard errors.
    labels
        One row per trade, in the order given: ``time``, ``sign``, ``notional`` [currency] and per horizon
        ``bps_{h}s`` against the price, NaN where dropped. A label is known at time + h, not before: it belongs to what
        a fit predicts, never to what it sees.
    """

    table: pd.DataFrame
    labels: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return the notional-weighted markouts of both sides together."""
        both = self.table.xs("all", level="side")
        lines = [f"{len(self.labels):,} trades"]
        for (reference, horizon), row in both.iterrows():  # type: ignore[misc]
            lines.append(
                f"  {horizon:g} s against the {reference}: {row['weighted_bps']:+.2f} ± "
                f"{row['weighted_se_bps']:.2f} bps, {int(row['dropped']):,} dropped"
            )
        return "\n".join(lines)

    def plot(self) -> Any:
        """Draw the weighted markout against the price over the horizon with ±2 standard errors.

        Raises
        ------
        MissingDependency
            If plotly is not installed.
        """
        from crosswind.problems.plotting import PALETTE, figure

        fig = figure("Markouts", "horizon [s], log", "mid after the trade against its price<br>[bps, made > 0]")
        for colour, side in zip(PALETTE, _SIDES, strict=False):
            part = self.table.xs(("price", side), level=("reference", "side"))
            fig.add_scatter(
                x=list(part.index),
                y=part["weighted_bps"],
                error_y={"array": 2.0 * part["weighted_se_bps"].fillna(0.0)},
                name=side,
                mode="lines+markers",
                line={"color": colour},
            )
        fig.update_xaxes(type="log")
        return fig


def _blocked(value: Float, weight: Float, block: Int) -> tuple[float, float, int]:
    """Return the weighted mean, its standard error over blocks, and how many blocks there are.

    The mean is a ratio of block sums, m = Σ_b S_b/Σ_b W_b; its error comes from the residuals S_b − m W_b, which may be
    dependent within a block: √(B/(B − 1) Σ (S_b − m W_b)²)/Σ W_b.
    """
    if not len(value) or weight.sum() <= 0:
        return np.nan, np.nan, 0
    codes = np.unique(block, return_inverse=True)[1]
    sums, weights = np.bincount(codes, value * weight), np.bincount(codes, weight)
    mean, count = sums.sum() / weights.sum(), len(weights)
    if count < 2:
        return float(mean), np.nan, count
    error = np.sqrt(count / (count - 1) * ((sums - mean * weights) ** 2).sum()) / weights.sum()
    return float(mean), float(error), count


def markouts(
    time_ns: Int | pd.DatetimeIndex,
    price: npt.ArrayLike,
    shares: npt.ArrayLike,
    sign: npt.ArrayLike,
    mid_ns: Int | pd.DatetimeIndex,
    mid: npt.ArrayLike,
    *,
    horizons_s: Iterable[float] = HORIZONS_S,
    sessions_ns: Iterable[tuple[int, int]] | None = None,
    block_s: float = 60.0,
) -> Markouts:
    """Return markouts of trades, sign · (mid_{t+h} − p)/p in bps, against their price p and the mid at the trade.

    Parameters
    ----------
    time_ns, price, shares, sign
        Trades (n,) in time order; ``sign`` +1 for a buy, −1 for a sell (trades with 0 are left out, uncounted).
    mid_ns, mid
        Mids (Q,) and the times from which each is known; the last one known by a time prevails at it.
    horizons_s
        h [s].
    sessions_ns
        (open, close) of each session [ns]; the mid at t + h must be quoted in the trade's session, t + h ≤ close.
        Default: one session that ends with the last mid.
    block_s
        Trades that start within one block count as dependent [s]; lengthened to the horizon where that is longer.

    Returns
    -------
    Markouts

    Raises
    ------
    InvalidInput
        On mismatched lengths, disordered times, non-positive prices or sizes, signs other than −1, 0, 1, bad sessions.
    """
    when, quoted = times(time_ns, "time_ns"), times(mid_ns, "mid_ns")
    paid, size = vector(price, "price", len(when)), vector(shares, "shares", len(when))
    level, side = vector(mid, "mid", len(quoted)), vector(sign, "sign", len(when))
    horizons, block_s = positives(horizons_s, "horizons_s"), check_positive(block_s, "block_s")
    if not len(quoted):
        raise InvalidInput("there is no mid", field="mid", value=0, remedy="read quotes for the trades' time")
    for values, field in ((paid, "price"), (size, "shares"), (level, "mid")):
        if len(values) and values.min() <= 0:
            raise InvalidInput("must be positive", field=field, value=float(values.min()), remedy="drop those rows")
    if not np.isin(side, (-1.0, 0.0, 1.0)).all():
        raise InvalidInput("not −1, 0 or 1", field="sign", value=np.unique(side)[:4], remedy="pass aggressor signs")
    opens, closes = _sessions(sessions_ns, when, quoted)

    keep = side != 0
    when, paid, size, side = when[keep], paid[keep], size[keep], side[keep]
    session = np.searchsorted(opens, when, side="right") - 1
    inside = (session >= 0) & (when <= closes[session])
    before = np.searchsorted(quoted, when, side="right") - 1
    inside &= (before >= 0) & (quoted[np.maximum(before, 0)] >= opens[np.maximum(session, 0)])
    base = {"price": paid, "mid": level[np.maximum(before, 0)]}
    rows: dict[tuple[str, str, float], dict[str, float]] = {}
    labels = {"time": pd.DatetimeIndex(when, tz="UTC").as_unit("ns"), "sign": side, "notional": paid * size}
    for h in horizons:
        later = when + round(h * 1e9)
        ok = inside & (later <= closes[np.maximum(session, 0)])
        end = level[np.maximum(np.searchsorted(quoted, later, side="right") - 1, 0)]
        block = when // round(max(block_s, h) * 1e9)
        for reference, start in base.items():
            bps = np.where(ok, 1e4 * side * (end - start) / start, np.nan)
            if reference == "price":
                labels[f"bps_{h:g}s"] = bps
            for name, wanted in _SIDES.items():
                mine = (side == wanted) if wanted else np.ones(len(side), dtype=bool)
                use = mine & ok
                plain, plain_se, blocks = _blocked(bps[use], np.ones(int(use.sum())), block[use])
                weighted, weighted_se, _ = _blocked(bps[use], (paid * size)[use], block[use])
                rows[reference, name, h] = {
                    "trades": int(use.sum()),
                    "dropped": int((mine & ~ok).sum()),
                    "plain_bps": plain,
                    "plain_se_bps": plain_se,
                    "weighted_bps": weighted,
                    "weighted_se_bps": weighted_se,
                    "blocks": blocks,
                }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["reference", "side", "horizon_s"])
    return Markouts(table.sort_index(), pd.DataFrame(labels))


def _sessions(sessions_ns: Iterable[tuple[int, int]] | None, when: Int, quoted: Int) -> tuple[Int, Int]:
    if sessions_ns is None:
        first = min(int(quoted[0]), int(when[0])) if len(when) else int(quoted[0])
        return np.array([first]), np.array([int(quoted[-1])])
    try:
        pairs = np.array(sorted((int(a), int(b)) for a, b in sessions_ns), dtype=np.int64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "not pairs of times", field="sessions_ns", value=error, remedy="pass [(open_ns, close_ns), …]"
        ) from error
    opens, closes = pairs[:, 0], pairs[:, 1]
    if not len(pairs) or (closes <= opens).any() or (opens[1:] < closes[:-1]).any():
        raise InvalidInput("empty, reversed or overlapping", field="sessions_ns", value=len(pairs), remedy="part them")
    return opens, closes


def trade_markouts(trades: TradeTape, quotes: QuoteTape, **options: Any) -> Markouts:
    """Return the markouts of a tape of trades against the quotes of the same name.

    Parameters
    ----------
    trades
        With ``sign`` where the source knows the aggressor; otherwise the ``signable`` ones are signed by
        :func:`lee_ready`.
    quotes
        Best quotes; unusable rows are left out.
    **options
        ``horizons_s``, ``sessions_ns``, ``block_s`` of :func:`markouts`.

    Raises
    ------
    InvalidInput
        On malformed tapes.
    """
    if not isinstance(trades, TradeTape):
        raise InvalidInput("not a TradeTape", field="trades", value=type(trades).__name__, remedy="read ticks first")
    good = check_quotes(quotes)
    mid = 0.5 * (good.bid + good.ask)
    sign = trades.sign
    if sign is None:
        sign = np.zeros(len(trades.time_ns), dtype=np.int8)
        use = trades.signable
        sign[use] = lee_ready(trades.price[use], trades.time_ns[use], good.known_ns, mid)
    return markouts(trades.time_ns, trades.price, trades.shares, sign, good.known_ns, mid, **options)


def fill_markouts(fills: ChildFills, events: MarketEvents, **options: Any) -> dict[str, Markouts]:
    """Return the markouts of own fills per name, against the mids at the ends of buckets.

    Horizons shorter than a bucket see the mid of the last bucket that has ended: take buckets as short as the shortest
    horizon. Sessions are those of the buckets.

    Parameters
    ----------
    fills
        Signed fills.
    events
        Buckets of the same names.
    **options
        ``horizons_s``, ``block_s`` of :func:`markouts`.

    Raises
    ------
    DataGap
        If a filled name has no buckets.
    """
    if not isinstance(fills, ChildFills):
        raise InvalidInput("not ChildFills", field="fills", value=type(fills).__name__, remedy="build ChildFills first")
    events = check_events(events)
    ends = events.index.asi8
    day = events.session.to_numpy()
    first = np.flatnonzero(np.append(True, day[1:] != day[:-1]))
    last = np.append(first[1:], len(ends)) - 1
    step = round(events.bucket_s * 1e9)
    options.setdefault("sessions_ns", [(int(ends[a]) - step, int(ends[b])) for a, b in zip(first, last, strict=True)])
    out = {}
    for name, part in fills.frame.groupby("name", sort=True):
        if name not in events.names:
            raise DataGap("no buckets of a filled name", field="events", value=name, remedy="read that name too")
        shares = part["shares"].to_numpy()
        when = pd.DatetimeIndex(part["time"])
        out[str(name)] = markouts(
            when, part["price"], np.abs(shares), np.sign(shares), ends, events.mid[name].to_numpy(), **options
        )
    return out
