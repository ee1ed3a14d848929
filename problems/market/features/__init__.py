"""Features of books, trades and days: what a fit or a policy may know."""

from __future__ import annotations

from crosswind.problems.market.features.after_trades import Markouts, fill_markouts, markouts, trade_markouts
from crosswind.problems.market.features.forecast_errors import ProfileErrors, profile_errors
from crosswind.problems.market.features.microprice import MicroPrice
from crosswind.problems.market.features.ofi import (
    IntegratedOFI,
    OrderFlowImbalance,
    book_ofi,
    bucket_ofi,
    event_ofi,
    order_flow_imbalance,
)
from crosswind.problems.market.features.profiles import IntradayProfile, ProfileForecast
from crosswind.problems.market.features.queue import QueueFeatures, fill_time_s, queue_features
from crosswind.problems.market.features.quotes import (
    QuoteFeatures,
    bucket_quotes,
    quote_features,
    quotes_at,
    time_weighted_quotes,
)
from crosswind.problems.market.features.statistics import (
    autocorrelation,
    epps_curve,
    hill_index,
    kurtosis,
    loglog_slope,
    response_function,
)
from crosswind.problems.market.features.stylised import StylisedFacts, compare_facts, stylised_facts
from crosswind.problems.market.features.volatility import (
    DailyVolatility,
    bipower_variance,
    daily_volatility,
    ewma_volatility,
    noise_variance,
    realised_kernel,
    realised_variance,
    rolling_volatility,
    subsampled_variance,
    two_scale_variance,
)

__all__ = [
    "DailyVolatility",
    "IntegratedOFI",
    "IntradayProfile",
    "Markouts",
    "MicroPrice",
    "OrderFlowImbalance",
    "ProfileErrors",
    "ProfileForecast",
    "QueueFeatures",
    "QuoteFeatures",
    "StylisedFacts",
    "autocorrelation",
    "bipower_variance",
    "book_ofi",
    "bucket_ofi",
    "bucket_quotes",
    "compare_facts",
    "daily_volatility",
    "epps_curve",
    "event_ofi",
    "ewma_volatility",
    "fill_markouts",
    "fill_time_s",
    "hill_index",
    "kurtosis",
    "loglog_slope",
    "markouts",
    "noise_variance",
    "order_flow_imbalance",
    "profile_errors",
    "queue_features",
    "quote_features",
    "quotes_at",
    "realised_kernel",
    "realised_variance",
    "response_function",
    "rolling_volatility",
    "stylised_facts",
    "subsampled_variance",
    "time_weighted_quotes",
    "trade_markouts",
    "two_scale_variance",
]
