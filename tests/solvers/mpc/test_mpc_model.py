"""The model is checked once, by name, and survives a file to the last bit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crosswind.solvers import native
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.mpc import MpcModel, MpcSolver, MpcWorld, mpc_instance

GOOD = {
    "horizon": 6, "temporary": np.diag([0.1, 0.2]), "exposure": np.array([[1.0, 0.5]]), "covariance": [[1.0]],
    "risk_weight": 0.1, "terminal_weight": 1.0, "impact_loadings": np.eye(2), "decays": [0.9], "unit": 1.0,
}  # fmt: skip


def test_sizes_follow_from_the_arrays_and_defaults_are_at_rest():
    model = MpcModel(**GOOD)
    assert model.sizes == (2, 1, 1, 6)
    bare = MpcModel(4, [0.1, 0.3])
    assert bare.sizes == (2, 2, 0, 4)
    assert np.array_equal(bare.exposure, np.eye(2))
    assert not bare.covariance.any()
    for array in model.arrays().values():
        with pytest.raises(ValueError, match="read-only"):
            array.flat[0] = 1.0


BAD = [
    ("horizon", 0), ("horizon", 2.5), ("horizon", True), ("temporary", np.zeros((2, 3))),
    ("temporary", np.zeros((0, 0))),
    ("temporary", [[1.0, 0.5], [0.0, 1.0]]), ("temporary", [[1.0, 2.0], [2.0, 1.0]]),
    ("temporary", [[np.nan, 0], [0, 1]]),
    ("exposure", [1.0, 2.0]), ("exposure", np.ones((1, 3))), ("exposure", [[np.inf, 1.0]]), ("covariance", [[-1.0]]),
    ("covariance", np.eye(2)), ("risk_weight", -0.1), ("risk_weight", np.ones(5)), ("terminal_weight", np.nan),
    ("terminal_weight", [-1.0]), ("impact_loadings", np.ones((2, 2, 2))), ("decays", [1.1]), ("decays", [0.0]),
    ("decays", ["x"]), ("decays", [-0.5]), ("unit", 0.0), ("unit", np.inf), ("unit", "big"), ("exposure", [["a", "b"]]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BAD)])
def test_what_is_wrong_is_named(name, value):
    with pytest.raises(InvalidInput) as err:
        MpcModel(**(GOOD | {name: value}))
    assert err.value.field == name
    assert err.value.remedy


def test_a_file_keeps_every_bit(tmp_path):
    for sizes in ((1, 1, 0, 3), (3, 2, 2, 5)):
        model = mpc_instance(*sizes, seed=1)
        again = MpcModel.load(model.save(tmp_path / "model.json"))
        assert again.sizes == model.sizes
        assert all(a.tobytes() == again.arrays()[n].tobytes() for n, a in model.arrays().items())


def test_files_that_hold_no_model_are_refused(tmp_path):
    path = tmp_path / "model.json"
    body = json.loads(mpc_instance().save(path).read_text())
    for text in ("{", "[]", "{}", json.dumps(body | {"more": 1}), json.dumps(body | {"decays": [2.0]})):
        path.write_text(text)
        with pytest.raises(InvalidInput):
            MpcModel.load(path)
    with pytest.raises(InvalidInput, match="read"):
        MpcModel.load(tmp_path / "none.json")


def test_the_solver_refuses_what_is_no_model_and_engines_it_does_not_know():
    with pytest.raises(InvalidInput, match="model"):
        MpcSolver("model")
    with pytest.raises(InvalidInput, match="engine"):
        MpcSolver(mpc_instance(), "osqp")
    with pytest.raises(InvalidInput, match="sizes"):
        mpc_instance(modes=9)


@pytest.mark.skipif(not native.COMPILED, reason="the package was built without a compiler")
def test_the_core_refuses_what_its_unit_cannot_scale():
    with pytest.raises(InvalidInput, match="unit"):
        MpcSolver(MpcModel(3, [[1e90]], unit=1e80))
    with pytest.raises(InvalidInput, match="large"):
        MpcSolver(MpcModel(100_000, np.full(200, 0.1)))


def test_worlds_repeat_by_their_seed():
    model = mpc_instance(2, 1, 2, 8, seed=3)
    one, two = (MpcWorld(model, 5, 7, hostile=True) for _ in range(2))
    for _ in range(5):
        a, b = one.data(), two.data()
        assert all(a[n].tobytes() == b[n].tobytes() for n in a)
        one.execute(np.array([0.1, -0.2]))
        two.execute(np.array([0.1, -0.2]))
