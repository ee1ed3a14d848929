"""Readers: every section of QPS in both forms, qpbenchmark's and MATLAB's layouts, and the line of each fault."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from scipy import io, sparse

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, solve
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.readers import read_mat, read_program, read_qpbenchmark, read_qps

FREE = """\
* a comment
NAME sample
ROWS
 N cost
 N unused
 E balance
 L cap
 G floor
 E up_range
 E down_range
COLUMNS
 x cost -1.5 balance 1
 x cap 1.0D+00
 y cost 2 balance 1
 y floor 3
 y unused 7
 z up_range 1 down_range 2
 w cost 1
RHS
 rhs cost -4 balance 1
 rhs cap 5 floor -2
 rhs up_range 1 down_range 3
RANGES
 rng cap 2.5 floor 4
 rng up_range 0.5 down_range -0.25
BOUNDS
 UP bnd x 4
 LO bnd y -1
 UP bnd y 1e30
 FR bnd z
 MI bnd w
 UP bnd w 6
QUADOBJ
 x x 2
 x y -1
 y y 2
ENDATA
"""


def fixed(*fields: str) -> str:
    """Return one card with its fields at the columns 2, 5, 15, 25, 40 and 50."""
    out = ""
    for start, part in zip((1, 4, 14, 24, 39, 49), fields, strict=False):
        out = out.ljust(start) + part
    return out


FIXED = "\n".join(
    [
        "NAME          SPACES",
        "ROWS",
        fixed("N", "TOTAL"),
        fixed("E", "R 1"),
        fixed("L", "R 2"),
        "COLUMNS",
        fixed("", "X 1", "TOTAL", "1.0", "R 1", "2.0"),
        fixed("", "X 1", "R 2", "1.0"),
        fixed("", "X 2", "R 1", "1.0", "R 2", "-1.0"),
        "RHS",
        fixed("", "", "R 1", "4.0", "TOTAL", "1.5"),
        "BOUNDS",
        fixed("UP", "BND", "X 2", "-1.0"),
        "QMATRIX",
        fixed("", "X 1", "X 1", "3.0"),
        fixed("", "X 1", "X 2", "1.0"),
        fixed("", "X 2", "X 1", "1.0"),
        fixed("", "X 2", "X 2", "2.0"),
        "ENDATA",
        "",
    ]
)


def written(folder, text, name="one.qps"):
    path = folder / name
    path.write_text(text)
    return path


def test_every_section_of_free_qps(tmp_path):
    program = read_program(written(tmp_path, FREE))
    assert program.row_names == ("balance", "cap", "floor", "up_range", "down_range")
    assert program.var_names == ("x", "y", "z", "w")
    assert program.constant == 4.0  # minus the right-hand side of the objective row
    assert program.q.tolist() == [-1.5, 2.0, 0.0, 1.0]
    assert program.P.toarray()[:2, :2].tolist() == [[2.0, -1.0], [-1.0, 2.0]]
    assert program.A.toarray().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 3, 0, 0], [0, 0, 1, 0], [0, 0, 2, 0]]
    assert program.l.tolist() == [1.0, 2.5, -2.0, 1.0, 2.75]
    assert program.u.tolist() == [1.0, 5.0, 2.0, 1.5, 3.0]
    assert program.lb.tolist() == [0.0, -1.0, -np.inf, -np.inf]
    assert program.ub.tolist() == [4.0, np.inf, np.inf, 6.0]


def test_fixed_columns_hold_names_with_spaces(tmp_path):
    program = read_program(written(tmp_path, FIXED, "SPACES.QPS"))
    assert program.row_names == ("R 1", "R 2")
    assert program.var_names == ("X 1", "X 2")
    assert program.constant == -1.5
    assert program.P.toarray().tolist() == [[3.0, 1.0], [1.0, 2.0]]
    assert program.A.toarray().tolist() == [[2.0, 1.0], [1.0, -1.0]]
    assert program.lb.tolist() == [0.0, -np.inf]  # a negative upper bound without a lower one
    assert program.ub.tolist() == [np.inf, -1.0]
    assert (program.l.tolist(), program.u.tolist()) == ([4.0, -np.inf], [4.0, 0.0])


def test_forms_agree_and_compression_is_no_matter(tmp_path):
    names = FIXED.replace("R 1", "R_1").replace("R 2", "R_2").replace("X 1", "X_1").replace("X 2", "X_2")
    path = written(tmp_path, names)
    assert read_qps(path, "free").digest == read_qps(path, "fixed").digest == read_qps(path).digest
    packed = tmp_path / "one.qps.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_program(packed).digest == read_qps(path).digest
    with pytest.raises(InvalidInput, match="unknown form"):
        read_qps(path, "loose")


def test_a_known_program_solves_to_its_optimum(tmp_path):
    # min x² + 4(y − 4)² over x + y ≤ 7, −x + 2y ≤ 4, 0 ≤ y ≤ 4, x ≥ 0. On −x + 2y = 4: x = 2, y = 3, value 8.
    text = (
        "NAME t\nROWS\n N o\n L a\n L b\nCOLUMNS\n x a 1 b -1\n y o -32 a 1\n y b 2\nRHS\n r o -64 a 7\n r b 4\n"
        "BOUNDS\n UP d y 4\nQUADOBJ\n x x 2\n y y 8\nENDATA\n"
    )
    program = read_program(written(tmp_path, text))
    found = solve(program, tol=1e-8)
    assert found.objective == pytest.approx(8.0, rel=1e-7)
    assert found.x == pytest.approx([2.0, 3.0], abs=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "line", "needle"),
    [
        (" E balance", " Q balance", 6, "one of N, E, L, G"),
        (" E balance", " E cap", 7, "declared twice"),
        (" x cap 1.0D+00", " x cup 1", 13, "not declared"),
        (" x cap 1.0D+00", " x cap one", 13, "no number"),
        (" x cap 1.0D+00", " x cap nan", 13, "no number"),
        (" x cap 1.0D+00", " x cap 1_0", 13, "no number"),
        (" x cap 1.0D+00", " x balance 1", 13, "given twice"),
        (" w cost 1", " M 'MARKER' 'INTORG'", 18, "integer"),
        (" rhs cap 5 floor -2", " other cap 5 floor -2", 21, "second RHS set"),
        (" rhs cap 5 floor -2", " rhs cap 5 cap -2", 21, "given twice"),
        (" rng cap 2.5 floor 4", " rng cost 2.5", 24, "no range"),
        (" UP bnd x 4", " BV bnd x", 27, "integer"),
        (" UP bnd x 4", " XX bnd x 4", 27, "unknown type"),
        (" UP bnd x 4", " UP bnd v 4", 27, "no column"),
        (" UP bnd x 4", " UP bnd y 4", 29, "bound twice"),
        (" UP bnd w 6", " UP bnd w", 32, "no number|no column|expected"),
        (" MI bnd w", " LO bnd w 9", 32, "leave no value"),
        (" x y -1", " x y -1\n y x -1", 36, "given twice"),
        (" x y -1", " x q -1", 35, "no column"),
        ("QUADOBJ", "QMATRIX", 35, "mirror"),
        ("QUADOBJ", "QCMATRIX cap", 33, "not part of a quadratic"),
        ("QUADOBJ", "QSECTION cap", 33, "quadratic constraint"),
        ("ENDATA\n", "", 36, "ENDATA"),
        ("NAME sample", "NAME sample\nOBJSENSE\n MAX", 4, "minimisation"),
        ("NAME sample", "NAME sample\nOBJSENSE MAX", 3, "minimisation"),
        ("NAME sample", "NAME sample\n x y", 3, "before any section|data before"),
    ],
)
def test_faults_are_told_with_their_line(tmp_path, old, new, line, needle):
    assert old in FREE
    with pytest.raises(InvalidInput, match=needle) as caught:
        read_program(written(tmp_path, FREE.replace(old, new, 1)))
    assert caught.value.field == f"one.qps:{line}", str(caught.value)
    assert caught.value.remedy


def test_sets_may_be_left_out_in_free_fields(tmp_path):
    bare = FREE.replace(" rhs ", " ").replace(" rng ", " ").replace(" bnd ", " ")
    assert read_program(written(tmp_path, bare)).digest == read_program(written(tmp_path, FREE, "two.qps")).digest


def test_either_triangle_of_quadobj_counts(tmp_path):
    other = FREE.replace(" x y -1", " y x -1")
    assert read_program(written(tmp_path, other)).digest == read_program(written(tmp_path, FREE, "two.qps")).digest


def test_damaged_and_unknown_files_are_refused(tmp_path):
    for name in ("a.qps", "a.mat", "a.npz", "a.json", "a.qps.gz"):
        with pytest.raises(InvalidInput, match="no such file"):
            read_program(tmp_path / name)
        (tmp_path / name).write_bytes(b"\x93\x00\xff junk")
        with pytest.raises(InvalidInput):
            read_program(tmp_path / name)
    with pytest.raises(InvalidInput, match="suffix"):
        read_program(tmp_path / "a.xlsx")


def small() -> dict[str, object]:
    return {
        "P": np.array([[2.0, 0.5], [0.5, 1.0]]),
        "q": np.array([1.0, -1.0]),
        "G": np.array([[1.0, 2.0], [-1.0, 0.0]]),
        "h": np.array([3.0, np.inf]),
        "A": np.array([[1.0, 1.0]]),
        "b": np.array([1.0]),
        "lb": np.array([-1.0, -np.inf]),
        "ub": np.array([5.0, 5.0]),
    }


def test_qpbenchmark_layout(tmp_path):
    path = tmp_path / "MPC0.npz"
    np.savez(path, **small())
    program = read_program(path)
    assert program.A.toarray().tolist() == [[1.0, 2.0], [-1.0, 0.0], [1.0, 1.0]]
    assert program.l.tolist() == [-np.inf, -np.inf, 1.0]
    assert program.u.tolist() == [3.0, np.inf, 1.0]
    assert program.lb.tolist() == [-1.0, -np.inf]
    assert solve(program).status.ok


def test_absent_and_sparse_parts_of_qpbenchmark_are_read_without_running_code(tmp_path):
    path = tmp_path / "one.npz"
    parts = small() | {"G": None, "h": None, "lb": None, "ub": None}
    np.savez(path, **{key: np.array(value) for key, value in parts.items()})
    program = read_program(path)
    assert program.m == 1
    assert np.isinf(program.lb).all()
    whole = {key: np.array(value) for key, value in small().items()}
    for key in ("P", "G", "A"):
        whole[key] = np.array(sparse.csc_matrix(small()[key]))
    np.savez(path, **whole)
    dense = tmp_path / "two.npz"
    np.savez(dense, **small())
    assert read_program(path).digest == read_program(dense).digest

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    whole["G"] = np.array(Bomb(), dtype=object)
    np.savez(path, **whole)
    with pytest.raises(InvalidInput, match="no arrays"):
        read_program(path)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        ({"h": None}, "lacks h"),
        ({"G": None}, "lacks G"),
        ({"b": None}, "lacks b"),
        ({"A": None}, "lacks A"),
        ({"q": None}, "lacks q"),
        ({"h": np.ones(3)}, "fit together"),
        ({"q": np.array([1.0, np.nan])}, "not finite"),
        ({"P": np.array([[2.0, 0.0], [0.5, 1.0]])}, "triangular"),
        ({"lb": np.array([9.0, 0.0])}, "leave no value"),
        ({"q": np.array(["a", "b"])}, "."),
    ],
)
def test_faulty_parts_of_qpbenchmark_are_refused(tmp_path, change, needle):
    path = tmp_path / "one.npz"
    np.savez(path, **{key: np.array(value) for key, value in (small() | change).items()})
    with pytest.raises(InvalidInput, match=needle):
        read_qpbenchmark(path)


def test_maros_meszaros_layout(tmp_path):
    P, C = sparse.csc_matrix(small()["P"]), sparse.csc_matrix([[1.0, 2.0]])
    parts = {
        "P": P,
        "q": np.array([[1.0], [-1.0]]),
        "r": 2.5,
        "A": sparse.vstack((C, sparse.identity(2)), format="csc"),
        "l": np.array([[-1e20], [0.0], [-1e20]]),
        "u": np.array([[3.0], [1e20], [5.0]]),
        "n": 2,
        "m": 3,
    }
    path = tmp_path / "one.mat"
    io.savemat(path, parts)
    program = read_program(path)
    assert (program.m, program.constant) == (1, 2.5)
    assert program.l.tolist() == [-np.inf]
    assert program.lb.tolist() == [0.0, -np.inf]
    assert program.ub.tolist() == [np.inf, 5.0]
    assert program.A.toarray().tolist() == [[1.0, 2.0]]
    other = parts | {"A": parts["A"] * 2.0}
    io.savemat(path, other)
    assert read_mat(path).m == 3  # no identity: rows they stay
    for change, needle in (
        ({"n": 3}, "says n"),
        ({"l": np.zeros(2)}, "says m|fit together"),
        ({"P": sparse.triu(P)}, "triangular"),
    ):
        io.savemat(path, parts | change)
        with pytest.raises(InvalidInput, match=needle):
            read_mat(path)
    io.savemat(path, {key: parts[key] for key in ("P", "q", "A", "l")})
    with pytest.raises(InvalidInput, match="lacks u"):
        read_mat(path)


def test_qpbenchmark_names_in_matlab_files(tmp_path):
    path = tmp_path / "one.mat"
    io.savemat(path, small())
    npz = tmp_path / "one.npz"
    np.savez(npz, **small())
    assert read_program(path).digest == read_program(npz).digest


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_own_files_are_told_apart_from_those_of_qpbenchmark(tmp_path, suffix):
    for i, program in enumerate(
        (
            QuadraticProgram(np.eye(2), [1.0, 2.0], lb=0.0),
            ConeProgram(None, [1.0], [[-1.0]], [0.0], (Cone("nonneg", 1),)),
        )
    ):
        path = program.save(tmp_path / f"p{i}{suffix}")
        found = read_program(path)
        assert type(found) is type(program)
        assert found.digest == program.digest
