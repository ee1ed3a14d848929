"""Guards on the simulator's worlds: incidents that the truth lists are caught, quiet days stay quiet."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.hedge import BasisShock, CorrelationBreak, GuardrailConfig, Guardrails, Observation
from crosswind.problems.market import simulate

CONFIG = GuardrailConfig(basis=BasisShock(), correlation=CorrelationBreak(), stale=None)
S = 1_000_000_000


def minutes(world, days, seed):
    """Observations of a world's minutes by session, and its truth; the future is each day's nearest."""
    data = simulate(world=world, days=days, seed=seed)
    quotes, events = next(iter(data.futures.values())), data.events
    mids = 0.5 * (quotes.bid + quotes.ask)
    mid = events.mid.to_numpy()[events.index.get_indexer(quotes.index)]
    level = mid @ np.asarray(data.truth.parameters["index_shares"], float)
    out = []
    for day, rows in mids.groupby(quotes.index.normalize()).indices.items():
        future = mids[mids.iloc[rows].notna().all().idxmax()].to_numpy()
        for k in rows[1:]:
            out.append(
                Observation(
                    int(quotes.index.asi8[k]), 0.0, 0.0, session=f"{day:%F}", basis=float(future[k] / level[k] - 1.0),
                    hedge_return=float(future[k] / future[k - 1] - 1.0),
                    basket_return=float(np.mean(mid[k, :5] / mid[k - 1, :5] - 1.0)),
                )
            )  # fmt: skip
    return out, data.truth.parameters


def tripped(stream):
    rails = Guardrails(CONFIG)
    return [rails.check(one).tripped for one in stream]


@pytest.fixture(scope="module")
def quiet():
    return minutes("calm", 15, 21)[0]


def test_quiet_days_stay_quiet(quiet):
    state = tripped(quiet)
    assert not any("basis" in one for one in state)
    # The long run is on the page of measurements: less than one trip a month.
    starts = sum("correlation" in b and "correlation" not in a for a, b in pairwise(state))
    assert starts <= 1


def test_large_basis_shocks_are_caught_at_once():
    stream, truth = minutes("basis_shock", 15, 22)
    state, times = tripped(stream), np.array([one.time_ns for one in stream])
    large = [pd.Timestamp(t).value for t, size in truth["basis_jumps"] if abs(size) > 8e-4]
    assert len(large) >= 5
    for start in large:
        span = np.flatnonzero((times >= start) & (times <= start + 180 * S))
        assert any("basis" in state[k] for k in span)
    assert not all("basis" in one for one in state)


def test_a_basket_that_lets_go_is_caught_and_the_guard_lets_go_again(quiet):
    stream, delays = list(quiet), []
    sessions = [one.session for one in stream]
    days = sorted(set(sessions))
    spans = {day: [k for k, label in enumerate(sessions) if label == day] for day in days}
    for before, day in pairwise(days[3:9]):
        for k, other in zip(spans[day][100:190], spans[before][100:190], strict=True):
            stream[k] = replace(stream[k], basket_return=quiet[other].basket_return)
    state = tripped(stream)
    for day in days[4:9]:
        rows = spans[day][100:190]
        caught = [k for k in rows if "correlation" in state[k]]
        assert caught, day
        delays.append((stream[caught[0]].time_ns - stream[rows[0]].time_ns) / S)
        assert "correlation" not in state[spans[day][-1]], day
    assert np.median(delays) <= 1_500.0
