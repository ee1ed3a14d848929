"""The pure problem: trades of N names over T slices with decaying impact, factor risk, boxes, caps and bands."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crosswind.solvers.schedule.fields import frozen, index, ordered, refuse
from crosswind.solvers.schedule.violations import ScheduleViolations, measured

__all__ = ["Array", "FactorSchedule", "ScheduleViolations"]

Array = NDArray[np.float64]
_TINY = np.finfo(np.float64).tiny


def _unset() -> Any:
    return None


def _still(array: Any) -> Any:
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class FactorSchedule:
    """Minimise the cost of trades u (T, N) that bring q_0 to its target, q_{t+1} = q_t − u_t, at index scale.

    With z^m_t = ρ_mt z^m_{t−1} + u_t, K_m = diag(k_m) + L_m L_m' and Σ = diag(d) + F F',

        Σ_t [ u_t' diag(η_t) u_t + c_t'|u_t| + a_t'u_t ] + Σ_m Σ_t ( u_t'K_m ρ_mt z^m_{t−1} + ½ u_t'K_m u_t )
        + Σ_t w_t q_{t+1}'Σ q_{t+1} + Σ_i v_i (q_Ti − target_i)²

    subject to

        lower ≤ u ≤ upper,   Σ_{i∈g} |u_ti| ≤ cap_tg,   b_t ≤ V'q_{t+1} ≤ B_t,   |u_t − u_{t−1}| ≤ δ_t,
        q_Ti = target_i where v_i = ∞.

    Data are copied and read-only; what does not vary over an axis may be given as anything that broadcasts, and is kept
    without being repeated in memory.

    Parameters
    ----------
    start
        (N,) q_0, signed quantity still to trade; u has its sign where it lowers it (a buy is u > 0 on q > 0).
    eta
        (T, N) η ≥ 0; its shape gives T and N.
    spread, linear
        (T, N) c ≥ 0 and a; default 0.
    lower, upper
        (T, N), lower ≤ upper, ±∞ where there is none (the default); zero need not lie between.
    decays
        (M, T) ρ in (0, 1], from slice t−1 to t; ρ_m0 decays the state left by earlier trades.
    impact_own, impact_loadings, impact_state
        k (M, N) ≥ 0; M matrices L_m (N, r_m), a dense K by its factor; z_{−1} (M, N), default 0.
    risk_own, risk_loadings, risk_weight
        d (N,) ≥ 0, F (N, p), w (T,) ≥ 0; default 0.
    terminal_weight, target
        v (N,) ≥ 0 or ∞ (hard), default ∞; target (N,), default 0.
    groups, group_caps
        (N,) integers, −1 for a name in no group; (T, G) caps ≥ 0 or ∞. A group may be empty.
    band_vectors, band_lower, band_upper
        V (N, b); (T, b) edges, ±∞ where there is none.
    change, previous
        δ (T, N) ≥ 0 or ∞, None for no such limit; u_{−1} (N,), None to leave the first trade free.

    Raises
    ------
    InvalidInput
        On mixed shapes, entries that are not finite where they must be, values out of range, crossed bounds.
    """

    start: Array
    eta: Array
    spread: Array = field(default_factory=_unset)
    linear: Array = field(default_factory=_unset)
    lower: Array = field(default_factory=_unset)
    upper: Array = field(default_factory=_unset)
    decays: Array = field(default_factory=_unset)
    impact_own: Array = field(default_factory=_unset)
    impact_loadings: tuple[Array, ...] = field(default_factory=_unset)
    impact_state: Array = field(default_factory=_unset)
    risk_own: Array = field(default_factory=_unset)
    risk_loadings: Array = field(default_factory=_unset)
    risk_weight: Array = field(default_factory=_unset)
    terminal_weight: Array = field(default_factory=_unset)
    target: Array = field(default_factory=_unset)
    groups: NDArray[np.int64] = field(default_factory=_unset)
    group_caps: Array = field(default_factory=_unset)
    band_vectors: Array = field(default_factory=_unset)
    band_lower: Array = field(default_factory=_unset)
    band_upper: Array = field(default_factory=_unset)
    change: Array | None = None
    previous: Array | None = None

    def __post_init__(self) -> None:
        def put(name: str, default: Any, shape: tuple[int, ...], low: float = -np.inf, **more: Any) -> None:
            given = getattr(self, name)
            object.__setattr__(self, name, frozen(name, default if given is None else given, shape, low, **more))

        if np.ndim(self.eta) != 2:
            refuse("must be (T, N): its shape gives the sizes", "eta", np.shape(self.eta), "np.full((T, N), eta)")
        T, N = np.shape(self.eta)
        if T == 0 or N == 0:
            refuse("has no slice or no name", "eta", (T, N), "give at least one of each")
        put("start", 0.0, (N,))
        put("eta", 0.0, (T, N), 0.0)
        put("spread", 0.0, (T, N), 0.0)
        put("linear", 0.0, (T, N))
        put("lower", -np.inf, (T, N), infinite=True)
        put("upper", np.inf, (T, N), infinite=True)
        ordered(self.lower, self.upper, "lower")
        M = 0 if self.decays is None else len(np.atleast_1d(self.decays))
        put("decays", np.ones((0, T)), (M, T), np.nextafter(0.0, 1.0), high=1.0)
        put("impact_own", 0.0, (M, N), 0.0)
        put("impact_state", 0.0, (M, N))
        loadings = (None,) * M if self.impact_loadings is None else tuple(self.impact_loadings)
        if len(loadings) != M:
            refuse(f"must hold {M} matrices, one for each row of decays", "impact_loadings", len(loadings), "pad it")
        made = [self._loadings(f"impact_loadings[{m}]", loading) for m, loading in enumerate(loadings)]
        object.__setattr__(self, "impact_loadings", tuple(made))
        put("risk_own", 0.0, (N,), 0.0)
        object.__setattr__(self, "risk_loadings", self._loadings("risk_loadings", self.risk_loadings))
        put("risk_weight", 0.0, (T,), 0.0)
        put("terminal_weight", np.inf, (N,), 0.0, infinite=True)
        put("target", 0.0, (N,))
        put("group_caps", np.zeros((T, 0)), (T, self._columns("group_caps")), 0.0, infinite=True)
        object.__setattr__(self, "groups", index("groups", self.groups, N, self.group_caps.shape[1]))
        object.__setattr__(self, "band_vectors", self._loadings("band_vectors", self.band_vectors))
        b = self.band_vectors.shape[1]
        put("band_lower", -np.inf, (T, b), infinite=True)
        put("band_upper", np.inf, (T, b), infinite=True)
        ordered(self.band_lower, self.band_upper, "band_lower")
        if self.change is not None:
            put("change", np.inf, (T, N), 0.0, infinite=True)
        elif self.previous is not None:
            refuse("bounds nothing without a limit on the change", "previous", "an array", "give change, or leave it")
        if self.previous is not None:
            put("previous", 0.0, (N,))

    def _loadings(self, name: str, value: ArrayLike | None) -> Array:
        N = len(self.start)
        width = 0 if value is None else (np.shape(value)[1] if np.ndim(value) == 2 else -1)
        if width < 0:
            refuse("must be (N, columns)", name, np.shape(np.asarray(value)), "one row for each name")
        return frozen(name, np.zeros((N, 0)) if value is None else value, (N, width))

    def _columns(self, name: str) -> int:
        value = getattr(self, name)
        if value is None:
            return 0
        if np.ndim(value) != 2:
            refuse("must be (T, columns)", name, np.shape(value), "one column for each group")
        return int(np.shape(value)[1])

    @property
    def slices(self) -> int:
        """T."""
        return int(self.eta.shape[0])

    @property
    def names(self) -> int:
        """N."""
        return int(self.eta.shape[1])

    @property
    def modes(self) -> int:
        """M."""
        return int(self.decays.shape[0])

    @property
    def hard(self) -> NDArray[np.bool_]:
        """(N,) where the end is an equation and not a price."""
        return np.isinf(self.terminal_weight)

    @property
    def energy(self) -> Array:
        """(M, T) weights of ½ z_t'Kz_t in the convex form of the impact cost: 1 − ρ²_{t+1}, and 1 at the end."""
        return np.hstack([1.0 - self.decays[:, 1:] ** 2, np.ones((self.modes, 1))])

    @property
    def name_size(self) -> Array:
        """(N,) size of a name's trades: the larger of |q_0| and |target|; where both are 0, the largest of the others.

        A basket without anything to trade is measured by its largest finite bound, or 1.
        """
        own = np.maximum(np.abs(self.start), np.abs(self.target))
        largest = float(own.max())
        if largest == 0.0:
            bound = np.maximum(np.abs(self.lower), np.abs(self.upper))
            largest = float(np.max(bound, where=np.isfinite(bound), initial=0.0)) or 1.0
        return np.where(own > 0.0, own, largest)

    def take(self, order: NDArray[np.intp]) -> FactorSchedule:
        """Return the same problem with its names in another order; nothing is checked again."""
        out = copy.copy(self)
        last = ("start", "impact_own", "impact_state", "risk_own", "terminal_weight", "target", "groups", "previous")
        for name in (*last, "eta", "spread", "linear", "lower", "upper", "change"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(out, name, _still(np.take(value, order, axis=-1)))
        for name in ("risk_loadings", "band_vectors"):
            object.__setattr__(out, name, _still(getattr(self, name)[order]))
        object.__setattr__(out, "impact_loadings", tuple(_still(L[order]) for L in self.impact_loadings))
        return out

    def remaining(self, u: Array) -> Array:
        """q_1 … q_T (T, N) after trades u (T, N)."""
        out: Array = np.cumsum(u, axis=0)
        return np.subtract(self.start, out, out=out)

    def states(self, u: Array, m: int) -> Array:
        """z^m_0 … z^m_{T−1} (T, N) after trades u (T, N)."""
        out: Array = np.empty(u.shape)
        last = self.impact_state[m]
        for t in range(len(u)):
            last = np.add(self.decays[m, t] * last, u[t], out=out[t])
        return out

    def parts(self, u: Array) -> dict[str, float]:
        """Return the cost of trades u (T, N) by part; the parts sum to the objective.

        Impact is summed in its convex form, ½ Σ_t e_mt z_t'K_m z_t less what earlier trades have paid for.
        """
        impact = 0.0
        for m, L in enumerate(self.impact_loadings):
            z, own, past = self.states(u, m), self.impact_own[m], self.impact_state[m] * self.decays[m, 0]
            impact += 0.5 * float(self.energy[m] @ (np.square(z) @ own + np.square(z @ L).sum(axis=1)))
            impact -= 0.5 * float(np.square(past) @ own + np.square(past @ L).sum())
        q = self.remaining(u)
        soft = np.where(self.hard, 0.0, self.terminal_weight)
        return {
            "temporary": float(np.sum(self.eta * np.square(u))),
            "spread": float(np.sum(self.spread * np.abs(u))),
            "linear": float(np.sum(self.linear * u)),
            "impact": impact,
            "risk": float(self.risk_weight @ (np.square(q) @ self.risk_own + np.square(q @ self.risk_loadings).sum(1))),
            "terminal": float(soft @ np.square(q[-1] - self.target)),
        }

    def objective(self, u: Array) -> float:
        """Cost of trades u (T, N)."""
        return sum(self.parts(u).values())

    def scale(self, u: Array) -> float:
        """Sum of the absolute parts of the cost: what a gap is measured by.

        Equal to the objective where no part is a gain; where gains and costs cancel, it does not vanish as their sum
        does, and unlike 1 + |objective| it does not depend on the unit of account.
        """
        return max(sum(abs(part) for part in self.parts(u).values()), _TINY)

    def gradient(self, u: Array) -> Array:
        """Gradient (T, N) of all of the cost but c|u|."""
        out = 2.0 * self.eta * u + self.linear
        for m, L in enumerate(self.impact_loadings):
            z = self.states(u, m)
            z *= self.energy[m][:, None]
            pull = z * self.impact_own[m] + (z @ L) @ L.T
            for t in range(len(u) - 2, -1, -1):
                pull[t] += self.decays[m, t + 1] * pull[t + 1]
            out += pull
        q = self.remaining(u)
        end = np.where(self.hard, 0.0, self.terminal_weight) * (q[-1] - self.target)
        q *= self.risk_weight[:, None]
        push = q * self.risk_own + (q @ self.risk_loadings) @ self.risk_loadings.T
        push[-1] += end
        out -= 2.0 * np.cumsum(push[::-1], axis=0)[::-1]
        return np.asarray(out)

    def group_sums(self, u: Array) -> Array:
        """Σ_{i∈g} |u_ti|, (T, G)."""
        out = np.zeros((self.slices, self.group_caps.shape[1]))
        for g in range(out.shape[1]):
            out[:, g] = np.abs(u[:, self.groups == g]).sum(axis=1)
        return out

    def violations(self, u: Array) -> ScheduleViolations:
        """Measure trades u (T, N) against every limit, each relative to its size; NaN trades are infinitely far."""
        return measured(self, u)
