"""Parameters of the simulated desk: how often parents arrive, how large they are, how unevenly they are filled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crosswind.problems.market.simulator.record_checks import check_record, refuse

__all__ = ["KINDS", "DeskParameters"]

KINDS = ("twap", "vwap", "lumpy", "block", "two_sided")


@dataclass(frozen=True)
class DeskParameters:
    """Every number of the desk's parent orders.

    On smooth TWAPs alone every hedging policy looks alike, because the plan is then the fill. The defaults therefore
    give most parents something that the plan does not say: lumps, blocks, two sides, revisions and cancellations. The
    rates are chosen, not measured: no public data set holds a desk's parents.

    Parameters
    ----------
    parents_per_day
        Mean of the Poisson number of parents per session.
    slice_s
        Length of a slice of the plan [s]; raised to whole buckets.
    horizon_min_s, horizon_max_s
        Range of the log-uniform window from start to deadline [s].
    slack_max
        The plan ends a uniform share of the window, up to this one, before the deadline: room to catch up and stretch.
    earliest_start_s
        No parent starts sooner after the session's first bucket [s]: sizes need a little volume to go by.
    participation_median, participation_log_sd, participation_max
        Size of a name's order over the volume expected in its window, from what was seen before its start and the
        usual profile of a session: log-normal, cut at the maximum.
    basket_probability, names_max
        Chance that a parent is a basket, and the most names it holds (two or more, uniformly).
    buy_probability
        Chance that a one-sided parent buys.
    kind_weights
        Relative frequency of ``twap, vwap, lumpy, block, two_sided``. A two-sided parent is always a basket; in a
        market of one name its weight goes to the others.
    two_sided_net_sd
        Standard deviation of net over gross notional of a two-sided parent.
    two_sided_lead
        Share of its window by which the sells of a two-sided parent lead its buys, as in a transition.
    vwap_u_shape
        U-shape of the volume profile that sizes and VWAP plans go by, as in ``sessions.u_shape``.
    fill_noise_sd
        Log-noise of a slice's fill around its plan.
    catch_up
        Share of the shortfall against the plan that a slice makes up.
    lumps_mean, lump_background
        A lumpy parent fills this share evenly and the rest in 1 + Poisson(lumps_mean) lumps at random slices.
    blocks_max, block_share
        A block parent plans this share in 1 to blocks_max blocks at fixed slices and the rest evenly.
    block_delay_probability
        Chance that a scheduled block is done one slice late.
    revision_probability, revisions_max
        Chance that a parent is revised, and the most revisions it sees (one or more, uniformly).
    resize_log_sd
        Log-standard deviation of the factor by which a revision changes what is left of the plan.
    stretch_probability, speed_up_probability
        Chances that a revision moves the plan's end to the deadline, or halves the time left.
    cancel_probability
        Chance that a parent is cancelled somewhere in its window.
    lot_shares
        Shares per lot; plans and fills are whole lots.

    Raises
    ------
    InvalidInput
        For a number out of range.
    """

    parents_per_day: float = 8.0
    slice_s: float = 60.0
    horizon_min_s: float = 1800.0
    horizon_max_s: float = 7200.0
    slack_max: float = 0.25
    earliest_start_s: float = 600.0
    participation_median: float = 0.05
    participation_log_sd: float = 0.8
    participation_max: float = 0.3
    basket_probability: float = 0.6
    names_max: int = 5
    buy_probability: float = 0.5
    kind_weights: tuple[float, ...] = (0.15, 0.2, 0.25, 0.2, 0.2)
    two_sided_net_sd: float = 0.3
    two_sided_lead: float = 0.1
    vwap_u_shape: float = 0.4
    fill_noise_sd: float = 0.5
    catch_up: float = 0.3
    lumps_mean: float = 3.0
    lump_background: float = 0.2
    blocks_max: int = 4
    block_share: float = 0.7
    block_delay_probability: float = 0.15
    revision_probability: float = 0.2
    revisions_max: int = 2
    resize_log_sd: float = 0.5
    stretch_probability: float = 0.3
    speed_up_probability: float = 0.3
    cancel_probability: float = 0.08
    lot_shares: int = 100

    def __post_init__(self) -> None:
        check_record(
            self,
            positive=("slice_s", "horizon_min_s", "horizon_max_s", "participation_median", "lot_shares"),
            non_negative=(
                "parents_per_day",
                "earliest_start_s",
                "participation_log_sd",
                "two_sided_net_sd",
                "fill_noise_sd",
                "lumps_mean",
                "resize_log_sd",
            ),
            shares=(
                "slack_max",
                "participation_max",
                "basket_probability",
                "buy_probability",
                "two_sided_lead",
                "catch_up",
                "lump_background",
                "block_share",
                "block_delay_probability",
                "revision_probability",
                "stretch_probability",
                "speed_up_probability",
                "cancel_probability",
                "vwap_u_shape",
            ),
        )
        for name in ("names_max", "blocks_max", "revisions_max"):
            if getattr(self, name) < 1:
                refuse(name, getattr(self, name), "must be at least 1", "pass 1 or more")
        if self.horizon_max_s < self.horizon_min_s:
            refuse("horizon_max_s", self.horizon_max_s, "is below horizon_min_s", "raise it")
        if self.participation_max == 0.0:
            refuse("participation_max", 0.0, "must be positive", "pass e.g. 0.3")
        for name in ("slack_max", "two_sided_lead", "vwap_u_shape"):
            if getattr(self, name) >= 1.0:
                refuse(name, getattr(self, name), "must be below 1", "lower it")
        if self.stretch_probability + self.speed_up_probability > 1.0:
            refuse("speed_up_probability", self.speed_up_probability, "and stretch_probability exceed 1", "lower one")
        self._check_weights()

    def _check_weights(self) -> None:
        try:
            weights = tuple(float(w) for w in self.kind_weights)
        except (TypeError, ValueError):
            weights = ()
        ok = len(weights) == len(KINDS) and bool(np.isfinite(weights).all()) and min(weights) >= 0.0
        if not ok or sum(weights) <= 0.0:
            refuse(
                "kind_weights",
                self.kind_weights,
                "are not weights of the kinds",
                f"pass {len(KINDS)} numbers of 0 or more, not all 0, for {', '.join(KINDS)}",
            )
        object.__setattr__(self, "kind_weights", weights)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as a plain dictionary: name → number or tuple."""
        return asdict(self)
