"""Every malformed input is refused at the edge, by a typed error that names the field and the culprit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.basket import BasketProblem, Blackout
from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import CrosswindError, InfeasibleProblem, InvalidInput

Maker = Callable[..., BasketProblem]
NAMES = ["IBM", "BAC", "AIG"]
TIMES = pd.date_range("2024-03-04 14:30", periods=6, freq="15min", tz="UTC")


def volume(**changes: Any) -> pd.DataFrame:
    frame = pd.DataFrame(2e7, index=TIMES, columns=NAMES)
    for name, value in changes.items():
        frame.loc[TIMES[2], name] = value
    return frame


def covariance(**changes: float) -> pd.DataFrame:
    matrix = 1e-9 * (0.3 + 0.7 * np.eye(3))
    frame = pd.DataFrame(matrix, index=NAMES, columns=NAMES)
    for name, value in changes.items():
        frame.loc[name, name] = value
    return frame


INDEFINITE = pd.DataFrame(1e-9 * np.array([[1, 2, 0], [2, 1, 0], [0, 0, 1]]), index=NAMES, columns=NAMES)
ONE_SECTOR = pd.Series("S", index=NAMES)
HOUR = pd.Timedelta(hours=1)
LOPSIDED = pd.DataFrame(1e-9 * np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]), index=NAMES, columns=NAMES)

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "inventory is a dict": ({"inventory": {"IBM": 1.0}}, "inventory", "Series"),
    "inventory is empty": ({"inventory": pd.Series([], dtype=float)}, "inventory", "no names"),
    "inventory NaN": ({"inventory": pd.Series({"IBM": 1e6, "BAC": np.nan})}, "inventory", "BAC"),
    "inventory inf": ({"inventory": pd.Series({"IBM": np.inf})}, "inventory", "IBM"),
    "inventory text": ({"inventory": pd.Series({"IBM": "a lot"})}, "inventory", "numeric"),
    "inventory twice": ({"inventory": pd.Series([1.0, 2.0], index=["IBM", "IBM"])}, "inventory", "duplicated"),
    "name not in model": ({"inventory": pd.Series({"IBM": 1e6, "XOM": 1e6})}, "model", "XOM"),
    "name not in volume": ({"volume": volume().drop(columns="BAC")}, "volume", "BAC"),
    "name not in covariance": ({"covariance": covariance().iloc[:2, :2]}, "covariance", "AIG"),
    "name not in spread": ({"spread": pd.Series({"IBM": 1e-4, "BAC": 1e-4})}, "spread", "AIG"),
    "volume NaN": ({"volume": volume(BAC=np.nan)}, "volume", "BAC"),
    "volume inf": ({"volume": volume(BAC=np.inf)}, "volume", "BAC"),
    "volume negative": ({"volume": volume(AIG=-1.0)}, "volume", "AIG"),
    "volume misses a slice": ({"volume": volume().drop(index=TIMES[3])}, "volume", "missing"),
    "volume naive": ({"volume": volume().tz_localize(None)}, "volume.index", "naive"),
    "volume unsorted": ({"volume": volume().iloc[::-1]}, "volume.index", "increase"),
    "volume array": ({"volume": np.ones((6, 3))}, "volume", "DataFrame"),
    "volume twice": ({"volume": pd.concat([volume(), volume()[["IBM"]]], axis=1)}, "volume", "duplicated"),
    "no volume for participation": ({"volume": None, "temporary": 1e-9}, "volume", "participation"),
    "no volume for default cost": ({"volume": None, "participation": None}, "temporary", "default"),
    "no covariance for risk": ({"covariance": None, "temporary": 1e-9}, "covariance", "risk_aversion"),
    "covariance NaN": ({"covariance": covariance(BAC=np.nan)}, "covariance", "BAC"),
    "covariance indefinite": ({"covariance": INDEFINITE}, "covariance", "positive semidefinite"),
    "covariance negative": ({"covariance": covariance(IBM=-1e-9)}, "covariance", "positive semidefinite"),
    "covariance asymmetric": ({"covariance": LOPSIDED}, "covariance", "symmetric"),
    "covariance not square": ({"covariance": covariance().iloc[:2]}, "covariance", "square"),
    "times naive": ({"times": TIMES.tz_localize(None)}, "times", "naive"),
    "times unsorted": ({"times": TIMES[::-1]}, "times", "increase"),
    "times twice": ({"times": TIMES.append(TIMES[:1]).sort_values()}, "times", "increase"),
    "times empty": ({"times": TIMES[:0]}, "times", "at least one"),
    "times list": ({"times": list(TIMES)}, "times", "DatetimeIndex"),
    "slices overlap": ({"slice_s": 901.0}, "times", "overlap"),
    "slice zero": ({"slice_s": 0.0}, "slice_s", "> 0"),
    "spread negative": ({"spread": -1e-4}, "spread", ">= 0"),
    "spread in bps": ({"spread": 2.0}, "spread", "share of the price"),
    "spread NaN": ({"spread": pd.Series({"IBM": 1e-4, "BAC": np.nan, "AIG": 0.0})}, "spread", "BAC"),
    "temporary negative": ({"temporary": -1e-9}, "temporary", ">= 0"),
    "risk aversion negative": ({"risk_aversion": -1e-6}, "risk_aversion", ">= 0"),
    "risk aversion NaN": ({"risk_aversion": float("nan")}, "risk_aversion", "finite"),
    "participation negative": ({"participation": -0.1}, "participation", ">= 0"),
    "participation text": ({"participation": "ten percent"}, "participation", "number"),
    "cap negative": ({"sectors": ONE_SECTOR, "sector_cap": -1.0}, "sector_cap", ">= 0"),
    "cap NaN": ({"sectors": ONE_SECTOR, "sector_cap": pd.Series({"S": np.nan})}, "sector_cap[S]", "finite"),
    "cap without sectors": ({"sector_cap": 1e6}, "sectors", "needs the sectors"),
    "name without sector": ({"sectors": pd.Series({"IBM": "S", "BAC": "S"}), "sector_cap": 1e6}, "sectors", "AIG"),
    "sector NaN": ({"sectors": ONE_SECTOR.where(ONE_SECTOR.index != "BAC"), "sector_cap": 1e6}, "sectors", "BAC"),
    "band negative": ({"cash_band": -1.0}, "cash_band", ">= 0"),
    "completion word": ({"completion": "maybe"}, "completion", "unknown"),
    "completion zero": ({"completion": 0.0}, "completion", "> 0"),
    "completion lacks a name": ({"completion": pd.Series({"IBM": 0.0})}, "completion", "BAC"),
    "blackout of a stranger": ({"blackouts": (Blackout(TIMES[0], TIMES[1], ("XOM",)),)}, "blackouts", "XOM"),
    "deadline of a stranger": ({"must_finish": pd.Series({"XOM": TIMES[3]})}, "must_finish", "XOM"),
    "deadline naive": ({"must_finish": pd.Series({"IBM": pd.Timestamp("2024-03-04")})}, "must_finish[IBM]", "naive"),
    "participation in percent": ({"participation": 10.0}, "participation", "share of the volume"),
    "sector mistyped": ({"sectors": ONE_SECTOR, "sector_cap": pd.Series({"T": 1e6})}, "sector_cap", "T"),
    "model of another kind": ({"model": np.eye(3)}, "model", "ImpactModel"),
    "deadlines as dict": ({"must_finish": {"IBM": TIMES[3]}}, "must_finish", "Series"),
    "previous trade as array": ({"previous_trade": np.zeros(3)}, "previous_trade", "Series"),
    "blackout as tuple": ({"blackouts": ((TIMES[0], TIMES[1]),)}, "blackouts", "Blackout"),
    "change negative": ({"max_change": -1.0}, "max_change", ">= 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_refused_with_field_and_culprit(case: str, make: Maker) -> None:
    changes, field, text = BAD[case]
    with pytest.raises(InvalidInput) as caught:
        _build(make, changes)
    assert caught.value.field == field
    assert text in str(caught.value)
    assert caught.value.remedy


def _build(make: Maker, changes: dict[str, Any]) -> BasketProblem:
    # The maker takes orders as a dict; a malformed inventory goes in through replace.
    return make().replace(**changes) if "inventory" in changes else make(**changes)


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [(TIMES[1], TIMES[1], "empty"), (pd.Timestamp("2024-03-04"), TIMES[1], "naive"), ("never", TIMES[1], "time")],
)
def test_blackout_window_is_checked(start: Any, end: Any, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        Blackout(start, end)


def test_indefinite_impact_is_refused_at_the_edge(make: Maker) -> None:
    indefinite = ImpactModel(
        tuple(NAMES), np.zeros(1), np.array([[[1, 2, 0], [2, 1, 0], [0, 0, 1]]]) * 1e-9, "instantaneous"
    )
    with pytest.raises(InvalidInput, match="semidefinite"):
        make(model=indefinite)


def test_trades_are_checked_before_they_are_scored(make: Maker) -> None:
    problem = make()
    good = problem.frame(np.zeros((6, 3)))
    with pytest.raises(InvalidInput, match="BAC"):
        problem.score(good.drop(columns="BAC"))
    with pytest.raises(InvalidInput, match="missing"):
        problem.score(good.iloc[1:])
    with pytest.raises(InvalidInput, match="finite"):
        problem.breaches(good.assign(IBM=np.nan))


def test_callers_objects_are_neither_kept_nor_changed(make: Maker) -> None:
    table = volume()
    problem = make(volume=table)
    before = problem.arrays.temporary.copy()
    table.iloc[:] = -1.0
    np.testing.assert_array_equal(problem.replace(cash_band=1e9).arrays.temporary, before)
    with pytest.raises(ValueError, match="read-only"):
        problem.arrays.inventory[0] = 0.0


def test_default_temporary_cost_is_a_tenth_of_volatility_over_volume(make: Maker) -> None:
    problem = make(volume=volume(BAC=0.0), covariance=covariance())
    expected = 0.1 * np.sqrt(1e-9 * 900.0) / 2e7
    np.testing.assert_allclose(problem.arrays.temporary, expected, rtol=1e-12)  # also where nothing trades
    by_slice = problem.replace(temporary=volume(IBM=3.0) * 1e-16)
    assert by_slice.arrays.temporary[2, 0] == pytest.approx(3e-16)
    assert (problem.replace(temporary=pd.Series([0.0, 1e-9, 2e-9], index=NAMES)).arrays.temporary[:, 1] == 1e-9).all()


def test_participation_and_caps_by_name(make: Maker) -> None:
    problem = make(participation=pd.Series({"IBM": 0.2, "BAC": 0.1, "AIG": 0.05}), volume=volume())
    assert problem.arrays.participation_cap is not None
    np.testing.assert_allclose(problem.arrays.participation_cap[0], [4e6, 2e6, 1e6])
    assert repr(problem) == "BasketProblem(3 names × 6 slices of 900 s, 9,000,000 gross)"


def test_wider_tables_in_another_order_give_the_same_problem(make: Maker) -> None:
    problem = make()
    assert problem.volume is not None
    assert problem.covariance is not None
    wide = problem.volume.assign(XOM=1.0)[["XOM", "AIG", "IBM", "BAC"]]
    early = pd.concat([wide.iloc[:1].set_axis(TIMES[:1] - pd.Timedelta(hours=1)), wide])
    shuffled = problem.covariance.loc[["AIG", "BAC", "IBM"], ["BAC", "AIG", "IBM"]]
    again = problem.replace(volume=early, covariance=shuffled, times=TIMES.tz_convert("America/New_York"))
    pd.testing.assert_frame_equal(again.solve().trades, problem.solve().trades)


@pytest.mark.parametrize("solo", [True, False])
def test_zero_volume_name_cannot_complete(make: Maker, solo: bool) -> None:
    orders = {"BAC": -3e6} if solo else {"IBM": 4e6, "BAC": -3e6}
    problem = make(orders)
    assert problem.volume is not None
    with pytest.raises(
        InfeasibleProblem, match=r"completion of BAC conflicts with participation.*relaxation 3 M"
    ) as caught:
        problem.replace(volume=problem.volume.assign(BAC=0.0)).solve()
    assert caught.value.value == {"BAC": pytest.approx(3e6)}


def test_zero_volume_matters_not_without_inventory_nor_with_a_penalty(make: Maker) -> None:
    problem = make({"IBM": 4e6, "BAC": 0.0})
    assert problem.volume is not None
    idle = problem.replace(volume=problem.volume.assign(BAC=0.0)).solve()
    assert (idle.trades["BAC"] == 0.0).all()
    stuck = make({"IBM": 4e6, "BAC": -3e6}, volume=problem.volume.assign(BAC=0.0), completion=1e-6).solve()
    assert stuck.inventory["BAC"].iloc[-1] == pytest.approx(-3e6)
    assert stuck.costs["terminal"] == pytest.approx(1e-6 * 9e12, rel=1e-3)


INFEASIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "participation": ({"participation": 0.01}, "completion of IBM conflicts with participation"),
    "sector": ({"sectors": ONE_SECTOR, "sector_cap": 1e6, "participation": None}, "sector S conflicts"),
    "blackout": ({"blackouts": (Blackout(TIMES[0], TIMES[5] + HOUR, ("AIG",)),)}, "completion of AIG"),
    "deadline": ({"must_finish": pd.Series({"IBM": TIMES[0]})}, "completion of IBM"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(INFEASIBLE))
def test_contradiction_that_counting_shows_names_limit_and_relaxation(case: str, make: Maker) -> None:
    changes, text = INFEASIBLE[case]
    with pytest.raises(InfeasibleProblem, match="smallest relaxation") as caught:
        make(**changes).solve()
    assert text in str(caught.value)


def test_smallest_relaxation_is_enough_and_less_is_not(make: Maker) -> None:
    problem = make(participation=0.03, risk_aversion=0.0)
    with pytest.raises(InfeasibleProblem) as caught:
        problem.solve()
    missing = pd.Series(caught.value.value).reindex(NAMES).fillna(0.0)
    side = np.sign(problem.inventory)
    assert problem.replace(completion=side * missing * (1 + 1e-9)).solve().executed > 0.5
    with pytest.raises(InfeasibleProblem):
        problem.replace(completion=side * missing * 0.999).solve()


def test_contradiction_that_only_the_program_sees(make: Maker) -> None:
    # Each name alone could finish; together the basket would leave the band, as what remains is not cash-neutral.
    with pytest.raises(CrosswindError) as caught:
        make(cash_band=1e4, completion=pd.Series({"IBM": 1e6, "BAC": 0.0, "AIG": 0.0})).solve()
    assert isinstance(caught.value, InfeasibleProblem)
    assert "cash band" in str(caught.value)


def test_only_the_limits_that_are_in_the_way_are_named(make: Maker) -> None:
    problem = make()
    day = Blackout(problem.times[0], problem.times[-1] + pd.Timedelta("1h"), ("IBM",))
    cases = {
        "blackout": problem.replace(blackouts=[day]),  # participation would have let it trade
        "participation": problem.replace(
            participation=0.01, sectors=pd.Series("all", list(problem.names)), sector_cap=1e9
        ),
        "sector cap": problem.replace(sectors=pd.Series(["a", "b", "c"], list(problem.names)), sector_cap=5e5),
    }
    for limit, case in cases.items():
        with pytest.raises(InfeasibleProblem) as refusal:
            case.solve()
        assert f"completion of IBM conflicts with {limit}:" in str(refusal.value)
    late = problem.replace(must_finish=pd.Series({"IBM": problem.times[1]}))
    with pytest.raises(InfeasibleProblem, match="conflicts with participation and must finish"):
        late.solve()


def test_names_of_a_blackout_are_a_list() -> None:
    start = pd.Timestamp("2024-03-04 14:30", tz="UTC")
    with pytest.raises(InvalidInput, match="list names"):
        Blackout(start, start + pd.Timedelta("1h"), "IBM")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["blackouts", "auctions", "extra_limits"])
@pytest.mark.parametrize("value", ["x", ["x"], 3, None, Blackout("2024-03-04 14:30Z", "2024-03-04 15:30Z")])
def test_lists_hold_what_they_should(make: Maker, name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match="must be a list") as refusal:
        make(**{name: value})
    assert refusal.value.field == name


def test_bands_of_text_are_refused(make: Maker) -> None:
    names = ["IBM", "BAC", "AIG"]
    with pytest.raises(InvalidInput, match="factor_band"):
        make(
            factor_exposures=pd.DataFrame({"value": 1.0}, names),
            factor_band=pd.DataFrame({"lower": ["low"], "upper": ["high"]}, ["value"]),
        )
