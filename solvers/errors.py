"""The one hierarchy of errors; every message names the field, the offending value and the remedy."""

from __future__ import annotations

__all__ = [
    "CrosswindError",
    "DataGap",
    "InfeasibleProblem",
    "InvalidInput",
    "LimitBreach",
    "MissingDependency",
    "SolverFailure",
]


def _short(value: object, limit: int = 120) -> str:
    """Return a one-line text of ``value`` that is never longer than ``limit`` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


class CrosswindError(Exception):
    """Base of every error that crosswind raises on purpose.

    Parameters
    ----------
    message
        What is wrong, in one sentence.
    field
        The argument, column, file or limit at fault.
    value
        The offending value; shortened in the text, kept whole in the attribute.
    remedy
        What the user can do about it.
    """

    def __init__(
        self, message: str, *, field: str | None = None, value: object = None, remedy: str | None = None
    ) -> None:
        self.message, self.field, self.value, self.remedy = message, field, value, remedy
        super().__init__(message)

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}" if self.field else self.message
        if self.value is not None:
            text += f" (got {_short(self.value)})"
        if self.remedy:
            text += f". Remedy: {self.remedy}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle by their positional arguments alone; keywords would be lost between worker processes.
        return (_rebuild, (type(self), self.message, self.field, self.value, self.remedy))


def _rebuild(
    kind: type[CrosswindError], message: str, field: str | None, value: object, remedy: str | None
) -> CrosswindError:
    return kind(message, field=field, value=value, remedy=remedy)


class InvalidInput(CrosswindError, ValueError):
    """An argument or a table is malformed: refused at the edge, with nothing half-done."""


class DataGap(InvalidInput):
    """Data that was asked for is not there: a missing day, a truncated file, an expiry that is not listed."""


class InfeasibleProblem(CrosswindError):
    """The limits contradict each other; the message names them and the smallest relaxation."""


class SolverFailure(CrosswindError):
    """No backend returned an iterate that passes our own certificate."""


class LimitBreach(CrosswindError):
    """A hard limit would be broken; the action was refused."""


class MissingDependency(CrosswindError, ImportError):
    """An optional package is needed; the remedy names the extra to install."""
