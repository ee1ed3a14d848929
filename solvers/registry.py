"""The backends by name: every file of the folder ``backends`` that defines one, and those that a user registers."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import pkgutil
import threading
from collections.abc import Callable
from functools import lru_cache

from crosswind.solvers.backends.base import Backend, Program
from crosswind.solvers.errors import InvalidInput, MissingDependency
from crosswind.solvers.program import ConeProgram

__all__ = [
    "AUTO_CONIC",
    "AUTO_QUADRATIC",
    "backend",
    "backend_names",
    "broken_backends",
    "chain_of",
    "register_backend",
]

Factory = Callable[[], Backend]

AUTO_QUADRATIC = ("piqp", "clarabel")
AUTO_CONIC = ("clarabel",)
_FOLDER = "crosswind.solvers.backends"
_KINDS = frozenset({"qp", "soc", "psd"})
_log = logging.getLogger(__name__)
_own: dict[str, Factory] = {}
_lock = threading.RLock()


@lru_cache(maxsize=128)
def backend(name: str) -> Backend:
    """Return the backend called ``name``, for example piqp, clarabel, osqp, cvxpy or cvxpy:SOLVER.

    Only the file that the name points to is imported, so that a solve does not pay for the other backends.

    Raises
    ------
    InvalidInput
        On an unknown name; the message lists what is there.
    MissingDependency
        When the backend's package is not installed.
    """
    found = _lookup(name)
    if found is None:
        raise InvalidInput(
            "unknown solver",
            field="solver",
            value=name,
            remedy=f"one of auto, {', '.join(backend_names())} or cvxpy:SOLVER",
        )
    if not found.installed():
        package = found.distribution or found.module
        raise MissingDependency(
            f"the package {found.module} is not installed", field="solver", value=name, remedy=f"pip install {package}"
        )
    return found


def backend_names() -> tuple[str, ...]:
    """Return all registered names, installed or not: those of ``"auto"`` first, the user's own next, cvxpy's last."""
    folder = _scan()[0]
    names = [*(name for name in ("piqp", "clarabel", "osqp") if name in folder), *_own]
    names += [name for name in sorted(folder) if name not in names and name.partition(":")[0] != "cvxpy"]
    return (*names, *(name for name in ("cvxpy:dpp", "cvxpy") if name in folder and name not in names))


def broken_backends() -> dict[str, str]:
    """Return the files of the folder that cannot be imported, each with the reason."""
    return dict(_scan()[1])


def register_backend(kind: type[Backend] | Factory, name: str | None = None, *, replace: bool = False) -> str:
    """Make a backend of one's own known by its name to ``solve``, ``Session``, the probe and the benchmark.

    Parameters
    ----------
    kind
        A :class:`Backend` subclass without arguments, or a callable that returns one. A solve in a subprocess finds it
        again by the module it was defined in.
    name
        Under which it is asked for; default its own ``name``.
    replace
        True allows a name that is taken.

    Returns
    -------
    str
        The name.

    Raises
    ------
    InvalidInput
        When it is no backend, lacks an attribute, or takes a name that is taken.
    """
    made = kind()
    if not isinstance(made, Backend):
        raise InvalidInput("is no Backend", field="kind", value=kind, remedy="derive it from Backend")
    for attribute in ("name", "module", "licence"):
        if not isinstance(getattr(made, attribute, None), str) or not getattr(made, attribute):
            raise InvalidInput("must be a text", field=attribute, value=kind, remedy="set it in the class")
    if not made.kinds or not made.kinds <= _KINDS:
        raise InvalidInput("unknown kind", field="kinds", value=set(made.kinds), remedy="a subset of qp, soc, psd")
    taken = name or made.name
    if taken == "auto" or (not replace and taken in backend_names()):
        raise InvalidInput(
            "a backend of this name is there", field="name", value=taken, remedy="another name, or replace=True"
        )
    with _lock:
        _own[taken] = kind
        backend.cache_clear()
    return taken


def unregister_backend(name: str) -> None:
    """Forget a backend of one's own; one of the folder that it stood in for is back.

    Raises
    ------
    InvalidInput
        When no such name was registered.
    """
    with _lock:
        if _own.pop(name, None) is None:
            raise InvalidInput("was not registered", field="name", value=name, remedy=f"one of {', '.join(_own)}")
        backend.cache_clear()


def own_backends() -> dict[str, Factory]:
    """Return what was registered by :func:`register_backend`."""
    return dict(_own)


def chain_of(solver: object, program: Program, time_limit: float | None = None) -> tuple[str, ...]:
    """Return the chain of backend names that ``solver`` means for ``program``, every name checked.

    ``"auto"`` is ("piqp", "clarabel") for a quadratic program and ("clarabel",) for cones. PIQP cannot be stopped by
    the clock, so with a time limit ``"auto"`` is ("clarabel",).

    Raises
    ------
    InvalidInput
        On an unknown name, an empty chain, or a backend that cannot take the program.
    """
    conic = isinstance(program, ConeProgram)
    if isinstance(solver, str):
        if solver == "auto":
            return AUTO_CONIC if conic or time_limit is not None else AUTO_QUADRATIC
        chain: tuple[str, ...] = (solver,)
    elif isinstance(solver, (tuple, list)) and solver and all(isinstance(name, str) for name in solver):
        chain = tuple(solver)
    else:
        raise InvalidInput(
            "expected a name or a tuple of names", field="solver", value=solver, remedy="for example 'auto'"
        )
    for name in chain:
        found = backend(name)
        if conic and not found.takes(program):
            what = "this solver takes no cones" if not found.conic else "this solver does not take these cones"
            raise InvalidInput(what, field="solver", value=name, remedy="use clarabel or cvxpy:SOLVER")
        if not conic and not found.takes(program):
            what = f"this solver takes {found.only} only" if found.only else "this solver takes no quadratic programs"
            raise InvalidInput(what, field="solver", value=name, remedy="use piqp or clarabel")
    return chain


def _lookup(name: str) -> Backend | None:
    with _lock:
        if name in _own:
            return _own[name]()
        head, _, tail = name.partition(":")
        if tail and head in _own:
            return _variant(_own[head], tail)
        # Most files are called as their backend: then no other one is imported.
        defined = _defined(head) if head.isidentifier() and not head.startswith("_") else {}
        if name not in defined and head not in defined:
            defined = _scan()[0]
        if name in defined:
            return defined[name]()
        return _variant(defined[head], tail) if tail and head in defined else None


def _variant(kind: Factory, tail: str) -> Backend | None:
    return kind.variant(tail) if isinstance(kind, type) and issubclass(kind, Backend) else None


def _defined(module: str) -> dict[str, Factory]:
    """Return the backends that one file of the folder defines; nothing for a missing or broken file."""
    path = f"{_FOLDER}.{module}"
    try:
        if importlib.util.find_spec(path) is None:
            return {}
        loaded = importlib.import_module(path)
    except Exception as err:
        _log.warning("backend file %s cannot be imported: %s", module, err)
        return {}
    kinds = getattr(loaded, "BACKENDS", None)
    found: dict[str, Factory] = dict(kinds) if kinds else {}
    single = getattr(loaded, "BACKEND", None)
    if single is not None:
        found.setdefault(single.name, single)
    return found


@lru_cache(maxsize=1)
def _scan() -> tuple[dict[str, Factory], dict[str, str]]:
    """Import every file of the folder; return the backends by name and the files that failed."""
    folder = importlib.import_module(_FOLDER)
    found: dict[str, Factory] = {}
    broken: dict[str, str] = {}
    for info in pkgutil.iter_modules(folder.__path__):
        try:
            importlib.import_module(f"{_FOLDER}.{info.name}")
        except Exception as err:
            broken[info.name] = f"{type(err).__name__}: {err}"
            continue
        found |= _defined(info.name)
    return found, broken
