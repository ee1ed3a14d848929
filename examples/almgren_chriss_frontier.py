# %% [markdown]
# # The frontier of Almgren and Chriss (2000)
# The example of the paper, sold over five days: one million shares, volatility 0.95 a day, half-spread 0.0625,
# permanent impact 2.5e-7, temporary impact 2.5e-6, all in dollars per share. It goes through the basket program, whose
# unit is then the share: permanent impact is a mode that does not decay, and half of a trade's own part of it is paid
# at once, so that the temporary coefficient is the paper's η̃ = η − γτ/2. A positive cost is money lost.

# %%
import numpy as np
import pandas as pd

import crosswind as cw
from crosswind.problems.basket import almgren_chriss
from crosswind.problems.basket.analysis import efficient_frontier

X, DAYS, DAY = 1e6, 5, 86_400.0
SIGMA, EPSILON, GAMMA, ETA = 0.95, 0.0625, 2.5e-7, 2.5e-6
problem = cw.BasketProblem(
    inventory=pd.Series({"XYZ": -X}),
    model=cw.ImpactModel(("XYZ",), [0.0], [[[GAMMA]]], "instantaneous"),
    times=pd.date_range("2024-03-04", periods=DAYS, freq="D", tz="UTC"),
    slice_s=DAY,
    covariance=pd.DataFrame([[SIGMA**2 / DAY]], ["XYZ"], ["XYZ"]),
    spread=EPSILON,
    temporary=ETA - GAMMA / 2.0,
    participation=None,
)

# %% [markdown]
# The points that the paper prints, solved as a program, against the closed form x_j = X sinh κ(T − t_j)/sinh κT.

# %%
rows = {}
for aversion in (0.0, 1e-6, 2e-6):
    solved = problem.replace(risk_aversion=aversion).solve(tol=1e-10)
    left = -solved.inventory["XYZ"].to_numpy()
    closed = X + almgren_chriss(solved.problem)["XYZ"].cumsum().to_numpy()
    rows[aversion] = {
        **{f"x{j}": left[j] for j in range(1, DAYS)},
        "expected cost": solved.costs["total"] - solved.costs["risk"],
        "deviation": SIGMA * np.sqrt((left[1:] ** 2).sum()),
        "off closed form": np.abs(left[1:] - closed).max(),
    }
table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("λ")
print(table.round(3).to_string())

# %% [markdown]
# The whole frontier; its grid of λ is found. Risk-seeking desks (λ < 0) have a closed form and no convex program.

# %%
curve = efficient_frontier(problem, points=30)
print(curve.summary())
seeking = cw.almgren_chriss(X, DAYS, DAYS, SIGMA, ETA, GAMMA, EPSILON, risk_aversion=-2e-7)
print(f"a desk that seeks risk, λ = -2e-7: expected cost {seeking.expected_cost:,.2f}, deviation {seeking.sd:,.2f}")

# %%
figure = curve.plot()  # figure.show() opens it in a browser
