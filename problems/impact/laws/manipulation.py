"""Whether a propagator invites price manipulation: by theory, and by the cheapest round trips of two phases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Manipulation", "check_manipulation", "two_phase_cost"]

Array = NDArray[np.float64]
_LENGTHS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Manipulation:
    """What is known of round trips under a propagator.

    Attributes
    ----------
    free
        True: no round trip pays, by a theorem. False: one was found that does, or theory promises one. None: neither.
    reason
        The theorem, or the round trip.
    exponents_allow
        γ + δ ≥ 1, necessary for a power law that is infinite at 0; None for other decays.
    worst_bps
        Cost of the cheapest two-phase round trip that was tried [bps of the traded notional]; < 0 pays.
    worst_lengths
        Its buckets of buying and of selling.
    """

    free: bool | None
    reason: str
    exponents_allow: bool | None
    worst_bps: float
    worst_lengths: tuple[int, int]

    def summary(self) -> str:
        """Return one line."""
        words = {True: "no round trip pays", False: "round trips pay", None: "not decided"}
        word = "round trips that pay exist" if self.free is False and self.worst_bps >= 0 else words[self.free]
        a, b = self.worst_lengths
        return f"{word}: {self.reason}; cheapest of those tried {self.worst_bps:+.3g} bps ({a} buckets in, {b} out)"


def two_phase_cost(
    kernel: Callable[[Array], Array], scale: float, concavity: float, bucket_s: float, buy: int, sell: int
) -> float:
    """Return the expected cost per traded notional of buying evenly over ``buy`` buckets, then selling over ``sell``.

    Σ_t u_t (Σ_{τ<t} G_{t−τ} f_τ + ½ G_0 f_t) over Σ|u_t|, the whole position being ten typical buckets of flow.

    Parameters
    ----------
    kernel
        h [s] → G [return per currency of linear flow].
    scale
        ū: f(u) = ū sgn(u)|u/ū|^δ [currency].
    concavity
        δ.
    bucket_s
        Bucket [s].
    buy, sell
        Buckets of each phase, ≥ 1.
    """
    size = 10.0 * scale
    u = np.concatenate([np.full(buy, size / buy), np.full(sell, -size / sell)])
    f = scale * np.sign(u) * np.abs(u / scale) ** concavity
    G = kernel(np.arange(len(u), dtype=np.float64) * bucket_s)
    H = np.tril(G[np.abs(np.subtract.outer(np.arange(len(u)), np.arange(len(u))))])
    H[np.diag_indices(len(u))] *= 0.5
    return float(u @ H @ f / np.abs(u).sum())


def check_manipulation(
    kernel: Callable[[Array], Array],
    scale: float,
    concavity: float,
    bucket_s: float,
    gamma: float | None,
    convex: bool,
) -> Manipulation:
    """Judge a propagator.

    Parameters
    ----------
    kernel, scale, concavity, bucket_s
        As in `two_phase_cost`.
    gamma
        Exponent of a power-law decay; None for others.
    convex
        Whether G is nonnegative, nonincreasing and convex.

    Notes
    -----
    Linear impact: a nonnegative, nonincreasing, convex kernel is positive definite, and then no round trip pays
    (Alfonsi, Schied and Slynko 2012). Nonlinear impact with a kernel that is continuous and positive at 0 always admits
    manipulation (arXiv 2510.06879, theorem 2.4); for a kernel t^−γ, infinite at 0, γ + δ ≥ 1 is necessary and
    exponential decay is compatible with linear impact alone (Gatheral 2010).
    """
    costs = {(a, b): two_phase_cost(kernel, scale, concavity, bucket_s, a, b) for a in _LENGTHS for b in _LENGTHS}
    lengths, cost = min(costs.items(), key=lambda item: item[1])
    allow = None if gamma is None else bool(gamma + concavity >= 1.0)
    bps = 1e4 * cost
    if concavity == 1.0:
        if convex:
            return Manipulation(True, "linear impact, convex decreasing decay", allow, bps, lengths)
        found = bps < 0
        reason = "linear impact, a decay that is not convex and decreasing"
        return Manipulation(False if found else None, reason, allow, bps, lengths)
    reason = f"impact |u|^{concavity:.3g} is not linear and the decay is finite at once"
    if allow is False:
        reason += f"; γ + δ = {(gamma or 0.0) + concavity:.3g} < 1"
    return Manipulation(False, reason, allow, bps, lengths)
