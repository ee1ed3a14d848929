"""Declared worlds: named, versioned, hashed markets in which policies are judged, and their scaled variants."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from crosswind.problems.market.shown import Shown
from crosswind.problems.market.simulator.desk_parameters import DeskParameters
from crosswind.problems.market.simulator.mechanisms import Mechanisms, Scale
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.perpetual_parameters import PerpetualParameters
from crosswind.problems.market.simulator.records import plain
from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.market.simulator.venue_parameters import VenueParameters
from crosswind.solvers.errors import InvalidInput

__all__ = ["CALL", "MECHANISMS", "PARTS", "World"]

CALL: Mapping[str, Any] = MappingProxyType(
    {
        "names": 8,
        "sectors": 2,
        "bucket_s": 10.0,
        "start": "2024-03-04",
        "tz": "America/New_York",
        "holidays": (),
        "calendar": None,
    }
)
MECHANISMS = ("regimes", "jumps", "basis_jumps", "breaks", "power_law")
PARTS = ("roll", "perpetual", "desk", "venue")
# The books of a roll bring their own numbers for what these say of the plain future.
_BY_ROLL = (
    "calendar_vol_bps",
    "future_tick",
    "future_multiplier",
    "future_volume_per_day",
    "future_depth_contracts",
)
_VOLATILITIES = ("market_vol_daily", "sector_vol_daily", "idio_vol_daily", "basis_vol_bps", "calendar_vol_bps")


@dataclass(frozen=True, repr=False)
class World(Shown):
    """Every number of one market in which policies are judged; immutable, and known by its digest.

    Parameters
    ----------
    name, version
        What it is called, and which edition: a number never changes under one version.
    text
        What it is for, in a sentence.
    market
        Numbers of the plain market.
    call
        Defaults of :func:`~crosswind.problems.market.simulator.simulate.simulate`: ``names``, ``sectors``,
        ``bucket_s``, ``start``, ``tz``, ``holidays``, ``calendar``.
    mechanisms
        Regimes and shocks, and the scale of a variant.
    roll
        Books of the legs and of the calendar spread; None for none.
    perpetual
        A perpetual with funding; None for none.
    desk
        The desk's orders; None for none.
    venue
        The venue on which a policy's orders are executed.
    changes
        What a caller changed, as texts; empty for a declared world.

    Raises
    ------
    InvalidInput
        For a bad name or version, an unknown default of the call, or a part of another type.
    """

    name: str
    version: int
    text: str = ""
    market: SimulatorParameters = field(default_factory=SimulatorParameters)
    call: Mapping[str, Any] = field(default_factory=dict)
    mechanisms: Mechanisms = field(default_factory=Mechanisms)
    roll: RollParameters | None = None
    perpetual: PerpetualParameters | None = None
    desk: DeskParameters | None = None
    venue: VenueParameters = field(default_factory=VenueParameters)
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.replace("_", "").isalnum():
            raise InvalidInput(
                "is not a world's name", field="name", value=self.name, remedy="use letters, digits and underscores"
            )
        if isinstance(self.version, bool) or not isinstance(self.version, int) or self.version < 1:
            raise InvalidInput("is not a version", field="version", value=self.version, remedy="pass 1 or more")
        unknown = sorted(set(self.call) - set(CALL))
        if unknown:
            raise InvalidInput(
                "is not a default of the call", field="call", value=unknown[0], remedy=f"use one of {', '.join(CALL)}"
            )
        call = {name: _canonical(value) for name, value in {**CALL, **self.call}.items()}
        if isinstance(call["bucket_s"], int) and not isinstance(call["bucket_s"], bool):
            call["bucket_s"] = float(call["bucket_s"])
        object.__setattr__(self, "call", MappingProxyType(call))
        object.__setattr__(self, "changes", tuple(self.changes))
        kinds = {
            "market": SimulatorParameters,
            "mechanisms": Mechanisms,
            "roll": (RollParameters, type(None)),
            "perpetual": (PerpetualParameters, type(None)),
            "desk": (DeskParameters, type(None)),
            "venue": VenueParameters,
        }
        for part, kind in kinds.items():
            if not isinstance(getattr(self, part), kind):  # type: ignore[arg-type]
                raise InvalidInput(
                    "is of another type", field=part, value=getattr(self, part), remedy="pass its parameter record"
                )

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy does not pickle.
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return _rebuild, ({**values, "call": dict(self.call)},)

    @property
    def drawn(self) -> SimulatorParameters:
        """The market's numbers as they are drawn: a power law replaces the kernel's half-lives and weights."""
        law = self.mechanisms.power_law
        if law is None:
            return self.market
        lives, weights = law.modes()
        return replace(self.market, kernel_half_lives_s=lives, kernel_weights=weights)

    @property
    def key(self) -> str:
        """``stress@1``, with the scale and the changes of a variant in brackets: ``stress@1[impact×0.5]``."""
        scale = self.mechanisms.scale
        texts = [f"{item.name}×{getattr(scale, item.name):g}" for item in fields(scale)]
        texts = [text for text in texts if not text.endswith("×1")] + list(self.changes)
        return f"{self.name}@{self.version}" + (f"[{','.join(texts)}]" if texts else "")

    def to_dict(self) -> dict[str, Any]:
        """Return every number as plain dictionaries and lists, JSON's own types only."""
        numbers: dict[str, Any] = {part: plain(getattr(self, part)) for part in ("market", "mechanisms", *PARTS)}
        return {**numbers, "call": plain(dict(self.call))}

    @property
    def digest(self) -> str:
        """Sha256 (hex) of the canonical JSON of :meth:`to_dict`: sorted keys, no spaces, shortest exact decimals."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def scaled(self, impact: float = 1.0, volatility: float = 1.0, latency: float = 1.0) -> World:
        """Return a variant; each factor touches what it names and nothing else.

        Parameters
        ----------
        impact
            Multiplies every ``K_m``, to the last bit for powers of two.
        volatility
            Multiplies market, sector and idiosyncratic volatility, jumps, and the basis with its jumps. The kernel
            keeps its absolute size; spreads, depth and volume keep their levels.
        latency
            Multiplies the venue's latency and jitter, and ``hedge_latency_s``.

        Returns
        -------
        World
            With its own key and digest.

        Raises
        ------
        InvalidInput
            For a factor that is not positive and finite.
        """
        by = Scale(impact, volatility, latency)
        market = {name: getattr(self.market, name) * by.volatility for name in _VOLATILITIES}
        market["hedge_latency_s"] = self.market.hedge_latency_s * by.latency
        on, before = self.mechanisms, self.mechanisms.scale
        mechanisms = replace(
            on,
            jumps=None if on.jumps is None else on.jumps.scaled(by.volatility),
            basis_jumps=None if on.basis_jumps is None else on.basis_jumps.scaled(by.volatility),
            scale=Scale(*(getattr(before, item.name) * getattr(by, item.name) for item in fields(Scale))),
        )
        return replace(
            self,
            market=replace(self.market, **market),
            mechanisms=mechanisms,
            roll=None if self.roll is None else self.roll.scaled(by.volatility),
            perpetual=None if self.perpetual is None else self.perpetual.scaled(by.volatility),
            venue=self.venue.scaled(by.latency),
        )

    def changed(self, **values: Any) -> World:
        """Return a modified world, named by what differs.

        Parameters
        ----------
        **values
            Parameters of the market, defaults of the call, mechanisms (``regimes``, ``jumps``, ``basis_jumps``,
            ``breaks``, ``power_law``) or parts (``roll``, ``perpetual``, ``desk``, ``venue``), None to switch one off.

        Returns
        -------
        World

        Raises
        ------
        InvalidInput
            For an unknown name, a value out of range, or one that a power law or a roll leaves without effect.
        """
        own = {name: values.pop(name) for name in (*MECHANISMS, *PARTS) if name in values}
        call = {name: values.pop(name) for name in CALL if name in values}
        known = {item.name for item in fields(SimulatorParameters)}
        SimulatorParameters.from_mapping({name: value for name, value in values.items() if name not in known})
        law = own.get("power_law", self.mechanisms.power_law)
        for name in sorted({"kernel_half_lives_s", "kernel_weights"} & set(values)):
            if law is not None:
                raise InvalidInput(
                    "has no effect beside a power law", field=name, value=values[name], remedy="pass power_law=None too"
                )
        for name in sorted(set(_BY_ROLL) & set(values)):
            if own.get("roll", self.roll) is not None:
                raise InvalidInput(
                    "has no effect beside a roll, whose books have their own",
                    field=name,
                    value=values[name],
                    remedy="pass roll=RollParameters(…) instead, or roll=None too",
                )
        market = replace(self.market, **values)
        texts = [
            f"{name}={_short(getattr(market, name))}"
            for name in values
            if getattr(market, name) != getattr(self.market, name)
        ]
        texts += [f"{name}={_short(value)}" for name, value in call.items() if _canonical(value) != self.call[name]]
        before = {name: getattr(self.mechanisms, name) for name in MECHANISMS}
        before |= {name: getattr(self, name) for name in PARTS}
        texts += [f"{name}={_short(value)}" for name, value in own.items() if value != before[name]]
        return replace(
            self,
            market=market,
            call={**self.call, **call},
            mechanisms=replace(self.mechanisms, **{name: own[name] for name in MECHANISMS if name in own}),
            changes=(*self.changes, *texts),
            **{name: own[name] for name in PARTS if name in own},
        )

    def summary(self) -> str:
        """Return what the world is for, its digest, and what is switched on."""
        on = [name for name in MECHANISMS if getattr(self.mechanisms, name) is not None]
        on += [name for name in ("roll", "perpetual", "desk") if getattr(self, name) is not None]
        return f"{self.key}: {self.text}\n  digest {self.digest}\n  on: {', '.join(on) or 'nothing beyond the market'}"


def _rebuild(values: dict[str, Any]) -> World:
    return World(**values)


def _canonical(value: Any) -> Any:
    """Return dates as ISO text and lists as tuples: one call has one digest."""
    if isinstance(value, dt.date):
        return value.isoformat()
    return tuple(_canonical(item) for item in value) if isinstance(value, (list, tuple)) else value


def _short(value: Any) -> str:
    if value is None:
        return "off"
    if hasattr(value, "__dataclass_fields__"):
        text = json.dumps(plain(value), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]
    if isinstance(value, float):
        return f"{value:g}"
    return "+".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)
