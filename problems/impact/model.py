"""The fitted cross-impact model: matrices K_m and decay shapes φ_m, G_h = Σ_m φ_m(h) K_m."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from crosswind.problems.impact.features import Dictionary, Family
from crosswind.problems.impact.transforms import PowerFlow
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from crosswind.optim.admissibility import Admissibility
    from crosswind.optim.kernels import ExponentialKernel, SampledKernel
    from crosswind.optim.multistage import ImpactMode

__all__ = ["ImpactModel"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImpactModel:
    """Linear transient cross-impact: a unit of currency traded h seconds ago moves the names' returns by G_h.

    G_h = Σ_m φ_m(h) K_m and the expected cost of a schedule is ½ Σ_{s,t} u_s' G_{|t−s|} u_t [currency].

    Parameters
    ----------
    names
        The N names, in the order of the rows and columns.
    rates_per_s
        Decay rates β_m ≥ 0, shape (M,) [1/s]: zeros for a permanent mode; NaN for the families given by lags.
    matrices
        K_m, shape (M, N, N) [return per currency]: entry (i, j) is the move of name i per unit of currency in name j.
        Any finite matrices are held, so that a baseline that breaks the constraints can be shown as it is;
        `modes` refuses what a schedule must not be built on.
    family
        "instantaneous", "exponential", "monotone" or "convex", see `Dictionary`.
    bucket_s
        Bucket length of the fit [s].
    lags
        Lags [buckets] of the monotone and convex families.
    currency
        Currency of the notional.
    transform
        Concave transform of the flow before it acts, or None for linear impact. With one, `predict` of the estimator
        and `impact` per unit of transformed flow remain; what rests on linearity (`modes`, `kernel`, `admissible`) is
        refused, since such a model always admits a round trip that pays.

    Raises
    ------
    InvalidInput
        Mixed shapes, repeated names, non-finite matrices, bad rates or lags.
    """

    names: tuple[str, ...]
    rates_per_s: Array
    matrices: Array
    family: Family = "exponential"
    bucket_s: float = 1.0
    lags: tuple[int, ...] = ()
    currency: str = "USD"
    transform: PowerFlow | None = None

    def __post_init__(self) -> None:
        names = tuple(str(n) for n in self.names)
        rates = np.array(self.rates_per_s, dtype=np.float64, ndmin=1)
        matrices = np.array(self.matrices, dtype=np.float64)
        n = len(names)
        if n == 0 or len(set(names)) != n:
            raise InvalidInput("names must be given and differ", field="names", value=names)
        if rates.ndim != 1 or matrices.shape != (rates.size, n, n):
            raise InvalidInput(
                f"shape must be (M, N, N) = ({rates.size}, {n}, {n})", field="matrices", value=matrices.shape
            )
        if not np.isfinite(matrices).all():
            raise InvalidInput("must be finite", field="matrices", remedy="refit; look at the events for NaN")
        rates.flags.writeable = matrices.flags.writeable = False
        for field, value in (("names", names), ("rates_per_s", rates), ("matrices", matrices)):
            object.__setattr__(self, field, value)
        object.__setattr__(self, "lags", tuple(int(lag) for lag in self.lags))
        if self.dictionary.size != rates.size:
            raise InvalidInput(
                "one matrix per shape is needed", field="matrices", value=f"{rates.size} for {self.dictionary.size}"
            )
        if self.transform is not None and len(self.transform.scale) != n:
            raise InvalidInput("one scale per name is needed", field="transform", value=len(self.transform.scale))

    # -- shape and decay ------------------------------------------------------------------------------------------
    @property
    def dictionary(self) -> Dictionary:
        """The decay shapes φ_m."""
        if self.family == "instantaneous" and np.any(self.rates_per_s != 0):
            raise InvalidInput("an instantaneous model has rate 0", field="rates_per_s", value=self.rates_per_s)
        rates = tuple(float(b) for b in self.rates_per_s) if self.family == "exponential" else ()
        return Dictionary(self.family, float(self.bucket_s), rates, self.lags, self.transform)

    def _insist_linear(self, what: str) -> None:
        if self.transform is not None:
            raise InvalidInput(
                f"impact is a power of the flow, so there is no {what}: with nonlinear impact and a kernel that is "
                "continuous and positive at 0 some round trip always pays (arXiv 2510.06879, Theorem 2.4)",
                field="transform",
                value=f"exponent {self.transform.exponent:g}",
                remedy='fit with transform="linear" for whatever is scheduled',
            )

    @property
    def kernel(self) -> ExponentialKernel | SampledKernel:
        """The decay kernel as `crosswind.optim` takes it: h [s] → G_h (L, N, N).

        The families given by lags are sampled at whole buckets, with G = 0 behind the last lag; between two buckets
        "convex" is interpolated and "monotone" is a step, as their φ are. `impact` is the same function without the
        check that optim makes.

        Raises
        ------
        InvalidInput
            An exponential kernel whose matrices are not symmetric PSD, or a model with a flow transform.
        """
        from crosswind.optim.kernels import ExponentialKernel, SampledKernel

        self._insist_linear("kernel of trades")
        if self.family in ("instantaneous", "exponential"):
            return ExponentialKernel(rates_per_s=self.rates_per_s, matrices=self.matrices)
        lags_s = np.arange(max(self.lags) + 2, dtype=np.float64) * self.bucket_s
        between = "previous" if self.family == "monotone" else "linear"
        return SampledKernel(lags_s, self.impact(lags_s), interpolation=between)

    def impact(self, h_s: ArrayLike) -> Array:
        """G_h at lags h ≥ 0 in seconds, shape (L, N, N) [return per currency]; φ is read between buckets as defined."""
        h = np.atleast_1d(np.asarray(h_s, dtype=np.float64)) / self.bucket_s
        return np.asarray(np.einsum("ml,mij->lij", self.dictionary.phi(h), self.matrices))

    @property
    def immediate(self) -> Array:
        """G_0 = Σ_m φ_m(0) K_m, shape (N, N) [return per currency]."""
        return np.asarray(self.impact(0.0)[0])

    def modes(self) -> tuple[ImpactMode, ...]:
        """Return the Markov modes (β_m, K_m) for the multistage program.

        Raises
        ------
        InvalidInput
            The family is given by lags (it has no finite Markov state), or a matrix is asymmetric or not PSD: a
            schedule optimised on it would chase a round trip that seems to pay; or the flow is transformed.
        """
        from crosswind.optim.multistage import ImpactMode

        self._insist_linear("linear schedule on it")
        if self.family not in ("instantaneous", "exponential"):
            raise InvalidInput(
                "this family has no Markov modes", field="family", value=self.family, remedy='fit kernel="exponential"'
            )
        worst = self.constraint_violations()
        if max(worst["asymmetry"], worst["psd"]) > 1e-9:
            raise InvalidInput(
                "matrices must be symmetric and positive semidefinite to schedule on",
                field="matrices",
                value={k: float(worst[k]) for k in ("asymmetry", "psd")},
                remedy="fit CrossImpact, or use .diagonal()",
            )
        n = len(self.names)
        return tuple(
            ImpactMode(rate_per_s=float(rate), matrix=0.5 * (matrix + matrix.T), state=np.zeros(n))
            for rate, matrix in zip(self.rates_per_s, self.matrices, strict=True)
        )

    # -- parts ----------------------------------------------------------------------------------------------------
    def _with(self, names: Sequence[str], matrices: Array, transform: PowerFlow | None) -> ImpactModel:
        return ImpactModel(
            tuple(names), self.rates_per_s, matrices, self.family, self.bucket_s, self.lags, self.currency, transform
        )

    def subset(self, names: Sequence[str]) -> ImpactModel:
        """Return the model of some names, in the given order (a principal submatrix keeps every constraint).

        Raises
        ------
        DataGap
            A name is unknown to the model.
        """
        missing = [n for n in names if n not in self.names]
        if missing:
            raise DataGap("the model does not know these names", field="names", value=missing, remedy="refit with them")
        where = [self.names.index(n) for n in names]
        transform = None if self.transform is None else self.transform.subset(where)
        return self._with(names, self.matrices[:, where][:, :, where], transform)

    def diagonal(self) -> ImpactModel:
        """Return the same self-impact with every cross term set to zero: the desk's fallback."""
        return self._with(self.names, self.matrices * np.eye(len(self.names)), self.transform)

    # -- diagnosis ------------------------------------------------------------------------------------------------
    def admissible(
        self, times_s: ArrayLike | None = None, tol: float = 1e-9, horizon_buckets: int = 32
    ) -> Admissibility:
        """Look for a round trip (Σ_t u_t = 0) with negative expected cost.

        Parameters
        ----------
        times_s
            Trade times, shape (T,) [s]; None: ``horizon_buckets`` equidistant buckets.
        tol
            Admissible when the smallest eigenvalue on round trips is ≥ −tol × ‖H‖∞ of the whole block Toeplitz matrix.
        horizon_buckets
            Length of the default grid.

        Raises
        ------
        InvalidInput
            The model has a flow transform: no linear form tells, and some round trip always pays.
        """
        from crosswind.optim.admissibility import check_admissible

        self._insist_linear("linear form to check")
        times = np.arange(horizon_buckets) * self.bucket_s if times_s is None else np.asarray(times_s, dtype=np.float64)
        return check_admissible(self.impact, times, tol=tol)

    def constraint_violations(self, floor: ArrayLike | pd.Series = 0.0, corr_bound: float = 1.0) -> pd.Series:
        """Worst relative violation of each constraint over all K_m; 0 is feasible.

        Parameters
        ----------
        floor
            Smallest allowed K_m,ii: scalar, (N,), or Series by name [return per currency].
        corr_bound
            ρ in |K_ij| ≤ ρ √(K_ii K_jj).

        Returns
        -------
        pd.Series
            "asymmetry" max|K − K'| and "psd" (−λ_min)⁺ relative to the largest diagonal entry after scaling each
            name by its own G_0 (so that a violation in an illiquid name counts like one in a liquid name); "floor"
            (d_i − K_ii)⁺ in the same scale; "correlation" max(|K_ij|/√(K_ii K_jj) − ρ)⁺; "worst" of them all.
        """
        n = len(self.names)
        low = floor.reindex(list(self.names)).to_numpy(float) if isinstance(floor, pd.Series) else np.asarray(floor)
        low = np.broadcast_to(np.asarray(low, dtype=np.float64), (n,))
        own = np.abs(np.diag(self.immediate)).copy()
        own[own == 0] = max(float(own.max()), np.finfo(float).tiny)
        unit = 1.0 / np.sqrt(own)
        worst = dict.fromkeys(("asymmetry", "psd", "floor", "correlation"), 0.0)
        for matrix in self.matrices:
            K = matrix * np.outer(unit, unit)
            size = max(float(np.abs(np.diag(K)).max()), 1e-300)
            sym = 0.5 * (K + K.T)
            worst["asymmetry"] = max(worst["asymmetry"], float(np.abs(K - K.T).max()) / size)
            worst["psd"] = max(worst["psd"], -float(np.linalg.eigvalsh(sym)[0]) / size)
            worst["floor"] = max(worst["floor"], float(np.max(low * unit**2 - np.diag(K))) / size)
            diag = np.maximum(np.diag(K), 0.0)
            bound = np.sqrt(np.outer(diag, diag))
            excess = np.abs(K) - corr_bound * bound
            np.fill_diagonal(excess, 0.0)
            # Where the bound itself vanishes (a floor of 0), the excess is measured against the matrix's own size.
            relative = np.divide(excess, bound, out=excess / size, where=bound > 1e-9 * size)
            worst["correlation"] = max(worst["correlation"], float(relative.max()))
        result = pd.Series(worst, dtype=float).clip(lower=0.0)
        result["worst"] = float(result.max())
        return result.rename("violation")

    @property
    def correlation(self) -> pd.DataFrame:
        """Normalised immediate impact C_ij = G_0,ij/√(G_0,ii G_0,jj), (N, N), without unit."""
        G = self.immediate
        own = np.sqrt(np.maximum(np.diag(G), np.finfo(float).tiny))
        return pd.DataFrame(G / np.outer(own, own), index=list(self.names), columns=list(self.names))

    @property
    def condition_number(self) -> float:
        """λ_max/λ_min of the symmetric part of C (liquidity differences divided out); inf where it is singular."""
        values = np.linalg.eigvalsh(0.5 * (self.correlation.to_numpy() + self.correlation.to_numpy().T))
        return float("inf") if values[0] <= 1e-14 * values[-1] else float(values[-1] / values[0])

    def cross_share(self, trades: pd.Series | None = None) -> float:
        """Share of the predicted immediate cost that comes from cross terms.

        With ``trades`` (signed notional by name): Σ_{i≠j} x_i G_ij x_j / x'G x, which may be negative where the
        basket nets. Without: Σ_{i≠j}|C_ij| / Σ|C_ij|, the size of the cross terms for names of equal own cost.
        """
        if trades is None:
            C = np.abs(self.correlation.to_numpy())
            return float(1.0 - np.trace(C) / C.sum())
        part = self.subset([str(n) for n in trades.index])
        x = trades.to_numpy(float)
        total = float(x @ part.immediate @ x)
        own = float(x**2 @ np.diag(part.immediate))
        return float("nan") if total == 0 else 1.0 - own / total

    # -- out ------------------------------------------------------------------------------------------------------
    def to_frame(self) -> pd.DataFrame:
        """All K_m stacked: rows (mode, name), columns names [return per currency]."""
        index = pd.MultiIndex.from_product([self.dictionary.labels, self.names], names=["mode", "name"])
        return pd.DataFrame(self.matrices.reshape(-1, len(self.names)), index=index, columns=list(self.names))

    def summary(self) -> str:
        """Say in a few lines: shapes, self-impact, cross share, condition, worst violation of symmetry and PSD."""
        own = np.diag(self.immediate) * 1e4 * 1e6
        worst = self.constraint_violations()
        return "\n".join(
            [
                f"{self.family} cross-impact of {len(self.names)} names, bucket {self.bucket_s:g} s",
                f"  decay            {', '.join(self.dictionary.labels)}",
                f"  self-impact      median {np.median(own):.3g}, {own.min():.3g} to {own.max():.3g} bps per million "
                f"{self.currency}",
                f"  cross share      {self.cross_share():.1%}; condition {self.condition_number:.3g}",
                f"  asymmetry        {worst['asymmetry']:.1e}; below PSD {worst['psd']:.1e} (relative)",
            ]
            + (
                []
                if self.transform is None
                else [f"  flow             counts as |u|^{self.transform.exponent:g}: predicts, not for schedules"]
            )
        )

    def plot(self, sectors: pd.Series | None = None) -> go.Figure:
        """Heatmap of the normalised immediate impact beside its spectrum."""
        from crosswind.problems.impact.plots import plot_matrix

        return plot_matrix(self, sectors)

    def _repr_html_(self) -> str:
        table = self.correlation.round(3).to_html()
        return f"<pre>{self.summary()}</pre>{table}"

    def save(self, path: str | Path) -> None:
        """Write the model to one .npz file; `load` gives back the same bits."""
        meta: dict[str, Any] = {
            "names": self.names,
            "family": self.family,
            "bucket_s": float(self.bucket_s),
            "lags": self.lags,
            "currency": self.currency,
            "format": 1,
        }
        if self.transform is not None:
            meta["transform"] = {"exponent": self.transform.exponent, "scale": self.transform.scale}
        with Path(path).open("wb") as stream:
            np.savez(stream, rates_per_s=self.rates_per_s, matrices=self.matrices, meta=np.array(json.dumps(meta)))

    @classmethod
    def load(cls, path: str | Path) -> ImpactModel:
        """Read a model written by `save`.

        Raises
        ------
        DataGap
            The file is absent.
        InvalidInput
            The file is not a saved impact model.
        """
        if not Path(path).is_file():
            raise DataGap("no such file", field="path", value=str(path), remedy="save a model first")
        try:
            with np.load(Path(path), allow_pickle=False) as held:
                meta = json.loads(str(held["meta"]))
                rates, matrices = held["rates_per_s"], held["matrices"]
            bent = meta.get("transform")
            return cls(
                tuple(meta["names"]),
                rates,
                matrices,
                meta["family"],
                meta["bucket_s"],
                tuple(meta["lags"]),
                meta["currency"],
                None if bent is None else PowerFlow(bent["exponent"], tuple(bent["scale"])),
            )
        except (KeyError, ValueError, OSError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput("not a saved impact model", field="path", value=str(path)) from error
