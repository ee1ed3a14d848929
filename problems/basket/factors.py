"""Impact and risk of thousands of names as a diagonal and a few factors: no N × N matrix is ever made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.optim.factored import FactorMatrix
from crosswind.problems.basket.inputs import FloatArray, covariance_matrix, name_frame, per_name
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.optim.program import ImpactMode
    from crosswind.problems.impact.model import ImpactModel

__all__ = ["FactorCovariance", "FactorImpact", "project"]


@dataclass(frozen=True, eq=False)
class FactorImpact:
    """Exponential cross-impact with K_m = diag(k_m) + L_m L_m', symmetric and PSD by construction.

    The expected cost of a schedule is Σ_m ½ Σ_{s,t} e^{−β_m |t−s|} u_s' K_m u_t [currency].

    Parameters
    ----------
    names
        The N names, in the order of the rows.
    rates_per_s
        β_m ≥ 0, (M,) [1/s]; 0 is permanent.
    own
        k_m (M, N) ≥ 0 [return per currency]: self-impact beyond the factors.
    loadings
        M arrays L_m (N, r_m) [square root of return per currency]; r_m may be 0.

    Raises
    ------
    InvalidInput
        On repeated names, mixed shapes, NaN, negative rates or own impact.
    """

    names: tuple[str, ...]
    rates_per_s: FloatArray
    own: FloatArray
    loadings: tuple[FloatArray, ...]

    def __post_init__(self) -> None:
        put = object.__setattr__
        names = tuple(str(n) for n in self.names)
        rates = np.array(self.rates_per_s, dtype=np.float64, ndmin=1)
        own = np.array(self.own, dtype=np.float64)
        loadings = tuple(np.array(part, dtype=np.float64) for part in self.loadings)
        N, M = len(names), rates.size
        if N == 0 or len(set(names)) != N:
            raise InvalidInput("names must be given and differ", field="names", value=len(names), remedy="rename them")
        if own.shape != (M, N) or len(loadings) != M or any(p.ndim != 2 or len(p) != N for p in loadings):
            raise InvalidInput(
                f"own must be ({M}, {N}) and loadings {M} arrays of {N} rows",
                field="loadings",
                value=[own.shape, *(p.shape for p in loadings)],
                remedy="one row per name, one array per rate",
            )
        for label, values in (("rates_per_s", rates), ("own", own)):
            if not np.isfinite(values).all() or (values < 0.0).any():
                raise InvalidInput("must be finite and >= 0", field=label, value=float(values.min()), remedy="check it")
        if not all(np.isfinite(part).all() for part in loadings):
            raise InvalidInput("must be finite", field="loadings", value="NaN or inf", remedy="refit the factors")
        for array in (rates, own, *loadings):
            array.setflags(write=False)
        for label, value in (("names", names), ("rates_per_s", rates), ("own", own), ("loadings", loadings)):
            put(self, label, value)

    def modes(self) -> tuple[ImpactMode, ...]:
        """Return the modes of the multistage program, factorised."""
        from crosswind.optim.program import ImpactMode

        return tuple(
            ImpactMode(float(rate), FactorMatrix(part, k))
            for rate, k, part in zip(self.rates_per_s, self.own, self.loadings, strict=True)
        )

    def subset(self, names: Iterable[object]) -> FactorImpact:
        """Return the model of some names in the given order.

        Raises
        ------
        DataGap
            A name is unknown to the model.
        """
        wanted = tuple(str(n) for n in names)
        if wanted == self.names:
            return self
        known = {name: i for i, name in enumerate(self.names)}
        missing = [n for n in wanted if n not in known]
        if missing:
            raise DataGap("the model does not know these names", field="names", value=missing, remedy="refit with them")
        where = [known[n] for n in wanted]
        return FactorImpact(wanted, self.rates_per_s, self.own[:, where], tuple(p[where] for p in self.loadings))

    def diagonal(self) -> FactorImpact:
        """Return the same self-impact with every cross term set to zero."""
        own = self.own + np.stack([(part**2).sum(axis=1) for part in self.loadings])
        return FactorImpact(self.names, self.rates_per_s, own, tuple(part[:, :0] for part in self.loadings))

    def to_model(self, bucket_s: float = 60.0) -> ImpactModel:
        """Return the dense :class:`ImpactModel` (M, N, N), for small N and for everything that wants one."""
        from crosswind.problems.impact.model import ImpactModel

        dense = np.stack([mode.matrix.dense() for mode in self.modes()])
        return ImpactModel(self.names, self.rates_per_s, dense, "exponential", bucket_s)

    @classmethod
    def approximate(cls, model: ImpactModel, rank: int, rounds: int = 50) -> FactorImpact:
        """Return the factor form of ``model`` with ``rank`` factors per mode: diagonals kept exactly, the rest nearly.

        Principal-factor iteration on K scaled to unit diagonal, so that an illiquid name counts like a liquid one.

        Parameters
        ----------
        model
            A model with Markov modes.
        rank
            Factors per mode, 0 to N.
        rounds
            Iterations of the communalities.

        Raises
        ------
        InvalidInput
            The rank is out of range, or the model has no modes to schedule on.
        """
        n = len(model.names)
        if not 0 <= int(rank) <= n:
            raise InvalidInput(f"must lie between 0 and {n}", field="rank", value=rank, remedy="a few, say 5")
        own, loadings = [], []
        for mode in model.modes():
            K = np.asarray(mode.matrix)
            size = np.sqrt(np.maximum(np.diag(K), 0.0))
            C = K * np.outer(*[np.divide(1.0, size, out=np.zeros(n), where=size > 0.0)] * 2)
            unit = np.diag(C).copy()
            rest = np.zeros(n)
            part = np.zeros((n, 0))
            for _ in range(rounds):
                values, vectors = np.linalg.eigh(C - np.diag(rest))
                part = vectors[:, n - int(rank) :] * np.sqrt(np.maximum(values[n - int(rank) :], 0.0))
                # A communality above one would ask for negative own impact: the row is scaled back to its diagonal.
                heavy = np.sqrt(np.maximum((part**2).sum(axis=1) / np.maximum(unit, 1e-300), 1.0))
                part = part / heavy[:, None]
                rest = np.maximum(unit - (part**2).sum(axis=1), 0.0)
            own.append(rest * size**2)
            loadings.append(part * size[:, None])
        return cls(model.names, model.rates_per_s, np.stack(own), tuple(loadings))


@dataclass(frozen=True, eq=False)
class FactorCovariance:
    """Covariance of relative returns per second, Σ = B C B' + diag(d).

    Parameters
    ----------
    loadings
        B, frame names × factors.
    factors
        C, square frame factors × factors, PSD [1/s].
    specific
        d ≥ 0, Series by name [1/s].

    Raises
    ------
    InvalidInput
        When C is not square, symmetric and PSD.
    """

    loadings: pd.DataFrame
    factors: pd.DataFrame
    specific: pd.Series

    def __post_init__(self) -> None:
        if not isinstance(self.loadings, pd.DataFrame) or not isinstance(self.specific, pd.Series):
            raise InvalidInput(
                "needs a frame of loadings and a Series of specific variances",
                field="covariance",
                value=(type(self.loadings).__name__, type(self.specific).__name__),
                remedy="FactorCovariance(loadings, factors, specific)",
            )
        covariance_matrix(self.factors, tuple(str(c) for c in self.loadings.columns), "covariance.factors")

    def aligned(self, names: Sequence[str], slice_s: float) -> FactorMatrix:
        """Return F F' + diag(d) per slice in the order of ``names``.

        Raises
        ------
        InvalidInput
            On names without loadings or specific variance, NaN, or negative variances.
        """
        columns = tuple(str(c) for c in self.loadings.columns)
        B = name_frame(self.loadings, tuple(names), columns, "covariance.loadings")
        C = covariance_matrix(self.factors, columns, "covariance.factors")
        values, vectors = np.linalg.eigh(C)
        root = vectors * np.sqrt(np.maximum(values, 0.0) * slice_s)
        return FactorMatrix(B @ root, slice_s * per_name(self.specific, tuple(names), "covariance.specific"))


def aligned_factors(value: object, names: tuple[str, ...], slice_s: float) -> FactorMatrix | None:
    """Return a factor covariance per slice from any of the accepted forms, or None when ``value`` is none of them."""
    if isinstance(value, tuple) and len(value) == 3:
        value = FactorCovariance(*value)
    if isinstance(value, FactorCovariance):
        return value.aligned(names, slice_s)
    if isinstance(value, FactorMatrix):
        if len(value) != len(names):
            raise InvalidInput(
                f"has {len(value)} rows for {len(names)} names (hedges included)",
                field="covariance",
                value=len(value),
                remedy="rows in the order of problem.names; or pass FactorCovariance, which knows its names",
            )
        return FactorMatrix(value.loadings * np.sqrt(slice_s), value.specific * slice_s)
    return None


def project(model: ImpactModel, floor: float = 0.0, corr_bound: float = 1.0) -> ImpactModel:
    """Return the nearest model a schedule may be built on: every K_m symmetric, PSD and free of negative self-impact.

    Distances are relative to the own sizes √(K_ii K_jj) of the immediate impact, so an illiquid name does not pay for a
    liquid one; see :func:`crosswind.solvers.gram.project_admissible`.

    Parameters
    ----------
    model
        Any exponential or instantaneous model.
    floor, corr_bound
        Smallest self-impact K_ii [return per currency] and largest |K_ij| / √(K_ii K_jj).
    """
    from dataclasses import replace

    from crosswind.solvers.gram import project_admissible

    own = np.abs(np.diag(model.immediate)).copy()
    own[own <= 0.0] = max(float(own.max()), np.finfo(np.float64).tiny)
    fixed = project_admissible(model.matrices, floor=floor, corr_bound=corr_bound, scale=np.sqrt(own))
    return replace(model, matrices=fixed.matrices)
