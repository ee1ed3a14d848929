"""Decay shapes of a single name's propagator: G(h) at ages h, and how it moves with its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from crosswind.problems.impact.features import session_rows

__all__ = ["concave", "filtered", "power_decay", "power_slopes", "taps"]

Array = NDArray[np.float64]


def concave(flow: Array, scale: float, exponent: float) -> Array:
    """Return f(u) = sgn(u) |u/ū|^δ: flow in units of its typical size, bent by δ."""
    x = flow / scale
    return x if exponent == 1.0 else np.sign(x) * np.abs(x) ** exponent


def taps(G: Array) -> Array:
    """Return κ_h = G_h − G_{h−1}, G_{−1} = 0, along the first axis: what one bucket's flow adds to later returns."""
    return np.diff(G, axis=0, prepend=np.zeros((1, *G.shape[1:])))


def power_decay(h_s: Array, scale_s: float, exponent: float) -> Array:
    """Return (1 + h/t₀)^(−γ)."""
    return np.asarray((1.0 + h_s / scale_s) ** -exponent)


def power_slopes(h_s: Array, scale_s: float, exponent: float) -> tuple[Array, Array]:
    """Return the derivatives of `power_decay` by ln t₀ and by γ."""
    base = 1.0 + h_s / scale_s
    decay = base**-exponent
    return np.asarray(exponent * decay * (h_s / scale_s) / base), np.asarray(-np.log(base) * decay)


def filtered(flow: Array, session: NDArray[Any], kernels: Array) -> Array:
    """Return Σ_{τ ≤ t} κ^k_{t−τ} f_τ for each column k of kernels, session by session, (T, K).

    Parameters
    ----------
    flow
        f (T,).
    session
        Label by row.
    kernels
        G (L, K) at whole buckets; L at least the longest session.
    """
    kappa = taps(kernels)
    out = np.empty((len(flow), kernels.shape[1]))
    for part in session_rows(session):
        length = part.stop - part.start
        out[part] = oaconvolve(flow[part][:, None], kappa[:length], axes=0)[:length]
    return out
