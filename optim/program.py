"""The multistage program: baskets, hedge timing and rolls are all this one convex program.

Instruments j = 1..n are traded by signed trades u_t, t = 0..T−1. With the incidence S (P, n), exposures B (k, P) and
known levels w:

    p_{t+1} = p_t + S u_t,   e_t = B p_t + w_t,   z^m_t = ρ_{m,t} z^m_{t−1} + v^m_t,   ρ_{m,t} = exp(−β_m Δ_t)

    cost = Σ_t [ c_t'|u_t| + u_t' diag(η_t) u_t + κ_t'|u_t|^{3/2} + a_t'u_t + b_t'p_{t+1} ]
         + λ Σ_{t=1..T} w_t e_t'Σ_t e_t + Σ_i weight_i (p_{T,i} − target_i)² + soft limits
         + Σ_m Σ_t ( v^m_t'K_m ρ_{m,t} z^m_{t−1} + ½ v^m_t'K_m v^m_t ),   v^m_t = φ_{m,t} u_t (φ = 1 but in auctions)

subject to the named limits. Positive cost is money lost; buying is positive.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crosswind.optim.checks import FloatArray, check_psd, finite_array, finite_scalar, frozen, unique_names
from crosswind.optim.factored import FactorMatrix, FactorRisk, check_size, dense_of, same_matrix
from crosswind.optim.limits import Limit, Shape
from crosswind.solvers.errors import InvalidInput

__all__ = ["FactorRisk", "ImpactMode", "MultistageProgram", "Terminal", "same_matrices"]


def _unset() -> FloatArray:
    """Return the marker of an argument that was not given; it is replaced by the documented default."""
    return np.empty(0)


@dataclass(frozen=True, eq=False)
class ImpactMode:
    """One decaying mode of impact, K e^{−β h}.

    Parameters
    ----------
    rate_per_s
        β ≥ 0, 1/s; 0 is permanent impact.
    matrix
        K (n, n), return per unit of trade, symmetric PSD, so that u'Ku is currency; or a :class:`FactorMatrix`.
    state
        z_{−1} (n,): impact state left by earlier trades, in trade units, decayed by ``dt_s[0]`` before the first trade;
        default 0.
    share
        φ (T,) or a scalar, ≥ 0: the part of trade t that enters the mode and that meets it; default 1. An auction that
        clears beside the book has 0. Any φ keeps the cost convex, since it only rescales trades.

    Raises
    ------
    InvalidInput
        Negative rate, asymmetric or indefinite matrix (the message carries the smallest eigenvalue), wrong shape.
    """

    rate_per_s: float
    matrix: Any  # FloatArray or FactorMatrix: a union would ask a cast of every caller that knows its own form
    state: FloatArray = field(default_factory=_unset)
    share: FloatArray | float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate_per_s", finite_scalar("impact.rate_per_s", self.rate_per_s, minimum=0.0))
        matrix = self.matrix
        if not isinstance(matrix, FactorMatrix):
            matrix = check_psd("impact.matrix", finite_array("impact.matrix", matrix, ndim=2))
        state = np.zeros(len(matrix)) if np.size(self.state) == 0 else self.state
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "state", finite_array("impact.state", state, (len(matrix),)))
        object.__setattr__(self, "share", finite_array("impact.share", self.share, minimum=0.0))

    @property
    def empty(self) -> bool:
        """Whether the mode moves nothing."""
        if isinstance(self.matrix, FactorMatrix):
            return not (self.matrix.loadings.any() or self.matrix.specific.any())
        return not self.matrix.any()


@dataclass(frozen=True, eq=False)
class Terminal:
    """What must hold, or what it costs, at the end: p_T = target, or Σ weight_i (p_{T,i} − target_i)².

    Parameters
    ----------
    target
        (P,), position unit.
    weight
        inf (hard), or ≥ 0 in currency per unit²; a scalar or one per position, mixed as needed; 0 leaves a position
        free.
    """

    target: FloatArray
    weight: FloatArray | float = np.inf

    def shaped(self, positions: int) -> Terminal:
        """Return the terminal condition with arrays checked and broadcast to ``positions``."""
        return Terminal(
            finite_array("terminal.target", self.target, (positions,)),
            finite_array("terminal.weight", self.weight, (positions,), minimum=0.0, allow_inf=True),
        )

    @property
    def hard(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Mask (P,) of the positions whose target is a constraint."""
        return np.asarray(np.isinf(np.broadcast_to(np.asarray(self.weight), np.shape(self.target))))

    @property
    def penalty(self) -> FloatArray:
        """Finite weights (P,), 0 where the target is hard."""
        weights = np.broadcast_to(np.asarray(self.weight, dtype=np.float64), np.shape(self.target))
        return np.where(np.isinf(weights), 0.0, weights)


@dataclass(frozen=True, eq=False)
class MultistageProgram:
    """Data of one multistage execution program (formula in the module's docstring).

    Parameters
    ----------
    instruments
        n distinct names.
    dt_s
        (T,) ≥ 0: seconds between trade t−1 and trade t; ``dt_s[0]`` decays the initial impact states.
    p0
        (P,) starting positions, currency notional unless the caller uses another unit throughout.
    positions
        P distinct names; default the instruments.
    incidence
        S (P, n): what one unit of an instrument adds to each position (stock 1; listed calendar spread −1 near, +1
        far). Default the identity.
    exposure
        B (k, P); default the identity.
    exposure_level
        w (T+1, k), known part of the exposure at t = 0..T; default 0.
    spread
        c (T, n) ≥ 0, cost per unit of |u| (half-spread and fees, relative); default 0.
    temporary
        η (T, n) ≥ 0, cost η u², 1/currency; default 0.
    three_halves
        κ (T, n) ≥ 0, cost κ|u|^{3/2}, 1/√currency (square-root impact); default 0.
    drift
        a (T, n), linear cost per signed unit (a forecast move against the trade is positive); default 0.
    impact
        Modes of :class:`ImpactMode`, each (n, n).
    covariance
        None, (k, k), (T, k, k) for t = 1..T, or :class:`FactorMatrix`: return covariance per slice.
    risk_weight
        w (T,) ≥ 0 on e_1..e_T: how long, in slices, the exposure after trade t−1 is held; default 1.
    risk_aversion
        λ ≥ 0, 1/currency; the risk term is λ Σ e'Σe, without a factor ½.
    holding
        b (T, P), cost per unit of p_{t+1} (carry, funding, alpha of what is held); default 0.
    terminal
        None (free end) or :class:`Terminal`.
    limits
        Limits with distinct names.

    Raises
    ------
    InvalidInput
        NaN, wrong shapes, negative spread, temporary coefficient or risk aversion, indefinite covariance or impact,
        duplicate names. Nothing is built then.
    """

    instruments: tuple[str, ...]
    dt_s: FloatArray
    p0: FloatArray
    positions: tuple[str, ...] = ()
    incidence: FloatArray = field(default_factory=_unset)
    exposure: FloatArray = field(default_factory=_unset)
    exposure_level: FloatArray = field(default_factory=_unset)
    spread: FloatArray = field(default_factory=_unset)
    temporary: FloatArray = field(default_factory=_unset)
    drift: FloatArray = field(default_factory=_unset)
    impact: tuple[ImpactMode, ...] = ()
    covariance: FloatArray | FactorMatrix | None = None
    risk_aversion: float = 0.0
    holding: FloatArray = field(default_factory=_unset)
    terminal: Terminal | None = None
    limits: tuple[Limit, ...] = ()
    three_halves: FloatArray = field(default_factory=_unset)
    risk_weight: FloatArray = field(default_factory=_unset)

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        def grid(name: str, shape: tuple[int, ...], minimum: float | None = None) -> None:
            value = getattr(self, name)
            put(name, finite_array(name, 0.0 if np.size(value) == 0 else value, shape, minimum=minimum))

        put("instruments", unique_names("instruments", self.instruments))
        put("positions", unique_names("positions", self.positions or self.instruments))
        n, P = len(self.instruments), len(self.positions)
        put("dt_s", finite_array("dt_s", self.dt_s, minimum=0.0, ndim=1))
        T = len(self.dt_s)
        if T == 0:
            raise InvalidInput("holds no slice", field="dt_s", value=0, remedy="pass at least one slice")
        put("p0", finite_array("p0", self.p0, (P,)))
        put("incidence", self._identity("incidence", P, n))
        k = P if np.size(self.exposure) == 0 else np.shape(self.exposure)[0]
        put("exposure", self._identity("exposure", k, P))
        grid("exposure_level", (T + 1, k))
        grid("spread", (T, n), 0.0)
        grid("temporary", (T, n), 0.0)
        grid("three_halves", (T, n), 0.0)
        grid("drift", (T, n))
        grid("holding", (T, P))
        put("impact", tuple(self.impact))
        for m, mode in enumerate(self.impact):
            check_size(f"impact[{m}].matrix", mode.matrix, n)
            if np.size(mode.share) not in (1, T):
                raise InvalidInput(
                    f"holds {np.size(mode.share)} shares for {T} slices",
                    field=f"impact[{m}].share",
                    value=np.size(mode.share),
                    remedy="pass one per slice, or a scalar",
                )
        if float(finite_array("risk_aversion", self.risk_aversion, ())) < 0.0:
            raise InvalidInput(
                "must not be negative: the program would not be convex",
                field="risk_aversion",
                value=float(self.risk_aversion),
                remedy="use closed_forms.almgren_chriss for the risk-seeking closed form",
            )
        put("risk_aversion", float(self.risk_aversion))
        put("covariance", self._covariance(T, k))
        weight = 1.0 if np.size(self.risk_weight) == 0 else self.risk_weight
        put("risk_weight", finite_array("risk_weight", weight, (T,), minimum=0.0))
        put("terminal", None if self.terminal is None else self.terminal.shaped(P))
        put("limits", self._limits(Shape(T, n, P, k)))

    def _identity(self, name: str, rows: int, columns: int) -> FloatArray:
        value = getattr(self, name)
        if np.size(value) == 0 and np.ndim(value) < 2:
            if rows != columns:
                raise InvalidInput(
                    f"must be given when it is not square ({rows} × {columns})", field=name, remedy="pass the matrix"
                )
            return frozen(np.eye(rows))
        matrix = finite_array(name, value, ndim=2)
        return (
            finite_array(name, matrix, (rows, columns))
            if matrix.shape == (rows, columns)
            else self._refuse(name, matrix.shape, (rows, columns))
        )

    @staticmethod
    def _refuse(name: str, got: tuple[int, ...], needed: tuple[int, ...]) -> FloatArray:
        raise InvalidInput(f"has shape {got} where {needed} is needed", field=name, value=got, remedy="check the order")

    def _covariance(self, T: int, k: int) -> FloatArray | FactorMatrix | None:
        value = self.covariance
        if value is None:
            return None
        if isinstance(value, FactorMatrix):
            if len(value.specific) != k:
                self._refuse("covariance.loadings", value.loadings.shape, (k, value.loadings.shape[1]))
            return value
        array = finite_array("covariance", value)
        if array.shape == (k, k):
            return check_psd("covariance", array)
        if array.shape == (T, k, k):
            return frozen(np.stack([check_psd(f"covariance[{t}]", array[t]) for t in range(T)]))
        return self._refuse("covariance", array.shape, (k, k))

    def _limits(self, shape: Shape) -> tuple[Limit, ...]:
        seen: set[str] = set()
        for limit in self.limits:
            if not limit.name or limit.name == "completion" or limit.name in seen:
                raise InvalidInput(
                    "is empty, reserved or used twice", field="limits.name", value=limit.name, remedy="rename the limit"
                )
            seen.add(limit.name)
        return tuple(limit.shaped(shape) for limit in self.limits)

    @property
    def slices(self) -> int:
        """Number of slices T."""
        return len(self.dt_s)

    @property
    def decays(self) -> FloatArray:
        """ρ (M, T): decay of each mode over ``dt_s[t]``, just before trade t."""
        rates = np.array([mode.rate_per_s for mode in self.impact])
        return np.asarray(np.exp(-np.outer(rates, self.dt_s)), dtype=np.float64)

    @property
    def shares(self) -> FloatArray:
        """φ (M, T): the part of each trade that enters and meets each mode."""
        rows = [
            np.broadcast_to(np.asarray(mode.share, dtype=np.float64).reshape(-1), (self.slices,))
            for mode in self.impact
        ]
        return np.asarray(rows, dtype=np.float64).reshape(len(self.impact), self.slices)

    def index(self, names: Iterable[str]) -> list[int]:
        """Return the columns of instruments ``names``, or raise InvalidInput for one that is unknown."""
        where = {name: j for j, name in enumerate(self.instruments)}
        result = []
        for name in names:
            if name not in where:
                raise InvalidInput(
                    "is not an instrument of the program",
                    field="instruments",
                    value=name,
                    remedy=f"use one of {', '.join(self.instruments[:8])}",
                )
            result.append(where[name])
        return result

    def covariance_at(self, t: int) -> FloatArray:
        """Return Σ_t (k, k) dense, t = 1..T; zeros where the program has no covariance."""
        if self.covariance is None:
            return np.zeros((len(self.exposure), len(self.exposure)))
        if isinstance(self.covariance, FactorMatrix):
            return dense_of(self.covariance)
        return self.covariance if self.covariance.ndim == 2 else self.covariance[t - 1]


def same_matrices(one: MultistageProgram, other: MultistageProgram) -> bool:
    """Return whether two programs differ in vectors alone, so that their lowered P and A are the same.

    Vectors are p0, exposure_level, spread, drift, holding, the impact states, the terminal target, and of the limits
    the bounds and the linear part of a soft penalty; everything else enters a matrix.
    """
    if (one.instruments, one.positions) != (other.instruments, other.positions):
        return False
    if one.risk_aversion != other.risk_aversion or len(one.impact) != len(other.impact):
        return False
    if len(one.limits) != len(other.limits) or (one.terminal is None) != (other.terminal is None):
        return False
    pairs: list[tuple[Any, Any]] = [(one.covariance, other.covariance)]
    pairs += [(getattr(one, name), getattr(other, name)) for name in ("dt_s", "incidence", "exposure", "temporary")]
    pairs += [(getattr(one, name), getattr(other, name)) for name in ("three_halves", "risk_weight", "shares")]
    for mode, twin in zip(one.impact, other.impact, strict=True):
        pairs += [(mode.rate_per_s, twin.rate_per_s), (mode.matrix, twin.matrix)]
    if one.terminal is not None and other.terminal is not None:
        pairs.append((one.terminal.weight, other.terminal.weight))
    for limit, twin_limit in zip(one.limits, other.limits, strict=True):
        if type(limit) is not type(twin_limit) or limit.name != twin_limit.name:
            return False
        for name in ("matrix", "membership", "on"):
            pairs.append((getattr(limit, name, None), getattr(twin_limit, name, None)))
        soft, twin_soft = getattr(limit, "soft", None), getattr(twin_limit, "soft", None)
        pairs.append((getattr(soft, "quadratic", None), getattr(twin_soft, "quadratic", None)))
    return all(_same(a, b) for a, b in pairs)


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, FactorMatrix) or isinstance(b, FactorMatrix):
        return same_matrix(a, b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(np.asarray(a), np.asarray(b))
    return bool(a == b)
