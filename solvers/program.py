"""Convex programs as immutable data: what is solved, checked at the edge, cheap to change in its vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import sparse

from crosswind.solvers import matrices as mx
from crosswind.solvers.convexity import require_convex
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Csc, Vector

__all__ = ["Cone", "ConeProgram", "QuadraticProgram"]

_KINDS = ("zero", "nonneg", "soc", "psd")


class _Program:
    """What both kinds share: sizes, objective, convexity, copies that share matrices, pickling."""

    P: Csc
    q: Vector
    A: Csc
    constant: float
    _cache: dict[str, Any]

    @property
    def n(self) -> int:
        """Number of variables."""
        return int(self.q.shape[0])

    @property
    def m(self) -> int:
        """Number of rows of ``A``."""
        return int(self.A.shape[0])

    def objective(self, x: Vector) -> float:
        """Return ½x'Px + q'x + constant at ``x`` (n,)."""
        x = np.asarray(x, dtype=np.float64)
        return float(0.5 * (x @ (self.P @ x)) + self.q @ x) + self.constant

    def require_convex(self) -> None:
        """Refuse a ``P`` that is not positive semidefinite; the answer is kept for all copies that share ``P``.

        Raises
        ------
        InvalidInput
            With the smallest eigenvalue.
        """
        if not self._cache.get("convex"):
            require_convex(self.P)
            self._cache["convex"] = True

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of patterns, numbers, cones and names: equal programs have equal digests, in any process."""
        from crosswind.solvers.storage import digest_of

        return digest_of(self)

    def save(self, path: str | Path) -> Path:
        """Write the program to ``path`` and return the path: .npz without pickled objects, or .json for small ones.

        Raises
        ------
        InvalidInput
            When the program is too large for text.
        """
        from crosswind.solvers.storage import save_program

        return save_program(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a program written by :meth:`save`, validated again.

        Raises
        ------
        InvalidInput
            When the file is missing, damaged, of another version or kind, or holds invalid data.
        """
        from crosswind.solvers.storage import load_program

        return load_program(path, cls)

    def _set(self, **values: object) -> None:
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def _copy(self) -> Self:
        out = object.__new__(type(self))
        out.__dict__.update(self.__dict__)
        return out

    def _check_core(self, P: Any, q: Any, A: Any, rows: int | None) -> None:
        size = np.shape(q)
        if len(size) != 1:
            raise InvalidInput("expected a vector", field="q", value=size, remedy="give one linear cost per variable")
        n = size[0]
        height = rows if rows is not None else (0 if A is None else np.shape(A)[0])
        self._set(
            P=mx.symmetric(mx.sparse_matrix(P, (n, n), "P")),
            q=mx.vector(q, n, "q", label="variable"),
            A=mx.sparse_matrix(A, (height, n), "A"),
            constant=_finite(self.constant),
            _cache={},
        )

    def _with_values(self, P_data: object, A_data: object) -> Self:
        out = self._copy()
        for key, data in (("P", P_data), ("A", A_data)):
            if data is None:
                continue
            old = getattr(self, key)
            if sparse.issparse(data) or np.ndim(data) == 2:  # type: ignore[arg-type]
                data = mx.values_on(old, data, f"{key}_data")
            new = type(old)(
                (mx.vector(data, old.nnz, f"{key}_data", label="stored entry"), old.indices, old.indptr),
                shape=old.shape,
            )
            new.has_sorted_indices = True
            out._set(**{key: mx.symmetric(new) if key == "P" else new})
        kept = {"convex": True} if P_data is None and self._cache.get("convex") else {}
        out._set(_cache=kept)
        return out

    def __getstate__(self) -> dict[str, Any]:
        kept = {"convex": True} if self._cache.get("convex") else {}
        return self.__dict__ | {"_cache": kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # numpy's pickles come back writeable
        for value in state.values():
            if isinstance(value, np.ndarray):
                mx.frozen(value)
        for key in ("P", "A"):
            mx.lock(state[key])
        self.__dict__.update(state)


@dataclass(frozen=True, eq=False, repr=False)
class QuadraticProgram(_Program):
    r"""A convex quadratic program with two-sided rows and boxes.

    .. math::

        \min_x\ \tfrac12 x'Px + q'x + c \quad\text{s.t.}\quad l \le Ax \le u,\ \ lb \le x \le ub

    Parameters
    ----------
    P
        (n, n) full symmetric matrix, dense or sparse; ``None`` for a linear program. A triangle is refused.
    q
        (n,) linear cost.
    A, l, u
        (m, n) rows and their bounds (m,) or scalars; ``None`` for no rows, ±inf for no bound. l = u is an equality.
    lb, ub
        (n,) or scalar bounds of the variables, default none.
    constant
        Added to the objective.
    row_names, var_names
        Optional distinct names, used in messages and reports.

    Raises
    ------
    InvalidInput
        On NaN, infinite costs, mixed shapes, an asymmetric or triangular ``P``, and bounds that cross. Bounds at or
        beyond 1e20 are read as infinite.

    Notes
    -----
    Arrays are read-only copies. Convexity is checked by :meth:`require_convex`, which ``solve`` calls.
    """

    P: Csc
    q: Vector
    A: Csc = None
    l: Vector = None  # type: ignore[assignment]  # noqa: E741
    u: Vector = None  # type: ignore[assignment]
    lb: Vector = None  # type: ignore[assignment]
    ub: Vector = None  # type: ignore[assignment]
    constant: float = 0.0
    row_names: tuple[str, ...] | None = None
    var_names: tuple[str, ...] | None = None
    _cache: dict[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._check_core(self.P, self.q, self.A, None)
        self._set(
            row_names=mx.names_of(self.row_names, self.m, "row_names"),
            var_names=mx.names_of(self.var_names, self.n, "var_names"),
        )
        low, high = mx.bounds(self.l, self.u, self.m, ("l", "u"), self.row_names)
        box_low, box_high = mx.bounds(self.lb, self.ub, self.n, ("lb", "ub"), self.var_names)
        self._set(l=low, u=high, lb=box_low, ub=box_high)

    def with_vectors(
        self,
        q: object = None,
        l: object = None,  # noqa: E741
        u: object = None,
        lb: object = None,
        ub: object = None,
        constant: float | None = None,
    ) -> QuadraticProgram:
        """Return a copy with some vectors replaced; matrices, names and the convexity answer are shared.

        Raises
        ------
        InvalidInput
            As the constructor does.
        """
        out = self._copy()
        if q is not None:
            out._set(q=mx.vector(q, self.n, "q", label="variable"))
        if l is not None or u is not None:
            low, high = mx.bounds(
                self.l if l is None else l, self.u if u is None else u, self.m, ("l", "u"), self.row_names
            )
            out._set(l=low, u=high)
        if lb is not None or ub is not None:
            low, high = mx.bounds(
                self.lb if lb is None else lb, self.ub if ub is None else ub, self.n, ("lb", "ub"), self.var_names
            )
            out._set(lb=low, ub=high)
        if constant is not None:
            out._set(constant=_finite(constant))
        return out

    def with_values(self, P_data: object = None, A_data: object = None) -> QuadraticProgram:
        """Return a copy with new entries on the same patterns.

        Parameters
        ----------
        P_data, A_data
            The stored entries in the order of ``P.data`` and ``A.data`` (column by column), or a matrix of the full
            shape whose non-zero entries lie within the pattern; ``None`` keeps the matrix.

        Raises
        ------
        InvalidInput
            On a wrong count, NaN, an entry outside the pattern, or an asymmetric ``P``.
        """
        return self._with_values(P_data, A_data)

    def __repr__(self) -> str:
        return f"QuadraticProgram(n={self.n}, m={self.m}, nnz P={self.P.nnz}, nnz A={self.A.nnz})"


@dataclass(frozen=True)
class Cone:
    r"""One factor of the cone product of a :class:`ConeProgram`.

    Parameters
    ----------
    kind
        ``"zero"`` {0}, ``"nonneg"`` ℝ₊, ``"soc"`` {(t, v): t ≥ ‖v‖₂}, ``"psd"`` symmetric positive semidefinite.
    size
        Number of rows; for ``"psd"`` the order k of the matrix, whose k(k+1)/2 rows are the upper triangle stacked
        column by column with the off-diagonal entries times √2.

    Raises
    ------
    InvalidInput
        On an unknown kind or a size below one.
    """

    kind: str
    size: int

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InvalidInput("unknown cone", field="kind", value=self.kind, remedy=f"one of {', '.join(_KINDS)}")
        if int(self.size) != self.size or self.size < 1:
            raise InvalidInput("must be a positive integer", field="size", value=self.size, remedy="drop empty cones")
        object.__setattr__(self, "size", int(self.size))

    @property
    def rows(self) -> int:
        """Number of rows the cone takes in ``A``."""
        return self.size * (self.size + 1) // 2 if self.kind == "psd" else self.size


@dataclass(frozen=True, eq=False, repr=False)
class ConeProgram(_Program):
    r"""A quadratic objective over a product of cones.

    .. math::

        \min_{x,s}\ \tfrac12 x'Px + q'x + c \quad\text{s.t.}\quad Ax + s = b,\ \ s \in K = K_1 \times \dots \times K_p

    Parameters
    ----------
    P, q, constant
        As in :class:`QuadraticProgram`.
    A, b
        (m, n) and (m,).
    cones
        The factors in the order of the rows; their rows sum to m.
    row_names, var_names
        Optional distinct names.

    Raises
    ------
    InvalidInput
        On NaN or infinite data, mixed shapes, an asymmetric ``P``, or cones that do not add up to m.
    """

    P: Csc
    q: Vector
    A: Csc
    b: Vector
    cones: tuple[Cone, ...]
    constant: float = 0.0
    row_names: tuple[str, ...] | None = None
    var_names: tuple[str, ...] | None = None
    _cache: dict[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        cones = tuple(self.cones)
        rows = sum(cone.rows for cone in cones)
        self._check_core(self.P, self.q, self.A, rows)
        self._set(
            cones=cones,
            b=mx.vector(self.b, rows, "b", label="row"),
            row_names=mx.names_of(self.row_names, rows, "row_names"),
            var_names=mx.names_of(self.var_names, self.n, "var_names"),
        )

    def with_vectors(self, q: object = None, b: object = None, constant: float | None = None) -> ConeProgram:
        """Return a copy with some vectors replaced; matrices and cones are shared.

        Raises
        ------
        InvalidInput
            As the constructor does.
        """
        out = self._copy()
        if q is not None:
            out._set(q=mx.vector(q, self.n, "q", label="variable"))
        if b is not None:
            out._set(b=mx.vector(b, self.m, "b", label="row"))
        if constant is not None:
            out._set(constant=_finite(constant))
        return out

    def with_values(self, P_data: object = None, A_data: object = None) -> ConeProgram:
        """Return a copy with new entries on the same patterns.

        Parameters
        ----------
        P_data, A_data
            The stored entries in the order of ``P.data`` and ``A.data`` (column by column), or a matrix of the full
            shape whose non-zero entries lie within the pattern; ``None`` keeps the matrix.

        Raises
        ------
        InvalidInput
            On a wrong count, NaN, an entry outside the pattern, or an asymmetric ``P``.
        """
        return self._with_values(P_data, A_data)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{cone.kind} {cone.size}" for cone in self.cones[:6])
        more = ", …" if len(self.cones) > 6 else ""
        return f"ConeProgram(n={self.n}, m={self.m}, cones=[{kinds}{more}])"


def _finite(constant: float) -> float:
    value = float(constant)
    if not np.isfinite(value):
        raise InvalidInput("is not finite", field="constant", value=constant, remedy="give a finite number or leave 0")
    return value
