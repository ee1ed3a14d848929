# %% [markdown]
# # The main job
# From order flow to a cost report in one call, on a small simulated market: two sessions of two hours, four names. The
# first session fits the impact and tunes the hedge policies, the second judges. A positive cost is money lost.
# So few parents show what the report holds, not which policy is better.

# %%
import crosswind as cw

market = cw.read("sim:names=4,days=2,bucket_s=60,seed=1,close_local=11:30")
result = cw.run(market, out="crosswind-out/example")
print(result.summary())

# %% [markdown]
# Every promise of the run as a figure against its limit; a failed one fails the run.

# %%
print(result.checks_frame().to_string())
assert result.passed

# %% [markdown]
# Each stage's result is an object of its own room.

# %%
print(result.model.summary())
print(result.schedule.trades.head(3).round(0).to_string())
print(result.schedules[["expected", "risk", "total"]].round(3).to_string())
print(result.hedge.comparison.table().round(3).iloc[:, :4].to_string())

# %% [markdown]
# The same data, settings and seed give the same figures: the configuration's hash names them. The folder holds
# `summary.json`, `tables/*.parquet` and `report.html`, written whole or not at all.

# %%
print(result.configuration, sorted(path.name for path in result.out.iterdir()))
