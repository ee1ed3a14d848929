"""The benchmark's suites made from the problems' seeded generators: names, sizes, seeds and the quick subset."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from crosswind.solvers.bench import Case, Race, Stream, Suite, register_suite

if TYPE_CHECKING:
    from crosswind.solvers.program import ConeProgram, QuadraticProgram

__all__ = ["SEEDS", "register_suites"]

SEEDS = (0, 1, 2, 3, 4)
"""The public seeds; the quick subset uses the first of them."""

# (instruments, horizon, of the quick subset)
_HEDGE = ((1, 20, True), (1, 60, False), (3, 30, True), (10, 60, False))
# (instruments, horizon) -> steps of a stream, and of a quick one: p99.9 needs a thousand over the five seeds
_HEDGE_STREAMS = {(1, 20): (300, 40), (1, 60): (210, None), (3, 30): (210, 40), (10, 60): (40, None)}
_LANES = ("mpc", "osqp:direct", "piqp", "daqp:condensed", "cvxpy:dpp")
# How many times faster the core is meant to be at p50, p99, p99.9: the goals of its design.
_GOALS: dict[str, dict[str, tuple[float | None, float | None, float | None]]] = {
    "(1, 20)": {"osqp:direct": (45.0, 60.0, 80.0), "daqp:condensed": (3.5, 2.2, None)},
    "(1, 60)": {"osqp:direct": (80.0, 95.0, 80.0), "daqp:condensed": (14.0, 6.4, None)},
    "(3, 30)": {"osqp:direct": (140.0, 130.0, 80.0), "daqp:condensed": (25.0, 10.0, None)},
    "(10, 60)": {"osqp:direct": (40.0, 80.0, None)},
}
# size -> seeds of the quick subset
_BASKET = {"basket-10x13": 2, "basket-30x26": 1, "basket-100x26": 0}
_IMPACT = {"impact-2x1": 2, "impact-10x2": 2, "impact-20x3": 0}
_ROLL = {"roll-20x6": 2, "roll-60x12": 1, "roll-200x24": 0}


def register_suites() -> None:
    """Make the suites ``hedge``, ``basket``, ``impact``, ``roll`` known to the benchmark; nothing is generated yet."""
    for name, make in (("hedge", _hedge), ("basket", _basket), ("impact", _impact), ("roll", _roll)):
        register_suite(name, make)


def _hedge() -> Suite:
    cases = []
    for m, horizon, quick in _HEDGE:
        for seed in SEEDS:
            for hostile in (False, True):
                name = f"hedge-{'hostile-' if hostile else ''}m{m}-H{horizon}-{seed}"
                inner = quick and seed < (2 if m == 1 else 1)
                cases.append(Case(name, partial(_hedge_program, m, horizon, seed, hostile), inner, seed))
    streams = [
        Stream(
            f"hedge-stream-m{m}-H{horizon}-{seed}",
            partial(_hedge_stream, m, horizon, seed, steps),
            tuple(range(m)),
            deadline_s=1e-3 * m,
            quick=bool(quick) and seed == 0,
            seed=seed,
            group=f"({m}, {horizon})",
            quick_steps=quick,
        )
        for (m, horizon), (steps, quick) in _HEDGE_STREAMS.items()
        for seed in SEEDS
    ]
    text = "hedge timing by receding horizon: m instruments over H slices, spread as |u|, soft gap cap, decaying impact"
    return Suite("hedge", tuple(cases), tuple(streams), text, Race(_LANES, _GOALS))


def _hedge_program(instruments: int, horizon: int, seed: int, hostile: bool) -> QuadraticProgram:
    from crosswind.optim.lowering import lower
    from crosswind.problems.hedge.instances import hedge_program

    return lower(hedge_program(instruments, horizon, seed, hostile), keep_absolute=True, names=False).qp


def _hedge_stream(instruments: int, horizon: int, seed: int, steps: int) -> tuple[QuadraticProgram, ...]:
    """Return the programs of ``steps`` decisions, the core's first trades filled between them with some noise.

    Every solver gets the same programs, so that its own errors do not lead it to others. Each seed has a model of its
    own and its own limits: with or without a rate, with a gap cap of half a trade, one or none. The plan has blocks and
    is revised now and then.
    """
    from crosswind.solvers.mpc import MpcProgram, MpcSolver, MpcWorld, mpc_instance

    model = mpc_instance(instruments, horizon=horizon, seed=seed)
    world, solver = MpcWorld(model, steps, seed=1000 + seed), MpcSolver(model)
    programs: list[MpcProgram] = []
    for _ in range(steps):
        data = world.data()
        programs.append(programs[0].at(**data) if programs else MpcProgram(model, **data))
        world.execute(solver.step(**data).trades[0])
    return tuple(programs)


def _sized(text: str, suite: str, sizes: dict[str, int], make: Callable[..., QuadraticProgram | ConeProgram]) -> Suite:
    cases = [
        Case(f"{size}-{seed}", partial(make, size, seed), seed < quick, seed)
        for size, quick in sizes.items()
        for seed in (SEEDS if quick else SEEDS[:2])
    ]
    return Suite(suite, tuple(cases), text=text)


def _basket() -> Suite:
    text = "basket schedules: N names over T slices, cross-impact with two decay rates, sector caps, participation"
    return _sized(text, "basket", _BASKET, _basket_program)


def _basket_program(size: str, seed: int) -> QuadraticProgram:
    from crosswind.problems.basket.instances import SIZES, basket_programs

    return basket_programs({size: SIZES[size]}, seed)[size]


def _impact() -> Suite:
    text = "impact fits: N names and M decay shapes, semidefinite and second-order cones"
    return _sized(text, "impact", _IMPACT, _impact_program)


def _impact_program(size: str, seed: int) -> ConeProgram:
    from crosswind.problems.impact.instances import SIZES, impact_instance
    from crosswind.problems.impact.program import lower

    return lower(impact_instance(*SIZES[size], seed=seed)).program


def _roll() -> Suite:
    cases = [
        Case(
            f"{size}{'-hostile' if hostile else ''}-{seed}",
            partial(_roll_program, size, seed, hostile),
            seed < quick,
            seed,
        )
        for size, quick in _ROLL.items()
        for seed in (SEEDS if quick else SEEDS[:2])
        for hostile in (False, True)
    ]
    text = "rolls of a future: CVaR over S scenarios and T slices, a second-order cone per scenario"
    return Suite("roll", tuple(cases), text=text)


def _roll_program(size: str, seed: int, hostile: bool) -> ConeProgram:
    from crosswind.problems.roll.instances import SIZES, roll_instance

    return roll_instance(*SIZES[size], seed, hostile)
