"""The command line: one verb a job, the same calls as from Python."""

from __future__ import annotations

from crosswind.cli.app import main

__all__ = ["main"]
