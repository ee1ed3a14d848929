# %% [markdown]
# # Judge hedge policies in a declared world
# A world is a named, versioned market with everything a desk meets in it: lumpy fills, revisions, cancellations, a
# venue that is late and sometimes refuses. Its truth is attached. A positive cost is money lost.

# %%
import numpy as np
import pandas as pd

from crosswind.problems.hedge import AdaptiveTrigger, FractionHedge, ImmediateHedge, replay_hedge
from crosswind.problems.hedge.worlds import episodes
from crosswind.problems.market.simulator.worlds_table import world

print(world("stress").summary())
drawn = episodes("stress", 8, seed=1)

# %% [markdown]
# An episode is one parent order, its market, its venue, and the truth.

# %%
first = drawn[0]
print(first.name, first.kind, f"{first.market.slices} slices", f"{len(first.parent.revisions)} revisions")
print("half-lives of impact [s]:", (np.log(2.0) / first.truth.rates_per_s).round(0).tolist())
run = replay_hedge(first.parent, ImmediateHedge(), first.market, first.beliefs, first.venue)
print(run.summary())
hedge_orders = run.result.orders_frame().query("policy == 'hedge'")
print(hedge_orders.groupby(["state", "attempts"]).size().to_string())

# %% [markdown]
# Three simple rules at half, one and two times the impact, and without any: what a rule gains only where impact is
# assumed is an assumption. Eight parents show how it is done; they decide nothing.

# %%
rules = {
    "immediate": ImmediateHedge(),
    "a third of the gap": FractionHedge(1 / 3),
    "trigger 0.3 bp": AdaptiveTrigger(0.3),
}
table = {}
for impact in (0.5, 1.0, 2.0):
    for label, rule in rules.items():
        costs = []
        for e in episodes("stress", 8, seed=1, impact=impact):
            done = replay_hedge(e.parent, rule, e.market, e.beliefs, e.venue)
            costs.append(1e4 * done.hedge_cost / done.notional)
        table[f"impact ×{impact:g}", label] = costs
for label, rule in rules.items():
    runs = [replay_hedge(e.parent, rule, e.market, e.beliefs, e.venue.without_impact()) for e in drawn]
    table["no impact of ours", label] = [1e4 * done.hedge_cost / done.notional for done in runs]
frame = pd.DataFrame(table).agg(["mean", "median", "max"]).T
print(frame.rename_axis(["world", "rule"]).round(2).to_string())  # hedge cost in bps of the parent
