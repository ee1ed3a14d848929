"""The model of a receding-horizon program: what stays the same from step to step, checked once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.errors import InvalidInput

__all__ = ["Array", "MpcModel"]

Array = NDArray[np.float64]
_ARRAYS = ("temporary", "exposure", "covariance", "risk_weight", "terminal_weight", "impact_loadings", "decays")
_LEAST_DECAY = 1e-6


def _refuse(message: str, name: str, value: object, remedy: str) -> NoReturn:
    raise InvalidInput(message, field=name, value=value, remedy=remedy)


def _array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Return a read-only float64 copy in C order that was broadcast to ``shape``."""
    try:
        given = np.asarray(value, dtype=np.float64)
        out = np.array(np.broadcast_to(given, shape), dtype=np.float64, order="C")
    except (TypeError, ValueError):
        raise InvalidInput(
            f"does not fit the shape {shape}", field=name, value=np.shape(value), remedy="give numbers of that shape"
        ) from None
    if not np.isfinite(out).all():
        _refuse("must be finite", name, out[~np.isfinite(out)][0], "remove NaN and infinities")
    out.setflags(write=False)
    return out


def _semidefinite(name: str, matrix: Array) -> None:
    size = float(np.abs(matrix).max(initial=0.0))
    if float(np.abs(matrix - matrix.T).max(initial=0.0)) > 1e-12 * size:
        _refuse("must be symmetric", name, "A − A' ≠ 0", "use (A + A') / 2")
    least = float(np.linalg.eigvalsh(matrix).min())
    if least < -1e-10 * size:
        _refuse("must be positive semidefinite", name, least, "clip its negative eigenvalues")


def _unset() -> Any:
    return None


@dataclass(frozen=True, eq=False)
class MpcModel:
    """Trades h (H, m) of m instruments that steer k exposures over H slices, with M decaying impact modes.

        G_{t+1} = G_t + w_t − E h_t,    z_{j,t+1} = ρ_j (z_{j,t} + L_j'h_t),    K_j = L_j L_j'

        min  Σ_t [ c_t'|h_t| + h_t'Λh_t + a_t'h_t + Σ_j ( (L_j z_{j,t})'h_t + ½ h_t'K_j h_t )
                   + γ_t G_{t+1}'Σ G_{t+1} + g_t'G_{t+1} + ψ_t(G_{t+1}) ] + G_H' diag(η) G_H
        s.t. |h_t| ≤ cap_t,   |h_t − h_{t−1}| ≤ δ,      ψ(G) = p (|G| − Gmax)₊ + ½ p₂ (|G| − Gmax)₊²

    The model holds Λ, E, Σ, γ, η, L and ρ; the rest comes with each step (:meth:`MpcSolver.step`). The impact part
    charges a trade for what earlier trades left and for half of its own move; it is convex for every L and ρ, since
    over the horizon it equals ½ Σ (ρ⁻² − 1)|z_t|² + ½ ρ⁻²|z_H|² − ½|z_0|².

    Parameters
    ----------
    horizon
        H, slices that one step looks ahead.
    temporary
        Λ (m, m), symmetric PSD, cost per trade²; its shape gives m. A vector is taken as the diagonal.
    exposure
        E (k, m), what one unit of each instrument takes off each exposure; the identity by default.
    covariance
        Σ (k, k), symmetric PSD; zero by default.
    risk_weight
        γ ≥ 0, (H,) or one number.
    terminal_weight
        η ≥ 0, (k,) or one number: the charge on what is left in the end.
    impact_loadings
        L (M, m, m) or a single (m, m); none by default.
    decays
        ρ (M,) in [1e-6, 1], by slice.
    unit
        A usual trade, > 0. Work is scaled by the power of two below it, so that the same problem in other units is the
        same to the last bit where both units are powers of two apart.

    Raises
    ------
    InvalidInput
        On shapes that do not fit, numbers that are not finite, matrices that are not symmetric PSD, weights below zero,
        decays out of range.

    Examples
    --------
    >>> model = MpcModel(20, [[0.1]], covariance=[[1.0]], risk_weight=0.05, terminal_weight=1.0)
    >>> model.instruments, model.exposures, model.modes
    (1, 1, 0)
    """

    horizon: int
    temporary: Array
    exposure: Array = field(default_factory=_unset)
    covariance: Array = field(default_factory=_unset)
    risk_weight: Array = field(default_factory=_unset)
    terminal_weight: Array = field(default_factory=_unset)
    impact_loadings: Array = field(default_factory=_unset)
    decays: Array = field(default_factory=_unset)
    unit: float = 1.0

    def __post_init__(self) -> None:
        def put(name: str, value: Any, shape: tuple[int, ...]) -> Array:
            out = _array(name, value, shape)
            object.__setattr__(self, name, out)
            return out

        if not isinstance(self.horizon, (int, np.integer)) or isinstance(self.horizon, bool) or self.horizon < 1:
            _refuse("must be a whole number from 1", "horizon", self.horizon, "give the slices to look ahead")
        object.__setattr__(self, "horizon", int(self.horizon))
        given = np.asarray(self.temporary)
        if given.ndim == 1:
            given = np.diag(given)
        m = given.shape[0] if given.ndim == 2 else 0
        if m == 0:
            _refuse("must be (m, m) or (m,), m ≥ 1", "temporary", given.shape, "its shape gives the instruments")
        _semidefinite("temporary", put("temporary", given, (m, m)))
        E = np.eye(m) if self.exposure is None else np.asarray(self.exposure)
        k = E.shape[0] if E.ndim == 2 else 0
        if k == 0:
            _refuse("must be (k, m), k ≥ 1", "exposure", E.shape, "give one row for each exposure")
        put("exposure", E, (k, m))
        _semidefinite("covariance", put("covariance", 0.0 if self.covariance is None else self.covariance, (k, k)))
        for name, size in (("risk_weight", self.horizon), ("terminal_weight", k)):
            given = getattr(self, name)
            out = put(name, 0.0 if given is None else given, (size,))
            if out.min() < 0.0:
                _refuse("must not be negative", name, float(out.min()), "give weights from 0")
        decays = np.zeros(0) if self.decays is None else np.atleast_1d(np.asarray(self.decays))
        L = np.zeros((0, m, m)) if self.impact_loadings is None else np.asarray(self.impact_loadings)
        M = decays.shape[0] if decays.ndim == 1 else -1
        if M == 1 and L.ndim == 2:
            L = L[None]
        if L.ndim != 3 or len(L) != M:
            _refuse("must hold one (m, m) matrix for each decay", "impact_loadings", L.shape, f"give ({M}, {m}, {m})")
        put("impact_loadings", L, (M, m, m))
        rho = put("decays", decays, (M,))
        if M and not (rho.min() >= _LEAST_DECAY and rho.max() <= 1.0):
            remedy = "put what is gone within a slice into `temporary`: ½ L L'"
            _refuse(f"must lie in [{_LEAST_DECAY:g}, 1]", "decays", rho.tolist(), remedy)
        if not (isinstance(self.unit, (int, float, np.floating)) and 0.0 < float(self.unit) < np.inf):
            _refuse("must be positive and finite", "unit", self.unit, "give the size of a usual trade")
        object.__setattr__(self, "unit", float(self.unit))

    @property
    def instruments(self) -> int:
        """Number m of instruments."""
        return int(self.temporary.shape[0])

    @property
    def exposures(self) -> int:
        """Number k of exposures."""
        return int(self.exposure.shape[0])

    @property
    def modes(self) -> int:
        """Number M of impact modes."""
        return int(self.decays.shape[0])

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """(m, k, M, H)."""
        return self.instruments, self.exposures, self.modes, self.horizon

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name, each of its full shape."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def save(self, path: str | Path) -> Path:
        """Write the model as JSON, every number to the last bit, and return the path."""
        target = Path(path)
        body = {"horizon": self.horizon, "unit": self.unit} | {n: a.tolist() for n, a in self.arrays().items()}
        target.write_text(json.dumps(body, indent=1), encoding="utf-8")
        return target

    @classmethod
    def load(cls, path: str | Path) -> MpcModel:
        """Read a model that :meth:`save` wrote.

        Raises
        ------
        InvalidInput
            When the file is missing, is no JSON, lacks a field, has an unknown one, or holds no sound model.
        """
        remedy = "give a file that MpcModel.save wrote"
        try:
            body = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as err:
            raise InvalidInput("cannot be read as JSON", field="model", value=str(path), remedy=remedy) from err
        known = {f.name for f in fields(cls)}
        if not isinstance(body, dict) or set(body) - known or not {"horizon", "temporary"} <= set(body):
            raise InvalidInput("does not hold the fields of a model", field="model", value=str(path), remedy=remedy)
        # No modes: the nested lists are empty and have lost their shape.
        if not body.get("decays"):
            body.pop("decays", None), body.pop("impact_loadings", None)
        return cls(**body)
