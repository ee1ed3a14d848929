"""What the worlds' numbers are calibrated on: the recorded days measured, and the worlds measured the same way.

    python benchmarks/calibrate_worlds.py            # print the tables
    python benchmarks/calibrate_worlds.py --write    # also write them into docs/worlds.md, between its markers

The recorded data are read from CROSSWIND_DATA, else from ../shared/data beside the project.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pandas as pd

import crosswind as cw

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data"))
BUCKET_S = 10.0
DAYS = ("2013-10-07", "2013-10-08", "2013-10-09")  # sessions with tick trades, tick quotes and the future
BLOCK = 30  # buckets per five-minute block
START, END = "<!-- measured -->", "<!-- /measured -->"


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Return the correlation of two vectors over their finite pairs."""
    both = np.isfinite(left) & np.isfinite(right)
    return float(np.corrcoef(left[both], right[both])[0, 1])


def u_of(profile: np.ndarray) -> float:
    """Return the u of ``1 + u (12 (x - 1/2)^2 - 1)`` that fits a profile of mean 1 in least squares."""
    x = (np.arange(len(profile)) + 0.5) / len(profile)
    shape = 12.0 * (x - 0.5) ** 2 - 1.0
    return float(shape @ (profile - 1.0) / (shape @ shape))


def equities(events: Any) -> dict[str, float]:
    """Return the figures of the names, medians over them; blocks are five minutes."""
    sessions = [events.on([day]) for day in events.days]
    per = len(sessions[0].flow)
    sessions = [session for session in sessions if len(session.flow) == per]
    returns = np.stack([session.returns.to_numpy() for session in sessions])
    mid, spread, volume, depth, flow = (
        np.stack([getattr(session, field).to_numpy() for session in sessions])
        for field in ("mid", "spread", "volume", "depth", "flow")
    )
    days, _, names = returns.shape
    count = per // BLOCK
    cut = slice(0, count * BLOCK)
    closes = mid[:, cut].reshape(days, count, BLOCK, names)[:, :, -1]
    blocks = np.diff(np.log(closes), axis=1)
    squares = np.nan_to_num(returns[:, cut] ** 2).reshape(days, count, BLOCK, names).sum(axis=2)
    out: dict[str, float] = {}
    out["session volatility from 5-min returns [%]"] = 100.0 * float(
        np.median(np.sqrt((blocks**2).sum(axis=1).mean(axis=0) * count / (count - 1)))
    )
    out["the same from 10-s returns [%]"] = 100.0 * float(np.median(np.sqrt(squares.sum(axis=1).mean(axis=0))))
    pairs = np.triu_indices(names, 1)
    pooled = blocks.reshape(-1, names)
    out["correlation of names, 5 min"] = float(np.corrcoef(pooled.T)[pairs].mean())
    profile = squares.mean(axis=0) / squares.mean(axis=(0, 1))
    out["U of variance"] = float(np.median([u_of(profile[:, i]) for i in range(names)]))
    traded = volume[:, cut].reshape(days, count, BLOCK, names).sum(axis=2)
    volume_profile = traded.mean(axis=0) / traded.mean(axis=(0, 1))
    out["U of volume"] = float(np.median([u_of(volume_profile[:, i]) for i in range(names)]))
    # The log of realised variance over blocks, less the day's profile and what its own sampling error adds.
    smooth = 1.0 + u_of(profile.mean(axis=1)) * (12.0 * ((np.arange(count) + 0.5) / count - 0.5) ** 2 - 1.0)
    # The cross-sectional mean of log variance is the common regime; adjacent blocks share it, sampling errors do not.
    log_variance = np.log(np.maximum(squares, 1e-12) / smooth[:, None])
    log_variance -= log_variance.mean(axis=(0, 1))
    common = 0.5 * log_variance.mean(axis=2)
    persistent = float(np.mean(common[:, 1:] * common[:, :-1]))
    out["sd of log volatility shared by adjacent blocks"] = float(np.sqrt(max(persistent, 0.0)))
    out["autocorrelation of log volatility, 5 min"] = correlation(common[:, 1:].ravel(), common[:, :-1].ravel())
    block_spread = np.log(spread[:, cut].reshape(days, count, BLOCK, names).mean(axis=2))
    block_depth = np.log(depth[:, cut].reshape(days, count, BLOCK, names).mean(axis=2))
    block_volume = np.log(traded)

    def slope(values: np.ndarray) -> float:
        # Log variance of the block before is the instrument: its sampling error is not in this block's.
        centred = values - values.mean(axis=(0, 1))
        now, before = 0.5 * log_variance[:, 1:].mean(axis=2), 0.5 * log_variance[:, :-1].mean(axis=2)
        return float(np.mean(centred[:, 1:].mean(axis=2) * before) / np.mean(now * before))

    out["elasticity of spread to volatility"] = slope(block_spread)
    out["elasticity of depth to volatility"] = slope(block_depth)
    out["elasticity of volume to volatility"] = slope(block_volume - np.log(volume_profile))
    standard = pooled / pooled.std(axis=0)
    out["kurtosis of 5-min returns"] = float(np.median((standard**4).mean(axis=0)))
    ten = returns.reshape(-1, names)
    ten = ten / np.nanstd(ten, axis=0)
    out["kurtosis of 10-s returns"] = float(np.median(np.nanmean(ten**4, axis=0)))
    largest = np.sort(np.abs(np.nan_to_num(ten)), axis=0)[::-1]
    top = max(20, len(largest) // 100)
    out["tail index (Hill, top 1 % of 10-s returns)"] = float(
        np.median(top / np.log(largest[:top] / largest[top]).sum(axis=0))
    )
    out["largest 10-s return [sd]"] = float(np.median(largest[0]))
    bps = 1e4 * spread / mid
    out["spread [bps]"] = float(np.median(bps.mean(axis=(0, 1))))
    out["sd of log spread"] = float(np.median(np.log(np.maximum(bps, 1e-3)).std(axis=(0, 1))))
    rate = volume.mean(axis=(0, 1)) / events.bucket_s
    out["depth [s of mean volume]"] = float(np.median(depth.mean(axis=(0, 1)) / rate))
    out["sd of log depth"] = float(np.median(np.log(np.maximum(depth, 1.0)).std(axis=(0, 1))))
    out["daily volume [m]"] = float(np.median(volume.sum(axis=1).mean(axis=0)) / 1e6)
    out["sd over mean of volume, 10 s"] = float(np.median(volume.std(axis=(0, 1)) / volume.mean(axis=(0, 1))))
    share = np.abs(flow).sum(axis=(0, 1)) / volume.sum(axis=(0, 1))
    out["mean absolute imbalance, 10 s"] = float(np.median(share))
    for lag in (1, 6, 30):
        each = [correlation(flow[:, lag:, i].ravel(), flow[:, :-lag, i].ravel()) for i in range(names)]
        out[f"autocorrelation of flow, {lag * events.bucket_s:g} s"] = float(np.median(each))
    out["correlation of flow across names, 10 s"] = float(np.corrcoef(flow.reshape(-1, names).T)[pairs].mean())
    own = [correlation(returns[:, :, i].ravel(), flow[:, :, i].ravel()) ** 2 for i in range(names)]
    out["R² of returns on own flow, 10 s"] = float(np.median(own))
    return out


def index_figures(events: Any, index: pd.Series) -> dict[str, float]:
    """Return the figures of the index and of how the names follow it, over five minutes."""
    five = events.resample(300.0) if events.bucket_s < 300.0 else events
    names = five.returns
    day = five.session
    level = index.reindex(five.index)
    change = level.groupby(day.to_numpy()).pct_change()
    days = len(five.days)
    shares = [correlation(names[name].to_numpy(), change.to_numpy()) ** 2 for name in names.columns]
    return {
        "index: session volatility from 5-min returns [%]": 100.0 * float(np.sqrt(np.nansum(change**2) / days)),
        "index: share of a name's 5-min variance": float(np.median(shares)),
    }


def future(quotes: Any, index: pd.Series, local: tuple[str, str], tz: str) -> dict[str, float]:
    """Return the figures of the front future in the cash session: its book, and its basis to ``index``."""
    front = str(quotes.volume.sum().idxmax())

    def inside(values: pd.Series) -> pd.Series:
        stamps = values.index.tz_convert(tz)
        open_, close = (pd.Timestamp(text).hour * 60 + pd.Timestamp(text).minute for text in local)
        minute = stamps.hour * 60 + stamps.minute
        return values[(minute > open_) & (minute <= close)]

    bid, ask = inside(quotes.bid[front]), inside(quotes.ask[front])
    spread = ((ask - bid) / quotes.tick).round(6)
    sizes = inside(0.5 * (quotes.bid_size[front] + quotes.ask_size[front]))
    traded = inside(quotes.volume[front])
    quoted = bid.notna() & (traded.reindex(bid.index) > 0)
    days = len(set(bid[quoted].index.date))
    both = pd.concat([np.log(0.5 * (bid + ask)[quoted]), np.log(index)], axis=1, join="inner").dropna()
    day = both.index.date
    basis = 1e4 * (both.iloc[:, 0] - both.iloc[:, 1])
    basis = basis - basis.groupby(day).transform("mean")
    changes = both.groupby(day).diff().dropna()
    moves = basis.groupby(day).diff().dropna()
    return {
        "future: mean width [ticks]": float(spread[quoted].mean()),
        "future: contracts at the best quote": float(sizes[quoted].median()),
        "future: sd of log size": float(np.log(sizes[quoted].clip(lower=1.0)).std()),
        "future: contracts in the cash session [k]": float(traded.sum() / days / 1e3),
        "future: sd of its basis in a session [bps]": float(basis.std()),
        "future: autocorrelation of the basis, 5 min": float(basis.autocorr(5)),
        "future: sd of 1-min moves of the basis [bps]": float(moves.std()),
        "future: autocorrelation of those moves, 1 min": float(moves.autocorr(1)),
        "future: kurtosis of those moves": float(((moves / moves.std()) ** 4).mean()),
        "future: correlation with the index, 1 min": float(changes.iloc[:, 0].corr(changes.iloc[:, 1])),
    }


def recorded() -> dict[str, float]:
    """Return the figures of the recorded equities, of SPY and of ES."""
    folder = DATA / "lean"
    market = cw.read(f"lean:{folder}", names=["AIG", "BAC", "IBM"], days=list(DAYS), bucket_s=BUCKET_S)
    spy = cw.read(f"lean:{folder}", names=["SPY"], days=list(DAYS), bucket_s=60.0).events.mid["SPY"]
    out = {**equities(market.events), **index_figures(market.events, spy)}
    return {**out, **future(market.futures["ES"], 10.0 * spy, ("09:30", "16:00"), "America/New_York")}


def simulated(**call: Any) -> dict[str, float]:
    """Return the figures of a simulated market."""
    market = cw.simulate(**call)
    events, truth = market.events, market.truth
    index = (events.mid * np.asarray(truth.parameters["index_shares"])).sum(axis=1)
    hours = (truth.parameters["open_local"], truth.parameters["close_local"])
    out = {**equities(events), **index_figures(events, index)}
    return {**out, **future(market.futures["SIM"], index, hours, events.tz)}


def funding_figures(rates: pd.Series) -> dict[str, float]:
    """Return the figures of 8-hourly funding rates."""
    return {
        "mean rate [bp per 8 h]": 1e4 * float(rates.mean()),
        "sd of rates [bp]": 1e4 * float(rates.std()),
        "share at exactly 1 bp": float((np.abs(rates - 1e-4) < 1e-9).mean()),
        "share below 0": float((rates < 0.0).mean()),
        "autocorrelation, next settlement": float(rates.autocorr(1)),
        "autocorrelation, 3 days": float(rates.autocorr(9)),
    }


def funding_table() -> list[str]:
    """Return the table of funding: BTC, the median of the coins listed 8-hourly, and the world."""
    recorded_rates = cw.read(f"perp:{DATA / 'perp_carry'}").funding
    coins = {name: item.rates for name, item in recorded_rates.items() if name.endswith("USDT")}
    columns = {
        "BTCUSDT": funding_figures(coins["BTCUSDT"]),
        f"median of {len(coins)} coins": dict(pd.DataFrame([funding_figures(r) for r in coins.values()]).median()),
        "`funding`, 720 days": funding_figures(
            cw.simulate(world="funding", days=720, names=1, bucket_s=900.0, desk=None, seed=1).funding["PERP"].rates
        ),
    }
    return markdown(pd.DataFrame(columns))


def markdown(frame: pd.DataFrame) -> list[str]:
    """Return a frame as a Markdown table of three digits."""
    lines = ["| | " + " | ".join(str(name) for name in frame.columns) + " |", "|---" * (1 + frame.shape[1]) + "|"]
    for label, row in frame.iterrows():
        lines.append(f"| {label} | " + " | ".join("–" if np.isnan(value) else f"{value:.3g}" for value in row) + " |")
    return lines


def page() -> list[str]:
    """Return what stands between the markers of the page."""
    worlds = ("calm", "stress", "basis_shock", "correlation_break")
    columns = {"recorded": recorded()}
    columns |= {f"`{name}`": simulated(world=name, days=10, seed=1) for name in worlds}
    return [
        START,
        "",
        "Printed by `benchmarks/calibrate_worlds.py --write`; nothing in these tables is typed by hand. Recorded: AIG, "
        "BAC, IBM on 2013-10-07 to 09 in buckets of 10 s, SPY as the index, ES as the future (numbers a day are of "
        "the cash session). Worlds: ten days of seed 1, measured by the same code. Medians over names.",
        "",
        *markdown(pd.DataFrame(columns)),
        "",
        "Funding rates: Binance's 8-hourly settlements, third-hand, 2020 to 2026.",
        "",
        *funding_table(),
        "",
        END,
    ]


def main() -> None:
    """Print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write them into docs/worlds.md")
    args = parser.parse_args()
    text = "\n".join(page())
    print(text)
    if args.write:
        path = ROOT / "docs" / "worlds.md"
        before, rest = path.read_text(encoding="utf-8").split(START)
        path.write_text(before + text + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
