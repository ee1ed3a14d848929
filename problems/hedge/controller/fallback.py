"""The rungs below the program: the adaptive trigger, and the gap within the clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from crosswind.problems.hedge.controller.ladder import Latch
from crosswind.problems.hedge.controller.model import HedgeRank, HedgeSetup
from crosswind.problems.hedge.controller.program import ControllerProgram
from crosswind.problems.replay.model import FloatArray

__all__ = ["FallbackRules"]


class FallbackRules:
    """RULE: close the gap when σ√Δt of it exceeds the trigger or a gap is beyond its cap. IMMEDIATE: close it.

    Both close at most the regime's share of the gap in one slice, by the cheapest instrument first, within the room.

    Parameters
    ----------
    setup
        The controller's.
    """

    def __init__(self, setup: HedgeSetup) -> None:
        self.setup = setup
        self._loadings = setup.loadings.tolist()
        self._covariance = setup.covariance_per_s.tolist()
        self.latch = Latch(setup.trip_after, setup.rearm_after)

    def trades(
        self,
        gap: Sequence[float],
        caps: Sequence[float],
        regime: int,
        trigger_factor: float,
        ceiling: int,
        usable: Sequence[bool],
        spread: Sequence[float],
        room: Sequence[float],
        count: bool = True,
    ) -> tuple[HedgeRank, list[float], str]:
        """Return rank, trades (m,) [currency] and a reason.

        Parameters
        ----------
        gap, caps
            By exposure (k,) [currency].
        regime, trigger_factor, ceiling
            As in the observation.
        usable, spread, room
            By instrument (m,).
        count
            Whether the outcome moves the latch.
        """
        setup, k = self.setup, len(gap)
        state, nothing = setup.regimes[regime], [0.0] * len(usable)
        variance = math.fsum(gap[a] * self._covariance[a][b] * gap[b] for a in range(k) for b in range(k))
        risk = math.sqrt(max(variance * setup.dt_s, 0.0)) * min(state.sigma, setup.sigma_cap)
        threshold = 1e-4 * setup.trigger_bps * setup.scale * trigger_factor
        sound = math.isfinite(risk) and math.isfinite(threshold) and threshold >= 0.0
        out = self.latch.report(sound) if count else False
        if ceiling > HedgeRank.IMMEDIATE:
            return HedgeRank.HOLD, nothing, "no trade is allowed"
        rank, why = HedgeRank.IMMEDIATE, "the gap within the clip, as the rule's risk or threshold is not a number"
        if sound and out:
            why = "the gap within the clip, until the rule has worked for a while"
        elif sound and ceiling <= HedgeRank.RULE:
            rank, why = HedgeRank.RULE, "the gap's risk is above the trigger"
            if any(abs(g) > cap for g, cap in zip(gap, caps, strict=True)):
                why = "a gap is beyond its cap"
            elif risk <= threshold:
                return rank, nothing, "the gap's risk is below the trigger"
        return rank, self._close(gap, usable, spread, room, state.most_of_gap), why

    def plan(
        self, program: ControllerProgram, regime: int, usable: Sequence[bool], spread: Sequence[float]
    ) -> FloatArray:
        """Return what RULE would trade over a program's horizon, were everything to come as planned (H, m) [unit]."""
        k, unit = program.k, program.unit
        caps, out = program.gap_caps[regime], np.zeros((program.H, program.m))
        gap = program.gap[:k] * unit
        for t in range(program.H):
            room = [float(c) * unit for c in program.cap[t]]
            out[t] = self.trades(gap.tolist(), caps, regime, 1.0, 0, usable, spread, room, count=False)[1]
            gap += program.plan[t, :k] * unit - program.loadings @ out[t]
        out /= unit
        return out

    def _close(
        self,
        gap: Sequence[float],
        usable: Sequence[bool],
        spread: Sequence[float],
        room: Sequence[float],
        share: float,
    ) -> list[float]:
        trades = [0.0] * len(usable)
        for i, row in enumerate(self._loadings):
            left = share * gap[i] - math.fsum(e * h for e, h in zip(row, trades, strict=True))
            if i and left * gap[i] <= 0.0:
                continue  # the trades for the exposures before have done it
            ways = [(spread[j] / abs(e), j) for j, e in enumerate(row) if usable[j] and e != 0.0]
            for _, j in sorted(ways):
                free = room[j] - abs(trades[j])
                move = min(max(left / row[j], -free), free)
                trades[j] += move
                left -= row[j] * move
        return trades
