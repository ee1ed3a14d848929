"""The playbook as a table: regime × deadline pressure → how much to show, to cross, to wait for, and whether to leg."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from crosswind.problems.roll.model import Regime
from crosswind.solvers.errors import InvalidInput

__all__ = ["MODES", "PlaybookRule", "PlaybookTable", "default_rules"]

MODES = ("rest", "mixed", "urgent", "complete")
"""How a rule trades: rest only; rest and cross what is behind the path; rest and cross a clip whenever the best price
holds one; finish in time, whatever it costs."""
_SEVERITY = (Regime.PRE_ROLL, Regime.CROWDED, Regime.BASIS_STRESS)


@dataclass(frozen=True)
class PlaybookRule:
    """One row of the playbook.

    Parameters
    ----------
    regime
        For which regime.
    rdp
        From which deadline pressure on, >= 0; the rule holds up to the next one of its regime.
    mode
        One of :data:`MODES`.
    display
        Most that rests, over what the order's own side displays, > 0: what a desk shows tells others what it wants.
    clip
        Most that is crossed at once, over what the other side displays at its best price, > 0.
    tail
        Weight of the tail in this regime over the policy's own, >= 0: the budget of a slice is stricter where it is
        larger.
    chase_ticks
        A resting order is moved after a price that ran away only while the price is dislocated against the order by
        this many ticks at most, >= 0; inf: always.
    max_let_s
        Greatest legging exposure time [s]; None: no legs at all.
    why
        In words; it begins the reason of each action.

    Raises
    ------
    InvalidInput
        For a number out of range, an unknown mode.
    """

    regime: Regime
    rdp: float = 0.0
    mode: str = "rest"
    display: float = 0.2
    clip: float = 0.2
    tail: float = 1.0
    chase_ticks: float = math.inf
    max_let_s: float | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.regime, Regime):
            raise InvalidInput("is no regime", field="regime", value=self.regime, remedy="pass a member of Regime")
        if self.mode not in MODES:
            raise InvalidInput("is unknown", field="mode", value=self.mode, remedy=f"choose of {', '.join(MODES)}")
        for name in ("rdp", "tail"):
            _number(self, name, 0.0)
        for name in ("display", "clip"):
            _number(self, name, 1e-9)
        if self.chase_ticks != math.inf:
            _number(self, "chase_ticks", 0.0)
        if self.max_let_s is not None:
            _number(self, "max_let_s", 0.0)

    def text(self) -> str:
        """Return the rule in a line."""
        legs = "no legs" if self.max_let_s is None else f"legs within {self.max_let_s:g} s"
        return (
            f"{self.regime.name}, RDP ≥ {self.rdp:g}: {self.mode}, shows {self.display:.0%}, clips of {self.clip:.0%}, "
            f"tail × {self.tail:g}, {legs}"
        )


def default_rules() -> tuple[PlaybookRule, ...]:
    """Return the rules that come with the toolkit, after the roll playbook; docs/roll/study.md says how they do."""
    calm, red, safe = Regime.PRE_ROLL, Regime.BASIS_STRESS, Regime.DEADLINE
    amber = Regime.CROWDED
    return (
        PlaybookRule(calm, 0.0, "rest", 0.2, 0.1, 1.0, 0.0, None, "green: small clips rest"),
        PlaybookRule(calm, 1.0, "mixed", 0.2, 0.2, 1.0, 0.0, None, "green, behind: rest and catch up"),
        PlaybookRule(amber, 0.0, "mixed", 0.2, 0.2, 1.0, 0.0, 30.0, "amber: rest and catch up"),
        PlaybookRule(amber, 1.0, "urgent", 0.2, 0.2, 1.5, 0.0, 15.0, "amber, behind: clips as the book allows"),
        PlaybookRule(red, 0.0, "mixed", 0.2, 0.2, 1.5, 0.0, None, "red: spreads as one, no legs"),
        PlaybookRule(red, 1.0, "urgent", 0.2, 0.2, 2.0, 0.0, None, "red, behind: spreads as one, clips as allowed"),
        PlaybookRule(safe, 0.0, "complete", 0.2, 0.2, 1.0, 0.0, 0.0, "safe: completion first"),
    )


@dataclass(frozen=True)
class PlaybookTable:
    """Rules by regime and deadline pressure.

    Parameters
    ----------
    rules
        At least one per regime, one of them from RDP 0; DEADLINE has nothing but "complete".
    unknown_rdp
        Pressure that is taken where neither the metric nor the book tells one.

    Raises
    ------
    InvalidInput
        For a regime without a rule from RDP 0, two rules of one place, a DEADLINE that does not complete, a LET limit
        that grows with the severity of the regime.
    """

    rules: tuple[PlaybookRule, ...] = ()
    unknown_rdp: float = 1.0

    def __post_init__(self) -> None:
        rules = tuple(self.rules) or default_rules()
        if not all(isinstance(rule, PlaybookRule) for rule in rules):
            raise InvalidInput("are not rules", field="rules", value=len(rules), remedy="pass PlaybookRule(…)")
        object.__setattr__(self, "rules", tuple(sorted(rules, key=lambda r: (list(Regime).index(r.regime), r.rdp))))
        _number(self, "unknown_rdp", 0.0)
        places = [(rule.regime, rule.rdp) for rule in self.rules]
        if len(set(places)) < len(places):
            raise InvalidInput("share a regime and an RDP", field="rules", value=len(places), remedy="drop one of them")
        for regime in Regime:
            if (regime, 0.0) not in places:
                raise InvalidInput(
                    "has no rule from RDP 0", field=regime.name, value=None, remedy="every state needs an action"
                )
        lax = [rule.mode for rule in self.of(Regime.DEADLINE) if rule.mode != "complete"]
        if lax:
            raise InvalidInput(
                "do not complete", field="DEADLINE", value=lax, remedy="in DEADLINE completion comes first"
            )
        longest = [max(_let(rule) for rule in self.of(regime)) for regime in _SEVERITY[1:]]
        if longest[0] < longest[1]:
            raise InvalidInput(
                "legs longer in BASIS_STRESS than in CROWDED",
                field="max_let_s",
                value=longest,
                remedy="legging tolerance falls with stress",
            )

    def of(self, regime: Regime) -> tuple[PlaybookRule, ...]:
        """Return the rules of a regime, in the order of their RDP."""
        return tuple(rule for rule in self.rules if rule.regime is regime)

    def rule(self, regime: Regime, rdp: float) -> PlaybookRule:
        """Return the rule of a state; a pressure that is not known is ``unknown_rdp``."""
        pressure = self.unknown_rdp if math.isnan(rdp) else rdp
        found = None
        for rule in self.rules:
            if rule.regime is regime and (found is None or rule.rdp <= pressure):
                found = rule
        assert found is not None  # each regime has one
        return found

    def to_frame(self) -> pd.DataFrame:
        """Return the rules: (regime, rdp) → the other fields."""
        rows = [{**asdict(rule), "regime": rule.regime.name} for rule in self.rules]
        return pd.DataFrame(rows).set_index(["regime", "rdp"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; infinities as None."""
        rows = []
        for rule in self.rules:
            chase = None if rule.chase_ticks == math.inf else rule.chase_ticks
            rows.append({**asdict(rule), "regime": rule.regime.name, "chase_ticks": chase})
        return {"unknown_rdp": self.unknown_rdp, "rules": rows}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PlaybookTable:
        """Return what :meth:`to_dict` wrote."""
        rules = []
        for row in values["rules"]:
            chase = math.inf if row["chase_ticks"] is None else row["chase_ticks"]
            rules.append(PlaybookRule(**{**row, "regime": Regime[row["regime"]], "chase_ticks": chase}))
        return cls(tuple(rules), values["unknown_rdp"])

    def with_tail(self, factors: Sequence[float]) -> PlaybookTable:
        """Return the table with the tail weights of PRE_ROLL, CROWDED, BASIS_STRESS and DEADLINE times factors (4,)."""
        scale = dict(zip(Regime, factors, strict=True))
        rules = [PlaybookRule(**{**vars(rule), "tail": rule.tail * float(scale[rule.regime])}) for rule in self.rules]
        return PlaybookTable(tuple(rules), self.unknown_rdp)

    def summary(self) -> str:
        """Return a line per rule."""
        return "\n".join(rule.text() for rule in self.rules)


def _let(rule: PlaybookRule) -> float:
    return -1.0 if rule.max_let_s is None else rule.max_let_s


def _number(holder: object, name: str, least: float) -> None:
    value = getattr(holder, name)
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= least
    if not ok:
        raise InvalidInput(
            "is out of range", field=name, value=value, remedy=f"pass a finite number of {least:g} or more"
        )
    object.__setattr__(holder, name, float(value))
