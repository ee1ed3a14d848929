"""Seeded roll programs for the benchmark engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.roll.program import RollProblem
    from crosswind.solvers.program import ConeProgram

__all__ = ["SIZES", "roll_instance", "roll_instances", "roll_problem"]

#: Name → (scenarios S, slices T, slabs).
SIZES = {"roll-20x6": (20, 6, 3), "roll-60x12": (60, 12, 5), "roll-200x24": (200, 24, 5)}


def roll_problem(
    scenarios: int = 60, slices: int = 12, slabs: int = 5, seed: int = 0, hostile: bool = False
) -> RollProblem:
    """Return a random roll: order, statistics of the book, weights and limits are drawn; a plan always exists.

    Parameters
    ----------
    scenarios, slices, slabs
        S, T and parts of the order by place in the queue.
    seed
        Of all draws.
    hostile
        A thin, stressed book, an order that the limits only just allow, a heavy tail weight, legs with a price.

    Returns
    -------
    RollProblem

    Raises
    ------
    InvalidInput
        For sizes below 1.
    """
    from crosswind.problems.roll.model import RollOrder
    from crosswind.problems.roll.program import (
        RollPresent,
        RollProblem,
        RollSettings,
        RollStatistics,
        draw_scenarios,
    )

    if min(scenarios, slices, slabs) < 1:
        sizes = (scenarios, slices, slabs)
        raise InvalidInput("must be at least 1", field="sizes", value=sizes, remedy="use 1 or more")
    rng = np.random.default_rng(seed)
    depth = float(rng.uniform(50.0, 200.0) if hostile else rng.uniform(400.0, 2000.0))
    numbers = RollStatistics(
        depth=depth,
        volume_per_s=(float(depth * rng.uniform(0.002, 0.01)),),
        tilt=float(rng.uniform(-0.3, 0.3)),
        noise_points=float(rng.uniform(0.02, 0.06)),
        jumps_per_hour=float(rng.uniform(1.0, 3.0) if hostile else rng.uniform(0.1, 0.5)),
    )
    window_s = 3600.0
    present = RollPresent(
        side=1 if rng.random() < 0.5 else -1,
        deviation=float(rng.normal(0.0, 0.04)),
        stress=2.0 if hostile else 1.0,
        ahead=float(rng.uniform(0.0, depth)) if rng.random() < 0.5 else None,
    )
    drawn = draw_scenarios(
        numbers, slices=slices, slice_s=window_s / slices, count=scenarios, seed=seed, present=present
    )
    settings = RollSettings(
        tail_weight=float(10.0 ** rng.uniform(0.3, 1.0) if hostile else 10.0 ** rng.uniform(-1.0, 0.3)),
        participation=float(rng.uniform(0.1, 0.3)),
        let_price=float(rng.uniform(0.1, 1.0)),
        slabs=slabs,
    )
    # What the limits allow in all: the crossing of each slice, and at the cutoff what the thinnest scenario's book has.
    crossing = settings.participation * float(drawn.volume.sum())
    most = crossing + float(drawn.capacity().min())
    quantity = max(1, int((0.9 if hostile else rng.uniform(0.2, 0.6)) * most))
    start = pd.Timestamp("2024-03-12 14:00", tz="UTC")
    order = RollOrder(
        f"roll {seed}",
        present.side * quantity,
        start,
        start + pd.Timedelta(seconds=window_s),
        max_naked=int(rng.uniform(0.0, 0.3) * quantity),
    )
    return RollProblem(order, drawn, settings)


def roll_instance(scenarios: int, slices: int, slabs: int, seed: int = 0, hostile: bool = False) -> ConeProgram:
    """Return :func:`roll_problem` as a cone program: epigraph of the tail, second-order cones for the curvature."""
    from crosswind.solvers.tail.lowering import cone_program

    return cone_program(roll_problem(scenarios, slices, slabs, seed, hostile).assembly().program)


def roll_instances(
    sizes: dict[str, tuple[int, int, int]] | None = None, seeds: int = 5, hostile: bool = False
) -> Iterator[tuple[str, ConeProgram]]:
    """Yield (name, program) for every size and seed 0..seeds−1."""
    for size, shape in (SIZES if sizes is None else sizes).items():
        for seed in range(seeds):
            yield f"{size}{'-hostile' if hostile else ''}-{seed}", roll_instance(*shape, seed, hostile)
