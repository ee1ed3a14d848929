"""Do simulated days look like recorded ones? Their stylised facts side by side.

python benchmarks/stylised_facts.py            # prints the page
python benchmarks/stylised_facts.py --write    # also writes docs/stylised-facts.md and docs/img/stylised-facts-*.png

Every figure in that page comes from this script.
"""

from __future__ import annotations

import argparse
import os
import platform
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market import MarketEvents, read, simulate
from crosswind.problems.market.features import (
    IntegratedOFI,
    IntradayProfile,
    StylisedFacts,
    book_ofi,
    bucket_ofi,
    order_flow_imbalance,
    profile_errors,
    quotes_at,
    stylised_facts,
    trade_markouts,
)
from crosswind.problems.market.features.plots import plot_facts
from crosswind.problems.market.readers.binance_raw import binance_raw_sources
from crosswind.problems.market.readers.lean import lean_sources
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import DepthTape, QuoteTape, TickSource, TradeTape

ROOT = Path(__file__).resolve().parents[1]
NAMES, DAYS = ("SPY", "IBM", "BAC", "AIG"), ("2013-10-07", "2013-10-08", "2013-10-09")
WORLDS = ("default", "calm", "stress", "misspecified")
FIRST_SEED = 300
TICK = 0.01  # of the recorded and of the simulated shares

# fact → what it is, and which parameters of the simulator move it
FACTS: dict[str, tuple[str, str]] = {
    "volatility_pct": ("volatility of a session [%]", "market, sector and idio_vol_daily"),
    "hill": ("tail exponent of bucket returns (Hill, largest 5 %)", "tail_dof, vol_regime_sd"),
    "kurtosis": ("kurtosis of bucket returns", "tail_dof, vol_regime_sd"),
    "return_acf_1": ("autocorrelation of returns, lag one bucket", "kernel_half_lives_s, flow_weights, round_mid"),
    "abs_acf_60s": ("clustering: autocorrelation of \\|r\\| at 60 s, U-shape taken out", "vol_regime_sd"),
    "abs_acf_600s": ("the same at 600 s", "vol_regime_sd, regime_half_life_s"),
    "flow_acf_1": ("autocorrelation of flow, lag one bucket", "flow_weights, flow_half_lives_s"),
    "sign_acf_1": ("autocorrelation of the flow's sign, lag one bucket", "flow_weights, flow_half_lives_s"),
    "sign_acf_60s": ("the same at 60 s", "flow_weights of the slower modes"),
    "sign_slope": ("its log–log slope up to 30 minutes", "flow_weights, flow_half_lives_s"),
    "sign_zero": ("share of buckets without net flow", "none: every simulated bucket trades"),
    "impact_corr": ("correlation of bucket flow and return", "impact_r2"),
    "response_1_sd": (
        "response to the flow's sign after a bucket [sd of its return]",
        "impact_r2; volume_noise_sd (impact is linear in notional, which varies more than the response does)",
    ),
    "response_60s_ratio": ("response after 60 s over that", "kernel_half_lives_s, kernel_weights"),
    "response_300s_ratio": ("response after 300 s over it", "kernel_half_lives_s, kernel_weights"),
    "correlation": (
        "mean correlation between names at the longest horizon",
        "market and sector against idio_vol_daily",
    ),
    "epps_ratio": ("Epps: that at the shortest horizon over it", "none: simulated names tick together"),
    "spread_bps": ("mean spread [bps]", "spread_bps"),
    "spread_one_tick": ("share of buckets with a spread of one tick", "price, tick, spread_bps"),
    "spread_cv": ("spread, sd over mean", "spread_vol_power, tick"),
    "spread_vol_corr": ("rank correlation of spread and \\|r\\|, 5 minutes", "spread_vol_power, tick"),
    "depth_cv": ("depth, sd over mean", "depth_noise_sd, depth_vol_power"),
    "depth_vol_corr": ("rank correlation of depth and \\|r\\|, 5 minutes", "depth_vol_power, depth_noise_sd"),
    "volume_cv": ("bucket volume, sd over mean, U-shape taken out", "volume_noise_sd"),
    "volume_acf_60s": ("its autocorrelation at 60 s", "volume_regime_sd; its own noise is white"),
    "depth_acf_60s": ("autocorrelation of depth at 60 s", "depth_vol_power; its own noise is white"),
    "volume_vol_corr": ("correlation of log volume and log \\|r\\|, 5 minutes", "volume_regime_sd, vol_regime_sd"),
    "open_volume": ("volume, first of 13 slices over the middle three", "volume_u_shape"),
    "close_volume": ("volume, last slice over the middle three", "volume_u_shape"),
    "open_vol": ("\\|r\\|, first slice over the middle three", "vol_u_shape"),
    "close_vol": ("\\|r\\|, last slice over the middle three", "vol_u_shape"),
}


# What one change of the calm world would do, on the same seeds: label, overrides, facts to look at.
CHANGES: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    (
        "spread_vol_power 0.02, depth_vol_power 0.03",
        {"spread_vol_power": 0.02, "depth_vol_power": 0.03},
        ("spread_vol_corr", "depth_vol_corr", "spread_cv", "depth_cv"),
    ),
    (
        "kernel_half_lives_s (60, inf), kernel_weights (0.5, 0.5)",
        {"kernel_half_lives_s": (60.0, float("inf")), "kernel_weights": (0.5, 0.5)},
        ("response_60s_ratio", "response_300s_ratio", "volatility_pct"),
    ),
    ("vol_u_shape 0.15", {"vol_u_shape": 0.15}, ("open_vol", "close_vol")),
    ("volume_noise_sd 0.8", {"volume_noise_sd": 0.8}, ("response_1_sd", "kurtosis", "volume_cv", "volume_vol_corr")),
    ("vol_regime_sd 0.35", {"vol_regime_sd": 0.35}, ("hill", "kurtosis", "abs_acf_60s", "volume_vol_corr")),
)


def data_dir() -> Path:
    """Return the folder of recorded data, which may be absent."""
    return Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data"))


def recorded(bucket_s: float) -> MarketEvents:
    """Return the recorded equities."""
    return read(f"lean:{data_dir() / 'lean'}", names=list(NAMES), days=list(DAYS), bucket_s=bucket_s).events


def simulated(world: str, seed: int, bucket_s: float, days: int = 3, **changes: Any) -> MarketEvents:
    """Return a simulated market; 'default' is the simulator without a world."""
    options = changes if world == "default" else {"world": world} | changes
    return simulate(names=8, sectors=2, days=days, seed=seed, bucket_s=bucket_s, **options).events


def cells(events: MarketEvents, **options: float) -> pd.DataFrame:
    """Return the facts of each name on each day apart, so that samples of one length are compared."""
    parts = {day: stylised_facts(events.on(day), **options).to_frame() for day in events.days}
    return pd.concat(parts, names=["day", "name"])


def study(
    bucket_s: float, seeds: int, worlds: Iterable[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, StylisedFacts]]:
    """Return per market the table of cells, and the facts pooled over three days (for the curves)."""
    real = recorded(bucket_s)
    table, pooled = {"recorded": cells(real, tick=TICK)}, {"recorded": stylised_facts(real, tick=TICK)}
    for world in worlds:
        drawn = [simulated(world, seed, bucket_s) for seed in range(FIRST_SEED, FIRST_SEED + seeds)]
        table[world] = pd.concat([cells(events, tick=TICK) for events in drawn])
        pooled[world] = stylised_facts(drawn[0], tick=TICK)
    return table, pooled


def _number(value: float) -> str:
    return "–" if not np.isfinite(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _range(values: pd.Series) -> str:
    return f"{_number(values.median())} ({_number(values.min())} … {_number(values.max())})"


def facts_table(table: dict[str, pd.DataFrame]) -> str:
    """Return the Markdown table: recorded median and range of its cells, simulated medians, and a mark if outside."""
    worlds = [w for w in table if w != "recorded"]
    lines = [
        f"| fact | recorded: median (range) | {' | '.join(worlds)} |",
        "|---|---|" + "---|" * len(worlds),
    ]
    for fact, (text, _) in FACTS.items():
        real = table["recorded"][fact]
        row = []
        for world in worlds:
            median = table[world][fact].median()
            outside = median < real.min() or median > real.max()
            row.append(f"**{_number(median)}**" if outside else _number(median))
        lines.append(f"| {text} | {_range(real)} | {' | '.join(row)} |")
    return "\n".join(lines)


def differences(table: dict[str, pd.DataFrame], world: str) -> list[str]:
    """Return a line for each fact whose simulated median lies outside the range of the recorded cells."""
    lines = []
    for fact, (text, parameters) in FACTS.items():
        real, median = table["recorded"][fact], table[world][fact].median()
        if median < real.min() or median > real.max():
            side = "below" if median < real.min() else "above"
            lines.append(
                f"- {text}: {_number(median)}, {side} every recorded name and day ({_number(real.min())} … "
                f"{_number(real.max())}). Moved by: {parameters}."
            )
    return lines or ["- none."]


def changes_table(table: dict[str, pd.DataFrame], seeds: int) -> list[str]:
    """Return what single changes of the calm world do to the facts that they are to move."""
    lines = ["| change | fact | recorded | calm | changed |", "|---|---|---|---|---|"]
    for label, changes, facts in CHANGES:
        drawn = [simulated("calm", seed, 10.0, **changes) for seed in range(FIRST_SEED, FIRST_SEED + seeds)]
        changed = pd.concat([cells(events, tick=TICK) for events in drawn])
        for fact in facts:
            real, calm = _range(table["recorded"][fact]), _number(table["calm"][fact].median())
            lines.append(f"| {label} | {FACTS[fact][0]} | {real} | {calm} | {_number(changed[fact].median())} |")
    return lines


def by_bucket_length() -> list[str]:
    """Return the volatility of a session of the recorded days and of the calm world by bucket length."""
    lines = ["| buckets of | recorded | calm |", "|---|---|---|"]
    for bucket_s in (1.0, 5.0, 10.0, 30.0, 60.0):
        found = (
            cells(e)["volatility_pct"].median() for e in (recorded(bucket_s), simulated("calm", FIRST_SEED, bucket_s))
        )
        lines.append(f"| {bucket_s:g} s | {' | '.join(_number(v) for v in found)} |")
    return lines


def curve_table(pooled: dict[str, StylisedFacts], pick: Callable[[StylisedFacts], pd.Series], unit: str) -> str:
    """Return one curve of every market side by side, medians over the names."""
    frame = pd.DataFrame({label: pick(one) for label, one in pooled.items()})
    lines = [f"| {unit} | {' | '.join(frame.columns)} |", "|---|" + "---|" * frame.shape[1]]
    lines += [
        f"| {at:g} | {' | '.join(_number(v) for v in row)} |"
        for at, row in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return "\n".join(lines)


def curves(pooled: dict[str, StylisedFacts]) -> list[str]:
    """Return tails, Epps curve and response as tables."""
    tails = {
        k: curve_table(pooled, lambda f, k=k: f.tails[k].groupby("horizon_s").median(), "horizon [s]")
        for k in ("hill", "kurtosis")
    }
    memory = [10.0, 60.0, 600.0, 1800.0]

    def remembered(what: str) -> Callable[[StylisedFacts], pd.Series]:
        def pick(facts: StylisedFacts) -> pd.Series:
            block = facts.memory.loc[what].median(axis=1)
            return pd.Series({lag: block.iloc[int(np.abs(block.index - lag).argmin())] for lag in memory})

        return pick

    return [
        "### Tails by horizon", "",
        "Tail exponent (Hill, largest 5 % of overlapping returns):", "", tails["hill"], "",
        "Kurtosis:", "", tails["kurtosis"], "",
        "### Volatility clustering", "",
        "Autocorrelation of |r| over the mean of its slice of the day:", "",
        curve_table(pooled, remembered("|return|"), "lag [s]"), "",
        "### Memory of the flow's sign", "", curve_table(pooled, remembered("sign"), "lag [s]"), "",
        "### Epps curve", "", "Median correlation of two names by horizon:", "",
        curve_table(pooled, lambda f: f.epps.median(axis=1), "horizon [s]"), "",
        "### Response to flow", "",
        "Mean move from before a bucket of signed flow, in standard deviations of one bucket's return:", "",
        curve_table(pooled, lambda f: (f.response / f.scalars["return_sd_bps"]).median(axis=1), "horizon [s]"), "",
        "### Spread and depth", "",
        "Quantiles of the spread in ticks:", "",
        curve_table(pooled, lambda f: f.quantiles.loc["spread_ticks"].median(axis=1), "quantile"), "",
        "and of depth over its mean:", "",
        curve_table(pooled, lambda f: f.quantiles.loc["depth"].median(axis=1), "quantile"), "",
    ]  # fmt: skip


def forecasts() -> list[str]:
    """Return the errors of profile forecasts on recorded and simulated days."""
    markets = {
        "recorded, 2 sessions forecast": recorded(60.0),
        "calm, 7 sessions forecast": simulated("calm", FIRST_SEED, 60.0, days=10),
    }
    lines = [
        "| market | what | horizon | revised in the day | profile | flat | yesterday | average of days |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for label, events in markets.items():
        for what in ("volume", "variance"):
            found = profile_errors(events, IntradayProfile(what), first_day=1 if len(events.days) < 5 else 3)
            for horizon in ("slice", "rest"):
                row = found.table.loc[(horizon, "all")]
                best = row.min()
                shown = [f"**{v:.0%}**" if v == best else f"{v:.0%}" for v in row]
                lines.append(f"| {label} | {what} | {horizon} | {' | '.join(shown)} |")
    return lines


def coins() -> list[str]:
    """Return the facts of the recorded eleven minutes of Binance as a table."""
    folder = data_dir() / "hftbacktest"
    facts = {}
    for part in ("spot", "cm", "usdm"):
        if (folder / part).is_dir():
            facts[part] = stylised_facts(read(f"binance-raw:{folder / part}", bucket_s=1.0).events)
    shown = [f for f in FACTS if not f.startswith(("open", "close", "volatility"))]
    lines = [f"| fact | {' | '.join(facts)} |", "|---|" + "---|" * len(facts)]
    for fact in shown:
        values = [one.scalars[fact].median() for one in facts.values()]
        if np.isfinite(values).any():
            lines.append(f"| {FACTS[fact][0]} | {' | '.join(_number(v) for v in values)} |")
    return lines


def tapes(source: TickSource) -> tuple[TradeTape, QuoteTape, DepthTape | None]:
    """Return a source's ticks as whole tapes; it must fit into memory."""
    chunks = list(source.chunks(ReadReport()))
    trades, quotes = chunks[0].trades, chunks[0].quotes
    for chunk in chunks[1:]:
        trades, quotes = trades.then(chunk.trades), quotes.then(chunk.quotes)
    books = [chunk.depth for chunk in chunks if chunk.depth is not None]
    if not books:
        return trades, quotes, None
    columns = ("known_ns", "bid", "bid_shares", "ask", "ask_shares")
    return trades, quotes, DepthTape(*(np.concatenate([getattr(b, c) for b in books]) for c in columns))


def _correlation(x: pd.Series, y: pd.Series) -> float:
    both = pd.DataFrame({"x": x, "y": y}).dropna()
    return float(both["x"].corr(both["y"]))


def ticks() -> tuple[list[str], list[str]]:
    """Return the tables of markouts and of order-flow imbalance on recorded ticks."""
    marks = ["| name | trades | 1 s | 5 s | 30 s | 300 s |", "|---|---|---|---|---|---|"]
    flows = [
        "| name | signed trades | best level | level 2 | level 5 | best, second half | integrated, second half |",
        "|---|---|---|---|---|---|---|",
    ]
    sources = list(lean_sources(data_dir() / "lean", NAMES[1:], DAYS))
    for part in ("spot", "cm"):
        if (data_dir() / "hftbacktest" / part).is_dir():
            sources += binance_raw_sources(data_dir() / "hftbacktest" / part, levels=5)
    for source in sources:
        trades, quotes, depth = tapes(source)
        sessions = None
        if source.tz != "UTC":
            day = pd.DatetimeIndex(quotes.known_ns, tz="UTC").tz_convert(source.tz).normalize().unique()
            sessions = [tuple((d + pd.Timedelta(f"{h}h")).as_unit("ns").value for h in (9.5, 16)) for d in day]
        found = trade_markouts(trades, quotes, sessions_ns=sessions).table.loc["price"].loc["all"]
        shown = [
            f"{r.weighted_bps:+.2f} ± {r.weighted_se_bps:.2f}" if r.blocks > 5 else "–" for r in found.itertuples()
        ]
        marks.append(f"| {source.name} | {int(found['trades'].iloc[0]):,} | {' | '.join(shown)} |")
        if depth is not None and len(depth.known_ns):
            flows.append(_imbalance_row(source.name, trades, quotes, depth))
    return marks, flows


def _imbalance_row(name: str, trades: TradeTape, quotes: QuoteTape, depth: DepthTape) -> str:
    edges = np.arange(quotes.known_ns[0] // 10**9 + 1, quotes.known_ns[-1] // 10**9, dtype=np.int64) * 10**9
    mid = np.log(quotes_at(quotes, edges).frame["mid"])
    move = mid.diff().iloc[1:]
    sign = np.zeros(len(trades.time_ns)) if trades.sign is None else trades.sign
    flow = pd.Series(bucket_ofi(trades.time_ns, sign * trades.shares, edges), index=move.index)
    best, levels = order_flow_imbalance(quotes, edges).scaled()["level_1"], book_ofi(depth, edges).scaled()
    half = len(levels) // 2
    whole = IntegratedOFI().fit(levels.iloc[:half]).transform(levels.iloc[half:])
    figures = [_correlation(x, move) for x in (flow, best, levels["level_2"], levels["level_5"])]
    figures += [_correlation(x, move.iloc[half:]) for x in (levels["level_1"].iloc[half:], whole)]
    return f"| {name} | {' | '.join(f'{v:.2f}' for v in figures)} |"


def page(seeds: int) -> tuple[str, dict[str, dict[str, StylisedFacts]]]:
    """Return the page and what its pictures show."""
    import scipy

    ten, pooled = study(10.0, seeds, WORLDS)
    one, pooled_one = study(1.0, 1, WORLDS[:3])
    coin_lines = coins()
    marks, flows = ticks()
    text = [
        "# Stylised facts: recorded and simulated days",
        "",
        "Printed by `benchmarks/stylised_facts.py --write`; nothing on this page is typed by hand.",
        "",
        f"Recorded: {', '.join(NAMES)} on {', '.join(DAYS)}, tick trades signed by Lee and Ready on 1 s quotes. "
        f"Simulated: 8 names, 3 days, seeds {FIRST_SEED} to {FIRST_SEED + seeds - 1}; `default` is `simulate()` "
        "without a world, the others are the worlds of that name. Each fact is computed per name and day. The recorded "
        "column gives the median and the range over its 12 names and days, the simulated ones the median over theirs, "
        "**bold where it lies outside the recorded range**. Four names and three quiet-to-lively days are few: inside "
        "the range is not proof, outside it is a difference. `stress` is meant to differ.",
        "",
        "[Features](features.md) says how each fact is computed: `stylised_facts(events)`.",
        "",
        "## Buckets of 10 s",
        "",
        facts_table(ten),
        "",
        "Within one day the slice means take the slow part of the clustering out; the curves below pool three days.",
        "",
        "### Where the calm world differs from the recorded days",
        "",
        *differences(ten, "calm"),
        "",
        "### Where the simulator without a world differs",
        "",
        *differences(ten, "default"),
        "",
        "### What single changes of the calm world would do",
        "",
        *changes_table(ten, seeds),
        "",
        "### One world at several bucket lengths",
        "",
        "Volatility of a session [%] from 5-minute returns. Impact is scaled to explain a share of one bucket's "
        "return, so a world drawn in shorter buckets gathers more of it over five minutes: draw a world at the bucket "
        "length that it was declared for.",
        "",
        *by_bucket_length(),
        "",
        "![Recorded and simulated facts, buckets of 10 s](img/stylised-facts-10s.png)",
        "",
        "Below: three days pooled, the first seed, medians over the names.",
        "",
        *curves(pooled),
        "## Buckets of 1 s",
        "",
        "The worlds are calibrated at 10 s; at 1 s they show what that leaves open. One seed.",
        "",
        facts_table(one),
        "",
        "### Where the calm world differs at 1 s",
        "",
        *differences(one, "calm"),
        "",
        "![Recorded and simulated facts, buckets of 1 s](img/stylised-facts-1s.png)",
        "",
        "### Epps curve from 1 s",
        "",
        curve_table(pooled_one, lambda f: f.epps.median(axis=1), "horizon [s]"),
        "",
        "## Eleven minutes of Binance",
        "",
        "BTC and ETH, spot, coin-margined and USDT-margined, 2024-08-08 23:54 to 08-09 00:05 UTC (USDT-margined to "
        "midnight), buckets of 1 s, aggressors as published. Too short for anything slower than a minute: the longest "
        "horizon is 30 s, and what is said of 5 minutes is a sixth of the session.",
        "",
        *coin_lines,
        "",
        "## Markouts of recorded trades",
        "",
        "Mid after the trade against its price, seen from the aggressor, weighted by notional [bps] ± standard error "
        "over blocks of a minute or the horizon. Below 0 the aggressor pays more than the move that follows. IBM, BAC, "
        "AIG against 1 s quotes, three days; horizons that leave the session are dropped, – where fewer than six "
        "blocks are left.",
        "",
        *marks,
        "",
        "## Order-flow imbalance of recorded books",
        "",
        "Correlation over 1 s with the move of the mid: of signed traded quantity, of the order-flow imbalance at the "
        "best quotes, at levels of the rebuilt book, and of all five levels integrated with weights from the first "
        "half, beside the book's best level over the same second half.",
        "",
        *flows,
        "",
        "## Forecasts from intraday profiles",
        "",
        "Mean absolute error over the mean actual, walking forward, buckets of 60 s, all slices together: of the next "
        "of 13 slices from its start, and of the rest of the session. Best in bold.",
        "",
        *forecasts(),
        "",
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, pandas "
        f"{pd.__version__}, {platform.machine()}.",
        "",
    ]
    return "\n".join(text), {"10s": pooled, "1s": pooled_one}


def main() -> None:
    """Print the page, and write it with its pictures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="simulated markets per world at 10 s")
    parser.add_argument("--write", action="store_true", help="write docs/stylised-facts.md and its pictures")
    args = parser.parse_args()
    if not (data_dir() / "lean").is_dir():
        parser.error(f"the recorded days are absent: set CROSSWIND_DATA or lay them at {data_dir()}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # medians of facts that are NaN throughout
        text, pictures = page(args.seeds)
    print(text)
    if args.write:
        (ROOT / "docs" / "stylised-facts.md").write_text(text, encoding="utf-8")
        for label, facts in pictures.items():
            plot_facts(facts).write_image(ROOT / "docs" / "img" / f"stylised-facts-{label}.png", scale=1.2)


if __name__ == "__main__":
    main()
