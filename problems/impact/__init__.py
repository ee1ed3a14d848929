"""Cross-impact: estimation under all no-arbitrage constraints at once, baselines, diagnosis."""

from __future__ import annotations

from crosswind.problems.impact.baselines import (
    DiagonalNNLS,
    FullOLS,
    KyleImpact,
    OwnFlowOLS,
    SequentialHeuristic,
)
from crosswind.problems.impact.decision import DecisionCalibration, ParentBaskets, calibrate_decision, draw_parents
from crosswind.problems.impact.estimate import CrossImpact
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.evaluate import Recovery, compare_models, recovery, truth_model
from crosswind.problems.impact.factors import Defactor, FittedStage
from crosswind.problems.impact.families.rates import RateSearch, log_grid_half_lives
from crosswind.problems.impact.families.robust import HuberFit
from crosswind.problems.impact.families.separable import SeparableImpact
from crosswind.problems.impact.families.sparsify import Sparsified, sparsify
from crosswind.problems.impact.families.venue_events import VenueEvents
from crosswind.problems.impact.families.venues import VenueImpact
from crosswind.problems.impact.features import Dictionary, make_dictionary
from crosswind.problems.impact.intake import (
    Buckets,
    ClockReport,
    EventMask,
    Halts,
    IntakeReport,
    Jumps,
    LeadLag,
    NewsWindows,
    OpenClose,
    Predicate,
    Times,
    apply_masks,
    check_events,
    clock_report,
    events_with_gaps,
    hayashi_yoshida,
    hayashi_yoshida_lead_lag,
    lagged_correlation,
    pair_shift,
    shift_clock,
)
from crosswind.problems.impact.laws import AlmgrenLaw, PropagatorLaw, SquareRootLaw
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.moments import (
    ImpactMoments,
    StreamingGram,
    by_day,
    event_moments,
    event_parts,
    merge_moments,
    stream_moments,
)
from crosswind.problems.impact.moments.common_moves import noise_edge, with_factors
from crosswind.problems.impact.regimes import LiveScale, RegimeModel, RegimeScales
from crosswind.problems.impact.sample import by_session, join_sessions
from crosswind.problems.impact.store import ModelStore
from crosswind.problems.impact.transforms import PowerFlow

__all__ = [
    "AlmgrenLaw",
    "Buckets",
    "ClockReport",
    "CrossImpact",
    "DecisionCalibration",
    "Defactor",
    "DiagonalNNLS",
    "Dictionary",
    "EventMask",
    "FittedStage",
    "FullOLS",
    "Halts",
    "HuberFit",
    "ImpactEstimator",
    "ImpactModel",
    "ImpactMoments",
    "IntakeReport",
    "Jumps",
    "KyleImpact",
    "LeadLag",
    "LiveScale",
    "ModelStore",
    "NewsWindows",
    "OpenClose",
    "OwnFlowOLS",
    "ParentBaskets",
    "PowerFlow",
    "Predicate",
    "PropagatorLaw",
    "RateSearch",
    "Recovery",
    "RegimeModel",
    "RegimeScales",
    "SeparableImpact",
    "SequentialHeuristic",
    "Sparsified",
    "SquareRootLaw",
    "StreamingGram",
    "Times",
    "VenueEvents",
    "VenueImpact",
    "apply_masks",
    "by_day",
    "by_session",
    "calibrate_decision",
    "check_events",
    "clock_report",
    "compare_models",
    "draw_parents",
    "event_moments",
    "event_parts",
    "events_with_gaps",
    "hayashi_yoshida",
    "hayashi_yoshida_lead_lag",
    "join_sessions",
    "lagged_correlation",
    "log_grid_half_lives",
    "make_dictionary",
    "merge_moments",
    "noise_edge",
    "pair_shift",
    "recovery",
    "shift_clock",
    "sparsify",
    "stream_moments",
    "truth_model",
    "with_factors",
]
