"""Any hedge policy on many parents, slice by slice: the event kernel's costs at a quarter of its time, for tuning.

Cash trades do not depend on the hedge. So all that a policy is told is known ahead, but for the hedge it holds and what
its own fills have left in the price. One replay on the event kernel records the first; here only the second is carried
along, with the venue's arrivals and volume as :class:`~crosswind.problems.replay.batch.ReplayBatch` lays them out. The
policies are the real ones. Where messages are limited the event kernel is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from hedge_policies_study import Drawn, run

from crosswind.problems.hedge import HedgeAction, HedgeBatch, HedgeContext, HedgePolicy, HedgeState, NoHedge, batch
from crosswind.problems.replay.batch import NEVER
from crosswind.problems.replay.model import FloatArray
from crosswind.solvers.errors import CrosswindError

__all__ = ["Quick"]


class _Recorder(NoHedge):
    """Trades nothing and keeps what it is told."""

    def reset(self, context: HedgeContext) -> None:
        super().reset(context)
        self.told: list[HedgeState] = []

    def decide(self, state: HedgeState) -> HedgeAction:
        self.told.append(state)
        return HedgeAction(0.0)


@dataclass(frozen=True, eq=False)
class _Told:
    """A parent's context, what a policy without a hedge is told at each slice, and the slices' starts (T,) [s]."""

    context: HedgeContext
    states: list[HedgeState]
    starts: FloatArray

    def state(self, k: int, held: float, left: FloatArray) -> HedgeState:
        """Return what is told at slice ``k`` with a hedge and the notional its fills have left by mode, (M,)."""
        context, state = self.context, self.states[k]
        drift = state.drift
        if len(context.own):
            fading = np.exp(-context.rates_per_s[:, None] * (self.starts[k:] - self.starts[k]))
            drift = drift + (context.own * left[: len(context.own)]) @ fading
        return replace(state, held=held, drift=drift)


class _Book:
    """What E hedges hold and have cost so far."""

    def __init__(self, laid: HedgeBatch) -> None:
        r = laid.replay
        self.multiplier, self.fee, self.first = r.multiplier[:, -1], r.fee[:, -1], r.mid[:, 0, -1]
        self.own = r.matrices[:, :, -1, -1]
        self.units, self.cost, self.paid = np.zeros((3, r.episodes))
        self.left, self.moved = np.zeros((2, r.episodes, r.rates.shape[1]))  # by the hedge [currency]; by cash [return]

    def trade(self, units: FloatArray, gross: FloatArray, mid: FloatArray, half: FloatArray, push: FloatArray) -> None:
        """Fill units (E,), ``gross`` without their signs, while cash trades move the future by ``push`` (E, M)."""
        notional = units * self.multiplier * mid
        hedge = self.left + 0.5 * notional[:, None]
        self.cost += notional * ((self.own * hedge).sum(axis=1) + (self.moved + 0.5 * push).sum(axis=1))
        self.cost += (push * hedge).sum(axis=1)  # what cash pays for the hedge's displacement: the kernel is symmetric
        self.cost += gross * (self.multiplier * half + self.fee)
        self.left, self.moved = self.left + notional[:, None], self.moved + push
        self.paid += units * self.multiplier * (mid - self.first)
        self.units = self.units + units

    def fade(self, decay: FloatArray) -> None:
        """Let a batch's time pass."""
        self.left, self.moved = self.left * decay, self.moved * decay


class Quick:
    """Parents whose policies can be replayed quickly.

    Parameters
    ----------
    items
        Parents without a limit of messages.
    laid
        Their batch; None: it is made.

    Raises
    ------
    CrosswindError
        Where messages are limited.
    """

    def __init__(self, items: Sequence[Drawn], laid: HedgeBatch | None = None) -> None:
        self.items = items
        self.laid = batch([item.episode for item in items]) if laid is None else laid
        if np.isfinite(self.laid.replay.limit[:, -1]).any():
            raise CrosswindError("messages are limited", field="limit", value="finite", remedy="use the event kernel")
        self.told = []
        for item in items:
            recorder = _Recorder()
            run(item.episode, recorder)
            starts = np.concatenate([[0.0], np.cumsum(recorder.context.dt_s)[:-1]])
            self.told.append(_Told(recorder.context, recorder.told, starts))
        r = self.laid.replay
        notional = self.laid.schedule[:, :, :-1] * r.multiplier[:, None, :-1] * r.mid[:, :-1, :-1]
        # What each slice's cash trades do to the future, (E, T, M) [return].
        self.push = np.einsum("emn,etn->etm", r.matrices[:, :, -1, :-1], notional)
        self.decay = np.exp(-r.rates[:, None, None, :] * r.step_s[..., None])

    def costs(self, make: Callable[[Drawn], HedgePolicy]) -> FloatArray:
        """Return the hedge cost of each parent under a policy of its own, (E,) [bps of its notional]."""
        r, laid, contract = self.laid.replay, self.laid, self.laid.contract
        policies = [make(item) for item in self.items]
        for policy, told in zip(policies, self.told, strict=True):
            policy.reset(told.context)
        book, rest = _Book(laid), np.zeros((r.episodes, r.slices))
        entry, release, number = r.entry[:, :, -1], r.release[:, :, -1], r.batch[:, :, -1]
        live: list[int] = []  # slices whose orders are under way, oldest first: the order of the queue

        def flying(k: int) -> FloatArray:
            kept = (entry[:, live] != NEVER) | (release[:, live] >= k)
            return np.where(kept, rest[:, live], 0.0)

        for k in range(r.slices):
            held = (book.units + flying(k).sum(axis=1)) * contract
            for e in np.flatnonzero(r.lead <= k):
                told = self.told[e]
                state = told.state(k - int(r.lead[e]), float(held[e]), book.left[e])
                rest[e, k] = policies[e].decide(state).trade / contract[e]
            live.append(k)
            used = np.zeros(r.episodes)
            for j in range(r.step_s.shape[2]):
                units, gross = np.zeros((2, r.episodes))
                for sent in live:
                    due = (entry[:, sent] == k) & (number[:, sent] == j)
                    if j == 0:
                        due |= entry[:, sent] < k
                    room = np.maximum(r.capacity[:, k, -1] - used, 0.0)
                    size = np.where(due, np.minimum(np.abs(rest[:, sent]), room), 0.0)
                    signed = np.copysign(size, rest[:, sent])
                    rest[:, sent] -= signed
                    used, units, gross = used + size, units + signed, gross + size
                share = r.weight[:, k, j]
                mid = r.mid[:, k, -1] + (r.mid[:, k + 1, -1] - r.mid[:, k, -1]) * share
                push = self.push[:, k] if j == 0 else np.zeros_like(self.push[:, k])
                book.trade(units, gross, mid, r.half_spread[:, k, -1], push)
                book.fade(self.decay[:, k, j])
            live = [sent for sent in live if rest[:, sent].any()]
        left = flying(r.slices)
        closing = laid.wanted[:, -1] - book.units - left.sum(axis=1)
        closing = np.where([policy.closes for policy in policies], closing, 0.0)
        gross = np.abs(left).sum(axis=1) + np.abs(closing)
        half = r.half_spread[:, -1, -1] * r.close_multiple
        book.trade(left.sum(axis=1) + closing, gross, r.mid[:, -1, -1], half, np.zeros_like(self.push[:, -1]))
        gain = book.units * book.multiplier * (r.mid[:, -1, -1] - book.first) - book.paid
        bps: FloatArray = (book.cost - gain + laid.unhedged) * (1e4 / laid.notional)
        return bps
