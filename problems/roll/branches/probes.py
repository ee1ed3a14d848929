"""What becomes of many clips in one market: queue, re-pricing, time-out, legs, cutoff, all clips at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.roll.branches.model import BRANCHES, ProbingPolicy
from crosswind.problems.roll.model import RollMarket
from crosswind.solvers.errors import InvalidInput

__all__ = ["Decisions", "Outcomes", "follow_decisions", "worse_ticks"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
_SPREAD, _LEGGED, _RETRY, _FORCED = range(len(BRANCHES))
_REST, _AGAIN, _LEGS, _DONE = range(4)


@dataclass(frozen=True, eq=False)
class Decisions:
    """Clips to be placed, n of them.

    Parameters
    ----------
    bar
        Bar at whose end each is placed (n,).
    side
        +1 buys spreads, −1 sells them (n,).
    clip
        Size [spreads], ≥ 1 (n,).
    timeout, max_let
        In bars, ≥ 1 and ≥ 0 (n,).
    cutoff
        Bar at whose end what is open is crossed, after ``bar`` (n,).
    """

    bar: Ints
    side: Ints
    clip: Ints
    timeout: Ints
    max_let: Ints
    cutoff: Ints

    def check(self, bars: int) -> None:
        """Refuse what does not fit a market of ``bars`` bars.

        Raises
        ------
        InvalidInput
            Naming the field.
        """
        n = len(self.bar)
        bounds: dict[str, tuple[Any, Any]] = {
            "bar": (0, bars - 2),
            "side": (-1, 1),
            "clip": (1, np.inf),
            "timeout": (1, np.inf),
            "max_let": (0, np.inf),
            "cutoff": (self.bar + 1, bars - 1),
        }
        for name, (low, high) in bounds.items():
            value = np.asarray(getattr(self, name))
            bad = value.shape != (n,) or value.dtype.kind not in "iu"
            if bad or (value < low).any() or (value > high).any() or (name == "side" and (value == 0).any()):
                raise InvalidInput(
                    "is out of range or not whole numbers, one per clip",
                    field=name,
                    value=value[:3].tolist(),
                    remedy=f"pass {n} integers within the session of {bars} bars",
                )


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of the clips (n,).

    Parameters
    ----------
    branch, cost, let_s, legging, filled
        As in :class:`~crosswind.problems.roll.branches.model.BranchSamples`.
    end
        Bar in which the last spread was done.
    """

    branch: NDArray[np.intp]
    cost: Array
    let_s: Array
    legging: Array
    filled: Array
    end: Ints


def follow_decisions(market: RollMarket, decisions: Decisions, policy: ProbingPolicy) -> Outcomes:
    """Return what becomes of each clip, worked as :class:`ProbingPolicy` says.

    The queue in the spread book is that of :func:`crosswind.problems.market.simulator.spread_book_queue.join_queue`:
    in a bar the quotes of the bar before stand; aggressors trade what is ahead first, cancellations take from ahead in
    proportion, a worse best price leaves the clip alone at the front, the other side at its price fills it. In a leg
    half of the bar's volume is taken to come against each side.

    Parameters
    ----------
    market
        The session.
    decisions
        Clips; none of them sees another.
    policy
        How they are worked.

    Raises
    ------
    InvalidInput
        For a decision outside the session.
    """
    decisions.check(market.bars)
    return _Walk(market, decisions, policy).run()


class _Walk:
    """All clips side by side, one bar after their decision at a time.

    Prices are in ticks times the side: higher is better for the owner of the resting order on both sides, and a payment
    is a cost on both.
    """

    def __init__(self, market: RollMarket, d: Decisions, policy: ProbingPolicy) -> None:
        self.m, self.d, self.p = market, d, policy
        bid, ask = np.rint(market.bid / market.tick), np.rint(market.ask / market.tick)
        self.own, self.other = np.stack([bid, -ask]), np.stack([ask, -bid])
        self.shown = np.stack([market.bid_size, market.ask_size])
        self.taken = np.stack([market.sold, market.bought])
        self.gone = market.cancelled.T
        leg_bid, leg_ask = (np.rint(x.T / market.leg_tick) for x in (market.leg_bid, market.leg_ask))
        # [buyer or seller, leg, bar]
        self.leg_own, self.leg_other = np.stack([leg_bid, -leg_ask]), np.stack([leg_ask, -leg_bid])
        self.leg_shown = np.stack([market.leg_bid_size.T, market.leg_ask_size.T])
        self.leg_taken = np.floor(0.5 * market.leg_volume.T)
        n = len(d.bar)
        self.c = (d.side < 0).astype(np.intp)
        self.phase = np.full(n, _REST)
        self.left = d.clip.astype(np.float64)
        self.age, self.behind = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.price, self.ahead = np.zeros(n), np.zeros(n)
        self.ticks = np.zeros(n)  # paid in the spread book, spread ticks × spreads
        self.leg_ticks = np.zeros(n)  # paid in both legs, leg ticks × contracts
        self.passive = np.zeros(n)
        self.let, self.legging = np.full(n, np.nan), np.full(n, np.nan)
        self.leg = np.zeros(n, dtype=np.intp)  # the leg that is still open
        self.leg_c = np.zeros(n, dtype=np.intp)
        self.leg_mid = np.zeros(n)
        self.leg_paid = np.zeros(n)  # paid in the second leg at its best prices
        self.branch = np.full(n, -1, dtype=np.intp)
        self.end = np.zeros(n, dtype=np.int64)

    def run(self) -> Outcomes:
        m, d = self.m, self.d
        everyone = np.arange(len(d.bar))
        self._join(everyone, d.bar)
        live, step = everyone, 0
        while len(live):
            step += 1
            t = d.bar[live] + step
            self.age[live] += 1
            resting = self.phase[live] <= _AGAIN
            self._rest(live[resting], t[resting])
            self._second_leg(live[~resting], t[~resting])
            self._cutoff(live, t)
            self._timeout(live, t)
            live = live[self.phase[live] != _DONE]
        start = 0.5 * (self.own[self.c, d.bar] + self.other[self.c, d.bar])
        points = (self.ticks * m.tick + self.leg_ticks * m.leg_tick) / d.clip - start * m.tick
        return Outcomes(
            branch=self.branch,
            cost=points * m.multiplier + 2.0 * self.p.fee_per_contract,
            let_s=self.let * m.bar_s,
            legging=self.legging * m.leg_tick * m.multiplier,
            filled=self.passive / d.clip,
            end=self.end,
        )

    def _join(self, i: NDArray[np.intp], t: Ints) -> None:
        self.price[i] = self.own[self.c[i], t]
        self.ahead[i] = np.ceil(self.p.queue * self.shown[self.c[i], t])
        self.behind[i] = 0

    def _rest(self, i: NDArray[np.intp], t: Ints) -> None:
        c, before = self.c[i], t - 1
        late = self.own[c, before] > self.price[i]
        self.behind[i] = np.where(late, self.behind[i] + 1, 0)
        # Seen behind at the end of so many bars: it moves before this one trades.
        moved = late & (self.behind[i] * self.m.bar_s > self.p.reprice_s)
        self._join(i[moved], before[moved])
        own, other = self.own[c, before], self.other[c, before]
        price, ahead, left = self.price[i], self.ahead[i], self.left[i]
        traded, standing = self.taken[c, t], self.shown[c, before]
        fill, ahead = _queue(price, ahead, left, own, other, traded, standing, self.gone[c, t])
        self.ahead[i], self.left[i] = ahead, left - fill
        self.ticks[i] += fill * price
        self.passive[i] += fill
        done = left == fill
        self._finish(i[done], t[done], np.where(self.phase[i[done]] == _REST, _SPREAD, _RETRY))

    def _second_leg(self, i: NDArray[np.intp], t: Ints) -> None:
        c, leg, before = self.leg_c[i], self.leg[i], t - 1
        own, other = self.leg_own[c, leg, before], self.leg_other[c, leg, before]
        left, price = self.left[i], self.price[i]
        nothing = np.zeros(len(i))
        fill, ahead = _queue(
            price, self.ahead[i], left, own, other, self.leg_taken[leg, t], self.leg_shown[c, leg, before], nothing
        )
        self.ahead[i], self.left[i] = ahead, left - fill
        self.leg_paid[i] += fill * price
        done = left == fill
        self._close_legs(i[done], t[done], np.full(int(done.sum()), _LEGGED))

    def _cutoff(self, live: NDArray[np.intp], t: Ints) -> None:
        due = (self.phase[live] != _DONE) & (t >= self.d.cutoff[live])
        i, at = live[due], t[due]
        legs = self.phase[i] == _LEGS
        self._cross_spread(i[~legs], at[~legs], _FORCED)
        self._cross_leg(i[legs], at[legs], _FORCED)

    def _timeout(self, live: NDArray[np.intp], t: Ints) -> None:
        phase = self.phase[live]
        limit = np.where(phase == _LEGS, self.d.max_let[live], self.d.timeout[live])
        due = (phase != _DONE) & (self.age[live] >= limit)
        i, at, phase = live[due], t[due], phase[due]
        self._cross_leg(i[phase == _LEGS], at[phase == _LEGS], _LEGGED)
        self._cross_spread(i[phase == _AGAIN], at[phase == _AGAIN], _RETRY)
        first = phase == _REST
        none = first & (self.left[i] == self.d.clip[i])
        again = first & ~none
        self.phase[i[again]], self.age[i[again]] = _AGAIN, 0
        self._join(i[again], at[again])
        self._open_legs(i[none], at[none])

    def _open_legs(self, i: NDArray[np.intp], t: Ints) -> None:
        # Whoever buys spreads sells the near (0) and buys the far leg (1).
        sides = np.stack([1 - self.c[i], self.c[i]])  # 0: that leg is bought
        crossed = np.stack([self.leg_shown[1 - sides[leg], leg, t] for leg in (0, 1)])
        first = np.argmin(crossed, axis=0)
        rows = np.arange(len(i))
        c = sides[first, rows]
        size = crossed[first, rows]
        walk = worse_ticks(self.left[i], self.p.leg_participation * size)
        self.leg_ticks[i] += self.left[i] * (self.leg_other[c, first, t] + walk)
        self.leg[i] = 1 - first
        self.leg_c[i] = sides[1 - first, rows]
        own, other = (x[self.leg_c[i], self.leg[i], t] for x in (self.leg_own, self.leg_other))
        self.leg_mid[i] = 0.5 * (own + other)
        self.price[i], self.phase[i], self.age[i] = own, _LEGS, 0
        self.ahead[i] = np.ceil(self.p.leg_queue * self.leg_shown[self.leg_c[i], self.leg[i], t])
        at_once = self.d.max_let[i] == 0
        self._cross_leg(i[at_once], t[at_once], _LEGGED)

    def _cross_leg(self, i: NDArray[np.intp], t: Ints, branch: int) -> None:
        c, leg = self.leg_c[i], self.leg[i]
        walk = worse_ticks(self.left[i], self.p.leg_participation * self.leg_shown[1 - c, leg, t])
        self.leg_paid[i] += self.left[i] * self.leg_other[c, leg, t]
        self.leg_ticks[i] += self.left[i] * walk  # impact, and no part of the leg's own move
        self._close_legs(i, t, np.full(len(i), branch))

    def _close_legs(self, i: NDArray[np.intp], t: Ints, branch: NDArray[np.intp]) -> None:
        clip = self.d.clip[i]
        self.leg_ticks[i] += self.leg_paid[i]
        self.legging[i] = self.leg_paid[i] / clip - self.leg_mid[i]
        self.let[i] = self.age[i]
        self._finish(i, t, branch)

    def _cross_spread(self, i: NDArray[np.intp], t: Ints, branch: int) -> None:
        c = self.c[i]
        walk = worse_ticks(self.left[i], self.p.participation * self.shown[1 - c, t])
        self.ticks[i] += self.left[i] * (self.other[c, t] + walk)
        self._finish(i, t, np.full(len(i), branch))

    def _finish(self, i: NDArray[np.intp], t: Ints, branch: NDArray[np.intp]) -> None:
        self.branch[i], self.end[i], self.phase[i], self.left[i] = branch, t, _DONE, 0.0


def _queue(
    price: Array,
    ahead: Array,
    left: Array,
    own: Array,
    other: Array,
    traded: Array,
    shown: Array,
    gone: Array,
) -> tuple[Array, Array]:
    """Return what fills in a bar and what is ahead afterwards."""
    met = other <= price
    alone = ~met & (own < price)
    best = ~met & (own == price)
    fill = np.where(met, left, 0.0)
    fill = np.where(alone, np.minimum(left, traded), fill)
    fill = np.where(best, np.minimum(left, np.maximum(0.0, traded - ahead)), fill)
    after = np.maximum(0.0, ahead - traded)
    standing = shown - traded
    inside = np.minimum(after, np.maximum(standing, 0.0))
    share = np.divide(gone * inside, standing, out=np.zeros_like(gone, dtype=np.float64), where=standing > 0.0)
    after = after - np.minimum(after, np.rint(share))
    return fill, np.where(best, after, np.where(met | alone, 0.0, ahead))


def worse_ticks(size: Any, each: Any) -> Array:
    """Return how many ticks beyond the best price a size pays on average, with ``each`` to be had at every price."""
    each = np.maximum(each, 1.0)
    full = np.floor(size / each)
    total = each * full * (full - 1.0) / 2.0 + (size - full * each) * full
    worse: Array = total / np.maximum(size, 1e-300)
    return worse
