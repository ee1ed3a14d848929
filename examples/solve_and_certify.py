# %% [markdown]
# # Solve, grade, change, solve again
# The solver layer knows no finance: programs are data, backends propose, our own certificate disposes.

# %%
import numpy as np

import crosswind as cw
from crosswind.solvers import elastic

rng = np.random.default_rng(3)
n = 40
factor = rng.normal(size=(n, 6))
program = cw.QuadraticProgram(
    P=factor @ factor.T + 0.1 * np.eye(n),
    q=-rng.random(n),
    A=np.vstack([np.ones(n), np.repeat([1.0, 0.0], n // 2)]),
    l=np.array([1.0, -np.inf]),
    u=np.array([1.0, 0.4]),
    lb=np.zeros(n),
    row_names=("budget", "first half"),
)

# %% [markdown]
# Several backends on one program. The backend's word is kept, but the status is ours: residuals and gap are recomputed.

# %%
for name in ("piqp", "clarabel", "osqp"):
    answer = cw.solve(program, solver=name, tol=1e-8)
    print(f"{name:<9} {answer.status.name:<9} gap {answer.certificate.gap_rel:.1e}  said {answer.backend_status!r}")

# %% [markdown]
# A certificate for any point, wherever it came from: here the optimum, pushed off by a thousandth.

# %%
best = cw.solve(program, tol=1e-9)
print(best.certificate.summary())
print(cw.certify(program, best.x + 1e-3, best.y, best.z).summary())
print("price of the cap on the first half:", round(float(best.y[1]), 6))

# %% [markdown]
# A session keeps its set-up while vectors change: the receding horizon's way.

# %%
session = cw.Session(program, tol=1e-8)
for cap in (0.5, 0.3, 0.1):
    answer = session.update(u=np.array([1.0, cap])).solve()
    print(f"cap {cap:.1f}: objective {answer.objective:.6f}, price {answer.y[1]:.4f}")

# %% [markdown]
# Contradictory rows: the proof is verified, and the smallest relaxation is in the rows' own names.

# %%
impossible = program.with_vectors(
    l=np.array([1.0, 0.6]), u=np.array([0.5, 2.0]).clip(min=[1.0, 0.7]), ub=np.full(n, 0.02)
)
answer = cw.solve(impossible, solver="clarabel")
print(answer.status.name, "-", answer.status.text)
print(elastic(impossible).summary())
