"""The rows of a fit as arrays: what several passes read again, and sessions taken apart and joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.features import Dictionary, aligned, session_rows
from crosswind.problems.impact.gram import FoldGrams, accumulate_rows, residual_returns
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["Sample", "by_session", "join_sessions"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Flow and what is fitted, bucket by bucket.

    Parameters
    ----------
    names
        The N names.
    bucket_s
        Length of a bucket [s].
    flow
        Signed flow (T, N) [currency].
    target
        Returns less what the factors explain, (T, N); NaN where undefined.
    returns
        Returns as they are, (T, N).
    session
        Session labels (T,).
    root
        √ of the rows' weights, (T,), by which ``target`` has been multiplied already; None: all weigh the same.
    """

    names: tuple[str, ...]
    bucket_s: float
    flow: Array
    target: Array
    returns: Array
    session: NDArray[Any]
    root: Array | None = None

    @classmethod
    def of(cls, events: MarketEvents, names: Sequence[str], loadings: Array | None = None) -> Sample:
        """Return the rows of the events for ``names``, with factor loadings (N, F) taken out of the returns.

        Raises
        ------
        DataGap
            A name is absent, or the factors are others than those of the loadings.
        InvalidInput
            Flow with NaN or inf.
        """
        flow, returns, session = aligned(events, names)
        target = residual_returns(events, names, loadings)
        return cls(tuple(names), float(events.bucket_s), flow, target, returns, session)

    @property
    def use(self) -> NDArray[np.bool_]:
        """Which buckets are rows of the fit, (T,): those in which every name's return is defined."""
        return np.asarray(np.isfinite(self.target).all(axis=1))

    @property
    def rows(self) -> int:
        """Number E of rows."""
        return int(self.use.sum())

    @property
    def longest_session_s(self) -> float:
        """Length of the longest session [s]."""
        lengths = [part.stop - part.start for part in session_rows(self.session)]
        return max(lengths, default=0) * self.bucket_s

    def weighed(self, weights: Array) -> Sample:
        """Return the rows with weights (T,): regressors and targets are multiplied by √weight."""
        root = np.sqrt(weights)
        return replace(self, target=self.target * root[:, None], root=root)

    def times_root(self, part: slice, Z: Array) -> Array:
        """Return regressors Z of the buckets ``part`` as the fit takes them."""
        return Z if self.root is None else Z * self.root[part, None]

    def moments(self, regress: Callable[[slice], Array], folds: int = 0, memory: int = 0) -> FoldGrams:
        """Pass once over the rows, see `crosswind.problems.impact.gram.accumulate_rows`."""
        return accumulate_rows(regress, self.flow, self.target, self.returns, self.session, folds, memory)

    def dictionary_moments(self, dictionary: Dictionary, folds: int = 0) -> FoldGrams:
        """Moments of the dictionary's regressors."""
        return self.moments(
            lambda part: self.times_root(part, dictionary.regressors(self.flow[part])), folds, dictionary.memory_buckets
        )

    def sessions(self, dictionary: Dictionary) -> Iterator[tuple[Array, Array]]:
        """Yield regressors Z (E', NM) and targets (E', N) of each session's rows."""
        use = self.use
        for part in session_rows(self.session):
            keep = use[part]
            if keep.any():
                Z = self.times_root(part, dictionary.regressors(self.flow[part]))
                yield Z[keep], self.target[part][keep]


def by_session(events: MarketEvents) -> list[MarketEvents]:
    """Return the events of each session by itself, in time order: the samples of a scikit-learn split over days."""
    return [events.on(day) for day in events.days]


def join_sessions(parts: MarketEvents | Iterable[MarketEvents]) -> MarketEvents:
    """Join what `by_session` took apart, in time order; events that are whole already are returned as they are.

    Raises
    ------
    InvalidInput
        Not MarketEvents, other names, buckets, zones, currencies or factors, or sessions given twice.
    DataGap
        Nothing to join.
    """
    from crosswind.problems.market import MarketEvents
    from crosswind.problems.market.events import FIELDS

    if isinstance(parts, MarketEvents):
        return parts
    if not isinstance(parts, Iterable) or isinstance(parts, (str, pd.DataFrame, pd.Series)):
        raise InvalidInput(
            "is not MarketEvents",
            field="events",
            value=type(parts).__name__,
            remedy="pass the .events of what crosswind.read returns, or build MarketEvents from tables",
        )
    held = list(parts)
    if not held:
        raise DataGap("no sessions to join", field="events", value=0, remedy="widen the days")
    for part in held:
        if not isinstance(part, MarketEvents):
            raise InvalidInput(
                "is not MarketEvents", field="events", value=type(part).__name__, remedy="give a list of sessions"
            )
    held.sort(key=lambda part: part.index[0])
    first = held[0]
    for part in held[1:]:
        for field in ("names", "bucket_s", "tz", "currency"):
            if getattr(part, field) != getattr(first, field):
                raise InvalidInput(
                    f"sessions differ in {field}",
                    field=f"events.{field}",
                    value=(getattr(first, field), getattr(part, field)),
                    remedy="join only parts of one market, resampled to one bucket and in one currency",
                )
        if (part.factors is None) != (first.factors is None):
            raise InvalidInput("some sessions have factors and some none", field="events.factors")
    for before, after in pairwise(held):
        if after.index[0] <= before.index[-1]:
            raise InvalidInput(
                "sessions overlap", field="events", value=str(after.index[0]), remedy="give each session once"
            )
    if len(held) == 1:
        return first
    frames: dict[str, Any] = {field: pd.concat([getattr(part, field) for part in held]) for field in FIELDS}
    factors = [part.factors for part in held if part.factors is not None]
    return replace(first, **frames, factors=pd.concat(factors) if factors else None)
