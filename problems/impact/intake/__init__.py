"""The door of the impact room: what may be fitted, which buckets are no rows, whether the clocks are in step."""

from __future__ import annotations

from crosswind.problems.impact.intake.checks import IntakeReport, check_events, events_with_gaps
from crosswind.problems.impact.intake.clocks import (
    ClockReport,
    clock_report,
    lagged_correlation,
    pair_shift,
    shift_clock,
)
from crosswind.problems.impact.intake.lead_lag import LeadLag, hayashi_yoshida, hayashi_yoshida_lead_lag
from crosswind.problems.impact.intake.masks import (
    Buckets,
    EventMask,
    Halts,
    Jumps,
    MaskReport,
    NewsWindows,
    OpenClose,
    Predicate,
    Times,
    apply_masks,
)

__all__ = [
    "Buckets",
    "ClockReport",
    "EventMask",
    "Halts",
    "IntakeReport",
    "Jumps",
    "LeadLag",
    "MaskReport",
    "NewsWindows",
    "OpenClose",
    "Predicate",
    "Times",
    "apply_masks",
    "check_events",
    "clock_report",
    "events_with_gaps",
    "hayashi_yoshida",
    "hayashi_yoshida_lead_lag",
    "lagged_correlation",
    "pair_shift",
    "shift_clock",
]
