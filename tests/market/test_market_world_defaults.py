"""The plain simulator's output is pinned: worlds and mechanisms may not move a byte of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crosswind.problems.market import simulate
from crosswind.problems.market.model import MarketData

CALLS: dict[str, dict[str, Any]] = {
    "small": {"names": 4, "days": 2, "bucket_s": 60.0, "seed": 7},
    "default": {"names": 5, "days": 1, "bucket_s": 30.0, "impact_r2": 0.2, "flow_factor_corr": 0.3},
}
# The bytes hold where matrix products and elementary functions round as they did here (the probe tells); digests of
# the values in single precision hold everywhere.
PROBE = "ddf730c5db083a2d20361b35dc8cf4a3ef5184a9a49f06b0d43121527271446f"
BYTES = {
    "small": "f69c0fba7111630b2c1a3006db2012385b9aa43f6fa24d97cef495f442b4456f",
    "default": "9e87b39b20590ba6b03209d8d81ffbf482b02f1243bae58c127cbccbdc0cd417",
}
SINGLE = {
    "small": "cf2302074d0263194590b170ce672ab84705ad5d507ed9742234f6bbddc9a4a2",
    "default": "c4c2973eaa73611df66dccadb35fea49870e7320fd57ca38ae703633509b704e",
}


def arrays(market: MarketData) -> list[np.ndarray]:
    """Return every number of the tables and of the truth, in a fixed order."""
    events, truth = market.events, market.truth
    assert truth is not None
    assert events.factors is not None
    frames = [events.flow, events.mid, events.spread, events.volume, events.depth, events.factors]
    quotes = market.futures["SIM"]
    frames += [quotes.bid, quotes.ask, quotes.bid_size, quotes.ask_size, quotes.volume]
    out = [frame.to_numpy(dtype=np.float64) for frame in frames]
    out += [events.index.asi8, quotes.bid.index.asi8]
    return [*out, truth.rates_per_s, truth.matrices, truth.covariance, truth.betas.to_numpy()]


def digest(parts: list[np.ndarray], view: Callable[[np.ndarray], np.ndarray] = np.asarray) -> str:
    """Return the sha256 of the arrays' bytes."""
    total = hashlib.sha256()
    for part in parts:
        total.update(np.ascontiguousarray(view(part)).tobytes())
    return total.hexdigest()


def single(values: np.ndarray) -> np.ndarray:
    """Return numbers in single precision; times as they are."""
    return values if values.dtype.kind == "i" else values.astype(np.float32)


def probe() -> str:
    """Return a digest of this machine's arithmetic in the shapes that the simulator uses."""
    generator = np.random.default_rng(0)
    left, right = generator.standard_normal((390, 4)), generator.standard_normal((4, 4))
    return digest([left @ right, left @ right[0], np.exp(left), np.cumprod(1.0 + 1e-3 * left, axis=0)])


@pytest.mark.parametrize("name", list(CALLS))
def test_default_output_is_as_it_was(name: str) -> None:
    assert digest(arrays(simulate(**CALLS[name])), single) == SINGLE[name]


@pytest.mark.parametrize("name", list(CALLS))
def test_default_output_is_byte_identical(name: str) -> None:
    if probe() != PROBE:
        pytest.skip("this machine rounds differently in the last bit; the single-precision digests are checked")
    assert digest(arrays(simulate(**CALLS[name]))) == BYTES[name]
