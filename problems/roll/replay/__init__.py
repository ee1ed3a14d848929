"""Roll days replayed as episodes: episodes, the spread-book venue, the kernel, baselines, comparisons."""

from __future__ import annotations

from crosswind.problems.roll.replay.baselines import (
    AdaptiveTwap,
    AllEarly,
    AllLate,
    Legged,
    PassiveThenCross,
    TwapSpread,
    VolumeFollowing,
)
from crosswind.problems.roll.replay.compare import RollComparison, compare_rolls
from crosswind.problems.roll.replay.costs import COMPONENTS, RollFill
from crosswind.problems.roll.replay.episodes import STRESS_RATES, RollEpisode, roll_episodes, stressed
from crosswind.problems.roll.replay.kernel import RollReplayConfig, replay_roll
from crosswind.problems.roll.replay.recorded import SpreadRule, real_roll_day, roll_market_of
from crosswind.problems.roll.replay.result import RollReplay
from crosswind.problems.roll.replay.rules import RollVenue

__all__ = [
    "COMPONENTS",
    "STRESS_RATES",
    "AdaptiveTwap",
    "AllEarly",
    "AllLate",
    "Legged",
    "PassiveThenCross",
    "RollComparison",
    "RollEpisode",
    "RollFill",
    "RollReplay",
    "RollReplayConfig",
    "RollVenue",
    "SpreadRule",
    "TwapSpread",
    "VolumeFollowing",
    "compare_rolls",
    "real_roll_day",
    "replay_roll",
    "roll_episodes",
    "roll_market_of",
    "stressed",
]
