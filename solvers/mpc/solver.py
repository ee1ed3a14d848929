"""The receding-horizon solver: one model, a stream of data, a decision with a proven gap for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crosswind.solvers import native
from crosswind.solvers.errors import InvalidInput, MissingDependency
from crosswind.solvers.mpc.data import LIMITS, fitted, shapes
from crosswind.solvers.mpc.model import Array, MpcModel
from crosswind.solvers.solution import Status

__all__ = ["MpcPrices", "MpcSolver", "MpcStep", "default_engine"]

_STATUS = {0: Status.OPTIMAL, 1: Status.FEASIBLE, 3: Status.INVALID}
_ENGINES = ("C", "piqp")


class MpcPrices(NamedTuple):
    """What one more unit of a limit is worth, cost per unit, signed by the side that binds.

    Attributes
    ----------
    trade
        (H, m) of the caps, beyond the spread.
    gap
        (H, k) of the soft caps on the gaps: what an excess costs at the margin.
    rate
        (H, m) of the limit on the change.
    """

    trade: Array
    gap: Array
    rate: Array


class MpcStep(NamedTuple):
    """A decision and what is known of it.

    Attributes
    ----------
    trades
        (H, m), the first row to be done now; |h| ≤ cap and |h_t − h_{t−1}| ≤ rate hold exactly, as floating-point
        comparisons.
    status
        OPTIMAL: the gap is proven to be within ``tol`` of the cost's own size. FEASIBLE: the work was used up, the gap
        is known. INVALID: data not finite, negative limits, or beyond 1e9 units: nothing was solved, trades are NaN, or
        what they were where ``out`` was given.
    relaxed
        The last trade broke the rate limit or could not be followed within the caps: the limit gave way by the least.
    objective
        Cost of ``trades``.
    gap
        No trades that keep the limits cost less than ``objective − gap``.
    work
        Factorisations, the unit of work that is bounded.
    interior
        Interior-point iterations among them.
    prices
        See :class:`MpcPrices`; ``None`` with status INVALID, and from a step of :meth:`MpcSolver.bind`.
    """

    trades: Array
    status: Status
    relaxed: bool
    objective: float
    gap: float
    work: int
    interior: int
    prices: MpcPrices | None


class Engine(Protocol):
    """What does the work: the extension's type, or :class:`crosswind.solvers.mpc.fallback.PiqpEngine`."""

    def step(self, *args: Any) -> tuple[int, int, int, int, float, float]:
        """Solve: (status, relaxed, work, interior, objective, gap)."""

    def prices(self, trade: Array, gap: Array, rate: Array, /) -> None:
        """Write the prices of the last step."""

    def reset(self) -> None:
        """Forget the warm start."""

    def save(self) -> bytes:
        """Return the warm start."""

    def restore(self, saved: bytes, /) -> bool:
        """Take a warm start; False where it does not fit."""


def default_engine() -> str:
    """Return ``"C"`` where the extension is there and wanted, else ``"piqp"``."""
    return "C" if native.COMPILED else "piqp"


class MpcSolver:
    """Solve a model's program again and again while its data move on.

    Parameters
    ----------
    model
        What stays.
    engine
        ``"C"``, the compiled core; ``"piqp"``, the same program handed to PIQP, up to two orders of magnitude slower;
        ``"auto"``, C where it was compiled. :attr:`engine` tells which one it is.

    Raises
    ------
    InvalidInput
        When the sizes are too large, or the model is beyond what its ``unit`` can scale.
    MissingDependency
        When C is asked for and is not there.

    Notes
    -----
    The C engine allocates nothing in a step, does at most ``work`` factorisations, and gives the same bits for the same
    data after the same steps on every IEEE machine. It starts each step from the last one's plan, prices and active
    limits, moved on by ``shift`` slices. One solver serves one thread; it pickles with its warm start.

    Examples
    --------
    >>> model = MpcModel(20, [[0.1]], covariance=[[1.0]], risk_weight=0.05, terminal_weight=1.0)
    >>> step = MpcSolver(model).step(gap=[1.0], plan=0.0, spread=0.05, cap=0.2)
    >>> step.status.name, round(float(step.trades[0, 0]), 6)
    ('OPTIMAL', 0.2)
    """

    def __init__(self, model: MpcModel, engine: str = "auto") -> None:
        if not isinstance(model, MpcModel):
            raise InvalidInput("is no MpcModel", field="model", value=type(model).__name__, remedy="build one first")
        if engine not in (*_ENGINES, "auto"):
            raise InvalidInput("is unknown", field="engine", value=engine, remedy="use auto, C or piqp")
        self.model = model
        self.engine = default_engine() if engine == "auto" else engine
        self._core: Engine = self._make()
        m, k, _, H = model.sizes
        self._shapes = shapes(model)
        self._rest = {name: np.full(s, np.inf if name in LIMITS else 0.0) for name, s in self._shapes.items()}
        for array in self._rest.values():
            array.setflags(write=False)
        self._trades, self._gaps = (H, m), (H, k)

    def _make(self) -> Engine:
        model = self.model
        a = model.arrays()
        if self.engine == "piqp":
            from crosswind.solvers.mpc.fallback import PiqpEngine

            return PiqpEngine(model)
        if not native.COMPILED:
            raise MissingDependency(
                "the compiled core is not there", field="engine", value="C",
                remedy="install with a C compiler and without CROSSWIND_NATIVE=0, or use engine='piqp'",
            )  # fmt: skip
        try:
            made: Engine = native.core.Mpc(
                model.sizes, model.unit, a["exposure"], a["temporary"], a["impact_loadings"], a["decays"],
                a["covariance"], a["risk_weight"], a["terminal_weight"],
            )  # fmt: skip
        except ValueError as err:
            remedy = "give the size of a usual trade as unit, and weights within 1e12 of each other"
            raise InvalidInput(str(err), field="model", value=model.sizes, remedy=remedy) from None
        return made

    def step(
        self,
        gap: ArrayLike,
        plan: ArrayLike | None = None,
        *,
        state: ArrayLike | None = None,
        last: ArrayLike | None = None,
        linear: ArrayLike | None = None,
        carry: ArrayLike | None = None,
        spread: ArrayLike | None = None,
        cap: ArrayLike | None = None,
        rate: ArrayLike | None = None,
        gap_cap: ArrayLike | None = None,
        price: ArrayLike | None = None,
        curve: ArrayLike | None = None,
        shift: int = 1,
        tol: float = 1e-8,
        work: int = 40,
        out: Array | None = None,
    ) -> MpcStep:
        """Solve for the present data; what is not given is zero, or no limit.

        Contiguous float64 arrays of the full shape go through as they are; all else is broadcast and copied first.
        Values are never a reason to raise: NaN, infinite or negative where they must not be give status INVALID.

        Parameters
        ----------
        gap
            G_0 (k,).
        plan
            w (H, k), what comes to the gaps in each slice.
        state
            z_0 (M, m).
        last
            h_{−1} (m,), the trade before.
        linear, carry
            a (H, m), cost per trade; g (H, k), cost per gap.
        spread
            c (H, m) ≥ 0.
        cap, rate
            (H, m) ≥ 0 or ∞; δ (m,) ≥ 0 or ∞.
        gap_cap, price, curve
            Gmax (H, k) ≥ 0 or ∞, p and p₂ (H, k) ≥ 0: an excess is priced, not forbidden.
        shift
            Slices by which the data have moved since the last step: 1 as a rule, 0 where the same slice is solved
            again. A wrong one costs work, not correctness. After INVALID, count on from the last step that was solved.
        tol
            The gap asked for, relative to the sum of the absolute parts of the cost.
        work
            The most factorisations.
        out
            (H, m) float64, C order: where the trades go, so that no array is made for them.

        Raises
        ------
        InvalidInput
            On shapes that do not fit or what cannot be turned into numbers.
        """
        trades = np.empty(self._trades) if out is None else out
        rest = self._rest
        try:
            found = self._core.step(
                gap,
                rest["state"] if state is None else state,
                rest["last"] if last is None else last,
                rest["plan"] if plan is None else plan,
                rest["linear"] if linear is None else linear,
                rest["carry"] if carry is None else carry,
                rest["spread"] if spread is None else spread,
                rest["cap"] if cap is None else cap,
                rest["rate"] if rate is None else rate,
                rest["gap_cap"] if gap_cap is None else gap_cap,
                rest["price"] if price is None else price,
                rest["curve"] if curve is None else curve,
                trades, shift, tol, work,
            )  # fmt: skip
        except (TypeError, ValueError, BufferError):
            given = (gap, plan, state, last, linear, carry, spread, cap, rate, gap_cap, price, curve)
            arrays = self._converted(dict(zip(_GIVEN, given, strict=True)))
            self._check(shift, tol, work)
            if out is not None:
                self._check_out(out)
            found = self._core.step(*arrays, trades, shift, tol, work)
        word, relaxed, used, interior, objective, proven = found
        if word == 3:
            if out is None:
                trades.fill(np.nan)
            return MpcStep(trades, Status.INVALID, False, np.nan, np.inf, 0, 0, None)
        return MpcStep(trades, _STATUS[word], relaxed == 1, objective, proven, used, interior, self.prices())

    def prices(self) -> MpcPrices:
        """Return the prices of the last step; they mean nothing before the first, or after one that was INVALID."""
        prices = MpcPrices(np.empty(self._trades), np.empty(self._gaps), np.empty(self._trades))
        self._core.prices(*prices)
        return prices

    def bind(self, out: Array, **data: Array) -> Callable[[int, float, int], MpcStep]:
        """Return a step of ``(shift, tol, work)`` on arrays that stay where they are and are filled in between.

        For loops that count microseconds: arrays are looked at once, and prices are left until :meth:`prices` asks for
        them. Answers are those of :meth:`step`, to the last bit.

        Parameters
        ----------
        out
            Where the trades go, as in :meth:`step`.
        data
            Arrays by the names of :meth:`step`, float64, C order, of the full shapes; what is not given is zero, or no
            limit.

        Raises
        ------
        InvalidInput
            For a name that is none, and for an array that would have to be copied.
        """
        for name, array in data.items():
            shape = self._shapes.get(name)
            if shape is None or not _as_it_is(array, shape):
                remedy = f"use {', '.join(self._shapes)}" if shape is None else f"give np.zeros({shape})"
                raise InvalidInput("cannot be filled in place", field=name, value=np.shape(array), remedy=remedy)
        self._check_out(out)
        arrays = [data.get(name, self._rest[name]) for name in self._shapes]
        # The core takes a memoryview in half the time that it takes an array in.
        views: list[Any] = [a.data if self.engine == "C" else a for a in (*arrays, out)]
        gap, state, last, plan, linear, carry, spread, cap, rate, gap_cap, price, curve, trades = views
        solve, made = self._core.step, tuple.__new__

        def step(shift: int, tol: float, work: int) -> MpcStep:
            word, relaxed, used, interior, objective, proven = solve(
                gap, state, last, plan, linear, carry, spread, cap, rate, gap_cap, price, curve, trades,
                shift, tol, work,
            )  # fmt: skip
            if word == 3:
                return MpcStep(out, Status.INVALID, False, np.nan, np.inf, 0, 0, None)
            # A NamedTuple's own constructor takes twice as long.
            return made(MpcStep, (out, _STATUS[word], relaxed == 1, objective, proven, used, interior, None))

        return step

    def _converted(self, given: dict[str, Any]) -> list[Array]:
        """Return the data as arrays of their full shapes, in the order of the core."""
        values = ((name, self._rest[name] if given[name] is None else given[name]) for name in self._shapes)
        return [np.ascontiguousarray(fitted(name, value, self._shapes[name])) for name, value in values]

    def _check(self, shift: object, tol: object, work: object) -> None:
        for name, value in (("shift", shift), ("work", work)):
            if not isinstance(value, (int, np.integer)):
                raise InvalidInput("must be a whole number", field=name, value=value, remedy="give an int")
        if not isinstance(tol, (int, float, np.floating)):
            raise InvalidInput("must be a number", field="tol", value=tol, remedy="give 1e-8")

    def _check_out(self, out: NDArray[Any]) -> None:
        if not (_as_it_is(out, self._trades) and out.flags.writeable):
            remedy = f"give np.empty({self._trades})"
            raise InvalidInput("is no writable float64 array of that shape", field="out", value=None, remedy=remedy)

    def reset(self) -> None:
        """Forget the warm start; the next step is as the first."""
        self._core.reset()

    def snapshot(self) -> bytes:
        """Return the warm start as bytes; after :meth:`restore` the same data give the same bits."""
        return self.engine.encode() + b":" + self._core.save()

    def restore(self, saved: bytes) -> None:
        """Take over a warm start that :meth:`snapshot` gave, from the same model and engine.

        Raises
        ------
        InvalidInput
            When the bytes are damaged, or come from another model, engine or version; nothing is changed then.
        """
        head, _, body = bytes(saved).partition(b":")
        if head != self.engine.encode() or not self._core.restore(body):
            remedy = "restore only what snapshot() of the same model and engine gave, or call reset()"
            raise InvalidInput("does not fit this solver", field="saved", value=f"{len(saved)} bytes", remedy=remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (self.model, self.engine, self.snapshot()))

    def __repr__(self) -> str:
        m, k, M, H = self.model.sizes
        return f"MpcSolver(instruments={m}, exposures={k}, modes={M}, horizon={H}, engine={self.engine!r})"


_GIVEN = ("gap", "plan", "state", "last", "linear", "carry", "spread", "cap", "rate", "gap_cap", "price", "curve")


def _as_it_is(array: object, shape: tuple[int, ...]) -> bool:
    """Return whether the core can work on an array where it lies."""
    if not isinstance(array, np.ndarray):
        return False
    return bool(array.shape == shape and array.dtype == np.float64 and array.flags.c_contiguous)


def _restored(model: MpcModel, engine: str, saved: bytes) -> MpcSolver:
    solver = MpcSolver(model, engine)
    solver.restore(saved)
    return solver
