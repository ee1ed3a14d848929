# %% [markdown]
# # Time a futures hedge
# Four sessions of ninety minutes; in each, two parents trade in blocks. Policies are tuned on three sessions and judged
# on the fourth, over identical cash fills. A positive cost is money lost; bps are of the parent's notional.

# %%
import numpy as np
import pandas as pd

import crosswind as cw
from crosswind.problems.hedge import AdaptiveTrigger, HedgeBeliefs, ImmediateHedge, MPCHedge, NoHedge, tune_policy
from crosswind.problems.impact import truth_model
from crosswind.problems.replay import SimulatedVenue
from crosswind.problems.workflow.forecasts import index_level
from crosswind.problems.workflow.futures_leg import INDEX, FuturesLeg, impact_with_future, replay_market

market = cw.read("sim:names=3,days=4,bucket_s=60,seed=5,close_local=11:00")
events, truth, names = market.events, market.truth, market.events.names
quotes, shares = market.futures["SIM"], pd.Series(truth.parameters["index_shares"], index=list(names))
rng = np.random.default_rng(0)

# %% [markdown]
# One market per session on the future's clock, and two parents in it, one on each side.

# %%
parents, grids = [], {}
for day in events.days:
    session = events.on(day)
    leg = FuturesLeg.of_session(quotes, quotes.front(events.days[0]), session)
    grid = replay_market(session, index_level(session, None, shares), leg, names)
    for side in (1.0, -1.0):
        plan = np.zeros((grid.slices, len(names)))
        plan[rng.choice(grid.slices, 10, replace=False)] = side * 5e5 * rng.dirichlet(np.ones(len(names)), 10)
        table = pd.DataFrame(plan, index=grid.times[:-1], columns=list(names))
        parents.append(cw.HedgeParent(f"{day} {side:+.0f}", table, truth.betas, leg.name, INDEX, unit="notional"))
        grids[parents[-1].name] = grid

# %% [markdown]
# What the policies believe, and what the venue does: here both know the true impact, in which the future has a part.

# %%
modes = impact_with_future(truth_model(truth, 60.0), names, shares / shares.sum(), depth_ratio=0.25)
moves = index_level(events, None, shares).groupby(events.session).pct_change()
beliefs = HedgeBeliefs(float(moves.var() / 60.0), modes, (*names, leg.name))
venue = SimulatedVenue(latency_s={leg.name: 1.0}, modes=modes, mode_instruments=(*names, leg.name))
train, test = parents[:-2], parents[-2:]
adaptive = tune_policy(AdaptiveTrigger, {"threshold_bps": (0.1, 0.3, 1.0)}, train, grids, beliefs, venue)
mpc = tune_policy(MPCHedge, {"risk_aversion": (1e-5, 1e-4), "horizon": (15,)}, train, grids, beliefs, venue)
print(adaptive.summary(), mpc.summary(), sep="\n")

# %% [markdown]
# The comparison, and the same without any impact: a gain that is only in the first is an assumption.

# %%
policies = {"P0": NoHedge(), "P1": ImmediateHedge(), "P3": adaptive.policy, "P4": mpc.policy}
outcome = cw.compare_policies(test, policies, grids, beliefs, venue)
print(outcome.summary())
run = outcome.replays[test[0].name, "P4"]
print(run.summary(), run.to_frame().iloc[::15].round(0).to_string(), sep="\n")

# %%
figure = run.plot()  # figure.show() opens the waterfall in a browser
