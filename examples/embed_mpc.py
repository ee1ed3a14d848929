# %% [markdown]
# # A decision every slice, in microseconds
# A gap is closed over the next slices while more of it is expected, trades cost spread and impact, and caps and rates
# hold to the last bit. The core is compiled C; `crosswind export-c` writes it out for an algo of one's own.

# %%
import numpy as np

from crosswind.solvers.mpc import MpcModel, MpcSolver

H = 20
model = MpcModel(
    horizon=H,
    temporary=[[0.02]],
    covariance=[[1.0]],
    risk_weight=0.02,
    terminal_weight=0.5,
    impact_loadings=[[[0.3]]],
    decays=[0.8],
)
solver = MpcSolver(model)
print(solver)

# %% [markdown]
# Eight contracts are to be hedged, and four more are expected in six slices.

# %%
plan = np.zeros((40, 1))
plan[5] = 4.0
gap, state, last = np.array([8.0]), np.zeros((1, 1)), np.zeros(1)
limits = {"spread": 0.05, "cap": 1.5, "rate": 0.75, "gap_cap": 4.0, "price": 1.0}
for t in range(12):
    step = solver.step(gap, plan[t : t + H], state=state, last=last, **limits)
    last = step.trades[0]
    cap, rate = abs(step.prices.trade[0, 0]), abs(step.prices.rate).sum()
    print(f"{t:2d} gap {gap[0]:7.4f} trade {last[0]:7.4f} within {step.gap:.0e} of the least cost ({step.status.name})")
    print(f"   one more of the cap now would save {cap:.4f}, of the rate {rate:.4f}")
    gap = gap + plan[t] - last
    state = model.decays[:, None] * (state + last @ model.impact_loadings[0])

# %% [markdown]
# A restart goes on with the same bits.

# %%
saved = solver.snapshot()
other = MpcSolver(model)
other.restore(saved)
data = {"gap": gap, "plan": plan[12 : 12 + H], "state": state, "last": last} | limits
assert solver.step(**data).trades.tobytes() == other.step(**data).trades.tobytes()
print("restarted with", len(saved), "bytes")
