# %% [markdown]
# # A cross-aware basket schedule
# Four sessions are simulated with a known impact; the last one is traded. The basket buys two names of a sector and
# sells two of another. A positive cost is money lost; costs are in bps of the parent notional.

# %%
import numpy as np
import pandas as pd

from crosswind.problems.basket import BasketProblem, compare, forecast_inputs, frontier, session_slices
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.market import simulate

market = simulate(names=6, sectors=2, days=4, bucket_s=60.0, seed=7)
events, truth = market.events, market.truth
day = max(events.days)
past = events.on([d for d in events.days if d < day])
names = tuple(events.flow.columns)

# %% [markdown]
# Forecasts come from the past sessions; here the true impact stands in for a fitted model.

# %%
slices = session_slices(day, "09:30", "16:00", 1800.0, events.tz)
inputs = forecast_inputs(past, slices, 1800.0)
model = ImpactModel(names, truth.rates_per_s, truth.matrices, "exponential", events.bucket_s)

side = np.where(truth.sectors.reindex(names) == truth.sectors.iloc[0], 1.0, -1.0)
inventory = pd.Series(side, index=names) * 0.04 * inputs.volume.sum()  # 4 % of the day's volume in each name
problem = BasketProblem(
    inventory=inventory,
    model=model,
    **inputs.as_arguments(),
    risk_aversion=2e-7,
    participation=0.12,
    sectors=truth.sectors,
    sector_cap=0.10 * inventory.abs().groupby(truth.sectors.reindex(names)).sum(),
    cash_band=0.8 * abs(inventory.sum()),
)

# %%
schedule = problem.solve()
print(schedule.summary())

# %% [markdown]
# The same cost function for every schedule, and where a baseline breaks a limit.

# %%
table = compare(problem, {"crosswind": schedule})
print(table.drop(columns="terminal").round(2).to_string())

# %% [markdown]
# What the limits cost, the blotter in shares, and the frontier.

# %%
print(schedule.price_of_limits().round(3).to_string())
print(schedule.shares(inputs.mid[list(names)], lot=100).head(3).to_string())
print(frontier(problem, np.geomspace(1e-9, 1e-6, 5)).round(3).to_string())

# %%
figure = schedule.plot()  # figure.show() opens it in a browser
