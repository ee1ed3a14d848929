"""The compiled parts: the same answers as numpy's, refusals in place of reads beyond an end, and life without them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram, certify, native, solve
from crosswind.solvers.certify_fast import ArrayCheck, FastCheck

NATIVE = Path(native.__file__).parent
compiled = pytest.mark.skipif(not native.COMPILED, reason="the package was built without a compiler")


def test_this_machine_compiled_them():
    """The tests of what is compiled must not pass by being skipped where a compiler is known to be."""
    assert native.COMPILED


def programs(make_program, count=40):
    for seed in range(count):
        yield seed, make_program(seed, 1.0 if seed % 2 else 6.0)


@compiled
def test_new_vectors_are_taken_alike_and_judged_alike(make_program):
    agreed = taken = passed = 0
    for seed, program in programs(make_program):
        rng = np.random.default_rng(seed)
        fast, plain = FastCheck(program, 1e-6), ArrayCheck(program, 1e-6)
        for step in range(6):
            size = (1e-3, 0.3, 30.0)[step % 3]
            finite_l, finite_u = np.isfinite(program.l), np.isfinite(program.u)
            shift = size * rng.normal(size=program.m)
            equal = program.l == program.u
            low = np.where(finite_l, program.l - np.where(equal, shift, np.abs(shift)), program.l)
            high = np.where(finite_u, program.u - np.where(equal, shift, -np.abs(shift)), program.u)
            high = np.where(equal, low, high)
            box = np.where(np.isfinite(program.ub), program.ub * (1.0 + abs(size * rng.normal())), program.ub)
            given = (program.q * (1.0 + size * rng.normal(size=program.n)), low, high, None, box if step % 2 else None)
            assert fast.kernel.take(*given) == plain.take(*given)
            agreed += 1
            if plain.q is not given[0]:
                continue
            taken += 1
            now = program.with_vectors(q=given[0], l=low, u=high, ub=given[4])
            found = solve(now, "piqp", tol=1e-7)
            if found.status.usable:
                w = np.concatenate((found.y, found.z))
                for spoil in (0.0, 1e-7, 1e-4):
                    x = found.x * (1.0 + spoil * rng.normal(size=program.n))
                    assert fast.passes(x, w) == plain.passes(x, w)
                    passed += plain.passes(x, w)
    assert agreed == 240
    assert taken > 60
    assert passed > 60


@compiled
@pytest.mark.parametrize("spoil", [np.nan, np.inf, -np.inf, 1e308])
def test_what_is_not_a_number_never_passes(make_program, spoil):
    program = make_program(3, 1.0)
    found = solve(program, "clarabel", tol=1e-9)
    check = FastCheck(program, 1e-6)
    for at in range(program.n):
        x = found.x.copy()
        x[at] = spoil
        assert not check.passes(x, np.concatenate((found.y, found.z)))
    for at in range(program.m + program.n):
        w = np.concatenate((found.y, found.z))
        w[at] = spoil
        assert not check.passes(found.x, w)


def test_a_miss_that_is_worth_too_much_is_refused_though_the_gap_cancels():
    """Two limits of 1000 each, one missed and one kept too well by the same, beside a cost of 0.1 in all."""
    program = QuadraticProgram(None, [1.0, 1.0, -1.0], np.eye(3), [1000.0, 1000.0, -np.inf], [np.inf, np.inf, 1999.9])
    w = np.array([-1.0, -1.0, 1.0, 0.0, 0.0, 0.0])
    checks = (FastCheck(program, 1e-6), ArrayCheck(program, 1e-6))
    for off, passes in ((9e-4, False), (5e-8, True), (0.0, True)):
        x = np.array([1000.0 - off, 1000.0 + off, 1999.9])
        assert certify(program, x, w[:3], w[3:], tol=1e-6).passes() or not passes
        assert [check.passes(x, w) for check in checks] == [passes, passes]


def test_a_residual_where_hardly_anything_curves_is_paid_for_in_full():
    """The point is 1.25e-5 from the optimum, far beyond the reach of a bound that need not hold everywhere."""
    program = QuadraticProgram(np.diag([1.0, 1e-14]), [-1.0, -5e-10])
    x, w = np.array([1.0, 0.0]), np.zeros(2)
    assert not certify(program, x, np.zeros(0), w, tol=1e-6).passes()
    assert not FastCheck(program, 1e-6).passes(x, w)
    assert not ArrayCheck(program, 1e-6).passes(x, w)
    assert FastCheck(program, 1e-6).passes(np.array([1.0, 5e4]), w)


@compiled
def test_nothing_changes_where_vectors_do_not_suit(make_program):
    program = make_program(1, 1.0)
    check = FastCheck(program, 1e-6)
    for q, rows in (
        (np.full(program.n, np.nan), (None, None)),
        (1e9 * program.q + 1e9, (None, None)),
        (program.q[:-1], (None, None)),
        (program.q.tolist(), (None, None)),
        (2.0 * program.q, (program.l[:-1], None)),
        (2.0 * program.q, (np.full(program.m, np.nan), None)),
    ):
        assert not check.take(q, rows, (None, None))
        assert check.current().digest == program.digest
    assert check.take(2.0 * program.q, (None, None), (None, None))
    assert np.array_equal(check.current().q, 2.0 * program.q)


@compiled
def test_the_face_refuses_wrong_buffers():
    program = QuadraticProgram(np.eye(2), [1.0, 1.0], [[1.0, 1.0]], 1.0, 1.0)
    kernel = FastCheck(program, 1e-6).kernel
    good = np.zeros(3)
    for bad in (np.zeros(4), np.zeros(3, dtype=np.float32), np.zeros((3, 1)), np.zeros(6)[::2], [0.0, 0.0, 0.0], None):
        with pytest.raises((ValueError, TypeError, BufferError)):
            kernel.passes(np.zeros(2), bad)
    with pytest.raises(TypeError):
        kernel.passes(good)
    with pytest.raises(ValueError, match="vector of 2"):
        kernel.take(np.zeros(3), None, None, None, None)
    whole = np.array([0, 1, 2], dtype=np.int32)
    with pytest.raises(IndexError):
        native.gather(np.zeros(2), whole, 1.0, np.zeros(3))
    with pytest.raises(IndexError):
        native.scatter(np.zeros(3), None, 1, whole, 1.0, np.zeros(3))
    with pytest.raises(IndexError):
        native.scatter(np.zeros(3), None, 0, whole + np.int32(1), 1.0, np.zeros(3))
    with pytest.raises(IndexError):  # a start so large that its sum with the length would overflow
        native.scatter(np.zeros(3), None, 2**63 - 2, whole, 1.0, np.zeros(3))
    read_only = np.zeros(3)
    read_only.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        native.gather(np.zeros(3), None, 1.0, read_only)


@compiled
def test_matrices_that_do_not_fit_together_are_refused():
    eye = (np.array([0, 1, 2], dtype=np.int32), np.array([0, 1], dtype=np.int32), np.ones(2))
    vectors = [np.zeros(2)] * 6
    native.core.Check(eye, eye, eye, *vectors, 1e-6)
    for place, part in ((0, [0, 1, 3]), (0, [0, 3, 2]), (0, [1, 1, 2]), (1, [0, 2]), (1, [0, -1])):
        broken = list(eye)
        broken[place] = np.array(part, dtype=np.int32)
        for which in range(3):
            given = [eye, eye, eye]
            given[which] = tuple(broken)
            with pytest.raises(ValueError, match=r"fit together|vector"):
                native.core.Check(*given, *vectors, 1e-6)


def test_gather_and_scatter_agree_with_numpy():
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = int(rng.integers(0, 20))
        source, other = rng.normal(size=(2, 25))
        index = rng.permutation(25)[:size].astype(np.int32)
        mine, theirs = np.zeros((2, size))
        native.gather(source, index, 0.5, mine)
        native._gather(source, index, 0.5, theirs)
        assert np.array_equal(mine, theirs)
        start = int(rng.integers(0, 26 - size))
        for minus in (None, other):
            mine, theirs = np.zeros((2, 25))
            native.scatter(source, minus, start, index, 0.25, mine)
            native._scatter(source, minus, start, index, 0.25, theirs)
            assert np.array_equal(mine, theirs)


def test_without_them_numpy_does_the_same():
    code = """
import numpy as np
from crosswind.solvers import QuadraticProgram, Session, native
assert not native.COMPILED
session = Session(QuadraticProgram(np.eye(3), np.ones(3), np.ones((1, 3)), 1.0, 1.0, lb=-1.0, ub=1.0), "piqp")
session.solve()
found = session.update(q=np.array([1.0, 1.5, 2.0])).solve()
assert "_late" in found.__dict__ and found.status.ok
print(found.x.round(7).tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CROSSWIND_NATIVE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[0.8333333, 0.3333333, -0.1666667]"


DRIVER = r"""
#include "check.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    /* min x1^2/2 + x2^2/2 - x1 - x2  s.t.  x1 + x2 = 1, x >= 0: x = (1/2, 1/2), y = 1/2 */
    int start[] = {0, 1, 2}, index[] = {0, 1}, a_index[] = {0, 0}, r_start[] = {0, 2};
    double ones[] = {1, 1}, q[] = {-1, -1}, one[] = {1}, zero[] = {0, 0}, far[] = {INFINITY, INFINITY};
    double half[] = {0.5, 0.5}, x[] = {0.5, 0.5}, w[] = {0.5, 0, 0}, off[] = {0.5, 0.6}, bad[] = {NAN, 1};
    cw_sparse P = {2, 2, start, index, ones}, A = {1, 2, start, a_index, ones}, R = {1, 2, r_start, index, ones};
    cw_check *c = cw_check_new(&P, &A, &R, half, q, one, one, zero, far, 1e-6);
    if (c == NULL || cw_check_variables(c) != 2 || cw_check_rows(c) != 1) return 1;
    if (!cw_check_passes(c, x, w) || cw_check_passes(c, off, w) || cw_check_passes(c, bad, w)) return 2;
    if (cw_check_take(c, bad, NULL, NULL, NULL, NULL) || !cw_check_take(c, q, one, one, NULL, far)) return 3;
    srand(1);
    for (int k = 0; k < 20000; k++) {
        double v[2], m[3];
        for (int i = 0; i < 2; i++) v[i] = ldexp((double)rand() / RAND_MAX - 0.5, rand() % 2100 - 1050);
        for (int i = 0; i < 3; i++) m[i] = ldexp((double)rand() / RAND_MAX - 0.5, rand() % 2100 - 1050);
        if (cw_check_passes(c, v, m)) return 4;
        cw_check_take(c, v, m, m, v, v);
        cw_check_take(c, q, one, one, zero, far);
    }
    if (!cw_check_passes(c, x, w)) return 5;
    cw_check_free(c);
    cw_check_free(NULL);
    puts("sound");
    return 0;
}
"""


def test_the_sources_are_clean_and_sound_under_sanitizers(tmp_path):
    """Warnings are errors; addresses and undefined behaviour are watched while random bits go through."""
    (tmp_path / "driver.c").write_text(DRIVER)
    flags = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic"]
    watch = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = tmp_path / "driver"
    subprocess.run(
        [
            "cc",
            *flags,
            *watch,
            f"-I{NATIVE}",
            str(tmp_path / "driver.c"),
            str(NATIVE / "check.c"),
            "-lm",
            "-o",
            program,
        ],
        check=True,
    )
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "sound\n"), done.stderr
