"""Which backends really solve a program today: each is made to solve three tiny ones in a process of its own.

``import`` says little: packages without a licence import, packages with a broken library do not, some print, some hang.
The outcome of a probe is a row with its words. Results are kept for the life of the process.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.solvers.backends.base import Backend, Claim, Options, Program
from crosswind.solvers.certify import certify
from crosswind.solvers.errors import CrosswindError, MissingDependency
from crosswind.solvers.isolate_worker import CallResult, IsolatedWorker
from crosswind.solvers.program import Cone, ConeProgram, QuadraticProgram
from crosswind.solvers.registry import backend, backend_names, broken_backends, own_backends

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ProbeResult", "available_solvers", "probe", "solver_table"]

_LIMIT_S = 60.0  # cvxpy imports every solver it knows, jax compiles
# On a busy machine a thread may wait some tens of milliseconds for its turn: a solve must be longer to tell that apart.
_LONG_ENOUGH_S = 0.1
_SIZES = (60, 120, 240, 480, 960)


@dataclass(frozen=True)
class ProbeResult:
    """What one backend is, can do and did.

    Attributes
    ----------
    solver, version, licence, commercial, limits, only
        As its class tells; ``only`` is the one kind of program that it takes, empty for a general solver.
    works
        True when every kind that it declares was solved rightly.
    quadratic, soc, psd
        ``"ok"``, ``"no"`` where it does not take the kind, else what went wrong in words.
    worst_rel
        The largest relative measure of our certificates over the kinds.
    milliseconds
        Set-up and solve of the tiny quadratic program (the first kind it takes), after the import.
    import_s
        Seconds to import its package.
    warm_start, updates, time_limit, proofs, deterministic
        As its class tells.
    releases_gil
        Measured: whether another Python thread went on during a solve of a tenth of a second; None where none took that
        long.
    repeats
        Measured: whether two solves of that program agreed bit by bit; None where there was none.
    prints
        What it wrote to stdout, shortened.
    """

    solver: str
    works: bool
    quadratic: str = "no"
    soc: str = "no"
    psd: str = "no"
    version: str = ""
    licence: str = ""
    commercial: bool = False
    warm_start: bool = False
    updates: bool = False
    time_limit: bool = False
    proofs: bool = False
    deterministic: bool = True
    releases_gil: bool | None = None
    repeats: bool | None = None
    worst_rel: float = float("inf")
    milliseconds: float = float("nan")
    import_s: float = float("nan")
    prints: str = ""
    limits: str = ""
    only: str = ""

    @property
    def trouble(self) -> str:
        """What went wrong, once each; empty where nothing did."""
        return "; ".join(dict.fromkeys(text for text in (self.quadratic, self.soc, self.psd) if text not in _FINE))


_FINE = ("ok", "no")
_FIELDS = {"qp": "quadratic", "soc": "soc", "psd": "psd"}
_known: dict[str, ProbeResult] = {}
_known_lock = threading.Lock()


def available_solvers(probed: bool = True) -> tuple[str, ...]:
    """Return the names of the backends that work here, but for those of one kind of program only, such as ``mpc``.

    Parameters
    ----------
    probed
        False asks only whether the packages can be found, without importing them. True solves with
        each of them, which takes some seconds once per process.
    """
    if not probed:
        return tuple(name for name in backend_names() if _installed(name) and not backend(name).only)
    return tuple(name for name, found in probe().items() if found.works and not found.only)


def solver_table(names: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Return one row per backend, with the columns of :class:`ProbeResult`; see :func:`probe`."""
    import pandas as pd

    frame = pd.DataFrame([asdict(found) for found in probe(names).values()])
    return frame.set_index("solver")


def probe(names: tuple[str, ...] | None = None, *, workers: int = 2, limit: float = _LIMIT_S) -> dict[str, ProbeResult]:
    """Make backends solve tiny programs of known answer, each in a subprocess with a limit.

    Parameters
    ----------
    names
        Which; default all that are registered.
    workers
        Processes at a time.
    limit
        Seconds for one backend, its import included.

    Returns
    -------
    dict[str, ProbeResult]
        In the order asked; kept for the next call of this process, except for backends of the user's own.

    Raises
    ------
    InvalidInput
        On an unknown name.
    """
    wanted = backend_names() if names is None else names
    kept = own_backends()
    with _known_lock:
        todo = [name for name in wanted if name not in _known or name in kept]
    # The slow imports first: they decide when all are done.
    todo.sort(key=lambda name: name.partition(":")[0] not in ("cvxpy", "qpax"))
    results = dict(_known)
    idle: list[IsolatedWorker] = []

    def one(name: str) -> tuple[str, ProbeResult]:
        worker = idle.pop() if idle else IsolatedWorker()
        try:
            return name, _probe(name, worker, limit)
        finally:
            idle.append(worker)

    try:
        with ThreadPoolExecutor(max(1, min(workers, len(todo)))) as pool:
            results |= dict(pool.map(one, todo))
    finally:
        for worker in idle:
            worker.close()
    with _known_lock:
        _known.update({name: found for name, found in results.items() if name not in kept})
    out = {name: results[name] for name in wanted}
    if names is None:
        out |= {
            name: ProbeResult(name, False, f"the file cannot be imported: {why}")
            for name, why in broken_backends().items()
        }
    return out


def _installed(name: str) -> bool:
    try:
        return backend(name).installed()
    except MissingDependency:
        return False


def _probe(name: str, worker: IsolatedWorker, limit: float) -> ProbeResult:
    try:
        found = backend(name)
    except MissingDependency as err:
        return ProbeResult(name, False, str(err))
    facts: dict[str, Any] = {
        "version": found.version(),
        "licence": found.licence,
        "commercial": found.commercial,
        "warm_start": found.warm_starts,
        "updates": found.updates,
        "time_limit": found.keeps_time,
        "proofs": found.gives_proofs,
        "deterministic": found.deterministic,
        "limits": found.limits,
        "only": found.only,
    }
    try:
        result = worker.call(probe_here, name, time_limit=limit)
        if result.outcome != "ok" and not worker.fresh:
            # What another backend left in the process is not this one's fault: once more in a new one.
            worker.close()
            result = worker.call(probe_here, name, time_limit=limit)
    except CrosswindError as err:
        result = CallResult("raised", err, str(err), 0.0)
    if result.outcome != "ok":
        worker.close()
        kinds = dict.fromkeys((_FIELDS[kind] for kind in found.kinds), f"{result.outcome}: {result.reason}")
        return ProbeResult(name, False, **(facts | kinds))
    measured = result.value
    works = all(measured[_FIELDS[kind]] == "ok" for kind in found.kinds)
    return ProbeResult(name, works, prints=" ".join(result.printed.split())[:200], **(facts | measured))


def probe_here(name: str) -> dict[str, object]:
    """Probe in this process and return what is measured, by the names of :class:`ProbeResult`."""
    import importlib

    begin = time.perf_counter()
    found = backend(name)
    try:
        importlib.import_module(found.module)
    except Exception as err:  # whatever a broken installation raises is the answer to the question
        return dict.fromkeys((_FIELDS[kind] for kind in found.kinds), f"{type(err).__name__}: {err}")
    out: dict[str, object] = {"import_s": time.perf_counter() - begin}
    worst, milliseconds = 0.0, float("nan")
    for kind in ("qp", "soc", "psd"):
        if kind not in found.kinds:
            continue
        trouble, measure, spent = _solve_tiny(found, kind)
        out[_FIELDS[kind]] = trouble or "ok"
        worst = max(worst, measure)
        milliseconds = spent if np.isnan(milliseconds) else milliseconds
    out |= {"worst_rel": worst, "milliseconds": milliseconds}
    if out.get("quadratic") == "ok":
        out["releases_gil"], out["repeats"] = measure_gil(found)
    return out


def _tiny(kind: str) -> tuple[Program, np.ndarray]:
    if kind == "qp":
        # Share one unit between two quadratic costs 1 : 3, the first capped at 0.7.
        rows, one = np.ones((1, 2)), np.ones(1)
        caps = np.array([0.7, 1.0])
        quadratic = QuadraticProgram(np.diag([1.0, 3.0]), np.zeros(2), rows, one, one, lb=np.zeros(2), ub=caps)
        return quadratic, np.array([0.7, 0.3])
    if kind == "soc":
        # Project (1, 1) on the disc of radius one: x = (1, 1)/√2.
        facing = np.array([[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]])
        disc = ConeProgram(np.eye(2), np.full(2, -1.0), facing, np.array([1.0, 0.0, 0.0]), (Cone("soc", 3),))
        return disc, np.full(2, np.sqrt(0.5))
    # The smallest t with t·I − [[1, 2], [2, 1]] positive semidefinite: its largest eigenvalue, 3.
    root = np.sqrt(2.0)
    rows = np.array([[-1.0], [0.0], [-1.0]])
    matrix = ConeProgram(None, np.ones(1), rows, np.array([-1.0, -2.0 * root, -1.0]), (Cone("psd", 2),))
    return matrix, np.array([3.0])


def _solve_tiny(found: Backend, kind: str) -> tuple[str, float, float]:
    """Return the trouble ("" for none), our worst measure, milliseconds."""
    program, answer = found.sample() or _tiny(kind)
    start = time.perf_counter()
    try:
        raw = found.prepare(program, Options(tol=1e-6)).solve(None, None)
        milliseconds = 1e3 * (time.perf_counter() - start)
        certificate = certify(program, raw.x, raw.y, raw.z if kind == "qp" else None, raw.s, tol=1e-5)
    except Exception as err:
        return f"{type(err).__name__}: {err}", float("inf"), float("nan")
    if raw.claim is not Claim.SOLVED:
        return f"said {raw.word!r}", certificate.worst, milliseconds
    if not certificate.passes() or not np.allclose(raw.x, answer, atol=1e-4):
        return f"gave a wrong answer and said {raw.word!r}", certificate.worst, milliseconds
    return "", certificate.worst, milliseconds


def measure_gil(found: Backend) -> tuple[bool | None, bool | None]:
    """Return whether other threads run during a solve of ``found``, and whether two solves agree bit by bit.

    A thread notes the longest time it was kept from running. Where the solver holds the interpreter's lock that is the
    whole solve; where it does not, a slice of the system's scheduler. Both are None where the solver cannot be
    measured: all solves are too short, or its licence too small.
    """
    repeats: bool | None = None
    for n in _SIZES:
        rng = np.random.default_rng(n)
        root, rows = rng.normal(size=(n, n)), rng.normal(size=(n, n))
        program = QuadraticProgram(root @ root.T / n + np.eye(n), rng.normal(size=n), rows, -np.ones(n), np.ones(n))
        try:
            first = found.prepare(program, Options(tol=1e-6)).solve(None, None)
            prepared = found.prepare(program, Options(tol=1e-6))
            longest: list[float] = []
            stop = threading.Event()
            watcher = threading.Thread(target=_longest_gap, args=(stop, longest), daemon=True)
            watcher.start()
            time.sleep(0.002)
            begin = time.perf_counter()
            again = prepared.solve(None, None)
            spent = time.perf_counter() - begin
            stop.set()
            watcher.join()
        except Exception:
            return None, repeats
        repeats = np.array_equal(first.x, again.x, equal_nan=True) and np.array_equal(first.y, again.y, equal_nan=True)
        share = longest[0] / spent
        if spent >= _LONG_ENOUGH_S and not 0.4 < share < 0.75:
            return share < 0.5, repeats
    return None, repeats


def _longest_gap(stop: threading.Event, out: list[float]) -> None:
    longest, last = 0.0, time.perf_counter()
    while not stop.is_set():
        now = time.perf_counter()
        longest = max(longest, now - last)
        last = now
    out.append(max(longest, time.perf_counter() - last))
