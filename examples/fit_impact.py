# %% [markdown]
# # Fit cross-impact and hold it against the baselines
# Three sessions are simulated with a known kernel: two to fit, one to judge. Impact is return per unit of currency.

# %%
import numpy as np

import crosswind as cw
from crosswind.problems.impact import DiagonalNNLS, FullOLS, KyleImpact, OwnFlowOLS, SequentialHeuristic

market = cw.read("sim:names=6,sectors=2,days=3,bucket_s=30,seed=11")
events = market.events
train, test = events.on(events.days[:-1]), events.on(events.days[-1])
print(market.summary())

# %% [markdown]
# All constraints at once; the ridge is chosen on blocks of time.

# %%
half_lives = (30.0, 600.0)
joint = cw.CrossImpact(half_lives_s=half_lives, sectors=market.truth.sectors).fit(train)
print(joint.summary())
print("\nheld-out R² by ridge\n", joint.cv_.mean(axis=1).round(4).to_string())

# %% [markdown]
# R² is against "no impact"; `admissible` says that no round trip pays; `excess_cost` is what schedules optimised on the
# estimate cost under the truth, over the optimum.

# %%
models = {
    "joint": joint,
    "diagonal": DiagonalNNLS(half_lives_s=half_lives),
    "own flow": OwnFlowOLS(half_lives_s=half_lives),
    "full OLS": FullOLS(half_lives_s=half_lives),
    "heuristic": SequentialHeuristic(half_lives_s=half_lives),
    "Kyle": KyleImpact(half_lives_s=half_lives),
}
table = cw.compare_models(models, train, test, truth=market.truth)
shown = ["mean", "admissible", "violation", "kernel_error", "excess_cost", "promised_over_realised"]
print(table[shown].round(3).to_string())

# %% [markdown]
# The same models over five minutes, and the worst round trip that least squares believes in.

# %%
for label, model in models.items():
    print(f"{label:<10} {model.score_by_name(test, horizon_s=300.0).mean():.3f}")
print("joint:   ", joint.model_.admissible().summary())
print("full OLS:", models["full OLS"].model_.admissible().summary())

# %% [markdown]
# What the desk keeps: one file, and the diagonal as its fallback.

# %%
joint.model_.save("model.npz")
again = cw.ImpactModel.load("model.npz")
assert np.array_equal(again.matrices, joint.model_.matrices)
print(again.diagonal().summary())

# %%
figure = joint.model_.plot(market.truth.sectors)  # figure.show() opens it in a browser
