"""Parameters as scikit-learn reads and sets them."""

from __future__ import annotations

import inspect
from typing import Any, Self

from crosswind.solvers.errors import InvalidInput

__all__ = ["Parameters"]


class Parameters:
    """``__init__`` stores its arguments untouched; this reads and sets them by name and guards what is not fitted."""

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return sorted(p for p in inspect.signature(cls.__init__).parameters if p != "self")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name; ``deep`` is accepted for scikit-learn and changes nothing."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments and return self.

        Raises
        ------
        InvalidInput
            Unknown parameter.
        """
        known = self._parameter_names()
        for name, value in params.items():
            if name not in known:
                raise InvalidInput("unknown parameter", field=name, remedy=f"use one of {', '.join(known)}")
            setattr(self, name, value)
        return self

    def _require(self, attribute: str) -> Any:
        if not hasattr(self, attribute):
            raise InvalidInput("not fitted yet", field=type(self).__name__, remedy="call .fit(...) first")
        return getattr(self, attribute)

    def __repr__(self) -> str:
        defaults = {n: p.default for n, p in inspect.signature(type(self).__init__).parameters.items()}
        shown = []
        for name, value in self.get_params().items():
            plain = isinstance(value, (bool, int, float, str, tuple, list, dict, type(None)))
            if not plain:
                shown.append(f"{name}=<{type(value).__name__}>")
            elif value != defaults[name]:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"
