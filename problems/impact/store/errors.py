"""Refusals of the store that a caller may want to tell apart."""

from __future__ import annotations

from crosswind.solvers.errors import CrosswindError, DataGap

__all__ = ["ModelCorrupted", "StaleModel"]


class ModelCorrupted(CrosswindError):
    """A stored file is not what was written: missing, unreadable, or of another SHA-256."""


class StaleModel(DataGap):
    """The model that was asked for is older than the caller accepts; the message names its age."""
