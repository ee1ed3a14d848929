"""The receding-horizon program as a sparse quadratic program: for any backend, for the judge, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from crosswind.solvers import matrices as mx
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.mpc.data import DATA, LIMITS, fitted, shapes
from crosswind.solvers.mpc.model import Array, MpcModel
from crosswind.solvers.program import QuadraticProgram

__all__ = ["MpcProgram", "as_mpc", "beside", "complete", "matrices", "reachable", "sample_program", "vectors"]

_FROM_ZERO = ("spread", "cap", "rate", "gap_cap", "price", "curve")
Data = dict[str, Array]


class MpcProgram(QuadraticProgram):
    r"""A step of a receding horizon over (h, t, e, G, z), with the model and the data it was made of.

    .. math::

        \min\ & \sum_t \big[ h_t'\Lambda h_t + a_t'h_t + c_t't_t + p_t'e_t + \tfrac12 e_t'p_{2,t}e_t
            + \gamma_t G_{t+1}'\Sigma G_{t+1} + g_t'G_{t+1} \big] + G_H'\operatorname{diag}(\eta)G_H + I(z) \\
        \text{s.t. } & G_{t+1} - G_t + Eh_t = w_t, \quad z_{j,t+1} - \rho_j z_{j,t} - \rho_j L_j'h_t = 0, \\
        & t \pm h \ge 0, \quad e \pm G \ge -G^{\max}, \quad |h_t - h_{t-1}| \le \delta, \quad |h| \le \text{cap},
            \quad e \ge 0

    It is the program of :class:`crosswind.solvers.mpc.MpcModel` in rows: every backend takes it as a sparse quadratic
    program, and one that knows the structure takes ``model`` and ``data``. I(z) is the impact as energy,
    ½ Σ_t (ρ⁻² − 1)|z_t|² + ½ρ⁻²|z_H|² − ½|z_0|², so that P is positive semidefinite and the objective is that of
    :class:`crosswind.solvers.mpc.MpcStep`.

    Parameters
    ----------
    model
        What stays.
    gap, plan, state, last, linear, carry, spread, cap, rate, gap_cap, price, curve
        The step's data, as for :meth:`crosswind.solvers.mpc.MpcSolver.step`. Where the last trade breaks the rate limit
        for every trade within the caps, it gives way by the least, as it does there.

    Attributes
    ----------
    model, data
        What the program was made of; the arrays by name, of their full shapes, read-only.

    Raises
    ------
    InvalidInput
        On shapes that do not fit, NaN, costs that are not finite, limits, spreads or prices below zero.

    Notes
    -----
    Variables in order: h (H·m), t ≥ |h| (H·m), excess e (H·k), G_1..G_H (H·k), z_1..z_H (H·M·m), each slice by slice.
    Copies with other vectors or values are plain programs: they are no longer those of ``data``.

    Examples
    --------
    >>> from crosswind.solvers import solve
    >>> model = MpcModel(20, [[0.1]], covariance=[[1.0]], risk_weight=0.05, terminal_weight=1.0)
    >>> program = MpcProgram(model, gap=[1.0], spread=0.05, cap=0.2)
    >>> round(float(program.trades(solve(program).x)[0, 0]), 6)
    0.2
    """

    model: MpcModel
    data: Mapping[str, Array]

    def __init__(
        self,
        model: MpcModel,
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
    ) -> None:
        if not isinstance(model, MpcModel):
            raise InvalidInput("is no MpcModel", field="model", value=type(model).__name__, remedy="build one first")
        given = (gap, state, last, plan, linear, carry, spread, cap, rate, gap_cap, price, curve)
        data = complete(model, dict(zip(DATA, given, strict=True)))
        P, A = matrices(model, data["curve"])
        super().__init__(P, **_bounded(model, data), A=A)
        self._set(model=model, data=data)

    def at(self, **data: Any) -> MpcProgram:
        """Return the program of the same model with other data, all of them given anew.

        The matrices are shared where ``curve`` is the same, so that a backend keeps its set-up.

        Raises
        ------
        InvalidInput
            As the constructor does.
        """
        unknown = sorted(set(data) - set(DATA))
        if unknown or "gap" not in data:
            raise InvalidInput(
                "are not the data of a step", field="data", value=unknown, remedy=f"of {', '.join(DATA)}"
            )
        new = complete(self.model, {name: data.get(name) for name in DATA})
        if not np.array_equal(new["curve"], self.data["curve"]):
            return MpcProgram(self.model, **data)
        plain = self.plain().with_vectors(**_bounded(self.model, new))
        out = object.__new__(MpcProgram)
        out.__dict__.update(plain.__dict__)
        out._set(model=self.model, data=new)
        return out

    def plain(self) -> QuadraticProgram:
        """Return the same program without model and data."""
        out = object.__new__(QuadraticProgram)
        out.__dict__.update({key: value for key, value in self.__dict__.items() if key not in ("model", "data")})
        return out

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the program; that of its plain copy."""
        return self.plain().digest

    def save(self, path: Any) -> Any:
        """Write the plain program; see :meth:`QuadraticProgram.save`. :class:`MpcModel` saves the model."""
        return self.plain().save(path)

    @classmethod
    def load(cls, path: Any) -> NoReturn:
        """Refuse: a file holds the plain program, which ``QuadraticProgram.load`` reads.

        Raises
        ------
        InvalidInput
            Always.
        """
        remedy = "use QuadraticProgram.load, or build it from the model and the data"
        raise InvalidInput("files hold no model", field="path", value=str(path), remedy=remedy)

    def _copy(self) -> Self:
        return self.plain()  # type: ignore[return-value]  # what is about to change is not that of the data

    def __setstate__(self, state: dict[str, Any]) -> None:
        for array in state["data"].values():
            mx.frozen(array)
        super().__setstate__(state)

    def __repr__(self) -> str:
        m, k, M, H = self.model.sizes
        return f"MpcProgram(instruments={m}, exposures={k}, modes={M}, horizon={H}, n={self.n}, m={self.m})"

    # ---- the way back ------------------------------------------------------------------------------------------------

    def trades(self, x: Array) -> Array:
        """Return the trades (H, m) in a point x (n,)."""
        m, _, _, H = self.model.sizes
        return np.asarray(x)[: H * m].reshape(H, m)

    def point(self, trades: Array) -> Array:
        """Return x (n,): trades (H, m) with the gaps, impact states, sizes and excesses that follow from them."""
        h = np.asarray(trades, dtype=np.float64)
        G, z = self._paths(h)
        over = np.maximum(np.abs(G) - self.data["gap_cap"], 0.0)
        return np.concatenate((h.ravel(), np.abs(h).ravel(), over.ravel(), G.ravel(), z.ravel()))

    def multipliers(self, trades: Array, gap: Array, rate: Array) -> tuple[Array, Array]:
        r"""Return the multipliers y (rows) and z (boxes) that belong to trades and the prices of two limits.

        The dynamics' multipliers are the costates, :math:`\mu_t = \mu_{t+1} - (2\gamma_t\Sigma G_{t+1} + g_t + y^G_t)`
        (with 2η at the end) and :math:`\nu_{j,t} = \rho_j \nu_{j,t+1} - w_t z_{j,t+1}`; what is left of stationarity
        in h, :math:`y^h_t = -(2\Lambda h_t + a_t + E'\mu_t - \sum_j \rho_j L_j \nu_{j,t} + y^r_t - y^r_{t+1})`, is
        carried by the spread up to c and by the cap beyond it. So stationarity holds whatever the prices are, and wrong
        ones show as a gap or a multiplier on the wrong side.

        Parameters
        ----------
        trades
            (H, m).
        gap, rate
            (H, k) and (H, m), signed by the side that binds: as in :class:`crosswind.solvers.mpc.MpcPrices`.
        """
        model, d = self.model, self.data
        _, k, _, H = model.sizes
        h = np.asarray(trades, dtype=np.float64)
        y_G, y_r = np.asarray(gap, dtype=np.float64), np.asarray(rate, dtype=np.float64)
        G, z = self._paths(h)
        pull = 2.0 * model.risk_weight[:, None] * (G @ model.covariance) + d["carry"] + y_G
        pull[-1] += 2.0 * model.terminal_weight * G[-1]
        mu = -np.cumsum(pull[::-1], axis=0)[::-1]
        nu, ends = np.zeros_like(z), _ends(model)
        later = np.zeros(z.shape[1:])
        for t in range(H - 1, -1, -1):
            nu[t] = later = model.decays[:, None] * later - ends[t][:, None] * z[t]
        y_h = -(2.0 * h @ model.temporary + d["linear"] + mu @ model.exposure)
        y_h += np.einsum("j,jib,tjb->ti", model.decays, model.impact_loadings, nu)
        y_h -= y_r - np.vstack((y_r[1:], np.zeros_like(y_r[:1])))
        c = d["spread"]
        share = np.clip(y_h, -c, c)
        over = np.maximum(np.abs(G) - d["gap_cap"], 0.0)
        rest = np.abs(y_G) - d["price"] - d["curve"] * over
        rows = (mu, nu, -0.5 * (c + share), 0.5 * (share - c), np.minimum(-y_G, 0.0), np.minimum(y_G, 0.0), y_r)
        boxes = (y_h - share, np.zeros_like(h), np.minimum(rest, 0.0), np.zeros(H * k), np.zeros(z.size))
        return np.concatenate([row.ravel() for row in rows]), np.concatenate([box.ravel() for box in boxes])

    def _paths(self, h: Array) -> tuple[Array, Array]:
        """Return the gaps (H, k) and impact states (H, M, m) after each slice."""
        model, d = self.model, self.data
        G = d["gap"] + np.cumsum(d["plan"] - h @ model.exposure.T, axis=0)
        pushed = np.einsum("jib,ti->tjb", model.impact_loadings, h)
        z, now = np.empty_like(pushed), d["state"]
        for t in range(model.horizon):
            z[t] = now = model.decays[:, None] * (now + pushed[t])
        return G, z


def as_mpc(program: object, solver: str) -> MpcProgram:
    """Return ``program``, which must be a receding-horizon program, for the backend called ``solver``.

    Raises
    ------
    InvalidInput
        When it is another one.
    """
    if not isinstance(program, MpcProgram):
        raise InvalidInput(
            f"{solver} takes receding-horizon programs only",
            field="program",
            value=type(program).__name__,
            remedy="build a crosswind.solvers.mpc.MpcProgram, or use a general solver such as piqp",
        )
    return program


def sample_program() -> tuple[MpcProgram, Array]:
    """Return a step of one instrument and one slice, and its solution: (1 − h)² + ½h² + ½h over |h| ≤ 0.4."""
    model = MpcModel(1, np.array([[0.5]]), terminal_weight=np.ones(1))
    program = MpcProgram(model, [1.0], spread=0.5, cap=0.4)
    return program, program.point(np.array([[0.4]]))


# ---- data ------------------------------------------------------------------------------------------------------------


def complete(model: MpcModel, given: Mapping[str, Any]) -> Data:
    """Return all data of a step as read-only arrays of their full shapes; what is None is zero, or no limit.

    Raises
    ------
    InvalidInput
        On shapes that do not fit, NaN, values that must be finite or must not be negative.
    """
    out: Data = {}
    for name, shape in shapes(model).items():
        value = given.get(name)
        if value is None:
            value = np.inf if name in LIMITS else 0.0
        array = np.array(fitted(name, value, shape), order="C")
        if np.isnan(array).any() or (name not in LIMITS and not np.isfinite(array).all()):
            raise InvalidInput(
                "must be finite", field=name, value="NaN or ∞", remedy="only cap, rate, gap_cap may be ∞"
            )
        if name in _FROM_ZERO and array.size and array.min() < 0.0:
            raise InvalidInput("must not be negative", field=name, value=float(array.min()), remedy="give values ≥ 0")
        array.setflags(write=False)
        out[name] = array
    return out


def beside(before: Array, step: Array) -> Array:
    """Return before + step, or its neighbour where the difference, as it is computed, would be above step ≥ 0."""
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        out: Array = before + step
        while (far := out - before > step).any():
            out = np.where(far, np.nextafter(out, before), out)
    return out


def reachable(d: Mapping[str, Array]) -> tuple[Array, Array, bool]:
    """Return caps that the rates leave, the last trade and whether it had to give way."""
    cap, rate, last = d["cap"].copy(), d["rate"], d["last"].copy()
    for t in range(len(cap) - 2, -1, -1):
        cap[t] = np.minimum(cap[t], beside(cap[t + 1], rate))
    with np.errstate(invalid="ignore"):
        far = np.abs(last) - cap[0] > rate
    last[far] = np.sign(last[far]) * beside(cap[0], rate)[far]
    return cap, last, bool(far.any())


# ---- the program -----------------------------------------------------------------------------------------------------


def _ends(model: MpcModel) -> Array:
    """Return the weights of the impact energy, (H, M) of |z_{j,t+1}|²."""
    rho = model.decays
    ends = np.ones((model.horizon, model.modes)) * (rho**-2.0 - 1.0)
    ends[-1] = rho**-2.0
    return ends


def matrices(model: MpcModel, curve: Array) -> tuple[Any, Any]:
    """Return P and A of the sparse program over (h, t, e, G, z) for excess costs p₂ (H, k)."""
    m, k, M, H = model.sizes
    E, L, rho = model.exposure, model.impact_loadings, model.decays
    eye, one = sparse.identity(H), sparse.identity
    before = sparse.eye(H, k=-1)
    gaps = [sparse.csc_matrix(2.0 * g * model.covariance) for g in model.risk_weight]
    gaps[-1] = gaps[-1] + sparse.diags(2.0 * model.terminal_weight)
    P = sparse.block_diag(
        [
            sparse.kron(eye, 2.0 * model.temporary),
            sparse.csc_matrix((H * m, H * m)),
            sparse.diags(curve.ravel()),
            sparse.block_diag(gaps),
            sparse.diags(np.repeat(_ends(model).ravel(), m)),
        ],
        format="csc",
    )
    decay = sparse.kron(sparse.diags(rho), one(m)) if M else sparse.csc_matrix((0, 0))
    push = sparse.csc_matrix(np.concatenate([rho[j] * L[j].T for j in range(M)]) if M else np.zeros((0, m)))
    hm, hk = one(H * m), one(H * k)
    blocks: Any = [
        [sparse.kron(eye, E), None, None, sparse.kron(eye - before, one(k)), None],
        [-sparse.kron(eye, push), None, None, None, sparse.kron(eye, one(M * m)) - sparse.kron(before, decay)],
        [-hm, hm, None, None, None],
        [hm, hm, None, None, None],
        [None, None, hk, -hk, None],
        [None, None, hk, hk, None],
        [sparse.kron(eye - before, one(m)), None, None, None, None],
    ]
    return P, sparse.bmat(blocks, format="csc")


def vectors(model: MpcModel, d: Mapping[str, Array], cap: Array, last: Array) -> dict[str, Any]:
    """Return q, l, u, lb, ub of the sparse program; caps and last trade as :func:`reachable` gives them."""
    m, k, M, H = model.sizes
    a = np.cumsum([0, H * m, H * m, H * k, H * k, H * M * m])
    q = np.zeros(a[-1])
    q[: a[1]], q[a[1] : a[2]] = d["linear"].ravel(), d["spread"].ravel()
    q[a[2] : a[3]], q[a[3] : a[4]] = d["price"].ravel(), d["carry"].ravel()
    lb, ub = np.full(a[-1], -np.inf), np.full(a[-1], np.inf)
    lb[: a[1]], ub[: a[1]] = -cap.ravel(), cap.ravel()
    lb[a[2] : a[3]] = 0.0
    gaps = d["plan"].copy()
    gaps[0] += d["gap"]
    start = np.zeros((H, M * m))
    start[0] = (model.decays[:, None] * d["state"]).ravel()
    floor = np.where(np.isfinite(d["gap_cap"]), -d["gap_cap"], -np.inf).ravel()
    rate = np.tile(d["rate"], (H, 1))
    low, high = -rate, rate.copy()
    low[0] += last
    high[0] += last
    parts = (gaps.ravel(), start.ravel(), np.zeros(2 * H * m), floor, floor)
    open_ends = np.full(2 * (H * m + H * k), np.inf)
    u = np.concatenate((parts[0], parts[1], open_ends, high.ravel()))
    return {"q": q, "l": np.concatenate((*parts, low.ravel())), "u": u, "lb": lb, "ub": ub}


def _bounded(model: MpcModel, d: Data) -> dict[str, Any]:
    """Return the vectors of a step and the constant that makes the objective that of the definition."""
    cap, last, _ = reachable(d)
    return {**vectors(model, d, cap, last), "constant": -0.5 * float(np.sum(d["state"] ** 2))}
