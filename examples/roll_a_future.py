# %% [markdown]
# # Roll a future
# Five thousand spreads are to be rolled in two hours of a simulated roll day: what a plan says beforehand, what
# policies pay on the same day and luck, what the desk sees half way. Costs are currency per spread; positive is lost.

# %%
import crosswind as cw
from crosswind.problems.roll.contracts import days_to_expiry, roll_contract, simulated_roll_day
from crosswind.problems.roll.metrics import RollVolumeBaseline
from crosswind.problems.roll.policy import TailAwareRoll
from crosswind.problems.roll.program import RollSettings, RollStatistics, ScheduledRoll
from crosswind.problems.roll.regimes import RegimeWatch
from crosswind.problems.roll.replay import AdaptiveTwap, RollReplayConfig, TwapSpread
from crosswind.problems.roll.replay.views import see
from crosswind.problems.roll.report import RollReportConfig, past_roll_metrics

terms = roll_contract("ES", "2024-03-12")
day = simulated_roll_day(terms, "2024-03-12", "10:00", "12:00", 5000, seed=8, stress="thin", max_naked=100)
numbers = RollStatistics.from_parameters(terms.parameters, days_to_expiry(terms, day.market))

# %% [markdown]
# The plan at the start, and what a heavier weight on the tail would cost in the mean.

# %%
settings = RollSettings(tail_weight=0.5, participation=0.5)
known = see(day.market, day.first + 1)
problem = cw.RollProblem.at(day.order, known, statistics=numbers, settings=settings, scenarios=100, slices=12)
plan = problem.solve()
print(plan.summary())
print(problem.frontier([0.0, 0.5, 2.0, 8.0])[["mean", "q95", "cvar95", "cross"]].round(3))

# %% [markdown]
# The same order and luck under four policies; a watch tells them the regime.

# %%
past = cw.roll_episodes(4, seed=77, orders_per_day=1)
watch = RegimeWatch(baseline=RollVolumeBaseline.fit([e.market for e in past]))
config = RollReplayConfig(watch=watch)
policies = [TwapSpread(), AdaptiveTwap(), TailAwareRoll(statistics=numbers), ScheduledRoll(numbers, settings)]
compared = cw.compare_rolls([day], policies, config, keep=True)
columns = ["mean", "spread_fees", "impact", "basis_drift", "timing", "completion", "forced_share"]
print(compared.table()[columns].round(3).to_string())

# %% [markdown]
# Half way: regime, metrics against past rolls, what is left at this pace, and what crossing it by force would cost.

# %%
replay = compared.replays[day.name, "tail-aware"]
held = RollReportConfig(statistics=numbers, settings=settings)
half = day.first + day.bars // 2
report = cw.roll_report(replay, day, half, past=past_roll_metrics(past, baseline=watch.baseline), config=held)
print(report.summary())
report.to_html("roll.html")  # one page that needs nothing else
