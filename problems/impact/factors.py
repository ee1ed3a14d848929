"""Stage one of the two-stage fit: common moves taken out of returns, and common flow out of flow if asked.

Every part of it is linear in the bucket, r̃_t = Q r_t − L f_t and ũ_t = P u_t, with matrices fitted on second moments.
So it acts on rows and on moments alike: Z, a filter of u, becomes (I ⊗ P) Z, and no pass over the data is needed to fit
it on the training rows of a fold and apply it to the test rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.features import aligned, factor_values
from crosswind.problems.impact.moments.common_moves import off_components, regress
from crosswind.problems.impact.moments.sums import Sums
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["Defactor", "FittedStage", "Residuals"]

Array = NDArray[np.float64]
_NOTHING = 1e-12  # share of Σ r² left: rounding


@dataclass(frozen=True, eq=False)
class Residuals:
    """What is left of the events after stage one.

    Parameters
    ----------
    returns
        r̃ (T, N); NaN where the return is undefined.
    flow
        ũ (T, N) [currency].
    """

    returns: pd.DataFrame
    flow: pd.DataFrame


@dataclass(frozen=True, eq=False)
class FittedStage:
    """A fitted first stage: r̃ = Q r − L f, ũ = P u.

    Parameters
    ----------
    names, factors
        Names of the returns and of the factors beside the events.
    Q, L, P
        (N, N), (N, F), (N, N), without unit.
    explained
        By name, share of Σ r² taken out: 1 − Σ r̃²/Σ r²; NaN where the name did not move.
    components, flow_components
        Number of principal components taken out of returns and of flow.
    """

    names: tuple[str, ...]
    factors: tuple[str, ...]
    Q: Array
    L: Array
    P: Array
    explained: pd.Series
    components: int = 0
    flow_components: int = 0

    @property
    def factor_loadings(self) -> pd.DataFrame | None:
        """L by name and factor where the stage is nothing but the regression on given factors; else None."""
        plain = np.array_equal(self.Q, np.eye(len(self.names))) and np.array_equal(self.P, np.eye(len(self.names)))
        return pd.DataFrame(self.L, list(self.names), list(self.factors)) if plain and self.factors else None

    def apply(self, sums: Sums) -> Sums:
        """Return the sums of products that the rows of residuals would give."""
        N = len(self.names)
        shapes = len(sums.ZZ) // N

        def right(a: Array) -> Array:  # a (I ⊗ P)'
            return (a.reshape(len(a), shapes, N) @ self.P.T).reshape(len(a), shapes * N)

        rr = self.Q @ sums.rr @ self.Q.T + self.L @ sums.ff @ self.L.T
        cross = self.Q @ sums.fr.T @ self.L.T
        rr -= cross + cross.T
        ZZ, uu = right(right(sums.ZZ).T), self.P @ sums.uu @ self.P.T
        return replace(
            sums,
            ZZ=0.5 * (ZZ + ZZ.T),
            rZ=right(self.Q @ sums.rZ - self.L @ sums.fZ),
            fZ=right(sums.fZ),
            rr=0.5 * (rr + rr.T),
            fr=sums.fr @ self.Q.T - sums.ff @ self.L.T,
            uu=0.5 * (uu + uu.T),
        )

    def residual_returns(self, events: MarketEvents, names: Sequence[str] | None = None) -> Array:
        """Return r̃ (T, N).

        Raises
        ------
        DataGap
            The events lack a name or a factor that the stage was fitted with.
        """
        self._same_names(self.names if names is None else names)
        _, returns, _ = aligned(events, self.names)
        out = np.asarray(returns @ self.Q.T)
        if np.any(self.L):
            given = () if events.factors is None else tuple(str(c) for c in events.factors.columns)
            if given != self.factors:
                raise DataGap(
                    "the stage was fitted on other factors",
                    field="events.factors",
                    value=given,
                    remedy=f"give {', '.join(self.factors)}, or fit again",
                )
            out = out - factor_values(events) @ self.L.T
        return out

    def purged_flow(self, flow: Array, names: Sequence[str] | None = None) -> Array:
        """Return ũ = P u for rows of flow (T, N) in the order of the names.

        Raises
        ------
        DataGap
            Other names than those of the fit.
        """
        self._same_names(self.names if names is None else names)
        return np.asarray(flow @ self.P.T)

    def _same_names(self, names: Sequence[str]) -> None:
        if tuple(names) != self.names:
            raise DataGap(
                "the stage was fitted on other names", field="names", value=tuple(names), remedy="fit on these names"
            )

    def transform(self, events: MarketEvents) -> Residuals:
        """Return the residual returns and flow of the events; see :meth:`residual_returns` for what is raised."""
        flow, _, _ = aligned(events, self.names)
        returns = self.residual_returns(events)
        index, columns = events.index, list(self.names)
        return Residuals(pd.DataFrame(returns, index, columns), pd.DataFrame(self.purged_flow(flow), index, columns))

    def to_frame(self) -> pd.DataFrame:
        """Return the loadings on the factors and the share explained, one row per name."""
        return pd.DataFrame(self.L, list(self.names), list(self.factors)).assign(explained=self.explained)

    def plot(self) -> Any:
        """Return a plotly figure: the share of each name's Σ r² that was taken out."""
        from crosswind.problems.plotting import figure

        fig = figure("Taken out by the first stage", "name", "share of Σ r²")
        fig.add_bar(x=list(self.names), y=self.explained.to_numpy(), name="explained")
        return fig.update_layout(yaxis_range=[0.0, 1.0])

    def summary(self) -> str:
        """Say what was taken out."""
        lines = [
            f"first stage on {len(self.names)} names: {len(self.factors)} given factors, {self.components} components",
            f"  explained   median {self.explained.median():.1%}, {self.explained.min():.1%} to "
            f"{self.explained.max():.1%} of Σ r² by name",
        ]
        if not np.array_equal(self.P, np.eye(len(self.P))):
            lines.append(f"  flow        {self.flow_components or 1} common component taken out")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>"


class Defactor:
    """Common moves taken out of returns: given factors, market, sectors, styles, principal components, in this order.

    r is regressed, without intercept and jointly, on the factor returns beside the events, on the market and, with
    "fitted" sectors, on the name's sector; then exposures are taken out bucket by bucket, then components. All matrices
    come from the rows it is fitted on; `transform` and the test rows of a fold use them as they are. Follows
    scikit-learn; pass one as ``defactor`` of an impact estimator.

    Parameters
    ----------
    factors
        Use the factor returns beside the events, if there are any (market futures, sector funds, styles as series: see
        `with_factors`).
    market
        Mean return of the names as a factor: "equal", "liquidity" (weights ∝ standard deviation of flow), a Series of
        weights by name, or None. A mean of N names takes one dimension out of N.
    sectors
        Series name → sector.
    sector_mode
        "fitted": each name is regressed on the equal-weighted mean of its own sector; "dummies": the mean of its sector
        is taken off each name, loadings being 1.
    styles
        DataFrame of exposures X (name × style), e.g. beta, size, momentum: r̃ = (I − X(X'X)⁻¹X') r bucket by bucket,
        the residual of the cross-sectional regression.
    components
        Number of principal components of the correlation of what is left; "noise edge": those beyond `noise_edge`; 0.
    purge
        Take common flow out of flow: None, "equal" (regression on the mean of standardised flow), or a number of
        principal components of the flow's correlation, or "noise edge". Correlated flow makes cross terms look like
        impact where there is none (Capponi and Cont 2020); a purged fit says what idiosyncratic flow does.

    Attributes
    ----------
    stage_
        The `FittedStage`.

    Notes
    -----
    Taking factors out of returns but not out of flow makes the map from flow to residuals Q K, which is not symmetric
    even where K is; a symmetric fit is then its projection. With a purge of flow, K acts on ũ = P u, so that the map on
    raw flow, K P, is not symmetric either: schedules built on it need purged trades.

    References
    ----------
    Capponi and Cont (2020), multi-asset market impact and order flow commonality, SSRN 3706390; Marchenko and Pastur
    (1967); Laloux, Cizeau, Bouchaud, Potters (1999), noise dressing of financial correlation matrices.
    """

    stage_: FittedStage

    def __init__(
        self,
        factors: bool = True,
        market: str | pd.Series | None = None,
        sectors: pd.Series | None = None,
        sector_mode: str = "fitted",
        styles: pd.DataFrame | None = None,
        components: int | str = 0,
        purge: str | int | None = None,
    ) -> None:
        self.factors = factors
        self.market = market
        self.sectors = sectors
        self.sector_mode = sector_mode
        self.styles = styles
        self.components = components
        self.purge = purge

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name; ``deep`` is accepted for scikit-learn and changes nothing."""
        return {p: getattr(self, p) for p in inspect.signature(type(self).__init__).parameters if p != "self"}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments and return self.

        Raises
        ------
        InvalidInput
            Unknown parameter.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise InvalidInput("unknown parameter", field=name, remedy=f"use one of {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        shown = [
            f"{k}=<{type(v).__name__}>" if isinstance(v, pd.Series | pd.DataFrame) else f"{k}={v!r}"
            for k, v in self.get_params().items()
        ]
        return f"Defactor({', '.join(shown)})"

    def fit(self, events: MarketEvents) -> Self:
        """Fit on the rows of ``events`` and return self.

        Raises
        ------
        DataGap
            Too few rows, or a name without sector, weight or exposure.
        InvalidInput
            A parameter that is out of its range, or a name of whose returns nothing is left.
        """
        names = tuple(events.names)
        flow, returns, _ = aligned(events, names)
        factors = factor_values(events)
        use = np.isfinite(returns).all(axis=1) & np.isfinite(factors).all(axis=1)
        r, f, u, rows = returns[use], factors[use], flow[use], int(use.sum())
        none = Sums.empty(len(names), 0, f.shape[1])
        sums = replace(none, rows=rows, weight=float(rows), square=float(rows))
        sums = replace(sums, rr=r.T @ r, fr=f.T @ r, ff=f.T @ f, uu=u.T @ u)
        labels = () if events.factors is None else tuple(str(c) for c in events.factors.columns)
        self.stage_ = self.fit_sums(sums, names, labels)
        return self

    def transform(self, events: MarketEvents) -> Residuals:
        """Return what is left of the events; see `FittedStage.transform`.

        Raises
        ------
        InvalidInput
            Not fitted.
        """
        if not hasattr(self, "stage_"):
            raise InvalidInput("not fitted yet", field="Defactor", remedy="call .fit(events) first")
        return self.stage_.transform(events)

    def fit_transform(self, events: MarketEvents) -> Residuals:
        """Fit on the events and return what is left of them."""
        return self.fit(events).transform(events)

    def fit_sums(self, sums: Sums, names: Sequence[str], factors: Sequence[str]) -> FittedStage:
        """Return the stage fitted on sums of products; what is raised is as for :meth:`fit`."""
        labels, given = tuple(names), tuple(factors)
        N, F = len(labels), len(given)
        A, allowed = self._factor_rows(sums, labels)
        use = F if self.factors else 0
        if sums.rows < 2 * (use + int(allowed.sum(axis=1).max(initial=0))) or sums.rows == 0:
            raise DataGap("too few buckets to remove the factors", field="events", value=sums.rows, remedy="give more")
        B = regress(sums, A, allowed, use)
        Q, L = np.eye(N) - B[:, F:] @ A, B[:, :F].copy()
        if self.styles is not None or (self.sectors is not None and self.sector_mode == "dummies"):
            X = self._exposures(labels)
            project = np.eye(N) - X @ np.linalg.pinv(X)
            Q, L = project @ Q, project @ L
        plain = FittedStage(labels, given, Q, L, np.eye(N), pd.Series(dtype=float))
        rr, count = plain.apply(replace(sums, ZZ=sums.ZZ[:0, :0], rZ=sums.rZ[:, :0], fZ=sums.fZ[:, :0])).rr, 0
        if self.components != 0:
            out, count = off_components(rr, self.components, sums.effective_rows, "components")
            Q, L = out @ Q, out @ L
            rr = out @ rr @ out.T
        P, flow_count = self._purge(sums)
        before = np.diag(sums.rr)
        share = np.divide(np.diag(rr), before, out=np.full(N, np.nan), where=before > 0)
        gone = [n for n, left in zip(labels, share, strict=True) if left < _NOTHING]
        if gone:
            raise InvalidInput(
                "the first stage explains returns whole: nothing is left that flow could move",
                field="defactor",
                value=gone,
                remedy="leave these names out, or take out fewer factors or components (is a name among the factors?)",
            )
        explained = pd.Series(1.0 - share, index=list(labels), name="explained")
        return FittedStage(labels, given, Q, L, P, explained, count, flow_count)

    def _factor_rows(self, sums: Sums, names: tuple[str, ...]) -> tuple[Array, NDArray[np.bool_]]:
        """Return the factors made of the names, A (S, N), and which of them each name may load on (N, S)."""
        N, rows, allowed = len(names), [], []
        if self.market is not None:
            if isinstance(self.market, pd.Series):
                w = self._by_name(self.market, names, "market").to_numpy(dtype=np.float64)
                if not np.isfinite(w).all() or (w < 0).any() or not w.sum() > 0:
                    raise InvalidInput("weights must be finite, not negative and not all 0", field="market", value=w)
            elif self.market in ("equal", "liquidity"):
                w = np.ones(N) if self.market == "equal" else np.sqrt(np.diag(sums.uu))
            else:
                raise InvalidInput('"equal", "liquidity" or weights by name', field="market", value=self.market)
            rows.append(w / w.sum() if w.sum() > 0 else w)
            allowed.append(np.ones(N, dtype=bool))
        if self.sectors is not None:
            if self.sector_mode not in ("fitted", "dummies"):
                raise InvalidInput('"fitted" or "dummies"', field="sector_mode", value=self.sector_mode)
            held = self._sector_of(names)
            if self.sector_mode == "fitted":
                for sector in sorted(set(held)):
                    inside = held == sector
                    if inside.sum() > 1:  # a name that is a sector of its own would be explained away whole
                        rows.append(inside / inside.sum())
                        allowed.append(inside)
        return np.array(rows).reshape(len(rows), N), np.array(allowed, dtype=bool).reshape(len(rows), N).T

    def _exposures(self, names: tuple[str, ...]) -> Array:
        parts = []
        if self.sectors is not None and self.sector_mode == "dummies":
            held = self._sector_of(names)
            parts += [(held == s).astype(np.float64)[:, None] for s in sorted(set(held)) if (held == s).sum() > 1]
        if self.styles is not None:
            X = self._by_name(self.styles, names, "styles").to_numpy(dtype=np.float64)
            if not np.isfinite(X).all():
                raise DataGap("an exposure is missing", field="styles", remedy="give finite exposures for every name")
            parts.append(X)
        joined = np.hstack(parts) if parts else np.zeros((len(names), 0))
        if joined.shape[1] >= len(names):
            raise InvalidInput(
                "as many exposures as names leave nothing", field="styles", value=joined.shape[1], remedy="give fewer"
            )
        return joined

    def _sector_of(self, names: tuple[str, ...]) -> NDArray[Any]:
        held = self._by_name(self.sectors, names, "sectors")
        if held.isna().any():
            raise DataGap(
                "is not known for every name", field="sectors", value=list(held.index[held.isna()]), remedy="fill them"
            )
        return np.asarray(held.astype(str).to_numpy())

    @staticmethod
    def _by_name(table: Any, names: tuple[str, ...], field: str) -> Any:
        missing = [n for n in names if n not in table.index]
        if missing:
            raise DataGap("is not given for every name", field=field, value=missing, remedy="add these names")
        held = table.loc[list(names)]
        if len(held) != len(names):
            raise InvalidInput("gives a name twice", field=field, remedy="drop the duplicates of its index")
        return held

    def _purge(self, sums: Sums) -> tuple[Array, int]:
        N = len(sums.uu)
        if self.purge is None or self.purge == 0:
            return np.eye(N), 0
        if self.purge == "equal":
            size = np.sqrt(np.diag(sums.uu))
            a = np.divide(1.0, size, out=np.zeros(N), where=size > 0) / max(1, int((size > 0).sum()))
            common = float(a @ sums.uu @ a)
            return (np.eye(N) if common <= 0 else np.eye(N) - np.outer(sums.uu @ a / common, a)), 0
        return off_components(sums.uu, self.purge, sums.effective_rows, "purge")
