"""What a world can switch on beyond the plain market, and the scale of its variants."""

from __future__ import annotations

from dataclasses import dataclass, field

from crosswind.problems.market.simulator.basis_shocks import BasisJumps
from crosswind.problems.market.simulator.breaks import CorrelationBreaks
from crosswind.problems.market.simulator.power_law import PowerLaw
from crosswind.problems.market.simulator.records import positive_factor
from crosswind.problems.market.simulator.regimes import VolatilityRegimes
from crosswind.problems.market.simulator.shocks import Jumps
from crosswind.solvers.errors import InvalidInput

__all__ = ["Mechanisms", "Scale"]


@dataclass(frozen=True)
class Scale:
    """Factors of a variant; each touches what it names and nothing else.

    Parameters
    ----------
    impact
        Of every ``K_m``.
    volatility
        Of market, sector and idiosyncratic volatility, of the jumps' sizes, and of the future's and the perpetual's
        basis. The kernel keeps its absolute size.
    latency
        Of the venue's latency and its jitter.

    Raises
    ------
    InvalidInput
        For a factor that is not positive and finite.
    """

    impact: float = 1.0
    volatility: float = 1.0
    latency: float = 1.0

    def __post_init__(self) -> None:
        for name in ("impact", "volatility", "latency"):
            object.__setattr__(self, name, positive_factor(name, getattr(self, name)))


@dataclass(frozen=True)
class Mechanisms:
    """Shocks and regimes of the market, all off by default.

    Parameters
    ----------
    regimes
        Volatility regimes.
    jumps
        Jumps of market and names.
    basis_jumps
        Jumps of the future's basis.
    breaks
        Windows in which the names decouple from the market.
    power_law
        Takes the place of the market's ``kernel_half_lives_s`` and ``kernel_weights``.
    scale
        Scale of a variant.

    Raises
    ------
    InvalidInput
        For a part of another type.
    """

    regimes: VolatilityRegimes | None = None
    jumps: Jumps | None = None
    basis_jumps: BasisJumps | None = None
    breaks: CorrelationBreaks | None = None
    power_law: PowerLaw | None = None
    scale: Scale = field(default_factory=Scale)

    def __post_init__(self) -> None:
        kinds = {
            "regimes": VolatilityRegimes,
            "jumps": Jumps,
            "basis_jumps": BasisJumps,
            "breaks": CorrelationBreaks,
            "power_law": PowerLaw,
        }
        for name, kind in kinds.items():
            if getattr(self, name) is not None and not isinstance(getattr(self, name), kind):
                raise InvalidInput(
                    f"is not a {kind.__name__}", field=name, value=getattr(self, name), remedy="pass one, or None"
                )
        if not isinstance(self.scale, Scale):
            raise InvalidInput("is not a Scale", field="scale", value=self.scale, remedy="pass Scale(impact=2.0)")
