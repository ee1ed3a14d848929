"""What can be read: one :class:`Format` per scheme, found in this folder or registered by the user."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crosswind.problems.market.checks import nearest
from crosswind.solvers.errors import InvalidInput, MissingDependency

__all__ = ["Format", "call_options", "find_format", "formats", "register_format"]

_GIVEN = ("path", "root", "format", "names", "days", "bucket_s", "report", "progress")


@dataclass(frozen=True)
class Format:
    """One kind of source: how a spec names it, and which functions read it.

    Parameters
    ----------
    scheme
        The word before the colon of a spec, e.g. 'csv'.
    title
        What it is, in a few words.
    example
        A spec as a user writes it.
    reader
        "module:function", called as ``reader(path, names, days, bucket_s, *, report, progress, **own)``; returns
        :class:`~crosswind.problems.market.model.MarketData`. A function may leave out arguments that mean nothing to
        it. A function itself is taken too.
    sources
        The same for ticks: ``sources(path, names, days, **own)`` returns a tuple of
        :class:`~crosswind.problems.market.ticks.TickSource`; None where the format holds no ticks.
    needs
        Modules that must be importable.
    bare
        Whether the scheme alone is a spec.

    Raises
    ------
    InvalidInput
        On a scheme that is not a word, or a reader that is not "module:function".
    """

    scheme: str
    title: str
    example: str
    reader: str | Callable[..., Any]
    sources: str | Callable[..., Any] | None = None
    needs: tuple[str, ...] = ()
    bare: bool = False

    def __post_init__(self) -> None:
        word = self.scheme.replace("-", "").replace("_", "") if isinstance(self.scheme, str) else ""
        if not word.isalnum() or self.scheme != self.scheme.lower():
            raise InvalidInput(
                "not a scheme", field="scheme", value=self.scheme, remedy="a short word in small letters"
            )
        for field in ("reader", "sources"):
            value = getattr(self, field)
            good = callable(value) or (isinstance(value, str) and value.count(":") == 1)
            if not good and not (field == "sources" and value is None):
                raise InvalidInput("not a function", field=field, value=value, remedy="write 'package.module:function'")

    def load(self, what: str = "reader") -> Callable[..., Any] | None:
        """Return the function behind ``reader`` or ``sources``.

        Raises
        ------
        MissingDependency
            If a module that the format needs is not installed.
        InvalidInput
            If there is no such function.
        """
        absent = [m for m in self.needs if find_spec(m) is None]
        if absent:
            raise MissingDependency(
                f"reading {self.scheme}: needs a package that is not installed",
                field="spec",
                value=absent,
                remedy=f"pip install {' '.join(absent)}",
            )
        target = getattr(self, what)
        if target is None or callable(target):
            return None if target is None else _called(target)
        module, _, name = target.partition(":")
        try:
            function = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise InvalidInput(
                f"the function of the format {self.scheme} is not there ({error})",
                field=what,
                value=target,
                remedy="write 'package.module:function'",
            ) from error
        return _called(function)


def _called(function: Any) -> Callable[..., Any]:
    out: Callable[..., Any] = function
    return out


_own: dict[str, Format] = {}


@cache
def _found() -> dict[str, Format]:
    """Return the formats of this folder: each module tells its own as FORMAT, or several as FORMATS."""
    package = __name__.rpartition(".")[0]
    found: dict[str, Format] = {}
    for info in sorted(pkgutil.iter_modules(import_module(package).__path__), key=lambda m: m.name):
        module = import_module(f"{package}.{info.name}")
        told = getattr(module, "FORMATS", ()) or (getattr(module, "FORMAT", None),)
        for one in told:
            if isinstance(one, Format):
                found.setdefault(one.scheme, one)
    return found


def formats() -> dict[str, Format]:
    """Return scheme → format, the registered ones included, in alphabetical order."""
    return dict(sorted({**_found(), **_own}.items()))


def register_format(format: Format) -> None:
    """Make :func:`~crosswind.problems.market.read.read` understand another scheme for the rest of the process.

    Registering a scheme again replaces it; the schemes that come with the package cannot be replaced.

    Raises
    ------
    InvalidInput
        If it is not a :class:`Format`, or its scheme belongs to the package.
    """
    if not isinstance(format, Format):
        raise InvalidInput(
            "not a Format", field="format", value=type(format).__name__, remedy="pass crosswind.Format(…)"
        )
    if format.scheme in _found():
        raise InvalidInput(
            "the scheme belongs to a reader of the package",
            field="scheme",
            value=format.scheme,
            remedy="choose another word",
        )
    _own[format.scheme] = format


def find_format(spec: Any) -> tuple[Format, str]:
    """Return the format that a spec names, and what stands after its colon.

    Raises
    ------
    InvalidInput
        On anything that is no spec, an unknown scheme or a missing path.
    """
    known = formats()
    remedy = "one of " + ", ".join(f"'{f.example}'" for f in known.values())
    if not isinstance(spec, str) or not spec:
        raise InvalidInput("not a source: a spec is a text", field="spec", value=spec, remedy=remedy)
    scheme, colon, rest = spec.partition(":")
    if scheme not in known:
        hint = nearest(scheme, known)
        if not hint and (not colon or Path(spec).exists()):
            hint = f"say what lies there, e.g. 'csv:{spec}': "
        raise InvalidInput(f"unknown scheme {scheme!r}", field="spec", value=spec, remedy=hint + remedy)
    if not rest and not known[scheme].bare:
        raise InvalidInput("the path is missing", field="spec", value=spec, remedy=f"e.g. {known[scheme].example}")
    return known[scheme], rest


def call_options(
    function: Callable[..., Any],
    spec: str,
    given: dict[str, Any],
    options: dict[str, Any],
    **offered: Any,
) -> dict[str, Any]:
    """Return the keyword arguments for ``function``.

    Parameters
    ----------
    function
        A reader, or what lists the sources of one.
    spec
        Used in messages.
    given
        Names, days and bucket length, where the user gave them.
    options
        The user's own options.
    **offered
        Passed only if the function takes them.

    Raises
    ------
    InvalidInput
        On an option or an argument that the function does not know.
    """
    parameters = inspect.signature(function).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [name for name, p in parameters.items() if name not in _GIVEN and p.kind is not p.VAR_KEYWORD]
    unknown = [] if anything else sorted(set(options) - set(known))
    if unknown:
        raise InvalidInput(
            f"unknown options for {spec}",
            field="options",
            value=unknown,
            remedy=f"{nearest(unknown[0], known)}choose among {', '.join(known)}" if known else "leave them out",
        )
    for name, value in given.items():
        if name not in parameters:
            raise InvalidInput(f"means nothing to {spec}", field=name, value=value, remedy="leave it out")
    clash = sorted(set(options) & {*given, *offered})
    if clash:
        raise InvalidInput("given twice", field="options", value=clash, remedy="give it once")
    return {**given, **{k: v for k, v in offered.items() if k in parameters}, **options}
