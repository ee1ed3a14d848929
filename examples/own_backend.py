# %% [markdown]
# # A backend of one's own
# One class converts a program, solves it and returns its iterate; grading, chains and sessions come for free.

# %%
import time

import numpy as np

import crosswind as cw
from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, WarmStart
from crosswind.solvers.registry import register_backend


class ProjectedGradient(Backend):
    """Nesterov's accelerated projected gradient for ½x'Px + q'x over lb ≤ x ≤ ub."""

    name, module, licence = "projected-gradient", "numpy", "Apache-2.0"
    kinds, limits = frozenset({"qp"}), "boxes only, no rows"
    warm_starts = updates = keeps_time = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set up; what the solver cannot take is refused by raising, and the chain goes on."""
        if program.m or options.settings:
            raise ValueError("takes boxes only, and no settings")
        return Run(program, options)


class Run(Prepared):
    def __init__(self, program: Program, options: Options) -> None:
        self.program, self.options = program, options
        self.step = 1.0 / max(float(abs(program.P).sum(axis=0).max()), 1e-300)

    def fits(self, program: Program) -> bool:
        return program.P is self.program.P and program.A is self.program.A

    def update(self, program: Program) -> None:
        self.program = program

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        p, stop = self.program, time.perf_counter() + (time_limit or np.inf)
        x = np.clip(warm.x if warm is not None else np.zeros(p.n), p.lb, p.ub)
        ahead, momentum, claim, k = x, 1.0, Claim.ITERATIONS, 0
        while claim is Claim.ITERATIONS and k < 50_000:
            k += 1
            new = np.clip(ahead - self.step * (p.P @ ahead + p.q), p.lb, p.ub)
            if np.max(np.abs(new - x)) <= 1e-3 * self.options.tol * max(np.max(np.abs(new)), 1e-12):
                claim = Claim.SOLVED
            faster = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
            ahead, x, momentum = new + (momentum - 1.0) / faster * (new - x), new, faster
            claim = Claim.TIME if time.perf_counter() > stop else claim  # the iterate is returned and graded
        # Multipliers are positive at the upper bound, negative at the lower one: L = f + y'(Ax) + z'x.
        gradient = p.P @ x + p.q
        z = np.where(x >= p.ub, np.maximum(-gradient, 0.0), np.where(x <= p.lb, np.minimum(-gradient, 0.0), 0.0))
        return Raw(claim, claim.value, x, np.zeros(p.m), z, iterations=k)


# %%
# Known by its name to solve, Session, the probe and the benchmark from here on.
register_backend(ProjectedGradient, replace=True)
rng = np.random.default_rng(0)
root = rng.normal(size=(30, 30))
program = cw.QuadraticProgram(root @ root.T / 30 + np.eye(30), rng.normal(size=30), lb=-0.2, ub=0.2)
answer = cw.solve(program, "projected-gradient", tol=1e-6)
print(answer.summary())
# Our certificate decides, whatever a backend says; an explicit chain goes on where it fails.
reference = cw.solve(program, "clarabel", tol=1e-9)
print("objectives differ by", abs(answer.objective - reference.objective))
rows = cw.QuadraticProgram(np.eye(2), np.zeros(2), [[1.0, 1.0]], 1.0, 1.0)
print([(a.backend, a.status.name) for a in cw.solve(rows, ("projected-gradient", "piqp")).attempts])
