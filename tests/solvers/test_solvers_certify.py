"""Certificates: closed forms, tampering, infinite bounds, valid lower bounds."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, certify, smat, solve, svec
from crosswind.solvers.backends.base import Claim, Raw
from crosswind.solvers.cones import dual_distance, project_dual, slack_distance
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.face import sharpened


def test_residuals_are_the_formulas():
    program = QuadraticProgram(
        np.diag([2.0, 4.0]), [1.0, -1.0], [[1.0, 2.0], [0.0, 1.0]], [1.0, -np.inf], [1.0, 3.0], lb=[-0.4, -1.0], ub=5.0
    )
    x, y, z = np.array([-0.5, 4.0]), np.array([-2.0, 1.5]), np.array([-0.25, 0.5])
    found = certify(program, x, y, z)
    Ax = np.array([7.5, 4.0])
    assert found.primal == pytest.approx(max(Ax[0] - 1.0, Ax[1] - 3.0, 0.1))
    r = np.array([2 * x[0] + 1 + y[0] + z[0], 4 * x[1] - 1 + 2 * y[0] + y[1] + z[1]])
    assert found.dual == pytest.approx(np.max(np.abs(r)))
    support = 3.0 * 1.5 - 1.0 * 2.0 + 5.0 * 0.5 + 0.4 * 0.25
    assert found.gap == pytest.approx(abs(2 * x[0] ** 2 + 4 * x[1] ** 2 + x[0] - x[1] + support))
    assert found.primal_rel == pytest.approx(6.5 / 8.0)  # row 0: |A x| terms −0.5 and 8; box 0: 0.1 / 0.5


def test_infinite_bounds_never_make_nan_and_false_multipliers_are_caught():
    program = QuadraticProgram(np.eye(2), [0.0, 0.0], [[1.0, 1.0]], 1.0, np.inf)
    x = np.array([0.5, 0.5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good = certify(program, x, np.array([-0.5]), np.zeros(2))
        tampered = certify(program, x, np.array([0.5]), np.zeros(2))  # leans on u = ∞
        boxed = certify(program, x, np.array([-0.5]), np.array([1e-3, 0.0]))
    assert good.passes(1e-12)
    for bad in (tampered, boxed):
        assert all(np.isfinite([bad.primal, bad.dual, bad.gap]))
        assert not bad.passes(1e-6)
    assert tampered.dual >= 0.5
    # A zero row has no part in A'y: only the refused size shows the false multiplier.
    empty = QuadraticProgram(np.eye(1), [0.0], [[0.0]], -np.inf, np.inf)
    assert not certify(empty, np.zeros(1), np.array([7.0])).passes(1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_iterates_that_are_not_finite_are_worthless_but_graded(bad):
    program = QuadraticProgram(np.eye(2), [0.0, 0.0], [[1.0, 1.0]], 1.0, 1.0)
    for x, y in ((np.array([bad, 0.0]), np.zeros(1)), (np.zeros(2), np.array([bad]))):
        found = certify(program, x, y)
        assert found.primal == np.inf
        assert found.lower_bound == -np.inf
        assert not found.passes(0.9)
        assert not np.isnan(found.objective)
    assert not certify(program, np.full(2, 1e200), np.zeros(1)).passes(0.9)


def test_wrong_shapes_are_refused():
    program = QuadraticProgram(np.eye(2), [0.0, 0.0], [[1.0, 1.0]], 1.0, 1.0)
    for args in ((np.zeros(3), np.zeros(1)), (np.zeros(2), np.zeros(2)), (np.zeros(2), np.zeros(1), np.zeros(1))):
        with pytest.raises(InvalidInput, match="shape"):
            certify(program, *args)


@pytest.mark.parametrize("seed", range(20))
def test_tampered_solutions_are_caught(make_program, seed):
    program = make_program(seed, span=1.0)
    found = solve(program, tol=1e-8)
    assert found.certificate.passes(1e-8)
    rng = np.random.default_rng(seed)
    moved = found.x + 1e-2 * max(1e-12, np.max(np.abs(found.x))) * rng.choice([-1.0, 1.0], size=program.n)
    before = certify(program, found.x, found.y, found.z)
    after = certify(program, moved, found.y, found.z)
    flat = np.max(np.abs(program.P.data), initial=0.0) == 0.0 and not np.any(program.q)
    assert flat or after.worst > 10.0 * max(before.worst, 1e-9)
    if np.max(np.abs(found.y), initial=0.0) > 1e-3 * np.max(np.abs(program.q)):
        flipped = certify(program, found.x, -found.y, found.z)
        assert flipped.worst > 1e-4


def test_small_rows_are_not_excused_by_large_ones():
    # A cash row of 1e8 beside a share row of 0.1: one common scale would call a violation of 50 % optimal.
    program = QuadraticProgram(np.diag([1e-8, 1.0]), [0.0, 0.0], np.eye(2), [1e8, -np.inf], [1e8, 0.1])
    found = certify(program, np.array([1e8, 0.15]), np.array([-1.0, 0.0]))
    assert found.primal == pytest.approx(0.05)
    assert found.primal_rel == pytest.approx(0.05 / 0.15)
    assert not found.passes(1e-6)


def test_neutral_row_is_measured_by_what_cancels_in_it():
    program = QuadraticProgram(np.eye(2), [0.0, 0.0], [[1.0, 1.0]], 0.0, 0.0, lb=-1e9, ub=1e9)
    found = certify(program, np.array([1e6, -1e6 + 0.72]), np.zeros(1), np.zeros(2))
    assert found.primal_rel == pytest.approx(0.72e-6, rel=1e-3)


def test_loose_caps_do_not_loosen_the_measure():
    loose = QuadraticProgram(np.eye(1), [0.0], [[1.0]], 1.0, 1e9)
    assert certify(loose, np.array([0.9]), np.array([-0.9])).primal_rel == pytest.approx(0.1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_lower_bound_is_never_above_the_optimum(seed, noise):
    """Whatever (x, y, z) is offered, the bound must hold; with finite boxes it must also be finite."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 8)), int(rng.integers(0, 6))
    G = rng.normal(size=(n, n))
    A = rng.normal(size=(m, n))
    boxed = rng.random() < 0.7
    program = QuadraticProgram(
        G @ G.T if rng.random() < 0.7 else np.diag(rng.random(n)),
        rng.normal(size=n),
        A,
        A @ np.zeros(m and n) - rng.random(m) if m else None,
        np.where(rng.random(m) < 0.5, np.inf, 1.0) if m else None,
        lb=-1.0 if boxed else -np.inf,
        ub=2.0 if boxed else np.inf,
        constant=5.0,
    )
    best = solve(program, "clarabel", tol=1e-9)
    assert best.status.ok
    offered = certify(
        program,
        best.x + noise * rng.normal(size=n),
        best.y + noise * rng.normal(size=m),
        best.z + noise * rng.normal(size=n),
    )
    assert offered.lower_bound <= best.objective + 1e-7 * max(1.0, abs(best.objective))
    if boxed:
        assert np.isfinite(offered.lower_bound)
        if noise == 0.0:
            assert offered.lower_bound == pytest.approx(best.objective, rel=1e-5, abs=1e-5)


def test_huge_multipliers_that_cancel_excuse_nothing():
    # x_1 is fixed by its box and by a row; their multipliers may grow without end as long as they cancel.
    program = QuadraticProgram(
        np.diag([0.0, 1.0]), [0.0, -1.0], [[1.0, 0.0]], 5.0, 5.0, lb=[5.0, -np.inf], ub=[5.0, np.inf]
    )
    wrong = certify(program, np.array([5.0, 0.0]), np.array([1e12]), np.array([-1e12, 0.0]))
    assert wrong.gap == 0.0
    assert wrong.dual_rel == 1.0
    assert not wrong.passes(0.5)
    off = certify(program, np.array([5.0, 1.0]), np.array([1e12]), np.array([-1e12 + 0.3, 0.0]))
    assert off.gap_rel == pytest.approx(0.3, rel=1e-3)
    assert not off.passes(0.1)
    assert certify(program, np.array([5.0, 1.0]), np.array([1e12]), np.array([-1e12, 0.0])).passes(1e-12)


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e-18, 1e-30])
def test_small_units_excuse_nothing(unit):
    program = QuadraticProgram(np.diag([1.0, 2.0]) * unit, np.array([-1.0, 1.0]) * unit)
    assert not certify(program, np.array([3.0, -7.0]), np.zeros(0)).passes(0.1)
    assert certify(program, np.array([1.0, -0.5]), np.zeros(0)).passes(1e-12)
    lengths = QuadraticProgram(np.eye(1), [0.0], [[1.0]], 1e-12 * unit, np.inf)
    assert not certify(lengths, np.zeros(1), np.zeros(1)).feasible(0.1)


def test_a_row_counts_by_the_length_it_gives_its_variables():
    # Σ 1e9 x = 1 asks for x of 1e-9; a gap of one in a hundred of q'x must not hide behind q × 1.
    program = QuadraticProgram(np.eye(1) * 1e18, [1e9], [[1e9]], -1.0, 1.0)
    certificate = certify(program, np.array([-0.9e-9]), np.zeros(1))
    assert certificate.gap_rel == pytest.approx(0.09)
    assert certificate.dual_rel == pytest.approx(0.1)


def test_lower_bound_takes_the_rounding_of_huge_multipliers_off():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = 4
        x, price = rng.normal(size=n), rng.normal(size=n)
        A = rng.normal(size=(1, n))
        row = float((A @ x)[0])
        program = QuadraticProgram(None, price, A, row, row, lb=x, ub=x)
        y = np.array([1e10 * rng.normal()])
        best = float(price @ x)
        found = certify(program, x, y, -(price + A.T @ y))
        assert best - 1e-2 < found.lower_bound <= best


def test_lower_bound_without_boxes_uses_curvature_or_says_nothing():
    separable = QuadraticProgram(np.diag([1.0, 2.0]), [-1.0, -1.0])
    found = certify(separable, np.zeros(2), np.zeros(0))
    assert found.lower_bound == pytest.approx(-0.5 - 0.25)  # the exact optimum from x = 0
    coupled = QuadraticProgram([[1.0, 0.5], [0.5, 1.0]], [-1.0, -1.0])
    # κ = ½ by the smallest eigenvalue: −Σ r²/(2κ) = −2, below the optimum −2/3 as it must be.
    assert certify(coupled, np.zeros(2), np.zeros(0)).lower_bound == pytest.approx(-2.0)
    flat = QuadraticProgram([[1.0, 1.0], [1.0, 1.0]], [-1.0, -1.0])
    nothing = certify(flat, np.zeros(2), np.zeros(0))
    assert nothing.lower_bound == nothing.lower_bound_within == -np.inf


def test_boxes_absorb_a_residual_in_the_lower_bound():
    # min x over 0 ≤ x ≤ 1: with z = 0 the residual 1 pushes to the lower bound, with q = −1 to the upper one.
    for price, best in ((1.0, 0.0), (-1.0, -1.0)):
        program = QuadraticProgram(None, [price], lb=0.0, ub=1.0)
        bound = certify(program, np.array([0.5]), np.zeros(0), np.zeros(1)).lower_bound
        assert bound == pytest.approx(best, abs=1e-12)
        assert bound <= best


@pytest.mark.parametrize("offset", [-2.0, 0.5, 3.0])
def test_lower_bound_of_a_cone_program(offset):
    # min ½(x − 1)² over x ≥ offset (s = x − offset ≥ 0): multiplier max(offset − 1, 0)
    program = ConeProgram([[1.0]], [-1.0], [[-1.0]], [-offset], (Cone("nonneg", 1),), constant=0.5)
    x, y = max(offset, 1.0), max(offset - 1.0, 0.0)
    best = 0.5 * (x - 1.0) ** 2
    exact = certify(program, np.array([x]), np.array([y]))
    assert exact.lower_bound == pytest.approx(best, abs=1e-12)
    for wrong in (0.5 * y, 2.0 * y, y + 0.3):
        assert certify(program, np.array([x + 0.1]), np.array([wrong])).lower_bound <= best


def test_missing_box_multipliers_are_recovered():
    program = QuadraticProgram(np.eye(3), [-2.0, 2.0, -0.5], lb=0.0, ub=1.0)
    assert certify(program, np.array([1.0, 0.0, 0.5]), np.zeros(0)).passes(1e-12)


def test_cone_distances_and_projections():
    rng = np.random.default_rng(1)
    psd = Cone("psd", 4)
    cones = (Cone("zero", 2), Cone("nonneg", 3), Cone("soc", 4), psd)
    rows = sum(cone.rows for cone in cones)
    s = rng.normal(size=rows)
    zero, positive, soc, matrix = s[:2], s[2:5], s[5:9], smat(s[9:])
    expected = max(
        np.max(np.abs(zero)),
        max(0.0, -positive.min()),
        max(0.0, (np.linalg.norm(soc[1:]) - soc[0]) / np.sqrt(2.0)),
        max(0.0, -np.linalg.eigvalsh(matrix)[0]),
    )
    assert slack_distance(cones, s) == pytest.approx(expected)
    projected = project_dual(cones, s)
    assert dual_distance(cones, projected) < 1e-13
    assert np.array_equal(projected[:2], s[:2])  # the dual of {0} is everything
    for _ in range(50):  # the projection is the nearest point: obtuse angle with any member
        member = project_dual(cones, rng.normal(size=rows))
        assert (s - projected) @ (member - projected) <= 1e-10
    assert dual_distance((Cone("soc", 3),), np.array([-1.0, 0.2, 0.1])) == pytest.approx(
        np.linalg.norm([-1.0, 0.2, 0.1])
    )


def test_cone_certificate_catches_each_kind_of_lie():
    M = np.diag([2.0, -1.0])
    d = svec(M).size
    program = ConeProgram(np.eye(d), -svec(M), -np.eye(d), np.zeros(d), (Cone("psd", 2),))
    found = solve(program, tol=1e-9)
    assert smat(found.x) == pytest.approx(np.diag([2.0, 0.0]), abs=1e-6)  # nearest PSD matrix
    assert found.certificate.passes(1e-8)
    assert not certify(program, svec(M), np.zeros(d)).passes(1e-2)  # s not PSD
    assert not certify(program, found.x, svec(np.diag([0.0, -1.0]))).passes(1e-2)  # y not PSD
    assert not certify(program, found.x, found.y, s=found.s + 0.1).passes(1e-2)  # Ax + s ≠ b
    assert not certify(program, 0.5 * found.x, found.y).passes(1e-2)
    assert certify(program, found.x, found.y).lower_bound <= found.objective + 1e-8


def test_summary_and_floor():
    program = QuadraticProgram(np.eye(1), [0.0])
    found = certify(program, np.array([1e-13]), np.zeros(0))
    assert found.dual_rel == 1.0
    assert found.passes(1e-9)  # below the absolute floor: an optimum of zero has no scale
    assert "asked 1e-06" in found.summary()
    assert not replace(found, dual=1.0).passes()


def test_a_loose_cone_excuses_no_other_one():
    """The first limit is broken ninefold; beside caps of 1e7 that is a millionth of the largest slack."""
    program = ConeProgram(
        np.eye(2),
        [-1.0, -1.0],
        np.vstack((np.eye(2), -np.eye(2))),
        [0.1, 1e7, 1e7, 1e7],
        (Cone("nonneg", 4),),
    )
    broken = certify(program, np.array([1.0, 1.0]), np.zeros(4))
    assert not broken.passes()
    assert broken.primal_rel == pytest.approx(0.9)
    assert certify(program, np.array([0.1, 1.0]), np.array([0.9, 0.0, 0.0, 0.0])).passes()
    # Newton steps on the face of an iterate that does not show the limit end on it, or are not taken.
    for start, price in (([0.1001, 0.99], [0.0] * 4), ([0.05, 0.99], [0.0] * 4), ([0.0999, 0.99], [1e-9, 1.0, 0, 0])):
        raw = Raw(Claim.SOLVED, "", np.array(start), np.array(price), np.zeros(2))
        found = sharpened(raw, program, 1e-6)
        assert found is raw or found.x == pytest.approx([0.1, 1.0], abs=1e-7)


@pytest.mark.parametrize("kind", ["soc", "psd"])
def test_each_large_cone_has_its_own_scale(kind):
    """Two cones around tiny and huge numbers: a slack just outside the small one is seen."""
    small = np.array([1e-3, 0.0, 2e-3]) if kind == "soc" else svec(np.array([[1e-3, 2e-3], [2e-3, 1e-3]]))
    large = np.array([1e6, 0.0, 0.0]) if kind == "soc" else svec(1e6 * np.eye(2))
    size = 3 if kind == "soc" else 2
    program = ConeProgram(None, [1.0], np.zeros((6, 1)), np.concatenate((small, large)), (Cone(kind, size),) * 2)
    found = certify(program, np.array([0.0]), np.zeros(6))
    assert found.primal_rel > 0.1
