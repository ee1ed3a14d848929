"""The rarer ways through clock, last check and rules: by what the controller then does."""

from __future__ import annotations

import math

import pytest
from controller_cases import SCALE, VALUE, future, seen_of, setup_of

from crosswind.problems.hedge.controller import HedgeController, HedgeRank

pytestmark = pytest.mark.guard


def test_a_clock_that_goes_back_again_begins_its_count_anew() -> None:
    """Three even ticks are asked for; a second slip in between makes none of those before it count."""
    controller = HedgeController(setup_of(rearm_after=3))
    assert controller.step(seen_of(1e6)).rank is HedgeRank.OPTIMAL
    ranks = [controller.step(seen_of(t)).rank.name for t in (5e5, 5e5 + 60.0, 1e5, 1e5 + 60.0, 1e5 + 120.0)]
    assert ranks == ["HOLD", "HOLD", "HOLD", "HOLD", "HOLD"]
    assert controller.step(seen_of(1e5 + 180.0)).rank is HedgeRank.OPTIMAL
    assert not controller.latches["clock"]


def test_a_clock_that_stands_still_is_the_same_slice() -> None:
    """The same time again: nothing passed, and what the slice still takes is what it took."""
    controller = HedgeController(setup_of(future(clip=4 * VALUE)))
    lots = [controller.step(seen_of(60.0, 3 * SCALE)).lots[0] for _ in range(3)]
    assert lots == [4, 0, 0]


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_notional_takes_what_lessens_and_cuts_what_adds(side: float) -> None:
    """Beyond its notional by the broker's count, a hedge may go back to nothing and no further out."""
    for need, most in ((2 * SCALE, 0), (-2 * SCALE, 60)):
        controller = HedgeController(setup_of(future(clip=math.inf, notional=10.5 * VALUE)))
        decision = controller.step(seen_of(0.0, side * need, position=(side * 50.0,)))
        lots = side * decision.lots[0]
        assert -most <= lots <= 0
        assert decision.binding == ("notional: ES",)
    assert lots == -60  # through nothing to the limit on the other side


def test_legs_that_would_leave_the_bounds_together_are_cut_in_proportion() -> None:
    setup = setup_of(future("A", temporary=1e-12), future("B", temporary=1e-12))
    plain = HedgeController(setup).step(seen_of(0.0, SCALE, 2))
    assert min(plain.lots) > 5
    for bounds, most in (((0.0, 6.2 * VALUE), 6), ((0.0, 0.5 * VALUE), 0)):
        cut = HedgeController(setup).step(seen_of(0.0, SCALE, 2, bounds=(bounds,)))
        assert 0 <= sum(cut.lots) <= most
        assert cut.binding == ("bounds: index",)
        assert cut.rank is HedgeRank.OPTIMAL


def test_without_a_gap_cap_a_block_is_hedged_ahead_in_full() -> None:
    """A cap cuts what is traded ahead of a planned block; where there is none, nothing is cut."""
    ahead = seen_of(0.0, 0.0, plan=[[SCALE]] * 20)
    free, capped = (HedgeController(setup_of(gap_cap=cap)).step(ahead) for cap in (math.inf, 4.5 * VALUE))
    assert (capped.lots, capped.binding) == ((4,), ("gap cap: index",))
    assert free.binding == ()
    assert free.lots[0] == round(free.wanted[0] / VALUE) > 4


def test_one_leg_of_a_pair_is_not_sent_alone_where_it_would_leave_the_bounds() -> None:
    """Carry asks for A against B. With one message left, A alone would open a gap that the pair does not."""
    pair = (future("A", temporary=1e-10), future("B", temporary=1e-10))
    asked = seen_of(0.0, 0.0, 2, plan=[[0.0]] * 20, basis_drift=(1e-4, -1e-4), bounds=((-2 * VALUE, 2 * VALUE),))
    both, one = (HedgeController(setup_of(*pair, messages=most)).step(asked) for most in (2, 1))
    assert both.lots[0] > 2
    assert both.lots[1] < -2
    assert one.orders == ()
    assert any(cut.startswith("messages: ") for cut in one.binding)
