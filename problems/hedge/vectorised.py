"""Hedge policies on many episodes at once, for tuning by the million.

Cash trades do not depend on the hedge, so what is still to trade, and with it the hedge that is wanted at each
decision, is known per episode before any policy runs. With the gap in contracts, gap = ΣβQ/c − (held + in flight) and
c the contract's value at arrival, the rules of :mod:`crosswind.problems.hedge.policies` are affine:

- P1, P2: trade the gap, at every or every n-th slice;
- P3b: trade the gap when it is larger than k·1e-4·scale/(c·σ√Δt);
- BF: trade φ of the gap; BS: the plan's change and φ of the gap;
- SO: a plan solved once, u*_k + φ(gap_k − gap*_k);

each within its clip. The costs are those of :func:`~crosswind.problems.hedge.run.replay_hedge` to rounding: what
depends on the hedge, futures + lag + basis + cross, is Σ over the hedge's fills of spread, fees and own impact, plus
the impact between the legs, plus ΣΣβQ·ΔX (a constant of the episode), less what the hedge itself has earned.

Whole contracts, the marginal rule and the controller need the event kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from crosswind.problems.hedge.model import HedgeParent
from crosswind.problems.hedge.worlds import Episode
from crosswind.problems.replay.batch import ReplayBatch
from crosswind.problems.replay.model import FloatArray, ReplayMarket
from crosswind.problems.replay.vectorised import AffinePolicy, BatchReplay, replay_batch
from crosswind.solvers.errors import InvalidInput

__all__ = ["HedgeBatch", "HedgeCosts", "batch"]


@dataclass(frozen=True, eq=False)
class HedgeCosts:
    """Costs of P sets of parameters on E episodes.

    Parameters
    ----------
    hedge_cost
        futures + lag + basis + cross, (P, E) [currency], positive: money lost.
    close_cost
        The part of it that the forced close cost, (P, E) [currency].
    notional
        Parent's gross notional, (E,) [currency].
    replay
        The execution behind it.
    """

    hedge_cost: FloatArray
    close_cost: FloatArray
    notional: FloatArray
    replay: BatchReplay

    @property
    def bps(self) -> FloatArray:
        """Hedge cost in bps of the parent's notional, (P, E)."""
        relative: FloatArray = self.hedge_cost * (1e4 / self.notional)
        return relative

    def score(self) -> FloatArray:
        """Return ½ mean + ½ q95 of the hedge cost over the episodes, (P,) [bps]: what tuning minimises."""
        total: FloatArray = 0.5 * (self.bps.mean(axis=1) + np.quantile(self.bps, 0.95, axis=1))
        return total

    def to_frame(self) -> pd.DataFrame:
        """Return one row per set of parameters: mean, median, q95 and score [bps]."""
        bps = self.bps
        return pd.DataFrame(
            {
                "mean_bps": bps.mean(axis=1),
                "median_bps": np.median(bps, axis=1),
                "q95_bps": np.quantile(bps, 0.95, axis=1),
                "score_bps": self.score(),
            }
        )


@dataclass(frozen=True, eq=False)
class HedgeBatch:
    """Episodes as arrays; the last column is the hedge, N the most cash names of an episode.

    Parameters
    ----------
    replay
        Markets and venues.
    schedule
        Cash trades, (E, T, N+2) [units].
    wanted
        ΣβQ as it is known at each bound, the last one for the close, (E, T+1) [contracts].
    planned
        Change of ΣβQ expected in each slice, (E, T) [contracts].
    sigma
        Standard deviation of the index return over each slice, (E, T).
    contract, scale, notional
        Value of a contract at arrival, parent's gross beta notional and gross notional, (E,) [currency].
    unhedged
        ΣΣβQ·ΔX, what the parent's beta costs without a hedge, (E,) [currency].
    """

    replay: ReplayBatch
    schedule: FloatArray
    wanted: FloatArray
    planned: FloatArray
    sigma: FloatArray
    contract: FloatArray
    scale: FloatArray
    notional: FloatArray
    unhedged: FloatArray

    @property
    def live(self) -> NDArray[np.bool_]:
        """Slices that belong to each episode, (E, T)."""
        mask: NDArray[np.bool_] = np.arange(self.replay.slices)[None, :] >= self.replay.lead[:, None]
        return mask

    def policy(
        self,
        gain: ArrayLike = 0.0,
        feed: ArrayLike = 0.0,
        threshold: ArrayLike = -1.0,
        clip_share: ArrayLike = np.inf,
        closes: bool = True,
    ) -> AffinePolicy:
        """Return the affine policy clip(feed + gain·gap where |gap| > threshold).

        Parameters
        ----------
        gain
            Share of the gap, (P,) or (P, E, T).
        feed
            Known part of the trade, (E, T) or (P, E, T) [contracts].
        threshold
            (P,) or (P, E, T) [contracts].
        clip_share
            Greatest trade per slice as a share of the parent's beta notional, (P,).
        closes
            Whether the hedge is brought to ΣβQ at the close.

        Returns
        -------
        AffinePolicy
        """
        episodes, slices, n = self.schedule.shape
        own = np.zeros((episodes, n, n))
        own[:, -1, -1] = -1.0
        target = np.zeros((episodes, slices + 1, n))
        target[:, :, -1] = self.wanted
        clip = np.atleast_1d(np.asarray(clip_share, dtype=np.float64))[:, None] * (self.scale / self.contract)
        return AffinePolicy(
            schedule=self.schedule,
            target=target,
            position_weight=own,
            flight_weight=own,
            close_flight_weight=own,
            feed=self._last(feed),
            gain=self._last(np.asarray(_cube(gain)) * self.live),
            threshold=self._last(threshold, elsewhere=-1.0),
            clip=self._last(clip[:, :, None], elsewhere=np.inf),
            closing=np.where(np.arange(n) == n - 1, float(closes), 0.0)[None, None, :],
        )

    def immediate(self, clip_share: ArrayLike = np.inf) -> AffinePolicy:
        """P1 for each clip, (P,)."""
        return self.policy(gain=1.0, clip_share=clip_share)

    def batched(self, every: int, clip_share: ArrayLike = np.inf) -> AffinePolicy:
        """P2: the gap at every ``every``-th slice, for each clip."""
        due = (np.arange(self.replay.slices)[None, :] - self.replay.lead[:, None]) % every == 0
        return self.policy(gain=due[None].astype(np.float64), clip_share=clip_share)

    def fraction(self, fraction: ArrayLike, clip_share: ArrayLike = np.inf) -> AffinePolicy:
        """BF for each φ and clip, (P,)."""
        return self.policy(gain=fraction, clip_share=clip_share)

    def plan(self, fraction: ArrayLike, clip_share: ArrayLike = np.inf) -> AffinePolicy:
        """BS for each φ and clip, (P,)."""
        return self.policy(gain=fraction, feed=self.planned, clip_share=clip_share)

    def trigger(self, threshold_bps: ArrayLike, clip_share: ArrayLike = np.inf) -> AffinePolicy:
        """P3b for each threshold and clip, (P,)."""
        level = 1e-4 * self.scale[:, None] / (self.contract[:, None] * np.where(self.sigma > 0.0, self.sigma, 1.0))
        return self.policy(gain=1.0, threshold=_cube(threshold_bps) * level, clip_share=clip_share)

    def solved_once(
        self, trades: FloatArray, gaps: FloatArray, fraction: ArrayLike, clip_share: ArrayLike = np.inf
    ) -> AffinePolicy:
        """SO: a plan's ``trades`` and the ``gaps`` it foresees, (E, T) [contracts], and φ of the deviation."""
        feed = (np.asarray(trades) - _cube(fraction) * np.asarray(gaps)) * self.live
        return self.policy(gain=fraction, feed=feed, clip_share=clip_share)

    def run(self, policy: AffinePolicy, *, paths: bool = False, window: int | None = None) -> HedgeCosts:
        """Execute a policy and return its costs; arguments as for :func:`crosswind.problems.replay.replay_batch`."""
        done = replay_batch(self.replay, policy, paths=paths, window=window)
        close = done.close_spread[..., -1] + done.close_fees[..., -1] + _between(done.close_impact)
        cost = done.spread[..., -1] + done.fees[..., -1] + _between(done.impact) + close
        return HedgeCosts(cost - done.gain[..., -1] + self.unhedged, close, self.notional, done)

    def _last(self, values: ArrayLike, elsewhere: float = 0.0) -> FloatArray:
        """Put (P,), (E, T) or (P, E, T) into the hedge's column of (P, E, T, n)."""
        array = _cube(values)
        out = np.full((*array.shape, self.schedule.shape[-1]), elsewhere)
        out[..., -1] = array
        return out


def batch(episodes: Sequence[Episode]) -> HedgeBatch:
    """Lay episodes out for the vectorised replay.

    Parameters
    ----------
    episodes
        At least one; slices and names may differ. Shorter ones are filled up at the front, narrower ones with
        instruments that nobody trades.

    Returns
    -------
    HedgeBatch

    Raises
    ------
    InvalidInput
        For no episodes, or where cash trades are late, limited or refused: then they depend on the venue's state, and
        the event kernel must run them.
    """
    if not episodes:
        raise InvalidInput("no episodes", field="episodes", value=0, remedy="draw some with episodes(world, count)")
    most = max(len(e.parent.names) for e in episodes)
    for episode in episodes:
        _check_cash(episode)
    laid = ReplayBatch.of([_widened(e.market, e.parent, most) for e in episodes], [e.venue for e in episodes])
    shape = (len(episodes), laid.slices)
    schedule, wanted = np.zeros((*shape, most + 2)), np.zeros((shape[0], shape[1] + 1))
    planned, sigma, unhedged = np.zeros(shape), np.zeros(shape), np.zeros(shape[0])
    contract, scale, notional = np.zeros(shape[0]), np.zeros(shape[0]), np.zeros(shape[0])
    for e, episode in enumerate(episodes):
        market, parent, lead = episode.market, episode.parent, int(laid.lead[e])
        column, proxy = market.position_of(parent.hedge), market.position_of(parent.index or parent.hedge)
        contract[e] = market.multiplier[column] * market.mid[0, column]
        value = parent.arrival(market) * parent.beta
        trades = parent.executed_plan(market)
        done = np.vstack([np.zeros(trades.shape[1]), np.cumsum(trades, axis=0)])
        schedule[e, lead:, : trades.shape[1]] = trades
        wanted[e, lead:] = (parent.intended(market) - done) @ value / contract[e]
        for k in range(market.slices):
            plan = parent.known_plan(k, market)
            coming = plan[k]
            if parent.fills is not None:
                coming = parent.pace.coming(plan[k:], plan.sum(axis=0) - done[k])[0]
            planned[e, lead + k] = -float(coming @ value) / contract[e]
        first = np.abs(parent.known_plan(0, market).sum(axis=0) * value).sum()
        scale[e] = first if first > 0.0 else np.abs(parent.known_plan(0, market) * value).sum()
        sigma[e, lead:] = np.sqrt(episode.beliefs.index_variance_per_s * market.dt_s)
        notional[e] = parent.notional(market)
        # After slice k's cash trades: what moves with the index until the next bound.
        left = (parent.intended(market)[:-1] - done[1:]) @ value
        unhedged[e] = float(left @ np.diff(market.mid[:, proxy])) / market.mid[0, proxy]
    return HedgeBatch(laid, schedule, wanted, planned, sigma, contract, scale, notional, unhedged)


def _between(impact: FloatArray) -> FloatArray:
    """Return what the hedge paid for its own impact and what both legs paid for the other's, (P, E)."""
    paid: FloatArray = impact[..., -1, :].sum(axis=-1) + impact[..., :-1, -1].sum(axis=-1)
    return paid


def _cube(values: ArrayLike) -> FloatArray:
    """Return (P, E or 1, T or 1) of a number, (P,), (E, T) or (P, E, T)."""
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.ndim == 1:
        return array[:, None, None]
    return array[None] if array.ndim == 2 else array


def _check_cash(episode: Episode) -> None:
    session, cash = episode.venue.open(episode.market), list(episode.parent.names)
    columns = [episode.market.position_of(name) for name in cash]
    gateway = session.gateway
    plain = (
        not gateway.latency_ns[columns].any()
        and not gateway.jitter_ns[columns].any()
        and not gateway.reject_probability[columns].any()
        and not np.isfinite(gateway.limit[columns]).any()
        and not (np.isfinite(session.share[columns]) & np.isfinite(episode.market.volume[:, columns])).any()
    )
    if not plain:
        raise InvalidInput(
            "the cash names have latency, limits or rejects, so their fills are not known ahead",
            field=f"venue of {episode.name}",
            value=cash,
            remedy="give these to the hedge alone, or use replay_hedge",
        )


def _widened(market: ReplayMarket, parent: HedgeParent, most: int) -> ReplayMarket:
    """Return the market with cash names first, the index and the hedge last, and dead instruments between."""
    columns = [market.position_of(name) for name in parent.names]
    spare = most - len(columns) + (1 if parent.index is None else 0)
    tail = [market.position_of(name) for name in (parent.index, parent.hedge) if name is not None]

    def wide(array: FloatArray, filler: float) -> FloatArray:
        dead = np.full((*array.shape[:-1], spare), filler)
        out: FloatArray = np.concatenate([array[..., columns], dead, array[..., tail]], axis=-1)
        return out

    return ReplayMarket(
        market.times,
        (*parent.names, *(f" {i}" for i in range(spare)), *(market.instruments[i] for i in tail)),
        wide(market.mid, 1.0),
        wide(market.half_spread, 0.0),
        wide(market.volume, np.inf),
        wide(market.multiplier, 1.0),
    )
