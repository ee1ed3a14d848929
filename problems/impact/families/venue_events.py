"""Consolidated events with the flow of each venue beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.sample import join_sessions
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["VenueEvents", "join_venues"]

Array = NDArray[np.float64]

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class VenueEvents:
    """Consolidated events and the flow of each venue in the same buckets.

    Parameters
    ----------
    events
        Mid, spread, depth, volume and flow of all venues together.
    flows
        Venue → signed flow (T × N) [currency] on the events' index and names; they add up to ``events.flow``.

    Raises
    ------
    InvalidInput
        Fewer than one venue, other axes, non-finite flow, or a sum that differs from the consolidated flow.
    """

    events: MarketEvents
    flows: Mapping[str, pd.DataFrame]

    def __post_init__(self) -> None:
        if not self.flows:
            raise InvalidInput("no venues", field="flows", value={}, remedy="give the flow of one venue or more")
        total = np.zeros(self.events.flow.shape)
        for venue, flow in self.flows.items():
            if not flow.index.equals(self.events.index) or tuple(flow.columns) != self.events.names:
                raise InvalidInput(
                    "its axes differ from the events'",
                    field=f"flows[{venue!r}]",
                    value=flow.shape,
                    remedy="put each venue's flow on the buckets and names of the events, 0 where nothing traded",
                )
            values = flow.to_numpy(dtype=np.float64)
            if not np.isfinite(values).all():
                raise InvalidInput("must be finite", field=f"flows[{venue!r}]", remedy="0 where nothing traded")
            total += values
        gap = float(np.abs(total - self.events.flow.to_numpy()).max(initial=0.0))
        if gap > _ROUNDING * max(float(self.events.volume.to_numpy().max(initial=0.0)), 1.0):
            raise InvalidInput(
                "the venues' flows do not add up to the consolidated flow",
                field="flows",
                value=gap,
                remedy="give every venue, or build with VenueEvents.join",
            )
        object.__setattr__(self, "flows", dict(self.flows))

    @classmethod
    def join(cls, venues: Mapping[str, MarketEvents], mid_of: str | None = None) -> VenueEvents:
        """Join events that were read venue by venue; flow and volume add up, buckets are those that all venues have.

        Parameters
        ----------
        venues
            Venue → its events, of the same names, buckets, zone and currency.
        mid_of
            The venue whose mid, spread, depth and factors stand for all; None: the one with the largest volume.

        Raises
        ------
        InvalidInput
            No venue, an unknown ``mid_of``, venues that differ in names, buckets, zone or currency.
        DataGap
            No bucket in common.
        """
        if not venues:
            raise InvalidInput("no venues", field="venues", value={})
        if mid_of is not None and mid_of not in venues:
            raise InvalidInput("unknown venue", field="mid_of", value=mid_of, remedy=f"one of {', '.join(venues)}")
        main = mid_of or max(venues, key=lambda v: (float(venues[v].volume.to_numpy().sum()), v))
        lead = venues[main]
        index = lead.index
        for venue, events in venues.items():
            for field in ("names", "bucket_s", "tz", "currency"):
                if getattr(events, field) != getattr(lead, field):
                    raise InvalidInput(
                        f"venues differ in {field}",
                        field=f"venues[{venue!r}].{field}",
                        value=(getattr(events, field), getattr(lead, field)),
                        remedy="resample to one bucket and select the same names in the same order",
                    )
            index = index.intersection(events.index)
        if not len(index):
            raise DataGap("the venues have no bucket in common", field="venues", value=list(venues))
        flows = {venue: events.flow.loc[index] for venue, events in venues.items()}
        parts: dict[str, Any] = {f: getattr(lead, f).loc[index] for f in ("mid", "spread", "depth")}
        parts["flow"] = sum(flows.values())
        parts["volume"] = sum(events.volume.loc[index] for events in venues.values())
        factors = None if lead.factors is None else lead.factors.loc[index]
        return cls(replace(lead, **parts, factors=factors), flows)

    @property
    def venues(self) -> tuple[str, ...]:
        """The V venues, in the order given."""
        return tuple(self.flows)

    def shares(self) -> pd.Series:
        """Share of each venue in Σ|flow| over all names and buckets, Series by venue.

        Raises
        ------
        InvalidInput
            A venue without any flow.
        """
        size = {v: float(np.abs(f.to_numpy()).sum()) for v, f in self.flows.items()}
        if min(size.values()) <= 0:
            raise InvalidInput(
                "a venue has no flow at all, so nothing identifies its weight",
                field="flows",
                value=[v for v, s in size.items() if s <= 0],
                remedy="leave the venue out",
            )
        return pd.Series(size, name="share") / sum(size.values())

    def on(self, days: Any) -> VenueEvents:
        """Return some sessions, as `MarketEvents.on`."""
        part = self.events.on(days)
        return VenueEvents(part, {v: f.loc[part.index] for v, f in self.flows.items()})

    def stacked(self, venues: Sequence[str]) -> Array:
        """Flow by venue, (T, V, N) [currency], in the order of ``venues``.

        Raises
        ------
        DataGap
            A venue is absent.
        """
        missing = [v for v in venues if v not in self.flows]
        if missing:
            raise DataGap("venues of the model are not in the events", field="flows", value=missing)
        return np.stack([self.flows[v].to_numpy(dtype=np.float64) for v in venues], axis=1)


def join_venues(parts: VenueEvents | Iterable[VenueEvents]) -> VenueEvents:
    """Join sessions of flow by venue, as `join_sessions` joins events.

    Raises
    ------
    InvalidInput
        Something else than `VenueEvents`, or sessions of other venues.
    """
    if isinstance(parts, VenueEvents):
        return parts
    held: list[VenueEvents] = list(parts) if isinstance(parts, Iterable) else [parts]
    for part in held:
        if not isinstance(part, VenueEvents):
            raise InvalidInput(
                "is not VenueEvents",
                field="events",
                value=type(part).__name__,
                remedy="build with VenueEvents.join({venue: events, …})",
            )
        if set(part.venues) != set(held[0].venues):
            raise InvalidInput("sessions of other venues", field="events", value=(held[0].venues, part.venues))
    events = join_sessions(part.events for part in held)
    flows = {v: pd.concat([part.flows[v] for part in held]).sort_index() for v in (held[0].venues if held else ())}
    return VenueEvents(events, flows)
