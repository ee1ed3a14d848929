"""What the commercial backends share, run without them: the slack form, Newton steps on a face, directions of descent.

The slack form is solved by Clarabel in place of a commercial solver, row for row and sign for sign as those see it.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, certify, solve
from crosswind.solvers.backends.base import Claim, Options, Raw, WarmStart
from crosswind.solvers.backends.recession import direction_program
from crosswind.solvers.backends.slack_form import SlackFormPrepared, Vectors
from crosswind.solvers.backends.triangles import lower_by_columns, upper_by_columns
from crosswind.solvers.cones import smat, svec
from crosswind.solvers.face import newton_step, sharpened
from crosswind.solvers.proofs import prove_unbounded
from crosswind.solvers.registry import backend

# Tests are imported by file, so a sibling is on no path.
cones = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("cone_programs.py"))))


class Stand(SlackFormPrepared):
    """Clarabel behind the slack form: rows, bounds and cones on variables; ``lifts`` as a solver without P would."""

    far = 1e20
    undecided = ("one of the two",)

    def open(self, options: Options) -> None:
        self.loads = 0

    def load(self, vectors: Vectors) -> None:
        self.loads += 1
        self.change(vectors)

    def change(self, vectors: Vectors) -> None:
        self.vectors = vectors

    def run(self, seconds: float) -> tuple[Claim, str, int]:
        form, v, k = self.form, self.vectors, self.form.columns
        picks = [sparse.identity(k, format="csr")[columns] for columns in form.soc]
        bounded = [(1.0, np.flatnonzero(v.high < self.far)), (-1.0, np.flatnonzero(v.low > -self.far))]
        boxes = [sign * sparse.identity(k, format="csr")[at] for sign, at in bounded]
        sides = [(v.high if sign > 0.0 else -v.low)[at] for sign, at in bounded]
        rows = sparse.vstack((form.A, *boxes, *(-pick for pick in picks)))
        b = np.concatenate((v.right, *sides, *(np.zeros(columns.size) for columns in form.soc)))
        open_rows = form.inequalities + sum(side.size for side in sides)
        parts = [Cone("zero", form.equalities)] if form.equalities else []
        parts += [Cone("nonneg", open_rows)] if open_rows else []
        parts += [Cone("soc", columns.size) for columns in form.soc]
        program = ConeProgram(form.P, v.cost, rows, b, tuple(parts))
        self.found = backend("clarabel").prepare(program, Options(1e-8)).solve(None, None)
        if self.found.claim in (Claim.INFEASIBLE, Claim.UNBOUNDED):
            return Claim.FAILED, self.undecided[0], self.found.iterations
        return self.found.claim, self.found.word, self.found.iterations

    def values(self) -> np.ndarray:
        return self.found.x

    def slopes(self) -> np.ndarray:
        return -self.found.y[: self.form.height]

    def reduced_costs(self) -> np.ndarray:
        return self.form.P @ self.found.x + self.vectors.cost - self.form.A.T @ self.slopes()


class LiftedStand(Stand):
    lifts_cones = True


ALL = ("zq", "n", "znqiahq", "aan", "hh", "zznnqqi")


@pytest.mark.parametrize("kinds", ALL)
@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize("unit", [1.0, 1e6, 1e-5])
def test_the_slack_form_has_the_optimum_and_the_multipliers(kinds, quadratic, unit):
    case = cones.planted(kinds, 4, 6, quadratic, unit=unit)
    raw = Stand(case.program, Options()).solve(None, None)
    assert raw.claim is Claim.SOLVED
    assert certify(case.program, raw.x, raw.y, s=raw.s).passes()
    assert case.program.objective(raw.x) == pytest.approx(case.objective, rel=1e-6)


def test_the_rows_are_where_they_should_be():
    A = np.arange(1.0, 19.0).reshape(9, 2)
    program = ConeProgram(
        None, [1.0, 2.0], A, np.arange(9.0), (Cone("soc", 3), Cone("nonneg", 2), Cone("zero", 1), Cone("soc", 3))
    )
    stand = Stand(program, Options())
    form = stand.form
    assert (form.equalities, form.inequalities, form.columns) == (7, 2, 8)
    assert [columns.tolist() for columns in form.soc] == [[2, 3, 4], [5, 6, 7]]
    dense = form.A.toarray()
    assert np.array_equal(dense[:, :2], A[[5, 0, 1, 2, 6, 7, 8, 3, 4]])
    assert np.array_equal(dense[1:7, 2:], np.eye(6))
    assert not dense[[0, 7, 8], 2:].any()
    assert np.array_equal(stand.vectors.low > -stand.far, [0, 0, 1, 0, 0, 1, 0, 0])


def test_the_lifted_objective_is_the_same_program():
    case = cones.planted("znq", 1, 5, True)
    lifted = ConeProgram(
        case.program.P,
        case.program.q,
        sparse.vstack((case.program.A, sparse.csr_matrix((1, 5)))),
        np.append(case.program.b, 1.0),
        (*case.program.cones, Cone("psd", 1)),  # 1 ⪰ 0, which the stand leaves out; it makes the form lift
    )
    stand = LiftedStand(lifted, Options())
    assert stand.form.lifted
    assert stand.form.P.nnz == 0
    # The multiplier of the 1 × 1 matrix is none of the form's.
    stand.matrix_multipliers = lambda: np.zeros(1)
    raw = stand.solve(None, None)
    assert certify(lifted, raw.x, raw.y, s=raw.s).passes()
    assert lifted.objective(raw.x) == pytest.approx(case.objective, rel=1e-7)


def test_new_vectors_need_no_new_set_up():
    case = cones.planted("znqi", 0, 6, True)
    stand = Stand(case.program, Options())
    other = case.program.with_vectors(q=1.5 * case.program.q, b=case.program.b + 0.1 * np.abs(case.program.b))
    assert stand.fits(other)
    stand.update(other)
    raw, fresh = stand.solve(None, None), solve(other, "clarabel", tol=1e-9)
    assert stand.loads == 1
    assert certify(other, raw.x, raw.y, s=raw.s).passes()
    assert raw.x == pytest.approx(fresh.x, abs=1e-4)
    assert not stand.fits(case.program.with_values(P_data=2.0 * case.program.P.data))
    assert not stand.fits(case.program.with_vectors(b=1e5 * case.program.b))
    assert not stand.fits(QuadraticProgram(np.eye(6), np.ones(6)))
    stand.takes_vectors = False
    assert not stand.fits(other)


@pytest.mark.parametrize("label", [k for k in cones.hopeless() if "matrix" not in k])
def test_a_word_for_both_is_told_apart(label):
    program, what = cones.hopeless()[label]
    raw = Stand(program, Options()).solve(None, None)
    if what == "unbounded":
        assert raw.claim is Claim.UNBOUNDED
        assert prove_unbounded(program, raw.ray, np.array([1.0, 0.5])) is not None
    elif raw.ray is None:
        assert raw.claim is Claim.FAILED


def test_a_time_limit_that_is_used_up_looks_for_no_direction():
    program, _ = cones.hopeless()["cone"]
    raw = Stand(program, Options()).solve(None, 1e-9)
    assert raw.ray is None


# -- directions -------------------------------------------------------------------------------------------------------


def test_directions_of_quadratic_programs():
    open_up = QuadraticProgram(np.diag([1.0, 0.0, 0.0]), [-1.0, -1.0, 1.0], [[0.0, 1.0, -1.0]], -1.0, 2.0, lb=0.0)
    # d₁ = 0 by P; d₂ = d₃ by the row: no descent
    assert solve(direction_program(open_up)).objective == pytest.approx(0.0, abs=1e-9)
    steeper = open_up.with_vectors(q=[-1.0, -2.0, 1.0])
    d = solve(direction_program(steeper)).x
    assert d == pytest.approx([0.0, 1.0, 1.0], abs=1e-6)
    assert prove_unbounded(steeper, d, np.zeros(3)) is not None
    one_sided = QuadraticProgram(None, [1.0, 0.0], [[1.0, 0.0]], -np.inf, 3.0, ub=[np.inf, 1.0])
    assert solve(direction_program(one_sided)).x[0] == pytest.approx(-1.0, abs=1e-6)


def test_directions_of_cone_programs():
    matrix, _ = cones.hopeless()["matrix, open"]
    d = solve(direction_program(matrix)).x
    assert d == pytest.approx([1.0, 0.0], abs=1e-6)
    disc = ConeProgram(None, [-1.0, 0.0], cones.DISC, [1.0, 0.0, 0.0], (Cone("soc", 3),))
    assert solve(direction_program(disc)).objective == pytest.approx(0.0, abs=1e-6)


# -- the face ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "n"), [("zq", 3), ("znqiah", 8), ("qqq", 3), ("zznnqq", 6), ("p", 4), ("zp", 4), ("znqap", 12), ("pp", 7)]
)
@pytest.mark.parametrize("quadratic", [False, True])
def test_steps_double_the_digits(kinds, n, quadratic):
    case = cones.planted(kinds, 5, n, quadratic)
    rng = np.random.default_rng(0)
    x = case.x + 1e-4 * rng.normal(size=n)
    y = case.y + 1e-4 * rng.normal(size=case.y.size)
    errors = []
    for _ in range(4):
        x, y = newton_step(case.program, x, y)
        errors.append(float(np.max(np.abs(x - case.x))))
    assert errors[-1] < 1e-11
    assert errors[1] < 1e-5
    assert certify(case.program, x, y).passes(1e-10)


@pytest.mark.parametrize("kinds", ["znqiah", "znqap"])
def test_worthless_multipliers_are_found_anew(kinds):
    case = cones.planted(kinds, 2, 12, True)
    raw = Raw(Claim.SOLVED, "", case.x + 1e-9, np.full(case.y.size, 3.0), np.zeros(12))
    assert not certify(case.program, raw.x, raw.y).passes(1e-2)
    better = sharpened(raw, case.program, 1e-6)
    assert certify(case.program, better.x, better.y, s=better.s).passes()
    assert better.y == pytest.approx(case.y, abs=1e-5)


@pytest.mark.parametrize("unit", [1.0, 1e8, 1e-7])
def test_a_loose_answer_is_sharpened_in_any_unit(unit):
    case = cones.planted("znqiahp", 3, 12, True, unit=unit)
    raw = backend("clarabel").prepare(case.program, Options(1e-2)).solve(WarmStart(case.x, case.y, case.x), None)
    assert not certify(case.program, raw.x, raw.y, s=raw.s).passes(1e-9)
    better = sharpened(raw, case.program, 1e-9)
    assert certify(case.program, better.x, better.y, s=better.s).passes(1e-9)
    assert better.x == pytest.approx(case.x, abs=1e-7 * unit)


def test_what_needs_no_step_or_claims_nothing_stays():
    case = cones.planted("znq", 0, 5)
    good = Raw(Claim.SOLVED, "", case.x, case.y, np.zeros(5))
    assert sharpened(good, case.program, 1e-6) is good
    far = case.x + 1.0
    for raw in (
        Raw(Claim.TIME, "", far, case.y, np.zeros(5)),
        Raw(Claim.SOLVED, "", np.full(5, np.nan), case.y, np.zeros(5)),
        Raw(Claim.SOLVED, "", 1e6 * far, -1e6 * case.y, np.zeros(5)),  # no face of the optimum
    ):
        kept = sharpened(raw, case.program, 1e-6)
        assert kept is raw or certify(case.program, kept.x, kept.y).passes()


def test_degenerate_cones_do_no_harm():
    # The slack of the cone and its multiplier vanish together, and a row stands twice.
    A = np.vstack((cones.DISC, [[1.0, 0.0]], [[1.0, 0.0]]))
    program = ConeProgram(np.eye(2), [0.0, 0.0], A, np.zeros(5), (Cone("soc", 3), Cone("nonneg", 2)))
    raw = Raw(Claim.SOLVED, "", np.full(2, 1e-3), np.full(5, 1e-3), np.zeros(2))
    kept = sharpened(raw, program, 1e-6)
    assert np.isfinite(kept.x).all()
    assert kept is raw or certify(program, kept.x, kept.y).passes()


@pytest.mark.parametrize("order", [1, 2, 5])
def test_triangles(order):
    M = np.arange(float(order * order)).reshape(order, order)
    M = M + M.T
    row, column = upper_by_columns(order)
    weight = np.where(row == column, 1.0, np.sqrt(2.0))
    assert np.array_equal(M[row, column] * weight, svec(M))
    lower = np.concatenate([M[j:, j] for j in range(order)])
    back = np.empty(lower.size)
    back[lower_by_columns(order)] = lower
    assert np.allclose(smat(back * weight), M)
