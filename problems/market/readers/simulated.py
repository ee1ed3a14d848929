"""The simulator as a source: ``sim:key=value,…``."""

from __future__ import annotations

from typing import Any

from crosswind.problems.market.model import MarketData
from crosswind.problems.market.readers.formats import Format
from crosswind.solvers.errors import InvalidInput

__all__ = ["FORMAT", "read_simulated"]

FORMAT = Format(
    scheme="sim",
    title="the simulator, with the truth attached",
    example="sim[:key=value,…]",
    reader=f"{__name__}:read_simulated",
    bare=True,
)


def read_simulated(
    path: str, names: Any = None, days: Any = None, bucket_s: float | None = None, **options: Any
) -> MarketData:
    """Draw a market by :func:`~crosswind.problems.market.simulator.simulate.simulate`.

    Parameters
    ----------
    path
        ``key=value,…``: arguments of the simulator; numbers, true, false, none and text.
    names, days
        The names or their number, the number of days.
    bucket_s
        Bucket length [s].
    **options
        Further arguments of the simulator.

    Raises
    ------
    InvalidInput
        On text that is no key=value, and arguments unknown to the simulator or given twice.
    """
    from crosswind.problems.market.simulator.simulate import simulate

    arguments: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in str(path).split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier() or not value:
            raise InvalidInput("not key=value", field="spec", value=part, remedy="write sim:names=8,days=3,seed=0")
        if key in arguments:
            raise InvalidInput("given twice", field="spec", value=key, remedy="give every argument once")
        arguments[key] = literal(value)
    more = {k: v for k, v in {"names": names, "days": days, "bucket_s": bucket_s, **options}.items() if v is not None}
    twice = sorted(set(more) & set(arguments))
    if twice:
        raise InvalidInput("given twice, in the spec and beside it", field="spec", value=twice, remedy="give it once")
    arguments |= more
    return simulate(**arguments)  # refuses unknown arguments itself


def literal(text: str) -> Any:
    """Return a number, a truth value, None or the text itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
