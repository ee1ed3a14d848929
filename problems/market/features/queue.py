"""Queues at the best quotes: age, size against its own past, depletion, refill, and how long an order would wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import check_positive
from crosswind.problems.market.features.arrays import Float, Int, check_quotes, decayed_sum, stamps, times, vector
from crosswind.problems.market.shown import Shown
from crosswind.problems.market.ticks import QuoteTape, TradeTape
from crosswind.solvers.errors import InvalidInput

__all__ = ["QueueFeatures", "fill_time_s", "queue_features"]


def fill_time_s(ahead_shares: npt.ArrayLike, trade_rate: npt.ArrayLike, cancel_rate: npt.ArrayLike = 0.0) -> Float:
    """Return the time until the queue ahead of an order is gone, if the present rates last.

    Trades take the queue from the front at μ shares per second; orders ahead cancel at c per second of what is left:
    A' = −μ − cA, so A reaches 0 at t = ln(1 + cA/μ)/c, and at A/μ without cancellations.

    Parameters
    ----------
    ahead_shares
        A ≥ 0 [shares].
    trade_rate
        μ ≥ 0 [shares/s].
    cancel_rate
        c ≥ 0 [1/s].

    Returns
    -------
    ndarray
        Seconds; 0 where nothing is ahead, inf where nothing trades: an order is filled by a trade, however short the
        queue before it.

    Raises
    ------
    InvalidInput
        On a negative or NaN argument.
    """
    out = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (ahead_shares, trade_rate, cancel_rate)))
    for value, name in zip(out, ("ahead_shares", "trade_rate", "cancel_rate"), strict=True):
        if not (value >= 0).all():
            raise InvalidInput("negative or NaN", field=name, value=float(np.nanmin(value)), remedy="pass 0 or more")
    ahead, trades, cancels = out
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = ahead / trades
        decayed = np.log1p(cancels * plain) / cancels
    # Where c·t is tiny the logarithm's quotient is the plain one; 0/0 and x/0 are settled after.
    waits = np.where(cancels * np.where(np.isfinite(plain), plain, 0.0) > 1e-12, decayed, plain)
    return np.where(ahead == 0.0, 0.0, np.where(trades == 0.0, np.inf, waits))


@dataclass(frozen=True, eq=False, repr=False)
class QueueFeatures(Shown):
    """Queue proxies of one name, per side, each row from quotes and trades up to its own time.

    Parameters
    ----------
    frame
        Index: the time of the quote. Columns for ``side`` in ``bid``, ``ask``:

        - ``{side}_age_s``: time since the best price of that side last changed [s];
        - ``{side}_shares``: displayed size, which is the queue ahead of an order that joins now [shares];
        - ``{side}_size_ratio``: that size over its own time-weighted decayed mean (1 = as usual; NaN on the first row);
        - ``{side}_depletion_per_s``, ``{side}_refill_per_s``: decayed rates at which size left and joined [shares/s];
        - ``{side}_trade_per_s``: decayed rate of the shares that aggressors took from that side [shares/s]; NaN without
          trades;
        - ``{side}_fill_s``: time proxy until an order that joins now is at the front, by :func:`fill_time_s` [s].
    time_constant_s
        τ of all decayed means and rates [s].
    """

    frame: pd.DataFrame
    time_constant_s: float

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.frame.copy()

    def summary(self) -> str:
        """Return the medians of both sides."""
        f = self.frame
        lines = [f"{len(f):,} quotes, rates decayed over {self.time_constant_s:g} s"]
        for side in ("bid", "ask"):
            lines.append(
                f"  {side}: median queue {f[f'{side}_shares'].median():,.1f} shares, age "
                f"{f[f'{side}_age_s'].median():.2f} s, wait {f[f'{side}_fill_s'].median():.1f} s"
            )
        return "\n".join(lines)

    def plot(self) -> Any:
        """Draw the waiting time at the two best prices [s, log] (plotly figure, nothing is shown).

        Raises
        ------
        MissingDependency
            If plotly is not installed.
        """
        from crosswind.problems.plotting import PALETTE, figure

        fig = figure("Time to the front of the queue", "time, UTC", "expected wait [s]")
        when = self.frame.index.tz_localize(None)  # type: ignore[attr-defined]
        for colour, side in zip(PALETTE, ("bid", "ask"), strict=False):
            wait = self.frame[f"{side}_fill_s"].replace(np.inf, np.nan)
            fig.add_scatter(x=when, y=wait, name=side, mode="lines", line={"shape": "hv", "color": colour, "width": 1})
        fig.update_yaxes(type="log")
        return fig


def _age_s(time_ns: Int, price: Float) -> Float:
    changed = np.append(True, price[1:] != price[:-1])
    since = np.maximum.accumulate(np.where(changed, np.arange(len(price)), 0))
    return np.asarray((time_ns - time_ns[since]) / 1e9)


def _changes(price: Float, size: Float, sign: float) -> tuple[Float, Float]:
    """Return what left and what joined one side's best queue at each quote [shares]; ``sign`` −1 for the ask."""
    left, joined = np.zeros(len(size)), np.zeros(len(size))
    better, worse = sign * np.diff(price) > 0, sign * np.diff(price) < 0
    step = np.diff(size)
    # A better price starts a new queue; a worse one means that the former queue went altogether.
    joined[1:] = np.where(better, size[1:], np.where(worse, 0.0, np.maximum(step, 0.0)))
    left[1:] = np.where(worse, size[:-1], np.where(better, 0.0, np.maximum(-step, 0.0)))
    return left, joined


def _usual_size(time_ns: Int, size: Float, tau_s: float) -> Float:
    """Return the time-weighted decayed mean of the sizes that stood before each quote; NaN on the first."""
    stood = np.diff(time_ns) / 1e9
    weight = np.append(0.0, tau_s * -np.expm1(-stood / tau_s))  # ∫ e^{−s/τ} over the time for which it stood
    former = np.append(0.0, size[:-1])
    total = decayed_sum(time_ns, np.column_stack([weight, weight * former]), tau_s)
    nan = np.full(len(size), np.nan)
    return np.asarray(np.divide(total[:, 1], total[:, 0], out=nan, where=total[:, 0] > 0))


def queue_features(
    quotes: QuoteTape, trades: TradeTape | None = None, *, time_constant_s: float = 60.0
) -> QueueFeatures:
    """Return queue proxies of both sides at every quote.

    Parameters
    ----------
    quotes
        Best quotes of one name.
    trades
        Its trades with aggressor signs (``sign``). A buy takes from the ask, a sell from the bid; a trade counts from
        the first quote known at or after it. Without trades the whole depletion counts as trading, which makes the wait
        too short: cancellations cannot be told from trades in quotes alone.
    time_constant_s
        τ of the rates: Σ x_m e^{−(t − t_m)/τ} / (τ (1 − e^{−(t − t_0)/τ})), t_0 the first quote: unbiased from the
        start for a steady flow [s].

    Returns
    -------
    QueueFeatures

    Raises
    ------
    InvalidInput
        On malformed quotes, or trades without aggressor signs.

    Notes
    -----
    Cancellations are depletion less trades, at least 0, per share of the usual size; orders ahead are taken to cancel
    like the others. Displayed size only: hidden orders are not seen.
    """
    tau = check_positive(time_constant_s, "time_constant_s")
    good = check_quotes(quotes)
    when = good.known_ns
    seen = tau * -np.expm1(-(when - when[0]) / 1e9 / tau)

    def rate(amount: Float) -> Float:
        total = decayed_sum(when, amount, tau)
        return np.asarray(np.divide(total, seen, out=np.full(len(total), np.nan), where=seen > 0))

    taken = None if trades is None else _taken(trades, when)
    out: dict[str, Float] = {}
    for side, price, size, sign in (
        ("bid", good.bid, good.bid_shares, 1.0),
        ("ask", good.ask, good.ask_shares, -1.0),
    ):
        left, joined = _changes(price, size, sign)
        usual = _usual_size(when, size, tau)
        depletion = rate(left)
        traded = depletion if taken is None else rate(taken[side])
        base = np.where(np.isfinite(usual) & (usual > 0), usual, np.nan)
        cancels = np.nan_to_num(np.maximum(depletion - traded, 0.0) / base, nan=0.0)
        wait = fill_time_s(size, np.nan_to_num(traded, nan=0.0), cancels)
        out |= {
            f"{side}_age_s": _age_s(when, price),
            f"{side}_shares": size,
            f"{side}_size_ratio": size / base,
            f"{side}_depletion_per_s": depletion,
            f"{side}_refill_per_s": rate(joined),
            f"{side}_trade_per_s": np.full(len(size), np.nan) if taken is None else traded,
            f"{side}_fill_s": wait,
        }
    return QueueFeatures(pd.DataFrame(out, index=stamps(when)), tau)


def _taken(trades: TradeTape, when: Int) -> dict[str, Float]:
    """Return the shares taken from each side since the quote before, at each quote (Q,)."""
    if not isinstance(trades, TradeTape) or trades.sign is None:
        raise InvalidInput(
            "trades carry no aggressor", field="trades", remedy="sign them with lee_ready and pass TradeTape(sign=…)"
        )
    time = times(trades.time_ns, "trades.time_ns")
    shares = vector(trades.shares, "trades.shares", len(time))
    at = np.searchsorted(when, time, side="left")
    use = (at < len(when)) & (time >= when[0])
    total = {}
    for side, sign in (("bid", -1), ("ask", 1)):
        mine = use & (trades.sign == sign)
        total[side] = np.bincount(at[mine], shares[mine], len(when)).astype(np.float64)
    return total
