# %% [markdown]
# # Rebalancing 500 names from a DataFrame
# One row per name: what to trade, what the day brings, what it costs. The frame and its models are simulated in the
# first cell; the rebalance is the second one. A positive cost is money lost; costs are in bps of the parent notional.

# %%
import numpy as np
import pandas as pd

import crosswind as cw
from crosswind.problems.basket import FactorCovariance, FactorImpact, session_slices

rng = np.random.default_rng(7)
names = [f"S{i:03d}" for i in range(500)]
book = pd.DataFrame(index=names)
book["sector"] = rng.choice(["energy", "industry", "retail", "health", "banks", "tech"], len(names))
book["day_volume"] = np.exp(rng.normal(np.log(2e8), 1.0, len(names)))
book["day_sd"] = rng.uniform(0.01, 0.025, len(names))
book["half_spread"] = rng.uniform(1e-4, 4e-4, len(names))
book["order"] = rng.choice([-1.0, 1.0], len(names)) * rng.uniform(0.002, 0.04, len(names)) * book["day_volume"]
betas = pd.DataFrame(rng.normal(0.0, 0.3, (len(names), 5)), index=names).assign(market=0.6)

# A trade of 1 % of the day's volume moves its own price by a tenth of the day's volatility at once, others by factors.
own = (10.0 * book["day_sd"] / book["day_volume"]).to_numpy()
shared = 0.5 * betas.to_numpy() * np.sqrt(own)[:, None]
part = np.array([0.6, 0.4])  # of the impact that decays within minutes, and within the hour
rates = np.log(2.0) / np.array([120.0, 1800.0])
impact = FactorImpact(names, rates, np.outer(part, own), [np.sqrt(p) * shared for p in part])
per_second = pd.DataFrame(np.eye(6) / 23_400.0, betas.columns, betas.columns)
risk = FactorCovariance(betas.mul(book["day_sd"], axis=0), per_second, 0.5 * book["day_sd"] ** 2 / 23_400.0)

# %% [markdown]
# The rebalance: a session in quarters of an hour, volume in a U over the day, no more than 15 % of it, sector gross per
# slice no more than twice an even pace, net cash within 5 % of the gross.

# %%
times = session_slices("2024-03-04", "09:30", "16:00", 900.0, "America/New_York")
smile = 0.6 + 1.6 * np.linspace(-1.0, 1.0, len(times)) ** 2
schedule = cw.BasketProblem(
    inventory=book["order"],
    model=impact,
    times=times,
    slice_s=900.0,
    volume=pd.DataFrame(np.outer(smile / smile.sum(), book["day_volume"]), index=times, columns=names),
    covariance=risk,
    spread=book["half_spread"],
    risk_aversion=1e-7,
    participation=0.15,
    sectors=book["sector"],
    sector_cap=2.0 * book["order"].abs().groupby(book["sector"]).sum() / len(times),
    cash_band=0.05 * book["order"].abs().sum(),
).solve(tol=1e-6)
print(schedule.summary())

# %% [markdown]
# What goes to the blotter, and where the money goes.

# %%
blotter = schedule.shares(prices=pd.Series(rng.uniform(10.0, 300.0, len(names)), names), lot=1)
print("shares to trade, buy positive: the first slices and names")
print(blotter.iloc[:3, :6].to_string())
print("the limits that cost most [bps saved per unit of bound]")
print(schedule.prices_bps.sort_values("largest_bps", ascending=False).head(5).to_string())
