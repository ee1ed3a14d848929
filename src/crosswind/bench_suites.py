"""The benchmark's suites made from the problems' seeded generators: names, sizes, seeds and the quick subset."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from crosswind.solvers.bench import Case, Stream, Suite, register_suite

if TYPE_CHECKING:
    from crosswind.solvers.program import ConeProgram, QuadraticProgram

__all__ = ["SEEDS", "register_suites"]

SEEDS = (0, 1, 2, 3, 4)
"""The public seeds; the quick subset uses the first of them."""

# (instruments, horizon, of the quick subset)
_HEDGE = ((1, 20, True), (1, 60, False), (3, 30, True), (10, 60, False))
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
            partial(_hedge_stream, m, horizon, seed),
            tuple(range(m)),
            deadline_s=1e-3 * m,
            quick=seed == 0,
            seed=seed,
        )
        for m, horizon in ((1, 20), (3, 30))
        for seed in SEEDS
    ]
    text = "hedge timing by receding horizon: m instruments over H slices, spread as |u|, soft gap cap, decaying impact"
    return Suite("hedge", tuple(cases), tuple(streams), text)


def _hedge_program(instruments: int, horizon: int, seed: int, hostile: bool) -> QuadraticProgram:
    from crosswind.optim.lowering import lower
    from crosswind.problems.hedge.instances import hedge_program

    return lower(hedge_program(instruments, horizon, seed, hostile), keep_absolute=True, names=False).qp


def _hedge_stream(instruments: int, horizon: int, seed: int, steps: int = 40) -> tuple[QuadraticProgram, ...]:
    """Return the programs of ``steps`` decisions, the reference's trades carried out between them.

    Every solver gets the same programs, so that its own errors do not lead it to others. After each step the horizon
    moves on, impact decays, the plan is revised a little and a new forecast of the drift arrives.
    """
    from dataclasses import replace

    import numpy as np

    from crosswind.optim.lowering import lower, relower
    from crosswind.optim.program import Terminal
    from crosswind.problems.hedge.instances import hedge_program
    from crosswind.solvers import solve
    from crosswind.solvers.errors import SolverFailure

    program = hedge_program(instruments, horizon, seed)
    weight = np.inf if program.terminal is None else program.terminal.weight
    rng = np.random.default_rng([seed, 7])
    lowered = lower(program, keep_absolute=True, names=False)
    programs = []
    for _ in range(steps):
        programs.append(lowered.qp)
        found = solve(lowered.qp, ("piqp", "clarabel"), tol=1e-9, verify=False)
        if not found.status.ok:
            raise SolverFailure(
                "no backend solved a step of the stream",
                field="stream",
                value=found.status.name,
                remedy="install piqp and clarabel",
            )
        trade = lowered.unpack_trades(found.x)[0]
        level = np.vstack([program.exposure_level[1:], program.exposure_level[-1:]])
        # The cash plan runs out within the horizon: its end is renewed, or nothing would be left to hedge.
        level[-1] += rng.normal(0.0, 0.05, instruments)
        # Fills differ from the plan; without that the gap would be zero up to the solver's last digits.
        level += rng.normal(0.0, 0.01, level.shape)
        modes = tuple(
            replace(mode, state=np.exp(-mode.rate_per_s * program.dt_s[0]) * mode.state + trade)
            for mode in program.impact
        )
        program = replace(
            program,
            p0=program.p0 + trade,
            exposure_level=level,
            drift=rng.normal(0.0, 2e-6, (horizon, instruments)),
            impact=modes,
            terminal=Terminal(level[-1], weight),
        )
        lowered = relower(program, lowered)
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
