"""One episode in jax: the scan over slices that :mod:`crosswind.problems.replay.vectorised` maps and compiles.

Imported only there, after jax. Shapes: n instruments, W slots of earlier slices' orders (slot w was sent w slices ago),
M impact modes, B+1 batches a slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crosswind.problems.replay.batch import NEVER

if TYPE_CHECKING:
    from crosswind.problems.replay.vectorised import _Static

__all__ = ["execute_episode"]

_UNROLLED = 4
"""Batches a slice up to which the loop over them is written out."""


def execute_episode(data: dict[str, Any], knobs: dict[str, Any], static: _Static) -> dict[str, Any]:
    """Return the costs of one episode under one set of parameters, and its paths where asked.

    Parameters
    ----------
    data
        One episode of a :class:`~crosswind.problems.replay.batch.ReplayBatch` and the structure of an
        :class:`~crosswind.problems.replay.vectorised.AffinePolicy`, without the axis E.
    knobs
        One set of parameters, without the axes P and E.
    static
        What the program is specialised to.

    Returns
    -------
    dict
        Fields of :class:`~crosswind.problems.replay.vectorised.BatchReplay` without P and E, ``overflow`` (an order
        left the window while it was in flight) and ``breach`` (a price fell to zero or below).
    """
    import jax
    import jax.numpy as jnp

    slices, n = data["schedule"].shape
    width, modes = static.window, data["rates"].shape[0]
    multiplier, matrices, first = data["multiplier"], data["matrices"], data["mid"][0]

    def pay(book: dict[str, Any], at: dict[str, Any], bought: Any, sold: Any, part: str) -> dict[str, Any]:
        """Trade one batch: ``bought`` and ``sold`` units (both >= 0) at ``at``'s mid and half-spread."""
        units, gross = bought - sold, bought + sold
        notional = units * multiplier * at["mid"]
        moved = book["state"] + 0.5 * notional
        by = (matrices * moved[:, None, :]).sum(axis=0)
        base = at["mid"] * (1.0 + by.sum(axis=1))
        low = ((sold > 0.0) & (base <= at["half"])) | ((bought > 0.0) & (base + at["half"] <= 0.0))
        return book | {
            "state": book["state"] + notional,
            "position": book["position"] + units,
            "paid": book["paid"] + units * multiplier * (at["mid"] - first),
            "breach": book["breach"] | low.any(),
            part: {
                "spread": book[part]["spread"] + gross * multiplier * at["half"],
                "fees": book[part]["fees"] + gross * data["fee"],
                "impact": book[part]["impact"] + notional[:, None] * by,
            },
        }

    def decide(book: dict[str, Any], now: dict[str, Any], k: Any) -> Any:
        slots = book["slots"]
        flight = jnp.where(slots["release"] >= k, slots["rest"], 0.0).sum(axis=0)
        gap = now["target"] + data["position_weight"] @ book["position"] + data["flight_weight"] @ flight
        gap = jnp.where(jnp.abs(gap) > now["threshold"], gap, 0.0)
        displaced = (matrices * book["state"][:, None, :]).sum(axis=(0, 2)) if modes else jnp.zeros(n)
        free = now["feed"] + now["gain"] * gap + now["pull"] * displaced
        return now["schedule"] + jnp.clip(free, -now["clip"], now["clip"])

    def fill(book: dict[str, Any], now: dict[str, Any], j: Any, k: Any) -> dict[str, Any]:
        slots = book["slots"]
        due = (slots["entry"] == k) & (slots["batch"] == j)
        member = due | ((slots["entry"] < k) & (j == 0))
        size = jnp.where(member, jnp.abs(slots["rest"]), 0.0)
        if static.limited:
            if static.ordered:
                before = jax.lax.cumsum(size, axis=0, reverse=True) - size  # the last slot is the oldest
            else:
                ahead = slots["rank"][None] < slots["rank"][:, None]
                before = jnp.where(ahead, size[None], 0.0).sum(axis=1)
            room = jnp.maximum(now["capacity"] - book["used"], 0.0)
            size = jnp.minimum(size, jnp.maximum(room - before, 0.0))
            book = book | {"used": book["used"] + size.sum(axis=0)}
        long = slots["rest"] > 0.0
        bought, sold = jnp.where(long, size, 0.0).sum(axis=0), jnp.where(long, 0.0, size).sum(axis=0)
        rest = slots["rest"] - jnp.where(long, size, -size)
        share = now["weight"][j]
        at = {"mid": now["mid"] + (now["after"] - now["mid"]) * share, "half": now["half"]}
        book = pay(book | {"slots": slots | {"rest": rest}}, at, bought, sold, "open")
        decay = jnp.exp(-data["rates"] * now["step_s"][j])
        return book | {"state": book["state"] * decay[:, None]}

    def step(book: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        k = now["k"]
        wanted = decide(book, now, k)
        new = wanted != 0.0
        if static.throttle:
            count = (book["admitted"] & now["recent"][:, None]).sum(axis=0)
            admitted = new & (count + 1 <= data["limit"])
            book = book | {
                "throttled": book["throttled"] + (new & ~admitted),
                "admitted": jnp.concatenate([admitted[None], book["admitted"][:-1]]),
            }
            new = admitted
        slots = book["slots"]
        lost = ((slots["rest"][-1] != 0.0) & (slots["release"][-1] >= k)).any()
        fresh = {"rest": jnp.where(new, wanted, 0.0)} | {
            name: now[name] for name in ("entry", "batch", "rank", "release")
        }
        slots = {name: jnp.concatenate([fresh[name][None], slots[name][:-1]]) for name in slots}
        held = book["position"]
        book = book | {"slots": slots, "overflow": book["overflow"] | lost, "used": jnp.zeros(n)}
        book = fill(book, now, 0, k)
        early = book["position"]
        batches = now["weight"].shape[0]
        if batches <= _UNROLLED:
            for j in range(1, batches):
                book = fill(book, now, j, k)
        else:
            book = jax.lax.fori_loop(1, batches, lambda j, b: fill(b, now, j, k), book)
        kept = {"sent": wanted, "filled": book["position"] - held, "positions": early} if static.paths else {}
        return book, kept

    def wide(name: str) -> Any:
        return jnp.broadcast_to(knobs[name], (slices, n))

    nothing = {"spread": jnp.zeros(n), "fees": jnp.zeros(n), "impact": jnp.zeros((n, n))}
    slot = {name: jnp.full((width, n), NEVER, dtype=jnp.int32) for name in ("entry", "batch", "rank", "release")}
    book: dict[str, Any] = {
        "position": jnp.zeros(n),
        "paid": jnp.zeros(n),
        "state": jnp.zeros((modes, n)),
        "slots": {"rest": jnp.zeros((width, n)), **slot},
        "admitted": jnp.zeros((data["recent"].shape[1], n), dtype=bool),
        "throttled": jnp.zeros(n),
        "used": jnp.zeros(n),
        "overflow": jnp.array(False),
        "breach": jnp.array(False),
        "open": nothing,
        "close": nothing,
    }
    rows = {
        "k": jnp.arange(slices, dtype=jnp.int32),
        "mid": data["mid"][:-1],
        "after": data["mid"][1:],
        "half": data["half_spread"][:-1],
        "target": data["target"][:-1],
        **{
            name: data[name] for name in ("capacity", "step_s", "weight", "entry", "batch", "rank", "release", "recent")
        },
        "schedule": data["schedule"],
        **{name: wide(name) for name in ("feed", "gain", "threshold", "clip", "pull")},
    }
    book, kept = jax.lax.scan(step, book, rows)

    slots, closing, before = book["slots"], jnp.zeros(n), book["position"]
    if static.close:
        left = jnp.where(slots["release"] >= slices, slots["rest"], 0.0)
        on = data["position_weight"] @ book["position"] + data["close_flight_weight"] @ left.sum(axis=0)
        closing = jnp.broadcast_to(knobs["closing"], (n,)) * (data["target"][-1] + on)
        sizes = jnp.concatenate([left, closing[None]])
        at = {"mid": data["mid"][-1], "half": data["half_spread"][-1] * data["close_multiple"]}
        bought, sold = jnp.maximum(sizes, 0.0).sum(axis=0), jnp.maximum(-sizes, 0.0).sum(axis=0)
        book = pay(book, at, bought, sold, "close")
    out = {
        **book["open"],
        **{f"close_{name}": value for name, value in book["close"].items()},
        "gain": book["position"] * multiplier * (data["mid"][-1] - first) - book["paid"],
        "throttled": book["throttled"],
        "overflow": book["overflow"],
        "breach": book["breach"],
    }
    if static.paths:
        final = book["position"]
        out["sent"] = jnp.concatenate([kept["sent"], closing[None]])
        out["filled"] = jnp.concatenate([kept["filled"], (final - before)[None]])
        out["positions"] = jnp.concatenate([kept["positions"], final[None]])
    return out
