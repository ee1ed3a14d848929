"""Programs: what is refused at the edge, what is shared between copies, what survives disk and pickle."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, smat, solve, svec
from crosswind.solvers.convexity import is_convex
from crosswind.solvers.errors import InvalidInput


def small(**changes: object) -> QuadraticProgram:
    data = {
        "P": np.array([[2.0, 1.0], [1.0, 2.0]]),
        "q": [1.0, -1.0],
        "A": [[1.0, 1.0]],
        "l": [0.0],
        "u": [1.0],
        "lb": [0.0, -np.inf],
        "ub": [np.inf, 2.0],
        "constant": 3.0,
        "row_names": ("sum",),
        "var_names": ("a", "b"),
    }
    return QuadraticProgram(**(data | changes))  # type: ignore[arg-type]


def test_objective_is_the_formula():
    program = small()
    x = np.array([0.5, -2.0])
    assert program.objective(x) == pytest.approx(0.5 * x @ program.P.toarray() @ x + program.q @ x + 3.0, abs=1e-15)
    assert (program.n, program.m) == (2, 1)


@pytest.mark.parametrize(
    ("changes", "needle"),
    [
        ({"q": [np.nan, 0.0]}, "q"),
        ({"q": [np.inf, 0.0]}, "q"),
        ({"q": [[1.0, 2.0]]}, "q"),
        ({"q": ["a", "b"]}, "q"),
        ({"P": np.diag([1.0, np.nan])}, "P"),
        ({"P": np.eye(3)}, "P"),
        ({"A": [[1.0, np.inf]]}, "A"),
        ({"A": [[1.0, 2.0, 3.0]]}, "A"),
        ({"l": [np.nan]}, "sum"),
        ({"lb": [0.0, np.nan]}, "b"),
        ({"l": [2.0]}, "sum"),
        ({"lb": [0.0, 3.0]}, "b"),
        ({"l": [np.inf], "u": [np.inf]}, "sum"),
        ({"ub": [-np.inf, 2.0], "lb": [-np.inf, 0.0]}, "a"),
        ({"u": [1.0, 2.0]}, "u"),
        ({"constant": np.nan}, "constant"),
        ({"row_names": ("x", "y")}, "row_names"),
        ({"var_names": ("a", "a")}, "var_names"),
    ],
)
def test_bad_data_is_refused_and_named(changes, needle):
    with pytest.raises(InvalidInput) as caught:
        small(**changes)
    assert needle in str(caught.value)


def test_triangular_matrix_is_refused_in_both_halves():
    # OSQP reads one triangle only and solves another problem without a word.
    full = np.array([[2.0, 1.0], [1.0, 2.0]])
    for half in (np.tril(full), np.triu(full)):
        with pytest.raises(InvalidInput, match="triangular") as caught:
            small(P=half)
        assert "T + T'" in str(caught.value)
    with pytest.raises(InvalidInput, match="not symmetric"):
        small(P=[[2.0, 1.0], [0.5, 2.0]])


def test_rounding_asymmetry_is_averaged_away():
    program = small(P=[[2.0, 1.0 + 1e-13], [1.0, 2.0]])
    assert np.array_equal(program.P.toarray(), program.P.toarray().T)


@pytest.mark.parametrize(
    "P",
    [
        np.array([[-1e-7]]),
        np.diag([1.0, -1e-7]),
        np.array([[1.0, 1.2], [1.2, 1.0]]),
        np.array([[0.0, 1.0], [1.0, 0.0]]),
        1e12 * np.array([[1.0, 1.001], [1.001, 1.0]]),
        1e-12 * np.array([[1.0, 1.001], [1.001, 1.0]]),
    ],
)
def test_concave_programs_are_refused(P):
    program = QuadraticProgram(P, np.zeros(P.shape[0]))
    with pytest.raises(InvalidInput, match="positive semidefinite") as caught:
        solve(program)
    assert "eigenvalue -" in str(caught.value)


@pytest.mark.parametrize("order", [3, 150, 260, 900])
def test_convexity_of_gram_matrices_at_every_size(order):
    rng = np.random.default_rng(order)
    scale = 10.0 ** rng.uniform(-6, 6, size=order)
    G = rng.normal(size=(order, max(1, order // 3))) * scale[:, None]
    assert is_convex(sparse.csc_matrix(G @ G.T))
    # A direction of curvature −1 % in the units of the variables: invisible to an absolute test.
    bad = G @ G.T
    d = np.diag(bad).copy()
    v = rng.normal(size=order)
    v -= (G / np.sqrt(d)[:, None]) @ np.linalg.lstsq(G / np.sqrt(d)[:, None], v, rcond=None)[0]
    v /= np.linalg.norm(v)
    bad = bad - 0.01 * np.outer(v, v) * np.sqrt(np.outer(d, d))
    assert not is_convex(sparse.csc_matrix((bad + bad.T) / 2))


def test_convexity_of_large_sparse_matrices_block_by_block():
    rng = np.random.default_rng(4)
    parts = []
    for _ in range(30):
        G = rng.normal(size=(40, 7))
        parts.append(G @ G.T)
    good = sparse.block_diag([*parts, np.zeros((3, 3)), np.eye(2)], format="csc")
    assert is_convex(good)
    bad = sparse.block_diag([*parts, np.array([[1.0, 2.0], [2.0, 1.0]])], format="csc")
    assert not is_convex(bad)
    single = sparse.block_diag([*parts, np.array([[-1.0]])], format="csc")
    assert not is_convex(single)


def test_convexity_by_inertia_of_one_large_sparse_block():
    n = 4000
    off = np.full(n - 1, -1.0)
    laplacian = sparse.diags([off, np.r_[1.0, np.full(n - 2, 2.0), 1.0], off], [-1, 0, 1], format="csc")
    assert is_convex(laplacian)  # singular: constants
    squared = sparse.csc_matrix(laplacian @ laplacian)  # not diagonally dominant: needs the factorisation
    assert is_convex(squared)
    assert not is_convex(sparse.csc_matrix(squared - 1e-3 * sparse.identity(n)))


def test_arrays_are_read_only_copies():
    q = np.array([1.0, -1.0])
    program = small(q=q)
    q[0] = 99.0
    assert program.q[0] == 1.0
    for array in (program.q, program.P.data, program.A.indices, program.l, program.ub):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5


def test_with_vectors_shares_matrices_and_validates():
    program = small()
    program.require_convex()
    other = program.with_vectors(q=[0.0, 0.0], u=[5.0], constant=1.0)
    assert other.P is program.P
    assert other.A is program.A
    assert other._cache is program._cache
    assert (other.u[0], other.l[0], other.constant) == (5.0, 0.0, 1.0)
    assert program.u[0] == 1.0
    with pytest.raises(InvalidInput, match="sum"):
        program.with_vectors(l=[7.0])
    with pytest.raises(InvalidInput):
        program.with_vectors(q=[np.nan, 0.0])


def test_with_values_keeps_the_pattern_and_forgets_convexity():
    program = small()
    program.require_convex()
    worse = program.with_values(P_data=[1.0, 2.0, 2.0, 1.0])
    with pytest.raises(InvalidInput):
        worse.require_convex()
    assert program.with_values(A_data=[3.0, 4.0]).A.toarray().tolist() == [[3.0, 4.0]]
    with pytest.raises(InvalidInput, match="symmetric"):
        program.with_values(P_data=[2.0, 1.0, 0.5, 2.0])
    with pytest.raises(InvalidInput, match="shape"):
        program.with_values(A_data=[1.0])


def test_huge_bounds_are_infinite():
    program = small(u=[1e30], l=[-1e20])
    assert np.isinf(program.u[0])
    assert np.isinf(program.l[0])


def cone_program() -> ConeProgram:
    return ConeProgram(
        np.eye(2),
        [-1.0, -1.0],
        [[1.0, 1.0], [0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]],
        [5.0, 1.0, 0.0, 0.0],
        (Cone("nonneg", 1), Cone("soc", 3)),
        constant=2.0,
        row_names=("cap", "t", "v1", "v2"),
    )


@pytest.mark.parametrize("build", [small, cone_program])
def test_save_load_and_pickle_give_the_same_program(build, tmp_path):
    program = build()
    program.require_convex()
    for other in (type(program).load(program.save(tmp_path / "one")), pickle.loads(pickle.dumps(program))):
        assert type(other) is type(program)
        assert (other.P != program.P).nnz == 0
        assert (other.A != program.A).nnz == 0
        assert np.array_equal(other.q, program.q)
        assert (other.row_names, other.var_names, other.constant) == (
            program.row_names,
            program.var_names,
            program.constant,
        )
        for name in ("l", "u", "lb", "ub", "b"):
            if hasattr(program, name):
                assert np.array_equal(getattr(other, name), getattr(program, name))
        assert getattr(other, "cones", None) == getattr(program, "cones", None)
        with pytest.raises(ValueError, match="read-only"):
            other.q[0] = 1.0
        assert solve(other, "clarabel").objective == solve(program, "clarabel").objective
    assert [path.name for path in tmp_path.iterdir()] == ["one.npz"]


def test_load_refuses_what_is_no_program(tmp_path):
    with pytest.raises(InvalidInput, match="no such file"):
        QuadraticProgram.load(tmp_path / "absent.npz")
    junk = tmp_path / "junk.npz"
    junk.write_bytes(b"not a zip file")
    with pytest.raises(InvalidInput, match="not a readable"):
        QuadraticProgram.load(junk)
    with pytest.raises(InvalidInput, match="ConeProgram"):
        ConeProgram.load(small().save(tmp_path / "qp.npz"))
    whole = small().save(tmp_path / "whole.npz").read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 5):
        torn = tmp_path / "torn.npz"
        torn.write_bytes(whole[:cut])
        with pytest.raises(InvalidInput):
            QuadraticProgram.load(torn)
    parts = dict(np.load(tmp_path / "whole.npz"))
    del parts["u"]
    np.savez(tmp_path / "short.npz", **parts)
    with pytest.raises(InvalidInput, match="lacks"):
        QuadraticProgram.load(tmp_path / "short.npz")


def test_cones_are_checked():
    with pytest.raises(InvalidInput, match="unknown cone"):
        Cone("exponential", 3)
    with pytest.raises(InvalidInput, match="positive integer"):
        Cone("soc", 0)
    assert Cone("psd", 4).rows == 10
    with pytest.raises(InvalidInput, match="shape"):
        ConeProgram(None, [1.0], [[1.0], [1.0]], [0.0, 0.0], (Cone("nonneg", 1),))
    with pytest.raises(InvalidInput, match="row 1"):
        ConeProgram(None, [1.0], [[1.0], [1.0]], [0.0, np.nan], (Cone("nonneg", 2),))


def test_svec_keeps_inner_products_and_order():
    rng = np.random.default_rng(0)
    A, B = (lambda M: M + M.T)(rng.normal(size=(4, 4))), (lambda M: M + M.T)(rng.normal(size=(4, 4)))
    assert svec(A) @ svec(B) == pytest.approx(np.trace(A @ B), rel=1e-14)
    assert np.allclose(smat(svec(A)), A, atol=1e-15)
    assert np.allclose(svec(A)[:3], [A[0, 0], np.sqrt(2) * A[0, 1], A[1, 1]])
    with pytest.raises(InvalidInput):
        smat(np.zeros(4))
    with pytest.raises(InvalidInput):
        svec(np.zeros((2, 3)))


@pytest.mark.parametrize("build", [small, cone_program])
@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_disk_keeps_every_bit(build, suffix, tmp_path):
    program = build()
    hard = np.array([1.0 / 3.0, 5e-324])
    program = program.with_vectors(q=hard, constant=0.1 + 0.2)
    other = type(program).load(program.save(tmp_path / f"one{suffix}"))
    assert other.q.tobytes() == program.q.tobytes()
    assert other.digest == program.digest
    assert [path.name for path in tmp_path.iterdir()] == [f"one{suffix}"]
    if suffix == ".json":
        assert "Infinity" not in (tmp_path / "one.json").read_text()


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_other_versions_and_changed_numbers_are_refused(suffix, tmp_path):
    path = small().save(tmp_path / f"one{suffix}")

    def rewrite(change):
        if suffix == ".json":
            parts = json.loads(path.read_text())
            change(parts)
            path.write_text(json.dumps(parts))
        else:
            parts = dict(np.load(path))
            change(parts)
            np.savez(path, **parts)

    def bad_entry(parts):
        parts["q"] = np.array([1.5, -1.0]) if suffix == ".npz" else [1.5, -1.0]

    def bad_index(parts):
        parts["P_indices"] = np.array([0, 1, 0, 9]) if suffix == ".npz" else [0, 1, 0, 9]

    def version(parts):
        parts["format"] = 2

    for change, needle in ((bad_entry, "numbers it was saved with"), (bad_index, "damaged"), (version, "format 2")):
        small().save(path)
        rewrite(change)
        with pytest.raises(InvalidInput, match=needle):
            QuadraticProgram.load(path)
    small().save(path)
    rewrite(lambda parts: (bad_entry(parts), parts.pop("digest")))
    assert QuadraticProgram.load(path).q.tolist() == [1.5, -1.0]  # edited on purpose, and validated like any other


def test_json_that_is_no_program_is_refused(tmp_path):
    path = tmp_path / "one.json"
    whole = json.loads(small().save(path).read_text())
    for text in (
        "[]",
        "{}",
        "{",
        '{"kind": NaN}',
        json.dumps(whole | {"q": ["a", 1]}),
        json.dumps(whole | {"q": [True, 1]}),
    ):
        path.write_text(text)
        with pytest.raises(InvalidInput):
            QuadraticProgram.load(path)
    for cut in (20, 200, 400):
        path.write_text(json.dumps(whole)[:cut])
        with pytest.raises(InvalidInput, match="not a readable"):
            QuadraticProgram.load(path)
    large = QuadraticProgram(None, np.zeros(40_000))
    with pytest.raises(InvalidInput, match="too many for text"):
        large.save(tmp_path / "large.json")
    assert not (tmp_path / "large.json").exists()


def test_digest_tells_programs_apart_and_knows_equals():
    program = small()
    assert program.digest == small().digest == pickle.loads(pickle.dumps(program)).digest
    assert program.with_vectors(q=[1.0, -1.0]).digest == program.digest
    assert program.with_vectors(constant=-0.0).digest == program.with_vectors(constant=0.0).digest
    others = [
        program.with_vectors(q=[1.0, np.nextafter(-1.0, 0.0)]),
        program.with_vectors(constant=3.5),
        program.with_vectors(ub=[5.0, 2.0]),
        program.with_values(A_data=[1.0, 2.0]),
        small(row_names=("other",)),
        small(P=sparse.csc_matrix(np.array([[2.0, 0.0], [0.0, 2.0]]))),
        cone_program(),
        ConeProgram(None, [0.0], np.ones((3, 1)), np.ones(3), (Cone("soc", 3),)),
        ConeProgram(None, [0.0], np.ones((3, 1)), np.ones(3), (Cone("nonneg", 3),)),
        ConeProgram(None, [0.0], np.ones((3, 1)), np.ones(3), (Cone("psd", 2),)),
    ]
    assert len({program.digest, *(other.digest for other in others)}) == len(others) + 1


def test_digest_is_the_same_in_another_process():
    code = (
        "import numpy as np; from crosswind.solvers import QuadraticProgram; "
        "print(QuadraticProgram(np.eye(2), [1.0, 2.0], [[1.0, 1.0]], 0.0, 1.0, row_names=('sum',)).digest)"
    )
    here = QuadraticProgram(np.eye(2), [1.0, 2.0], [[1.0, 1.0]], 0.0, 1.0, row_names=("sum",)).digest
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == here


def test_matrices_are_updated_within_the_pattern_only():
    pattern = sparse.csc_matrix(([1.0, 0.0, 0.0, 2.0], ([0, 0, 1, 1], [0, 1, 0, 1])), shape=(2, 2))
    program = QuadraticProgram(pattern, [0.0, 0.0], [[1.0, 0.0]], 0.0, 1.0)
    assert program.P.nnz == 4
    new = program.with_values(P_data=np.array([[1.0, 0.5], [0.5, 2.0]]), A_data=sparse.csc_matrix([[3.0, 0.0]]))
    assert new.P.toarray().tolist() == [[1.0, 0.5], [0.5, 2.0]]
    assert new.A.toarray().tolist() == [[3.0, 0.0]]
    assert program.with_values(P_data=np.zeros((2, 2))).P.nnz == 4  # zeros stay stored
    nearly = program.with_values(P_data=[1.0, 0.5, 0.5 + 1e-13, 2.0])  # averaged, its pattern kept
    assert nearly.P.nnz == 4
    with pytest.raises(InvalidInput, match=r"\(0, 1\) lies outside"):
        program.with_values(A_data=[[1.0, 2.0]])
    with pytest.raises(InvalidInput, match="shape"):
        program.with_values(P_data=np.eye(3))
    with pytest.raises(InvalidInput, match="not finite"):
        program.with_values(P_data=np.array([[np.nan, 0.0], [0.0, 1.0]]))


def test_empty_programs_are_programs():
    for program in (
        QuadraticProgram(None, []),
        QuadraticProgram(None, [], np.zeros((2, 0)), -1.0, 1.0),
        QuadraticProgram(np.eye(2), [1.0, 0.0]),
        ConeProgram(None, [], np.zeros((1, 0)), [1.0], (Cone("nonneg", 1),)),
        ConeProgram(np.eye(2), [1.0, 0.0], None, [], ()),
    ):
        assert solve(program).status.ok, program
        assert type(program)(**{k: v for k, v in program.__dict__.items() if k != "_cache"}).digest == program.digest
    assert solve(ConeProgram(None, [], np.zeros((1, 0)), [-1.0], (Cone("nonneg", 1),))).status.name == "INFEASIBLE"


def test_contradictions_of_one_bound_are_refused_and_of_rows_together_are_a_status():
    with pytest.raises(InvalidInput, match="leave no value"):
        QuadraticProgram(None, [0.0], [[1.0]], 2.0, 1.0)
    with pytest.raises(InvalidInput, match="leave no value"):
        QuadraticProgram(None, [0.0], lb=1.0, ub=np.nextafter(1.0, 0.0))
    program = QuadraticProgram(None, [0.0], [[1.0], [1.0]], [2.0, -np.inf], [np.inf, 1.0])
    assert solve(program).status.name == "INFEASIBLE"
