"""Every bad argument of the simulator is refused by name."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from crosswind.problems.market import simulate
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.solvers.errors import InvalidInput


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("names", 0),
        ("names", -2),
        ("names", "IBM"),
        ("names", True),
        ("names", []),
        ("names", ["A", "A"]),
        ("names", ["A", ""]),
        ("names", ["A", 3]),
        ("names", 2.5),
        ("sectors", 0),
        ("sectors", 9),
        ("sectors", ["one"]),
        ("sectors", "tech"),
        ("sectors", ["market"] * 8),
        ("days", 0),
        ("days", 1.5),
        ("days", True),
        ("bucket_s", 0.0),
        ("bucket_s", -10.0),
        ("bucket_s", 7.0),
        ("bucket_s", 23400.0),
        ("bucket_s", float("nan")),
        ("bucket_s", "10"),
        ("seed", -1),
        ("seed", 1.5),
        ("seed", None),
        ("seed", True),
        ("start", "soon"),
        ("tz", "New York"),
        ("tz", ""),
        ("holidays", ["x"]),
        ("market_vol_daily", -0.01),
        ("market_vol_daily", float("inf")),
        ("market_vol_daily", "high"),
        ("idio_vol_daily", 0.0),
        ("idio_vol_daily", 20.0),
        ("tail_dof", 2.0),
        ("vol_u_shape", 1.0),
        ("beta_dispersion", 1.0),
        ("adv", 0.0),
        ("imbalance_scale", float("nan")),
        ("flow_sector_share", 0.9),
        ("flow_factor_corr", 1.1),
        ("flow_weights", (0.5,)),
        ("flow_weights", (0.5, 0.5, 0.5)),
        ("flow_weights", (0.5, -0.1, 0.1)),
        ("flow_weights", "much"),
        ("flow_half_lives_s", (0.0, 1.0, 2.0)),
        ("flow_half_lives_s", (1.0, 2.0, float("inf"))),
        ("impact_r2", 0.99),
        ("impact_r2", -0.1),
        ("kernel_half_lives_s", (30.0, 30.0)),
        ("kernel_half_lives_s", (-1.0, 30.0)),
        ("kernel_half_lives_s", (float("nan"), 30.0)),
        ("kernel_weights", (0.5, 0.4)),
        ("kernel_weights", (1.0,)),
        ("kernel_corr_across", 0.5),
        ("kernel_corr_within", 0.55),
        ("tick", 0.0),
        ("spread_bps", -1.0),
        ("future_tick", 0.0),
        ("round_mid", 1),
        ("with_factors", "yes"),
        ("open_local", "9.30"),
        ("open_local", "25:00"),
        ("close_local", "09:00"),
    ],
)
def test_bad_argument_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        simulate(**{field: value})
    assert caught.value.field == field
    assert caught.value.remedy


def test_unknown_parameter_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="impact_r2") as caught:
        simulate(impct_r2=0.1)
    assert caught.value.field == "impct_r2"


def test_permanent_and_single_values_are_accepted() -> None:
    parameters = SimulatorParameters(kernel_half_lives_s=np.inf, kernel_weights=1, market_vol_daily=np.float64(0.01))  # type: ignore[arg-type]
    assert parameters.kernel_half_lives_s == (np.inf,)
    assert parameters.kernel_weights == (1.0,)
    assert type(parameters.market_vol_daily) is float


def test_parameters_pickle_and_compare() -> None:
    parameters = SimulatorParameters(impact_r2=0.3)
    assert pickle.loads(pickle.dumps(parameters)) == parameters
    assert parameters != SimulatorParameters()
    assert SimulatorParameters.from_mapping(parameters.to_dict()) == parameters
