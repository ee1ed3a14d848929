"""How results show themselves: one line in a terminal, the whole summary in a notebook."""

from __future__ import annotations

from html import escape

__all__ = ["Shown"]


class Shown:
    """Shows itself by its :meth:`summary`, instead of by all the arrays in it."""

    def summary(self) -> str:
        """Return what is in it, as a few lines of text."""
        raise NotImplementedError

    def __repr__(self) -> str:
        first, _, rest = self.summary().partition("\n")
        more = "; see .summary()" if rest else ""
        return f"{type(self).__name__}({first}{more})"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>"
