"""The controller's program: arrays that are filled in place at each step, and a warm solver for each regime.

With h (H, m) the trades, G the gaps and N what is still to be traded for each exposure, N_{t+1} = N_t − E h_t from
N_0 = w_T − E H_0 (w_T where the plan ends, beyond the horizon too):

    min  Σ_t [ c_t'|h_t| + h_t'Λh_t + a_t'h_t + impact_t(h) + λΔt G_{t+1}'ΣG_{t+1} + ψ(G_{t+1}) ]
         + Σ_i ( c_i|N_{i,H}| + v_i G_{i,H}² )
    s.t. |h_t| ≤ cap_t,  |h_t − h_{t−1}| ≤ δ

The core takes G and N together as 2k exposures. a_t holds what is known and linear: the observation's own term, and
carry. A position costs f_s in slice s (a settlement of funding, less the expected rise of the basis), so a trade at t
costs Σ_{s≥t} f_s. v_i is the undiscounted regulator's value of a squared gap, with the instruments of an exposure side
by side: 1/Λ_i = Σ_j E_ij²/Λ_j.

Amounts and costs in the arrays are in ``unit``, the power of two at or below the set-up's scale: coefficients stay near
one for any engine, and nothing is rounded on the way.
"""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np

from crosswind.problems.hedge.controller.model import HedgeSetup
from crosswind.problems.hedge.core_step import terminal_value
from crosswind.problems.replay.model import FloatArray
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.mpc import MpcModel, MpcPrices, MpcSolver, MpcStep
from crosswind.solvers.solution import Status

__all__ = ["ControllerProgram", "numbers"]

_LEAST_DECAY = 1e-6
_FOREVER = 1_000_000  # slices
_REFUSED = Status.INVALID


class ControllerProgram:
    """Arrays and solvers of one set-up.

    Parameters
    ----------
    setup
        The set-up.
    engine
        As for :class:`crosswind.solvers.mpc.MpcSolver`.

    Raises
    ------
    InvalidInput
        When the core refuses a model.
    """

    # What a solver is given, by the names that it has for it.
    DATA = ("gap", "state", "last", "plan", "linear", "carry", "spread", "cap", "rate", "gap_cap", "price", "curve")

    def __init__(self, setup: HedgeSetup, engine: str) -> None:
        self.setup = setup
        m, k, H = len(setup.instruments), len(setup.exposures), setup.horizon
        self.m, self.k, self.H = m, k, H
        self._instruments, self._exposures, self._windows = range(m), range(k), setup.windows
        self._tol, self._work = setup.tol, setup.work
        self.unit = U = 2.0 ** math.floor(math.log2(setup.scale))
        self.loadings = setup.loadings
        self._modes()
        E2 = np.vstack([self.loadings, self.loadings])
        self.solvers, self.gap_caps, self._curves = [], [], []
        for regime in setup.regimes:
            sigma = min(regime.sigma, setup.sigma_cap)
            covariance = np.zeros((2 * k, 2 * k))
            covariance[:k, :k] = setup.covariance_per_s * sigma**2
            temporary = self.gone + U * np.diag([i.temporary * regime.temporary for i in setup.instruments])
            model = MpcModel(
                H,
                temporary,
                exposure=E2,
                covariance=covariance,
                risk_weight=np.full(H, U * setup.risk_aversion * setup.dt_s),
                terminal_weight=self._ends(covariance, temporary),
                impact_loadings=self.factors,
                decays=self.decays,
            )
            self.solvers.append(MpcSolver(model, engine))
            caps = setup.gap_cap * regime.gap_cap
            self.gap_caps.append(tuple(float(c) for c in caps))
            bend = np.divide(setup.gap_penalty * U, caps, out=np.zeros(k), where=np.isfinite(caps) & (caps > 0.0))
            self._curves.append(bend)
        self.last_solved = [0] * len(self.solvers)
        self.gap, self.plan = np.zeros(2 * k), np.zeros((H, 2 * k))
        self.state, self.last = np.zeros((len(self.decays), m)), np.zeros(m)
        self.linear, self.carry = np.zeros((H, m)), np.zeros((H, 2 * k))
        self.spread, self.cap = np.zeros((H, m)), np.zeros((H, m))
        self.rate = np.array([i.rate for i in setup.instruments]) / U
        self.gap_cap, self.price, self.curve = (np.zeros((H, 2 * k)) for _ in range(3))
        self.trades = np.zeros((H, m))
        self._lay_out()
        self.clip = [i.clip for i in setup.instruments]
        self._clips = np.array(self.clip) / U
        self._unusual_caps = self._unusual_linear = True
        self._told: tuple[list[float], list[bool]] = ([], [])
        self._regime = -1
        self._shares = np.array([i.participation for i in setup.instruments])
        self._usual = np.array([i.liquidity for i in setup.instruments])
        self._inverse = 1.0 / U
        self._limited = bool(np.isfinite(self._shares).any())
        self.regime = 0
        self._ways = [[(j, abs(e)) for j, e in enumerate(row) if e] for row in self.loadings.tolist()]

    def _modes(self) -> None:
        setup, m, impact = self.setup, self.m, self.setup.impact * self.unit
        decays = np.exp(-setup.decay_per_s * setup.dt_s)
        kept = decays >= _LEAST_DECAY
        # What fades within a slice costs half of its own move and nothing later.
        self.gone = 0.5 * impact[~kept].sum(axis=0) if (~kept).any() else np.zeros((m, m))
        self.decays, self.kept = decays[kept], kept
        factors = []
        for K in impact[kept]:
            w, Q = np.linalg.eigh(0.5 * (K + K.T))
            factors.append(Q * np.sqrt(np.maximum(w, 0.0)))
        self.factors = np.array(factors).reshape(len(factors), m, m)

    def _ends(self, covariance: FloatArray, temporary: FloatArray) -> FloatArray:
        setup, k = self.setup, self.k
        quadratic = np.diag(temporary) + 0.5 * np.einsum("jab,jab->a", self.factors, self.factors)
        ends = np.zeros(2 * k)
        for i in range(k):
            speeds = [self.loadings[i, j] ** 2 / max(quadratic[j], 1e-300) for j in range(self.m)]
            risk = self.unit * setup.risk_aversion * setup.dt_s * float(covariance[i, i])
            ends[i] = terminal_value(risk, 1.0 / sum(speeds))
        return ends

    def _lay_out(self) -> None:
        """Bind each regime's solver to the arrays, and make what writes into them."""
        k, H = self.k, self.H
        arrays = {name: getattr(self, name) for name in self.DATA}
        self.calls = [solver.bind(self.trades, **arrays) for solver in self.solvers]
        self.first, self.gap_at, self.last_at = numbers(self.trades)[: self.m], numbers(self.gap), numbers(self.last)
        self._now = numbers(self.plan)[:k]
        # What is read of a path, made anew where another array comes. Its differences come out side by side, and go
        # into their place at once.
        self._path, self._path_at = np.zeros(0), numbers(np.zeros(0))
        self._before = self._after = self._path
        self._ahead, self._steps = self.plan[1:, :k], np.zeros((H - 1, k))
        self._spread_at, self._end_at = numbers(self.spread), numbers(self.price)[-k:]

    # ---- filling in --------------------------------------------------------------------------------------------------

    def fill(
        self,
        required: list[float],
        held: list[float],
        path: FloatArray,
        regime: int,
        usable: list[bool],
        half_spread: list[float],
        room: list[float],
        now: float,
        liquidity: FloatArray | None = None,
        linear: FloatArray | None = None,
        funding: tuple[tuple[int, float, float], ...] = (),
        basis_drift: tuple[float, ...] | None = None,
    ) -> None:
        """Put a step's data into the arrays.

        Parameters
        ----------
        required, held
            Required hedge and hedge on by exposure (k,), reliance, flight and carry counted [currency].
        path
            Required hedge after each coming slice (n, k) [unit].
        regime
            Its number.
        usable, half_spread
            By instrument.
        room
            What may be sent in this slice (m,) [currency].
        now
            The clock [s].
        liquidity, linear, funding, basis_drift
            As in the observation.
        """
        k, H, per = self.k, self.H, self._inverse
        gap, plan, n = self.gap_at, self._now, len(path)
        if path is not self._path:
            self._path, self._path_at = path, numbers(path)
            self._before, self._after = path[: H - 1], path[1:H]
        at, end = self._path_at, (n - 1) * k
        for i in self._exposures:
            needed, on = required[i] * per, held[i] * per
            gap[i] = needed - on
            gap[k + i] = at[end + i] - on
            plan[i] = at[i] - needed
        if n >= H:
            np.subtract(self._after, self._before, self._steps)
            self._ahead[...] = self._steps
        else:
            np.subtract(path[1:n], path[: n - 1], self.plan[1:n, :k])
            self.plan[n:, :k] = 0.0
        if regime != self._regime:
            self._enter(regime)
        self.regime = regime
        self._put_spread(half_spread, usable)
        if self._windows or liquidity is not None or room != self.clip or False in usable:
            self._put_caps(liquidity, usable, room, now)
        elif self._unusual_caps:
            self.cap[...], self._unusual_caps = self._clips, False
        if linear is not None or funding or basis_drift is not None:
            self._put_linear(linear, funding, basis_drift, now)
        elif self._unusual_linear:
            self.linear.fill(0.0)
            self._unusual_linear = False

    def _enter(self, regime: int) -> None:
        k, penalty = self.k, self.setup.gap_penalty
        self.gap_cap[:, :k] = np.array(self.gap_caps[regime]) * self._inverse
        self.price[:, :k] = penalty
        self.curve[:, :k] = self._curves[regime]
        self._regime, self._told = regime, ([], [])

    def _put_spread(self, half_spread: list[float], usable: list[bool]) -> None:
        if half_spread == self._told[0] and usable == self._told[1]:
            return
        self._told, multiple = (half_spread, usable), self.setup.regimes[self.regime].spread
        here = half_spread
        if False in usable:
            here = [half if trades else 0.0 for half, trades in zip(half_spread, usable, strict=True)]
        later = here if multiple == 1.0 else [half * multiple for half in here]
        self._spread_at[:] = array("d", later) * self.H
        if later is not here:
            self._spread_at[: self.m] = array("d", here)
        close, ends = self.setup.close_spread, self._end_at
        for i in self._exposures:
            # What is left after the horizon goes by the cheapest way that trades now.
            least = math.inf
            for j, size in self._ways[i]:
                if usable[j] and later[j] / size < least:
                    least = later[j] / size
            ends[i] = least * close if least < math.inf else 0.0

    def _put_caps(self, liquidity: FloatArray | None, usable: list[bool], room: list[float], now: float) -> None:
        cap, setup = self.cap, self.setup
        end = now + self.H * setup.dt_s
        near = [w for w in self._windows if w[0] < end and w[1] > now]
        self._unusual_caps = True
        cap[:] = self._clips
        if liquidity is not None and self._limited:
            believed = self._rows("liquidity", liquidity)
            share = setup.regimes[self.regime].liquidity_floor
            floor = share * self._usual if share > 0.0 else np.zeros(self.m)
            believed = np.maximum(believed, np.where(np.isfinite(floor), floor, 0.0))
            n = len(believed)
            cap[:n] = np.minimum(cap[:n], self._shares * believed * self._inverse)
        for j in range(self.m):
            cap[0, j] = room[j] * self._inverse
            if not usable[j]:
                cap[:, j] = 0.0
        for start, stop in near:
            first = max(0, math.ceil((start - now) / setup.dt_s - 1e-9))
            last = min(self.H, math.ceil((stop - now) / setup.dt_s - 1e-9)) if math.isfinite(stop) else self.H
            cap[first:last] = 0.0

    def _put_linear(self, known: FloatArray | None, funding: Any, basis_drift: Any, now: float) -> None:
        linear, H = self.linear, self.H
        linear.fill(0.0)
        self._unusual_linear = True
        held = np.zeros((H, self.m))
        for settlement in funding:
            j, time_s, rate = _settled(settlement, self.m)
            # The position at the settlement is what the slices begun by then have traded.
            slices = (time_s - now) / self.setup.dt_s - 1e-9
            if 0.0 < slices <= H:
                held[math.ceil(slices) - 1, j] += rate
        if basis_drift is not None:
            held -= np.asarray(basis_drift, dtype=np.float64)
        if funding or basis_drift is not None:
            with np.errstate(over="ignore", invalid="ignore"):  # the core refuses what is not finite
                linear += np.cumsum(held[::-1], axis=0)[::-1]
        if known is not None:
            given = self._rows("linear", known)
            linear[: len(given)] += given

    def _rows(self, name: str, value: Any) -> FloatArray:
        """Return what was given by slice and instrument, (n, m), for at most the horizon."""
        rows = np.asarray(value, dtype=np.float64)
        if rows.ndim == 1 and self.m == 1:
            rows = rows[:, None]
        if rows.ndim != 2 or rows.shape[1] != self.m:
            raise InvalidInput(f"is not (n, {self.m})", field=name, value=rows.shape, remedy="one row for each slice")
        return rows[: self.H]

    # ---- solving -----------------------------------------------------------------------------------------------------

    def solve(self, slice_now: int) -> MpcStep:
        """Solve what was filled in; ``slice_now`` counts the slices, for the warm start."""
        regime = self.regime
        passed = slice_now - self.last_solved[regime]
        shift = passed if 0 <= passed <= _FOREVER else 0 if passed < 0 else _FOREVER
        step = self.calls[regime](shift, self._tol, self._work)
        if step.status is not _REFUSED:
            self.last_solved[regime] = slice_now
        return step

    def prices(self) -> MpcPrices:
        """Return the prices of the last step, which must have been solved."""
        return self.solvers[self.regime].prices()

    def parts(self, trades: FloatArray) -> dict[str, float]:
        """Return the cost of any trades (H, m) under the data filled in last, by part [unit]."""
        model, k = self.solvers[self.regime].model, self.k
        G = self.gap + np.cumsum(self.plan - trades @ model.exposure.T, axis=0)
        impact, z = 0.0, self.state.copy()
        for h in trades:
            for j, L in enumerate(model.impact_loadings):
                push = L.T @ h
                impact += float(z[j] @ push + 0.5 * push @ push)
                z[j] = model.decays[j] * (z[j] + push)
        over = np.maximum(np.abs(G) - self.gap_cap, 0.0)
        soft = over * (self.price + 0.5 * self.curve * over)
        return {
            "spread": float((self.spread * np.abs(trades)).sum()),
            "temporary": float(np.einsum("ta,ab,tb->", trades, model.temporary, trades)),
            "known": float((self.linear * trades).sum()),
            "impact": impact,
            "risk": float(model.risk_weight @ np.einsum("ta,ab,tb->t", G, model.covariance, G)),
            "gap cap": float(soft[:, :k].sum()),
            "later": float(soft[:, k:].sum() + G[-1] @ (model.terminal_weight * G[-1])),
        }

    def cost(self, trades: FloatArray) -> float:
        """Return the cost of any trades (H, m) under the data filled in last [unit]."""
        return math.fsum(self.parts(trades).values())

    def reset(self) -> None:
        """Forget the warm starts."""
        for solver in self.solvers:
            solver.reset()

    def save(self) -> dict[str, Any]:
        """Return the warm starts as plain data."""
        return {"solvers": [s.snapshot().hex() for s in self.solvers], "solved": list(self.last_solved)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Take over warm starts; InvalidInput where they are of another model."""
        for solver, text in zip(self.solvers, saved["solvers"], strict=True):
            solver.restore(bytes.fromhex(text))
        self.last_solved = [int(s) for s in saved["solved"]]


def numbers(array: FloatArray) -> memoryview[float]:
    """Return an array's numbers one after the other, to be read and written where they lie, in half an array's time."""
    return array.reshape(-1).data  # type: ignore[return-value]


def _settled(settlement: Any, instruments: int) -> tuple[int, float, float]:
    """Return a settlement's instrument, time and rate; InvalidInput where one is missing or makes no sense."""
    try:
        j, time_s, rate = settlement
        if isinstance(j, (int, np.integer)) and 0 <= j < instruments and math.isfinite(time_s):
            return int(j), float(time_s), float(rate)
    except (TypeError, ValueError):
        pass
    raise InvalidInput(
        "is not (instrument, time, rate)", field="funding", value=settlement, remedy="give each settlement its time"
    )
