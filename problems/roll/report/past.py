"""The metrics of past roll days, for the bands behind a dashboard's lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crosswind.problems.roll.metrics import METRICS, RollMetricsConfig, RollVolumeBaseline, roll_metrics
from crosswind.problems.roll.model import RollPolicy
from crosswind.problems.roll.replay import AdaptiveTwap, RollEpisode, RollReplay, RollReplayConfig, replay_roll
from crosswind.solvers.errors import InvalidInput

__all__ = ["leg_fills", "past_roll_metrics"]


def leg_fills(replay: RollReplay) -> pd.DataFrame:
    """Return the fills of a replay by leg: time (UTC, in order) → ``near``, ``far`` [signed contracts]."""
    rows = sorted(
        (
            f.time_ns,
            {"spread": -f.units, "near": f.units}.get(f.instrument, 0),
            0 if f.instrument == "near" else f.units,
        )
        for f in replay.fills
    )
    index = pd.DatetimeIndex(pd.to_datetime([row[0] for row in rows], utc=True), name="time")
    return pd.DataFrame([row[1:] for row in rows], index=index, columns=["near", "far"], dtype=float)


def past_roll_metrics(
    episodes: Sequence[RollEpisode],
    policy: RollPolicy | None = None,
    config: RollReplayConfig | None = None,
    *,
    baseline: RollVolumeBaseline | None = None,
    metrics: RollMetricsConfig | None = None,
) -> list[pd.DataFrame]:
    """Return the metrics of past rolls, one frame per order, as :func:`~crosswind.problems.roll.metric_bands` wants.

    The whole session gives RPC, CDE and BDZ; LET and RDP are those of the order as ``policy`` traded it, between its
    start and its cutoff, and not known outside.

    Parameters
    ----------
    episodes
        Orders on past roll days, simulated or recorded: each frame says which.
    policy
        Who traded them; default :class:`AdaptiveTwap`.
    config
        Of the replay.
    baseline
        Expected roll volume; default that of these days themselves, so that the mean of RPC is near 1.
    metrics
        Windows.

    Raises
    ------
    InvalidInput
        Without an episode.
    """
    if not episodes:
        raise InvalidInput("are none", field="episodes", value=0, remedy="pass at least one past roll")
    usual = baseline
    if usual is None:
        days = {id(e.market): e.market for e in episodes}
        usual = RollVolumeBaseline.fit(list(days.values()))
    trader = AdaptiveTwap() if policy is None else policy
    frames = []
    for episode in episodes:
        replay = replay_roll(episode, trader, config)
        known = usual if usual.simulated else None  # recorded days must not be held against themselves
        frame = roll_metrics(episode.market, episode.order, known, leg_fills(replay), metrics)
        inside = np.zeros(len(frame), dtype=bool)
        inside[episode.first : episode.last] = True
        frame.loc[~inside, ["let_s", "rdp"]] = np.nan
        frames.append(frame[list(METRICS)])
        frames[-1].attrs = frame.attrs
    return frames
