"""Tail programs: against an independent solver, closed forms, the bound itself, degenerate and bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from tail_programs import random_program, reference

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.solution import Status
from crosswind.solvers.tail import TailProgram, lower_bound, solve_tail, tail_caps, worst_mean
from crosswind.solvers.tail.lowering import cone_program, solve_lowered_tail


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"risk": 0.0},
        {"risk": 5.0, "alpha": 0.95},
        {"alpha": 0.0},
        {"curved": False},
        {"S": 1},
        {"slices": 1, "slabs": 4},
        {"even": True, "S": 20, "seed": 3},
    ],
    ids=str,
)
def test_equals_the_reference(options):
    program = random_program(**options)
    found = solve_tail(program, 1e-11, fallback=None)
    value, x, prices = reference(program)
    assert found.status is Status.OPTIMAL
    assert found.objective == pytest.approx(value, rel=1e-7, abs=1e-7)
    np.testing.assert_allclose(found.x, x, atol=3e-6)
    np.testing.assert_allclose(found.equal_prices, prices, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    S=st.integers(1, 30),
    slices=st.integers(1, 6),
    slabs=st.integers(1, 4),
    risk=st.sampled_from([0.0, 0.3, 10.0]),
    alpha=st.sampled_from([0.0, 0.5, 0.95]),
    curved=st.booleans(),
    ridge=st.sampled_from([0.0, 0.5]),
)
def test_is_certified_without_a_backend(seed, S, slices, slabs, risk, alpha, curved, ridge):
    program = random_program(S, slices, slabs, seed, risk, alpha, curved, ridge)
    found = solve_tail(program, 1e-8, fallback=None)
    assert found.status is Status.OPTIMAL, found.summary()
    assert found.lower_bound <= found.objective + 1e-9 * (1.0 + abs(found.objective))
    # The certificate holds against points that the solver never saw.
    g = np.random.default_rng(seed)
    for _ in range(5):
        z = found.x.reshape(slices, slabs) * g.uniform(0.0, 1.0, (slices, slabs))
        z = z + (program.equal_to - z.sum(axis=0)) / slices
        z = np.maximum(z, 0.0).ravel()
        if program.violation(z) < 1e-12:
            assert program.objective(z) >= found.lower_bound - 1e-9 * (1.0 + abs(found.lower_bound))


def test_no_bound_ever_exceeds_the_optimum():
    program = random_program(seed=5)
    best = solve_tail(program, 1e-11).objective
    g = np.random.default_rng(0)
    for _ in range(200):
        bound = lower_bound(
            program,
            np.abs(g.standard_normal(program.n)),
            np.abs(g.standard_normal(program.scenarios)),
            3.0 * g.standard_normal(len(program.equal_to)),
            np.abs(g.standard_normal(len(program.rows_to))),
        )
        assert bound.value <= best + 1e-9


def test_tail_is_the_mean_of_the_worst():
    costs, p = np.array([4.0, 1.0, 3.0, 2.0]), np.full(4, 0.25)
    assert worst_mean(costs, tail_caps(p, 0.75))[0] == 4.0
    assert worst_mean(costs, tail_caps(p, 0.5))[0] == 3.5
    assert worst_mean(costs, tail_caps(p, 0.6))[0] == pytest.approx((0.25 * 4.0 + 0.15 * 3.0) / 0.4)
    value, weights = worst_mean(costs, tail_caps(p, 0.0))
    assert value == 2.5
    np.testing.assert_allclose(weights, p)


def test_two_variables_by_hand():
    # Scenario 1 costs x, scenario 2 costs y, both certain to sum to 1: the worst case is least where they are equal.
    program = TailProgram(
        linear=np.eye(2),
        scale=np.zeros((2, 2)),
        cells=sp.eye_array(2),
        kernel=np.zeros((2, 2)),
        probabilities=np.array([0.5, 0.5]),
        caps=np.array([1.0, 1.0]),
        risk=3.0,
        equal=np.ones((1, 2)),
        equal_to=np.array([1.0]),
        rows=sp.csr_array((0, 2)),
        rows_to=np.zeros(0),
    )
    found = solve_tail(program, 1e-10, fallback=None)
    np.testing.assert_allclose(found.x, 0.5, atol=1e-8)
    assert found.objective == pytest.approx(0.5 + 3.0 * 0.5)
    np.testing.assert_allclose(found.weights, 0.5, atol=1e-7)
    assert found.equal_prices[0] == pytest.approx(2.0)


def test_prices_are_derivatives():
    program = random_program(seed=8, risk=2.0)
    found = solve_tail(program, 1e-12)
    h = 1e-4
    for j in range(len(program.equal_to)):
        step = np.zeros(len(program.equal_to))
        step[j] = h
        up = solve_tail(replace(program, equal_to=program.equal_to + step), 1e-12).objective
        down = solve_tail(replace(program, equal_to=program.equal_to - step), 1e-12).objective
        assert found.equal_prices[j] == pytest.approx((up - down) / (2 * h), rel=1e-3, abs=1e-4)
    tight = int(np.argmax(found.row_prices))
    assert found.row_prices[tight] > 1e-3
    step = np.zeros(len(program.rows_to))
    step[tight] = h
    up = solve_tail(replace(program, rows_to=program.rows_to + step), 1e-12).objective
    assert found.row_prices[tight] == pytest.approx((found.objective - up) / h, rel=2e-2)


def test_fallback_is_recorded_and_graded_by_us():
    program = random_program(seed=2)
    stopped = solve_tail(program, 1e-9, max_iter=2, fallback=None)
    assert stopped.status is Status.ITERATION_LIMIT
    assert np.isfinite(stopped.lower_bound)
    taken = solve_tail(program, 1e-7, max_iter=2)
    assert taken.status is Status.OPTIMAL
    assert taken.method == "clarabel"
    assert [a.backend for a in taken.attempts][:2] == ["interior", "clarabel"]
    assert taken.objective == pytest.approx(solve_tail(program, 1e-11).objective, rel=1e-7)


def test_cone_form_has_the_same_value():
    for options in ({"risk": 0.0}, {"curved": False}, {}):
        program = random_program(seed=4, **options)
        again = solve_lowered_tail(program, 1e-8, ("clarabel",), solve_tail(program, 0.5, 1, fallback=None))
        assert again.objective == pytest.approx(solve_tail(program, 1e-10).objective, rel=1e-7)
        assert cone_program(program).n > program.n


def test_contradicting_limits_are_proved():
    program = random_program(seed=1)
    short = replace(program, rows_to=np.full(len(program.rows_to), 0.1))
    found = solve_tail(short)
    assert found.status is Status.INFEASIBLE
    assert found.attempts[-1].backend == "clarabel"


def test_same_bits_again_and_warm_starts_help():
    program = random_program(S=60, slices=8, seed=6)
    one, two = solve_tail(program, 1e-9), solve_tail(program, 1e-9)
    assert one.x.tobytes() == two.x.tobytes()
    near = program.with_risk(program.risk * 1.05)
    warm = solve_tail(near, 1e-9, warm=one)
    assert warm.status is Status.OPTIMAL
    assert warm.iterations <= solve_tail(near, 1e-9).iterations + 1
    assert not one.x.flags.writeable


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e4, 1e8])
def test_units_do_not_matter(scale):
    program = random_program(seed=7)
    scaled = replace(
        program,
        linear=program.linear * scale,
        kernel=program.kernel * scale,
        base=program.base * scale,
        ridge=program.ridge * scale,
        constant=program.constant * scale,
    )
    one, other = solve_tail(program, 1e-9, fallback=None), solve_tail(scaled, 1e-9, fallback=None)
    assert other.status is Status.OPTIMAL
    assert other.objective == pytest.approx(one.objective * scale, rel=1e-7)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("linear", np.full((15, 12), np.nan)),
        ("linear", np.zeros((0, 12))),
        ("scale", np.full((15, 12), -1.0)),
        ("kernel", np.diag([1.0, 1.0, 1.0, -1.0])),
        ("kernel", np.triu(np.ones((4, 4)))),
        ("probabilities", np.zeros(15)),
        ("probabilities", np.full(15, 0.1)),
        ("caps", np.zeros(15)),
        ("risk", -1.0),
        ("risk", float("nan")),
        ("equal", sp.csr_array((3, 12))),
        ("rows_to", np.full(4, np.inf)),
        ("ridge", np.full(12, -1.0)),
    ],
)
def test_refuses_bad_programs_by_name(field, value):
    with pytest.raises(InvalidInput) as caught:
        replace(random_program(), **{field: value})
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"tol": 0.0}, "tol"),
        ({"tol": 1.0}, "tol"),
        ({"max_iter": 0}, "max_iter"),
        ({"warm": np.zeros(3)}, "warm"),
        ({"warm": np.full(12, np.nan)}, "warm"),
    ],
)
def test_refuses_bad_requests(options, field):
    with pytest.raises(InvalidInput) as caught:
        solve_tail(random_program(), **options)
    assert caught.value.field == field


def test_alpha_out_of_range():
    for alpha in (-0.1, 1.0):
        with pytest.raises(InvalidInput):
            tail_caps(np.ones(1), alpha)
