"""Results show themselves by their summaries, never by all the arrays in them."""

from __future__ import annotations

import pytest

from crosswind.problems.market import simulate, world
from crosswind.problems.market.contracts import contract
from crosswind.problems.market.features import daily_volatility, stylised_facts
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.shown import Shown


@pytest.fixture(scope="module")
def shown() -> dict[str, Shown]:
    roll = simulate(world="roll_day", days=1, names=2, sectors=1, bucket_s=60.0)
    perpetual = simulate(world="funding", days=1, names=2, sectors=1)
    assert roll.truth is not None
    assert roll.desk is not None
    return {
        "events": roll.events,
        "market": roll,
        "future": roll.futures["SIM"],
        "spread": next(iter(roll.spreads.values())),
        "truth": roll.truth,
        "desk": roll.desk,
        "order": roll.desk.orders[0],
        "bars": perpetual.bars["PERP"],
        "funding": perpetual.funding["PERP"],
        "world": world("stress"),
        "contract": contract("ES"),
        "facts": stylised_facts(roll.events),
        "volatility": daily_volatility(roll.events),
        "report": ReadReport(),
    }


def test_a_repr_is_one_line_and_a_notebook_gets_the_summary(shown: dict[str, Shown]) -> None:
    for name, one in shown.items():
        line = repr(one)
        assert line.startswith(f"{type(one).__name__}("), name
        assert line.endswith(")"), name
        assert "\n" not in line, name
        assert len(line) < 250, name
        if name != "facts":  # a table of its own
            assert one._repr_html_().startswith("<pre>"), name


def test_markup_in_a_summary_is_escaped() -> None:
    class Odd(Shown):
        def summary(self) -> str:
            return "<b> & more\nlines"

    assert Odd()._repr_html_() == "<pre>&lt;b&gt; &amp; more\nlines</pre>"
    assert repr(Odd()) == "Odd(<b> & more; see .summary())"
    with pytest.raises(NotImplementedError):
        Shown().summary()


def test_the_truth_tells_its_kernel_and_what_was_drawn() -> None:
    told = simulate(world="stress", days=1, names=2, sectors=1, bucket_s=60.0, seed=3).truth
    assert told is not None
    text = told.summary()
    assert "stress@1[" in text
    assert "seed 3: 2 names in 1 sectors" in text
    assert "in .parameters: regime_path" in text
    plain = simulate(days=1, names=2, sectors=1, bucket_s=60.0, kernel_half_lives_s=(30.0, float("inf"))).truth
    assert plain is not None
    own = 1e10 * plain.matrices.sum(axis=0).diagonal()
    assert f"half-lives 30 s, permanent; self-impact at once {own.min():.3g} to {own.max():.3g} bps" in plain.summary()
    still = simulate(days=1, names=2, sectors=1, bucket_s=60.0, impact_r2=0.0).truth
    assert still is not None
    assert "no impact" in still.summary()


def test_an_order_tells_what_became_of_its_plan() -> None:
    desk = simulate(world="revisions", days=2, names=2, sectors=1, bucket_s=60.0, seed=1).desk
    assert desk is not None
    texts = {order.name: order.summary() for order in desk.orders}
    for order in desk.orders:
        text = texts[order.name]
        assert text.startswith(f"{order.name}: {order.kind} of ")
        assert f"{len(order.revisions)} revisions" in text
        assert f"{order.fills.abs().to_numpy().sum():,.0f} done" in text
        assert ("cancelled in slice" in text) == (order.cancelled_at is not None)


def test_one_is_counted_as_one() -> None:
    one = simulate(days=1, names=1, sectors=1, bucket_s=60.0).events
    assert one.summary().startswith("1 name, 1 session (")
    assert "1 name, 1 session," in repr(one)
