"""The regressors' state, carried from one stretch of rows to the next, and the recursion done as matrix products.

For a decay a = e^{−β Δ} the state is y_t = a y_{t−1} + u_t, the regressor z_t = y_t − y_{t−1} = u_t + (a − 1) y_{t−1}.
Inside a run of L rows the lagged states are one product,

    (y_{t−1})_{t = 0..L−1} = [C | a^t] [u_0; …; u_{L−1}; y_{−1}],     C_ts = a^{t−1−s} for s < t,

so that a general-purpose filter, one multiplication at a time, is replaced by the processor's fastest loop. The other
families have a finite memory: their state is the flow of the last rows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.features import Dictionary
from crosswind.solvers.errors import InvalidInput

__all__ = ["GROUP", "RUN", "RegressorState"]

Array = NDArray[np.float64]
GROUP = 4  # rows of one group, see `crosswind.problems.impact.moments.sums`; RUN is a multiple of it
RUN = 16  # rows of one product: longer runs multiply more zeros of the triangle, shorter ones pay more calls
_SUMS = 1024  # rows over which a moving sum is a difference of cumulative ones, before rounding could build up


class RegressorState:
    """Regressors of a stretch of rows after another, as if the session had been given at once.

    Parameters
    ----------
    dictionary
        Decay shapes.
    names
        N.

    Raises
    ------
    InvalidInput
        Shapes that are not a fixed linear filter of the flow.
    """

    def __init__(self, dictionary: Dictionary, names: int) -> None:
        self.dictionary, self.names = dictionary, names
        if dictionary.family not in ("instantaneous", "exponential", "monotone", "convex"):
            raise InvalidInput("cannot be summed in one pass", field="kernel", value=dictionary.family)
        if dictionary.transform is not None:
            raise InvalidInput(
                "a transform of flow is fitted by passes over the rows, not from moments",
                field="dictionary.transform",
                value=dictionary.transform,
                remedy='fit the events themselves with transform="power"',
            )
        rates = dictionary.rates_per_s if dictionary.family == "exponential" else ()
        #: Shapes that carry a state y: the exponentials that fade. A permanent one is the flow itself.
        self.fading = tuple(m for m, rate in enumerate(rates) if rate > 0)
        self.decay: Array = np.array([math.exp(-rates[m] * dictionary.bucket_s) for m in self.fading])
        self._lag = max(dictionary.lags, default=-1) + 1
        step = np.arange(RUN)
        gap = step[:, None] - 1 - step[None, :]
        self._lagged = [
            np.hstack([np.where(gap >= 0, a ** np.maximum(gap, 0), 0.0), (a**step)[:, None]]) for a in self.decay
        ]
        self._end = np.array([a ** (RUN - 1 - step) for a in self.decay]).reshape(len(self.decay), RUN)
        self.reset()

    def reset(self) -> None:
        """Start a session: no flow has been."""
        #: y by fading shape and name.
        self.y: Array = np.zeros((len(self.fading), self.names))
        self._past: Array = np.zeros((self._lag, self.names))

    def lagged(self, u: Array, out: Array) -> None:
        """Write y_{t−1} of the fading shapes for the next rows and move on past them.

        Parameters
        ----------
        u
            The next rows' flow (T, N).
        out
            (T, M'·N), M' the number of fading shapes; C-contiguous rows.
        """
        rows, N = u.shape
        runs, rest = divmod(rows, RUN)
        if runs:
            whole = runs * RUN
            wide = np.empty((runs, RUN + 1, N))
            wide[:, :RUN] = u[:whole].reshape(runs, RUN, N)
            states = self._run_states(np.matmul(self._end, wide[:, :RUN]))
            target = out[:whole].reshape(runs, RUN, -1)
            for m in range(len(self.fading)):
                wide[:, RUN] = states[:, m]
                np.matmul(self._lagged[m], wide, out=target[:, :, m * N : (m + 1) * N])
        for t in range(rows - rest, rows):
            out[t] = self.y.reshape(-1)
            self.y = self.decay[:, None] * self.y + u[t]

    def group_starts(self, u: Array, out: Array) -> None:
        """Write the states before each group of GROUP rows and move on past them all.

        Parameters
        ----------
        u
            The next rows' flow (T, N), T a multiple of GROUP.
        out
            (M', T/GROUP, N): y_{t−1} of the fading shapes at the first row t of each group.
        """
        rows, N = u.shape
        runs, per = rows // RUN, RUN // GROUP
        if runs:
            wide = np.empty((runs, RUN + 1, N))
            wide[:, :RUN] = u[: runs * RUN].reshape(runs, RUN, N)
            states = self._run_states(np.matmul(self._end, wide[:, :RUN]))
            for m in range(len(self.fading)):
                wide[:, RUN] = states[:, m]
                np.matmul(self._lagged[m][::GROUP], wide, out=out[m, : runs * per].reshape(runs, per, N))
        for group in range(runs * per, rows // GROUP):
            out[:, group] = self.y
            for t in range(group * GROUP, (group + 1) * GROUP):
                self.y = self.decay[:, None] * self.y + u[t]

    def _run_states(self, ends: Array) -> Array:
        """Return y before each run (runs, M', N) from the runs' own contributions to their ends, and move past them."""
        power, states = (self.decay**RUN)[:, None], np.empty_like(ends)
        for k in range(len(ends)):
            states[k] = self.y
            self.y = power * self.y + ends[k]
        return states

    def regressors(self, u: Array, out: Array) -> None:
        """Write the regressors Z (T, M·N) of the next rows and move on past them.

        Parameters
        ----------
        u
            The next rows' flow (T, N).
        out
            (T, M·N) with C-contiguous rows; block m holds z^m_t.
        """
        N, rows = self.names, len(u)
        if self.dictionary.family == "instantaneous":
            out[:] = u
            return
        if self.dictionary.family == "exponential":
            lagged = np.empty((rows, len(self.fading) * N))
            self.lagged(u, lagged)
            at = 0
            for m in range(self.dictionary.size):
                block = out[:, m * N : (m + 1) * N]
                if m in self.fading:
                    np.multiply(lagged[:, at * N : (at + 1) * N], self.decay[at] - 1.0, out=block)
                    block += u
                    at += 1
                else:
                    block[:] = u
            return
        for start in range(0, rows, _SUMS):
            self._moving(u[start : start + _SUMS], out[start : start + _SUMS])

    def _moving(self, u: Array, out: Array) -> None:
        N, deep = self.names, self._lag
        held = np.vstack([self._past, u])
        if self.dictionary.family == "convex":
            sums = np.vstack([np.zeros(N), np.cumsum(held, axis=0)])
        for m, lag in enumerate(self.dictionary.lags):
            back = lag + 1
            if self.dictionary.family == "monotone":
                gone = held[deep - back : deep - back + len(u)]
            else:
                gone = (sums[deep : deep + len(u)] - sums[deep - back : deep - back + len(u)]) / back
            np.subtract(u, gone, out=out[:, m * N : (m + 1) * N])
        self._past = held[-deep:]
