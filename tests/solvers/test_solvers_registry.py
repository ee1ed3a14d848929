"""The registry: found by being in the folder, one's own by a call, every name checked, nothing imported in vain."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram, solve
from crosswind.solvers.backends.base import Backend
from crosswind.solvers.backends.piqp import Piqp
from crosswind.solvers.errors import InvalidInput, MissingDependency
from crosswind.solvers.registry import (
    backend,
    backend_names,
    broken_backends,
    chain_of,
    register_backend,
    unregister_backend,
)

PROGRAM = QuadraticProgram(np.eye(2), [-1.0, -1.0], [[1.0, 1.0]], 1.0, 1.0)


class Mine(Piqp):
    name = "mine"


def test_the_folder_is_the_registry():
    names = backend_names()
    assert names[:3] == ("piqp", "clarabel", "osqp")
    assert names[-1] == "cvxpy"
    assert len(set(names)) == len(names)
    assert not broken_backends()


def test_every_class_tells_what_it_can():
    for name in backend_names():
        try:
            found = backend(name)
        except MissingDependency:
            continue
        assert found.name == name
        assert found.licence
        assert found.kinds <= {"qp", "soc", "psd"}
        assert found.conic == bool(found.kinds & {"soc", "psd"})
        assert found.version(), name


def test_ones_own_backend_by_one_call():
    assert register_backend(Mine) == "mine"
    try:
        assert "mine" in backend_names()
        found = solve(PROGRAM, "mine")
        assert (found.status.name, found.backend) == ("OPTIMAL", "mine")
        with pytest.raises(InvalidInput, match="is there"):
            register_backend(Mine)
        register_backend(Mine, replace=True)
    finally:
        unregister_backend("mine")
    assert "mine" not in backend_names()
    with pytest.raises(InvalidInput, match="unknown solver"):
        solve(PROGRAM, "mine")
    with pytest.raises(InvalidInput, match="not registered"):
        unregister_backend("mine")


def test_refused_registrations():
    class NoName(Mine):
        name = ""

    class Odd(Mine):
        name = "odd"
        kinds = frozenset({"milp"})

    for kind, field in ((NoName, "name"), (Odd, "kinds"), (dict, "kind")):
        with pytest.raises(InvalidInput) as err:
            register_backend(kind)  # type: ignore[arg-type]
        assert err.value.field == field
    for name in ("auto", "piqp"):
        with pytest.raises(InvalidInput, match="is there"):
            register_backend(Mine, name)


def test_missing_package_names_the_remedy():
    class Away(Mine):
        name = "away"
        module = "no_such_package.inside"
        distribution = "no-such-package"

    register_backend(Away)
    try:
        with pytest.raises(MissingDependency, match="pip install no-such-package"):
            solve(PROGRAM, "away")
        assert Away().version() == ""
    finally:
        unregister_backend("away")


@pytest.mark.parametrize("name", ["nobody", "piqp:nothing", "osqp:", "", "_base", "base", "stacking", "../osqp"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(InvalidInput, match=r"piqp, clarabel, osqp|no such variant") as err:
        backend(name)
    assert err.value.remedy


@pytest.mark.parametrize("solver", [(), [], 3, None, ("piqp", 3)])
def test_no_chain(solver):
    with pytest.raises(InvalidInput):
        chain_of(solver, PROGRAM)


def test_kinds_decide_what_is_taken():
    class ConesOnly(Backend):
        name, module, licence, kinds = "cones-only", "numpy", "none", frozenset({"soc"})

        def prepare(self, program, options):
            raise AssertionError("never reached")

    register_backend(ConesOnly)
    try:
        with pytest.raises(InvalidInput, match="no quadratic"):
            chain_of("cones-only", PROGRAM)
    finally:
        unregister_backend("cones-only")


def test_auto_imports_only_what_it_needs():
    code = (
        "import sys, numpy as np, crosswind.solvers as s\n"
        "s.solve(s.QuadraticProgram(np.eye(2), [-1.0, 0.0]))\n"
        "mine = {m.rsplit('.', 1)[1] for m in sys.modules if m.startswith('crosswind.solvers.backends.')}\n"
        "print(sorted(mine), sorted({'pandas', 'osqp', 'clarabel', 'cvxpy', 'jax', 'scs'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['base', 'piqp', 'stacking'] []"
