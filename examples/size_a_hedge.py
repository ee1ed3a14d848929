# %% [markdown]
# # Size a hedge
# A book of two coins is hedged with perpetuals: how many contracts, what a fall does to each line, what it earns,
# how far a liquidation is, and when to size again. Positions are signed (a short is negative); positive is gained.

# %%
import numpy as np
import pandas as pd

from crosswind.problems.hedge.sizing import (
    SpotBook,
    defensive,
    estimate_betas,
    fit_basis,
    gap_drift,
    listed,
    neutral_carry,
    resize_band,
)

rng = np.random.default_rng(0)
days = pd.date_range("2024-01-01", periods=365, freq="D", tz="UTC")
coin = pd.Series(rng.normal(0.0, 0.03, 365), index=days)
other = (1.2 * coin + rng.normal(0.0, 0.025, 365)).rename("SOL")

# %% [markdown]
# The second coin has no contract here: its beta to the first is estimated, with its error.

# %%
fit = estimate_betas(other.to_frame(), coin)
print(fit.summary())
book = SpotBook({"BTC": 5.0, "SOL": 800.0}, {"BTC": 65_000.0, "SOL": 150.0})
betas = {"BTC": 1.0, "SOL": float(fit.beta["SOL"])}
residual = {"BTC": 0.0, "SOL": float(fit.residual_vol["SOL"])}

# %% [markdown]
# A basis that reverts gives the risk of the contract against its index.

# %%
noise = rng.normal(0.0, 2e-4, 365 * 8)
path = pd.Series(noise, index=pd.date_range("2024-01-01", periods=365 * 8, freq="3h", tz="UTC")).ewm(alpha=0.3).mean()
basis = fit_basis(path)
print(basis.summary())
perpetual = listed(
    "binance:BTCUSDT", 65_000.0, basis_vol=basis.change_vol, half_spread=5e-5, fee=4e-4, initial=0.1, maintenance=0.05
)
options = {"betas": betas, "covariance": float(coin.var()), "residual_vol": residual}
size = defensive(book, perpetual, 0.8, **options)
print(size.summary(), size.what_if(-0.10, basis_move=-0.002).round(0), sep="\n")

# %% [markdown]
# A neutral book earns the funding, and its short needs collateral.

# %%
neutral = neutral_carry(book, perpetual, **options)
print(neutral.carry("2024-06-01T00:00Z", "2024-07-01T00:00Z", {"BTCUSDT": 1e-4}).summary())
print(neutral.margin({"BTCUSDT": 150_000.0}).summary())

# %%
held = -float(neutral.exposures()["hedge"].iloc[0])
drift = gap_drift(book, betas, held, float(coin.std()), residual, beta_drift=0.01)
print(resize_band(drift, 4.5e-4, 1e-6, float(coin.var()), step=0.001 * 65_000.0).summary())
figure = size.plot()  # figure.show() opens it in a browser
