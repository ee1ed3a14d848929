"""Settings given to a backend as keywords: its own defaults below, the user's on top, unknown names refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosswind.solvers.errors import InvalidInput

__all__ = ["merged"]


def merged(
    known: Mapping[str, Any], ours: Mapping[str, Any], settings: Mapping[str, Any], solver: str
) -> dict[str, Any]:
    """Return ``ours`` overlaid with the user's ``settings``, every name and type checked.

    Parameters
    ----------
    known
        Every setting the backend has, with its default; a default of ``None`` takes any value.
    ours
        What we set ourselves.
    settings
        The user's.
    solver
        Name for the messages.

    Raises
    ------
    InvalidInput
        On a name that the backend does not know or a value of another type; a whole number may stand for a float.
    """
    for key, value in settings.items():
        if key not in known:
            names = ", ".join(sorted(known))
            raise InvalidInput(
                f"{solver} has no setting of this name", field=key, value=value, remedy=f"one of {names}"
            )
        kind = type(known[key])
        fits = known[key] is None or isinstance(value, kind)
        if kind is not bool and isinstance(value, bool):
            fits = known[key] is None
        elif kind is float and isinstance(value, int):
            fits = True
        if not fits:
            raise InvalidInput(
                f"{solver} does not take this value", field=key, value=value, remedy=f"give a {kind.__name__}"
            )
    return dict(ours) | dict(settings)
