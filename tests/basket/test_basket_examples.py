"""The examples of baskets print the published numbers and are as short as they promise."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# λ: remaining x_1..x_4, expected cost, standard deviation (Almgren and Chriss, 2000, to more digits than they print)
PAPER = {
    2e-6: ([428598.846, 182932.814, 76295.722, 27643.377], 1_140_715.1670, 449_367.6525),
    1e-6: ([541955.554, 289854.219, 147897.488, 62141.802], 911_226.9863, 603_430.669),
    0.0: ([800_000.0, 600_000.0, 400_000.0, 200_000.0], 662_500.0, 1_040_672.859),
}


def test_almgren_chriss_frontier_prints_the_paper() -> None:
    page = runpy.run_path(str(EXAMPLES / "almgren_chriss_frontier.py"))
    table, curve, seeking = page["table"], page["curve"], page["seeking"]
    for aversion, (left, expected, sd) in PAPER.items():
        row = table.loc[aversion]
        np.testing.assert_allclose(row[["x1", "x2", "x3", "x4"]].astype(float), left, atol=1e-3)
        assert row["expected cost"] == pytest.approx(expected, abs=1e-3)
        assert row["deviation"] == pytest.approx(sd, abs=1e-2)
        assert row["off closed form"] < 1e-3
    assert seeking.expected_cost == pytest.approx(717_958.1043, abs=1e-3)
    assert seeking.sd == pytest.approx(1_258_654.325, abs=1e-2)
    assert curve.monotone
    assert len(curve.table) == 30
    # The published points lie on the curve that was found without them, which is convex in variance and cost.
    variance, cost = curve.table["sd_bps"].to_numpy()[::-1] ** 2, curve.table["expected_bps"].to_numpy()[::-1]
    for _, expected, sd in PAPER.values():
        chord = float(np.interp((1e-2 * sd) ** 2, variance, cost))
        assert chord >= 1e-2 * expected - 1e-6
        assert chord == pytest.approx(1e-2 * expected, rel=0.02)


def test_rebalance_of_500_names_takes_under_20_lines() -> None:
    text = (EXAMPLES / "rebalance_500.py").read_text(encoding="utf-8")
    cells = [cell for cell in re.split(r"^# %%", text, flags=re.M) if "BasketProblem(" in cell]
    assert len(cells) == 1
    lines = [line for line in cells[0].splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) < 20
    page = runpy.run_path(str(EXAMPLES / "rebalance_500.py"))
    schedule = page["schedule"]
    assert schedule.problem.n_names == 500
    assert schedule.problem.breaches(schedule.trades, tol=1e-8).empty
    assert schedule.certificate.gap_rel <= 1e-6
    np.testing.assert_allclose(schedule.trades.sum(), page["book"]["order"], rtol=1e-9)
    assert (page["blotter"].dtypes == np.int64).all()
