"""A quadratic program as a differentiable jax function of its numbers: solved and differentiated on the host.

Numbers cross to the host as pairs of 32-bit words. jax runs callbacks in threads of its own, where the local switch to
float64 does not hold: there it would round doubles to floats on the way in and on the way out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from crosswind.solvers.backends.base import Options
from crosswind.solvers.differentiate import Degeneracy, sensitivities, sensitivities_at
from crosswind.solvers.errors import CrosswindError, InvalidInput, SolverFailure
from crosswind.solvers.program import QuadraticProgram
from crosswind.solvers.registry import chain_of
from crosswind.solvers.solve import check_request, solve

__all__ = ["LayerSolution", "differentiable_solve"]

_DATA = ("q", "l", "u", "lb", "ub", "P", "A")


class LayerSolution(NamedTuple):
    """What the function returned by :func:`differentiable_solve` gives.

    Attributes
    ----------
    x, y, z, value
        Solution (n,), row and box multipliers (m,), (n,), optimal value (): float64, differentiable.
    degeneracy
        () int32, the bits of :class:`crosswind.solvers.differentiate.Degeneracy`; 0 where the derivative is unique.
    """

    x: Any
    y: Any
    z: Any
    value: Any
    degeneracy: Any


def differentiable_solve(
    program: QuadraticProgram,
    solver: str | tuple[str, ...] = "auto",
    tol: float = 1e-8,
    *,
    weak: str = "free",
    weak_tol: float | None = None,
    failure: str = "raise",
    **settings: Any,
) -> Callable[..., LayerSolution]:
    """Return a jax function that solves a program for given data and can be differentiated in reverse.

    Parameters
    ----------
    program
        Gives sizes, patterns, and the data that a call leaves out.
    solver, tol, **settings
        As for :func:`crosswind.solvers.solve`. ``"qpax"`` is refused: jax cannot be run inside its own callback.
    weak, weak_tol
        As ``weak`` and ``tol`` of :func:`crosswind.solvers.differentiate.sensitivities`.
    failure
        What happens where data is refused or no certified solution is found: ``"raise"`` stops (jax reports the typed
        error's text in an error of its own), ``"nan"`` gives NaN and sets the bit NOT_OPTIMAL, so that one bad element
        does not take a batch with it.

    Returns
    -------
    callable
        ``f(q=None, l=None, u=None, lb=None, ub=None, P=None, A=None) -> LayerSolution``; ``P`` and ``A`` are the stored
        entries (nnz,) in the order of ``program.P.data``. Works under jit, vmap (each element is solved by itself, so
        a batch gives what a loop gives, bit for bit) and grad, from several threads.

    Raises
    ------
    InvalidInput
        When the program is not quadratic or not convex, on unknown solvers or choices; from a call: outside of
        ``jax.enable_x64(True)``, and on wrong shapes.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from crosswind.solvers import QuadraticProgram
    >>> f = differentiable_solve(QuadraticProgram(np.eye(2), [0.0, 0.0], [[1.0, 1.0]], 1.0, 1.0))
    >>> with jax.enable_x64(True):
    ...     slope = jax.grad(lambda q: f(q=q).x[0])(np.array([0.0, 0.0]))
    >>> np.asarray(slope).round(6).tolist()
    [-0.5, 0.5]
    """
    if not isinstance(program, QuadraticProgram):
        raise InvalidInput("expected a quadratic program", field="program", value=type(program).__name__)
    check_request(program, tol, None)
    if "qpax" in chain_of(solver, program, None):
        raise InvalidInput("runs jax inside of jax", field="solver", value="qpax", remedy="name another backend")
    for field, value, known in (("weak", weak, ("free", "held")), ("failure", failure, ("raise", "nan"))):
        if value not in known:
            raise InvalidInput("unknown choice", field=field, value=value, remedy=" or ".join(known))
    program.require_convex()
    host = _Host(program, solver, Options(tol, None, settings), weak, weak_tol, failure == "nan")
    layer = _layer(host)

    def differentiable(
        q: Any = None,
        l: Any = None,  # noqa: E741
        u: Any = None,
        lb: Any = None,
        ub: Any = None,
        P: Any = None,
        A: Any = None,
    ) -> LayerSolution:
        """Solve for the given data; what is left out is the program's own."""
        import jax
        import jax.numpy as jnp

        if not jax.config.jax_enable_x64:  # type: ignore[attr-defined,unused-ignore]
            raise InvalidInput(
                "jax would round to single precision",
                field="jax.enable_x64",
                value=False,
                remedy="call and differentiate inside `with jax.enable_x64(True):`",
            )
        data = []
        for name, given, own in zip(_DATA, (q, l, u, lb, ub, P, A), host.own, strict=True):
            array = jnp.asarray(own if given is None else given, dtype=jnp.float64)
            if array.ndim == 0:
                array = jnp.broadcast_to(array, own.shape)
            if array.shape != own.shape:
                raise InvalidInput(
                    f"expected shape {own.shape}", field=name, value=array.shape, remedy="use jax.vmap for a batch"
                )
            data.append(array)
        return LayerSolution(*layer(*data))

    return differentiable


class _Host:
    """The host's side: numpy in, numpy out, no state, any leading batch axes."""

    def __init__(
        self,
        program: QuadraticProgram,
        solver: str | tuple[str, ...],
        options: Options,
        weak: str,
        weak_tol: float | None,
        lenient: bool,
    ) -> None:
        self.program, self.solver, self.options = program, solver, options
        self.weak, self.weak_tol, self.lenient = weak, weak_tol, lenient
        p = program
        self.own = (p.q, p.l, p.u, p.lb, p.ub, p.P.data, p.A.data)
        self.sizes = (p.n, p.m, p.n)

    def forward(self, *words: Any) -> tuple[Any, ...]:
        data, batch = _unpacked(words)
        outs = [np.full((*batch, k), np.nan) for k in (*self.sizes, 1)]
        bits = np.full(batch, int(Degeneracy.NOT_OPTIMAL), dtype=np.int32)
        for at in np.ndindex(*batch):
            try:
                program = self._program([part[at] for part in data])
                found = solve(program, self.solver, self.options.tol, **self.options.settings)
                made = sensitivities(program, found, self.weak_tol, self.weak)
            except (InvalidInput, SolverFailure):
                if not self.lenient:
                    raise
                continue
            for out, part in zip(outs, (made.x, made.y, made.z, program.objective(made.x)), strict=True):
                out[at] = part
            bits[at] = int(made.degeneracy)
        return (*(_packed(out) for out in outs), bits)

    def backward(self, *words: Any) -> tuple[Any, ...]:
        parts, batch = _unpacked(words)
        outs = [np.full((*batch, own.size), np.nan) for own in self.own]
        for at in np.ndindex(*batch):
            *data, x, y, z, gx, gy, gz, gv = (part[at] for part in parts)
            if not np.isfinite(x).all():
                continue
            try:
                made = sensitivities_at(self._program(data), x, y, z, self.weak_tol, self.weak)
                slope = made.vjp(gx, gy, gz, float(gv[0]))
            except CrosswindError:  # the loss's own derivative is not finite
                if not self.lenient:
                    raise
                continue
            for out, name in zip(outs, _DATA, strict=True):
                out[at] = getattr(slope, name)
        return tuple(_packed(out) for out in outs)

    def _program(self, data: list[Any]) -> QuadraticProgram:
        q, low, high, box_low, box_high, P, A = data
        program = self.program
        own_P, own_A = np.array_equal(P, program.P.data), np.array_equal(A, program.A.data)
        if not (own_P and own_A):
            program = program.with_values(None if own_P else P, None if own_A else A)
        return program.with_vectors(q=q, l=low, u=high, lb=box_low, ub=box_high)


def _packed(values: Any) -> Any:
    """Return float64 values as words: shape (…, k) becomes (…, k, 2) of uint32."""
    return np.ascontiguousarray(values).view(np.uint32).reshape(*values.shape, 2)


def _unpacked(words: tuple[Any, ...]) -> tuple[list[Any], tuple[int, ...]]:
    """Return float64 arrays spread over their common batch axes, and those axes."""
    arrays = [np.ascontiguousarray(np.asarray(word)) for word in words]
    values: list[Any] = [array.view(np.float64).reshape(array.shape[:-1]) for array in arrays]
    batch = np.broadcast_shapes(*(value.shape[:-1] for value in values))
    return [np.broadcast_to(value, (*batch, value.shape[-1])) for value in values], batch


def _layer(host: _Host) -> Any:
    import jax
    import jax.numpy as jnp
    from jax import lax

    struct: Any = jax.ShapeDtypeStruct  # untyped in some releases

    def call(function: Any, sizes: tuple[int, ...], arrays: tuple[Any, ...], extra: tuple[Any, ...]) -> list[Any]:
        words = [lax.bitcast_convert_type(array, jnp.uint32) for array in arrays]
        shapes = [struct((k, 2), jnp.uint32) for k in sizes]
        outs = jax.pure_callback(function, (*shapes, *extra), *words, vmap_method="expand_dims")
        doubles = [lax.bitcast_convert_type(out, jnp.float64) for out in outs[: len(sizes)]]
        return [*doubles, *outs[len(sizes) :]]

    def forward(*data: Any) -> tuple[Any, ...]:
        sizes = (*host.sizes, 1)
        x, y, z, value, bits = call(host.forward, sizes, data, (struct((), jnp.int32),))
        return x, y, z, value[0], bits

    layer: Any = jax.custom_vjp(forward)

    def ahead(*data: Any) -> tuple[Any, Any]:
        out = layer(*data)
        return out, (data, out[:3])

    def back(kept: Any, slopes: Any) -> tuple[Any, ...]:
        data, point = kept
        gx, gy, gz, gv, _ = slopes
        sizes = tuple(own.size for own in host.own)
        return tuple(call(host.backward, sizes, (*data, *point, gx, gy, gz, gv[None]), ()))

    layer.defvjp(ahead, back)
    return layer
