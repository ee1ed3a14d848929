"""The differentiable solve under jax: the same numbers eager, compiled, batched, threaded; failures; a chain."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, solve
from crosswind.solvers.differentiate import Degeneracy, sensitivities
from crosswind.solvers.differentiate_jax import differentiable_solve
from crosswind.solvers.errors import InvalidInput


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def program_of(seed: int = 0, n: int = 6) -> QuadraticProgram:
    rng = np.random.default_rng(seed)
    G = rng.normal(size=(n, n))
    return QuadraticProgram(
        G @ G.T + 0.1 * np.eye(n),
        3.0 * rng.normal(size=n),
        np.vstack((np.ones(n), rng.normal(size=n))),
        [1.0, -np.inf],
        [1.0, 0.5],
        lb=-0.4,
        ub=np.where(np.arange(n) < 4, 0.6, np.inf),
    )


PROGRAM = program_of()
LAYER = differentiable_solve(PROGRAM)
TARGET = np.linspace(-1.0, 1.0, PROGRAM.n)


def loss(q, u=None, A=None):
    made = LAYER(q=q, u=u, A=A)
    return jnp.sum((made.x - TARGET) ** 2) + 0.3 * made.value + 0.1 * jnp.sum(made.y * made.y) + made.z[0]


def test_forward_is_the_solution():
    made = LAYER()
    exact = sensitivities(PROGRAM, solve(PROGRAM, tol=1e-9))
    assert made.x.dtype == jnp.float64
    assert np.allclose(made.x, exact.x, atol=1e-12)
    assert np.allclose(made.y, exact.y, atol=1e-10)
    assert np.allclose(made.z, exact.z, atol=1e-10)
    assert float(made.value) == pytest.approx(PROGRAM.objective(exact.x), rel=1e-12)
    assert int(made.degeneracy) == 0


def test_gradient_equals_central_differences():
    rows = PROGRAM.with_vectors().A.data
    slopes = jax.grad(loss, argnums=(0, 1, 2))(PROGRAM.q, PROGRAM.u, rows)
    rng, h = np.random.default_rng(1), 1e-6
    for i, start in enumerate((PROGRAM.q, PROGRAM.u, rows)):
        along = rng.normal(size=start.size)
        if i == 1:
            along[0] = 0.0  # the equality's two sides cannot part
        ends = []
        for sign in (h, -h):
            data = [PROGRAM.q, PROGRAM.u, rows]
            data[i] = start + sign * along
            ends.append(float(loss(*data)))
        assert float(slopes[i] @ along) == pytest.approx((ends[0] - ends[1]) / (2.0 * h), rel=1e-6)


def test_matrix_values_of_P_are_differentiated():
    own = PROGRAM.P.data
    slope = jax.grad(lambda P: jnp.sum(LAYER(P=P).x * TARGET))(own)
    D = np.random.default_rng(2).normal(size=PROGRAM.P.shape)
    along, h = (D + D.T).T.ravel(), 1e-6
    ends = [float(LAYER(P=own + s * along).x @ TARGET) for s in (h, -h)]
    assert float(slope @ along) == pytest.approx((ends[0] - ends[1]) / (2.0 * h), rel=1e-6)


def test_compiled_batched_and_looped_agree_bit_for_bit():
    batch = np.stack([PROGRAM.q + 0.2 * i for i in range(4)])
    slope = jax.grad(loss)
    looped = np.stack([np.asarray(slope(q)) for q in batch])
    for run in (jax.vmap(slope), jax.jit(jax.vmap(slope)), lambda b: np.stack([jax.jit(slope)(q) for q in b])):
        assert np.array_equal(np.asarray(run(batch)), looped)
    shuffled = np.asarray(jax.vmap(slope)(batch[::-1]))[::-1]
    assert np.array_equal(shuffled, looped)


def test_nested_and_mixed_batch_axes():
    costs, caps = np.stack([PROGRAM.q, 2.0 * PROGRAM.q]), np.array([0.3, 0.5, 0.7])
    both = jax.vmap(lambda q: jax.vmap(lambda cap: LAYER(q=q, u=jnp.array([1.0, cap])))(caps))(costs)
    assert both.x.shape == (2, 3, PROGRAM.n)
    assert both.degeneracy.shape == (2, 3)
    alone = LAYER(q=costs[1], u=np.array([1.0, caps[2]]))
    assert np.array_equal(both.x[1, 2], alone.x)


def test_scalars_are_spread_and_no_rows_are_fine():
    box = QuadraticProgram(np.eye(3), [0.0, 0.0, 0.0], lb=-1.0, ub=1.0)
    layer = differentiable_solve(box)
    made, slope = jax.value_and_grad(lambda ub: jnp.sum(layer(q=-2.0, ub=ub).x))(0.5)
    assert float(made) == pytest.approx(1.5)
    assert float(slope) == pytest.approx(3.0)
    assert layer().y.shape == (0,)


def test_a_risk_aversion_is_tuned_through_the_solve():
    rng = np.random.default_rng(4)
    n = 5
    G = rng.normal(size=(n, n))
    covariance, mean = G @ G.T / n + 0.1 * np.eye(n), rng.normal(size=n)
    base = QuadraticProgram(covariance, -mean, np.ones((1, n)), 1.0, 1.0, lb=0.0)
    layer = differentiable_solve(base)

    def weights(log_aversion):
        return layer(P=jnp.exp(log_aversion) * base.P.data).x

    wanted = np.asarray(weights(np.log(3.0)))
    assert (wanted > 1e-3).sum() >= 3
    step = jax.jit(jax.value_and_grad(lambda a: jnp.sum((weights(a) - wanted) ** 2)))
    low, high = np.log(0.5), np.log(20.0)
    for _ in range(40):  # bisection on the sign of the derivative
        middle = 0.5 * (low + high)
        low, high = (low, middle) if float(step(middle)[1]) > 0.0 else (middle, high)
    assert np.exp(middle) == pytest.approx(3.0, rel=1e-6)


def test_degenerate_elements_are_flagged_one_by_one():
    layer = differentiable_solve(QuadraticProgram(np.eye(1), [-1.0], ub=1.0))
    made = jax.jit(jax.vmap(lambda q: layer(q=q)))(np.array([[-0.5], [-1.0], [-2.0]]))
    assert made.degeneracy.tolist() == [0, int(Degeneracy.WEAKLY_ACTIVE), 0]
    slope = jax.vmap(jax.grad(lambda q: layer(q=q).x[0]))(np.array([[-0.5], [-1.0], [-2.0]]))
    assert np.allclose(slope.ravel(), [-1.0, -1.0, 0.0])
    held = differentiable_solve(QuadraticProgram(np.eye(1), [-1.0], ub=1.0), weak="held")
    assert np.allclose(jax.grad(lambda q: held(q=q).x[0])(np.array([-1.0])), [0.0])


def test_one_bad_element_takes_nothing_else_with_it():
    layer = differentiable_solve(PROGRAM, failure="nan")
    caps = np.array([[1.0, 0.5], [1.0, -1e6], [1.0, np.nan]])
    made = jax.jit(jax.vmap(lambda u: layer(u=u)))(caps)
    assert np.array_equal(made.x[0], LAYER(u=caps[0]).x)
    assert np.isnan(np.asarray(made.x[1:])).all()
    assert made.degeneracy.tolist() == [0, 8, 8]
    slope = jax.vmap(jax.grad(lambda u: jnp.sum(layer(u=u).x)))(caps)
    assert np.isfinite(np.asarray(slope[0])).all()
    assert np.isnan(np.asarray(slope[1:])).all()


def test_failures_stop_with_our_text_by_default():
    # jax gives its own type: ValueError where it runs the callback at once, JaxRuntimeError from compiled code.
    theirs = (ValueError, jax.errors.JaxRuntimeError)
    with pytest.raises(theirs, match="certified optimum"):
        jax.block_until_ready(LAYER(u=np.array([1.0, -1e6])).x)
    with pytest.raises(theirs, match="not finite"):
        jax.block_until_ready(jax.jit(lambda q: LAYER(q=q).x)(np.full(PROGRAM.n, np.nan)))
    # The next call is a good one.
    assert np.isfinite(np.asarray(LAYER().x)).all()


def test_threads_share_a_layer():
    slope = jax.jit(jax.grad(loss))
    costs = [PROGRAM.q + 0.1 * i for i in range(4)]
    expected = [np.asarray(slope(q)) for q in costs]
    got: list[bool] = []

    def work(i: int) -> None:
        with jax.enable_x64(True):
            got.extend(np.array_equal(np.asarray(slope(costs[i])), expected[i]) for _ in range(5))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 20


def test_doubles_cross_to_the_host_whole_when_jax_runs_it_elsewhere():
    # A long queue makes jax run the callback in its own thread, in which 64-bit values are switched off.
    step = jax.jit(lambda q: LAYER(q=q * (1.0 + 1e-13)).x + 0.0)
    out = [step(PROGRAM.q + 1e-12 * i) for i in range(10)]
    exact = LAYER(q=(PROGRAM.q + 9e-12) * (1.0 + 1e-13)).x
    assert out[-1].dtype == jnp.float64
    assert np.allclose(out[-1], exact, rtol=1e-13, atol=1e-14)


def test_refusals_are_typed():
    cone = ConeProgram(np.eye(1), [1.0], [[1.0]], [1.0], (Cone("nonneg", 1),))
    with pytest.raises(InvalidInput, match="quadratic"):
        differentiable_solve(cone)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="semidefinite"):
        differentiable_solve(QuadraticProgram([[-1.0]], [0.0]))
    with pytest.raises(InvalidInput, match="raise or nan"):
        differentiable_solve(PROGRAM, failure="ignore")
    with pytest.raises(InvalidInput, match="free or held"):
        differentiable_solve(PROGRAM, weak="both")
    with pytest.raises(InvalidInput, match="solver"):
        differentiable_solve(PROGRAM, solver="nobody")
    with pytest.raises(InvalidInput, match="jax inside"):
        differentiable_solve(PROGRAM, solver=("piqp", "qpax"))
    with pytest.raises(InvalidInput, match="shape"):
        LAYER(q=np.zeros(3))
    with jax.enable_x64(False), pytest.raises(InvalidInput, match="enable_x64"):
        LAYER()


def test_importing_does_not_load_jax():
    code = "import sys, crosswind.solvers.differentiate_jax; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
