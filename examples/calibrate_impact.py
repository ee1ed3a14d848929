# %% [markdown]
# # From order flow to a model that trades
# Which impact model do the data support, be it the diagonal? Check the data at the door, calibrate every candidate out
# of sample, let a declared rule choose, look at what was chosen, and keep it in a versioned store.

# %%
import tempfile
from pathlib import Path

import pandas as pd

import crosswind as cw
from crosswind.problems.impact import ModelStore, check_events
from crosswind.problems.impact.diagnose import diagnose

market = cw.read("sim:names=4,sectors=2,days=3,seed=5,bucket_s=60")
events = market.events
train, test = events.on(events.days[:-1]), events.on(events.days[-1:])

# %% [markdown]
# ## At the door
# Dead names, copies, holes, wild values and shifted clocks each look like something else in a fitted matrix.

# %%
print(check_events(train, clocks="report").summary())

# %% [markdown]
# ## Calibrate and promote
# Purged blocks in time, paired intervals from resampled blocks, schedules paid for under data they have not seen. The
# simplest model within one standard error of the best is promoted, with a reason for every other one.

# %%
calibration = cw.calibrate(train, folds=3, draws=5, sectors=market.truth.sectors)
print(calibration.to_frame().drop(columns="error").round(3).to_string())
decision = cw.promote(calibration)
print(decision.summary())

# %% [markdown]
# The last day was kept out of all of it.

# %%
chosen = calibration.fitted[decision.choice]
print(f"R² on {test.days[0]}: {chosen.score(test):.3f}")

# %% [markdown]
# ## Look at it
# What binds at which price, what stands above the noise, whether a round trip pays. Each figure is a plotly figure.

# %%
found = diagnose(chosen, sectors=market.truth.sectors)
print(found.summary())
figures = found.figures()
print(", ".join(figures))

# %% [markdown]
# ## Keep it
# One version per promotion, with lineage, age and a way back.

# %%
with tempfile.TemporaryDirectory() as folder:
    calibration.to_html(Path(folder) / "calibration.html", decision)  # one page, no request to anywhere
    # The market is simulated, and so is the clock by which a model has an age.
    store = ModelStore(Path(folder) / "models", clock=lambda: train.index[-1] + pd.Timedelta("1h"))
    store.put(chosen, "equity", "calm", train, seed=0)
    store.promote("equity", "calm", 1, reason=decision.summary().splitlines()[0])
    live = store.latest("equity", "calm", max_age="1D")
    print(live.summary())
