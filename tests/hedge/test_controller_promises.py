"""What is promised of the controller beside its decisions: the classic rate, the same bytes everywhere, and words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from controller_cases import SCALE, VALUE, future, seen_of, setup_of

from crosswind.problems.hedge.controller import HedgeController, HedgeRank
from crosswind.solvers.native import COMPILED

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.parametrize("horizon", [2, 30, 300])
def test_without_limits_it_is_the_undiscounted_rate_of_garleanu_and_pedersen(horizon: int) -> None:
    """g = .01, Λ = 3: a = .0560924115 of the gap, at any horizon, as what comes after it has the regulator's value."""
    setup = setup_of(
        future(multiplier=1e-6, clip=np.inf, temporary=3.0 / SCALE),
        horizon=horizon, covariance_per_s=1e-8, dt_s=1.0, risk_aversion=0.01 / (SCALE * 1e-8), gap_cap=np.inf,
        impact=np.zeros((1, 1, 1)), tol=1e-12, accept_bps=1e-9,
    )  # fmt: skip
    plan = np.full((horizon, 1), SCALE)
    decision = HedgeController(setup).step(seen_of(0.0, SCALE, half_spread=(0.0,), plan=plan))
    assert decision.rank is HedgeRank.OPTIMAL
    assert decision.wanted[0] / SCALE == pytest.approx(0.0560924115, abs=1e-6)
    # The rate by its equation: v² + gv − gΛ = 0, a = (g + v)/(Λ + g + v).
    v = 0.5 * (np.sqrt(0.01**2 + 4.0 * 3.0 * 0.01) - 0.01)
    assert decision.wanted[0] / SCALE == pytest.approx((0.01 + v) / (3.01 + v), abs=1e-6)


STORY = """
import hashlib, json, sys
sys.path.insert(0, {here!r})
from controller_cases import future, setup_of
from crosswind.problems.hedge.controller import HedgeController, canonical
from test_hedge_controller_ladder import story

setup = setup_of(
    future(participation=0.1, liquidity=1e8, rate=2e6), future("NQ"), trip_after=2, rearm_after=2, messages=30
)
lines = []
controller = HedgeController(setup, journal=lambda record: lines.append(canonical(record)))
story(controller, 80, seed=11)
lines.append(canonical(controller.snapshot()))
lines.append(setup.fingerprint())
print(hashlib.sha256("\\n".join(lines).encode()).hexdigest(), len(lines))
"""


@pytest.mark.skipif(not COMPILED, reason="the extension was not compiled")
def test_the_journal_is_the_same_bytes_in_every_process() -> None:
    """Journal, snapshot and fingerprint over 80 chaotic steps, under four hash seeds and one to two BLAS threads."""
    told = set()
    for seed, threads in (("0", "1"), ("1", "2"), ("4242", "1"), ("random", "2")):
        env = os.environ | {"PYTHONHASHSEED": seed, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        code = STORY.format(here=str(HERE))
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        told.add(done.stdout.strip())
    assert len(told) == 1, told
    assert told.pop().endswith(" 82")


def test_an_explanation_names_costs_prices_and_what_cut_the_trade() -> None:
    """Marginal costs on both sides, the shadow price of the limit that binds, and the last check's cut."""
    controller = HedgeController(setup_of(future(clip=10 * VALUE), gap_cap=4e7))
    decision = controller.step(seen_of(0.0, 3 * SCALE, bounds=((0.0, 4.4 * VALUE),)))
    told = controller.explain(decision)
    row = told.to_frame().loc["ES"]
    assert decision.lots == (4,)
    assert told.prices["clip: ES"] > 0.0
    assert told.prices["clip: ES"] == pytest.approx(abs(row["clip"]))
    assert row["marginal_lag"] - row["marginal_trade"] == pytest.approx(row["clip"] + row["rate"], abs=1e-3)
    assert row["marginal_lag"] > row["marginal_trade"] > 0.0
    text = told.summary()
    for word in ("one more unit bought costs", "bps of lag", "clip: ES", "the last check cut: bounds: index"):
        assert word in text, text


@pytest.mark.parametrize("name", ["embed_mpc.py", "embed_mpc.cpp"])
def test_the_embedded_examples_stay_short(name: str) -> None:
    assert len((ROOT / "examples" / name).read_text(encoding="utf-8").splitlines()) < 60
