"""Moments of events larger than memory: one pass, any cuts, several files at once, merged, saved, fitted again."""

from __future__ import annotations

from crosswind.problems.impact.moments.blocks import Block
from crosswind.problems.impact.moments.data import ImpactMoments, merge_moments
from crosswind.problems.impact.moments.sources import ReadDay, by_day, event_parts, stream_moments
from crosswind.problems.impact.moments.stream import StreamingGram, event_moments
from crosswind.problems.impact.moments.sums import Sums

__all__ = [
    "Block",
    "ImpactMoments",
    "ReadDay",
    "StreamingGram",
    "Sums",
    "by_day",
    "event_moments",
    "event_parts",
    "merge_moments",
    "stream_moments",
]
