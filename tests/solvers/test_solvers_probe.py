"""The probe: works means solved rightly in a subprocess; every accident is a row with its words."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.probe import ProbeResult, available_solvers, measure_gil, probe, solver_table
from crosswind.solvers.registry import backend, backend_names, register_backend, unregister_backend

OWN = ("piqp", "clarabel", "osqp")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ProbeResult]]:
    folders = [str(Path(__file__).parent), str(tmp_path_factory.mktemp("packages"))]
    sys.path.extend(folders)
    kinds = importlib.import_module("faulty_backends").KINDS
    # The one that holds the lock for ever hangs as the other loop does: one of the two is enough here.
    names = [register_backend(kind) for kind in kinds if kind.name != "faulty-gil"]
    (Path(folders[1]) / "package_that_breaks.py").write_text(
        "raise ImportError('libsolver.so.7: cannot open shared object file')\n"
    )
    try:
        yield probe((*OWN, *names), limit=8.0)
    finally:
        for name in names:
            unregister_backend(name)
        for folder in folders:
            sys.path.remove(folder)


def test_the_three_we_depend_on_work(found):
    for name in OWN:
        one = found[name]
        assert one.works, one
        assert one.quadratic == "ok"
        assert one.trouble == ""
        assert one.worst_rel < 1e-5
        assert one.version[0].isdigit()
        assert len(one.licence) > 3
        assert one.repeats, "two runs differ"
        assert one.prints == ""
        assert one.milliseconds > 0.0
    assert (found["clarabel"].soc, found["clarabel"].psd) == ("ok", "ok")
    assert (found["piqp"].soc, found["piqp"].psd) == ("no", "no")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "ZeroDivisionError: inside the solver"),
        ("setup", "OSError: cannot open the library"),
        ("licence", "no licence found"),
        ("segfault", "crash: ended by SIGSEGV"),
        ("abort", "crash: ended by SIGABRT"),
        ("exit", "crash: ended by itself with code 7"),
        ("loop", "timeout: killed after 8 s"),
        ("nan", "wrong answer"),
        ("wrong", "wrong answer"),
        ("shapes", "expected shape"),
        ("none", "AttributeError"),
        ("missing", "pip install a-package-that-is-not-there"),
        ("import", "libsolver.so.7"),
    ],
)
def test_every_accident_is_a_row_with_its_words(found, name, words):
    one = found[f"faulty-{name}"]
    assert not one.works
    assert words in one.trouble
    assert words in one.quadratic


def test_a_chatty_one_works_and_is_told(found):
    assert found["faulty-prints"].works
    assert "banner of a chatty solver" in found["faulty-prints"].prints


def test_the_lock_is_measured(found):
    # None: no solve was long enough to tell, or the machine too busy. The other answer would be wrong.
    assert found["clarabel"].releases_gil is not False
    assert found["piqp"].releases_gil is not True
    assert measure_gil(backend("osqp"))[1] is True


def test_cached_and_tabulated():
    first = probe(OWN)
    assert all(probe(OWN)[name] is first[name] for name in OWN)
    table = solver_table(OWN)
    assert table.index.tolist() == list(OWN)
    assert (table["quadratic"] == "ok").all()
    with pytest.raises(InvalidInput, match="unknown solver"):
        probe(("nobody",))


def test_asking_what_is_installed_is_cheap():
    names = available_solvers(probed=False)
    assert set(OWN) <= set(names) <= set(backend_names())


def test_the_table_for_people(found):
    from crosswind.cli.solvers import table

    text = table(tuple(found.values()))
    assert "Not working here:" in text
    line = next(line for line in text.splitlines() if line.startswith("clarabel"))
    assert "Apache-2.0" in line
    assert np.all([name in text for name in found])
