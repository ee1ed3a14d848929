"""Metrics and regimes of simulated roll days and of ES on 2013-12-18.

Run ``python benchmarks/roll_regimes.py`` to print the tables, with ``--write`` to put them and the machine's picture
into docs/roll/regimes.md and docs/img/roll-regimes.svg. Every figure on that page comes from this script.
"""

from __future__ import annotations

import argparse
import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd

from crosswind.problems.market import FuturesQuotes
from crosswind.problems.market.readers.lean_futures import read_lean_futures
from crosswind.problems.market.simulator.spread_book import RollDay, RollParameters
from crosswind.problems.market.simulator.spread_book_days import simulate_roll
from crosswind.problems.roll import RollMarket, RollOrder
from crosswind.problems.roll.metrics import METRICS, MetricStream, RollMetricsConfig, RollVolumeBaseline, roll_metrics
from crosswind.problems.roll.regimes import PRIORITY, RegimeConfig, RegimeRun, machine_diagram, run_machine

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "roll" / "regimes.md"
PICTURE = ROOT / "docs" / "img" / "roll-regimes.svg"
START, END = "<!-- figures: benchmarks/roll_regimes.py --write -->", "<!-- end of figures -->"
ZONE = "America/New_York"
CALIBRATION = (7000, 8000)  # first seeds of baseline and days on which the defaults were chosen
FRESH = (37000, 38000)  # those that are printed
WORLDS = {
    "usual": {},
    "volume × 2.2": {"spread_volume_per_day": 1_320_000.0},
    "8 shocks, half as large again": {"jumps_per_day": 8.0, "jump_vol_points": 0.225},
    "a third of the depth, refill in 90 s": {"depth_contracts": 2000.0 / 3.0, "refill_half_life_s": 90.0},
}


def days_of(parameters: RollParameters, first: int, count: int) -> list[RollMarket]:
    """Return simulated roll days of one date, each with a seed of its own."""
    return [market_of(simulate_roll(parameters, days=1, seed=first + k).days[0], parameters) for k in range(count)]


def market_of(day: RollDay, p: RollParameters) -> RollMarket:
    """Return the books of a simulated session as a roll's market."""
    from crosswind.problems.roll.replay.episodes import market_of_day

    return market_of_day(day, p.bar_s, p.multiplier, p.outright_tick)


def on_schedule(order: RollOrder, market: RollMarket) -> pd.Series:
    """Return what an order in even pieces has still to do at each bar's end."""
    span = (order.cutoff - order.start).total_seconds()
    left = (order.cutoff - market.times).total_seconds().to_numpy() / span
    return pd.Series(np.ceil(order.size * np.clip(left, 0.0, 1.0)), index=market.times)


def watched(
    market: RollMarket, baseline: RollVolumeBaseline | None, size: int, config: RollMetricsConfig | None = None
) -> RegimeRun:
    """Return the regimes of a day with an order that is worked evenly from first to last bar."""
    order = RollOrder("even", size, market.times[0], market.times[-1])
    frame = roll_metrics(market, order, baseline, config=config, remaining=on_schedule(order, market))
    return run_machine(RegimeConfig(), frame, order.cutoff)


def triggers() -> list[str]:
    """Return the table of triggers, from the configuration that comes with the toolkit."""
    lines = ["| trigger | calls for | holds from | until |", "|---|---|---|---|"]
    for t in RegimeConfig().triggers:
        rise, fall = t.text().replace("|", "\\|").split(", until ")
        lines.append(f"| `{t.name}` | {t.regime.name} | {rise} | {fall} |")
    c = RegimeConfig()
    lines.append(f"| `deadline` | DEADLINE | minutes left ≤ {c.deadline_min:g} | never |")
    lines.append(f"| `late` | DEADLINE | minutes left ≤ {c.late_min:g} and rdp ≥ {c.late_rdp:g} | never |")
    return lines


def simulated(first: tuple[int, int], count: int) -> list[str]:
    """Return the table of time in each regime and of changes by world."""
    base = RollParameters()
    baseline = RollVolumeBaseline.fit(days_of(base, first[0], 12), tz=ZONE)
    names = [r.name for r in PRIORITY]
    lines = [f"| days | {' | '.join(names)} | changes a day | shortest stay |", "|---|" + "---:|" * (len(names) + 2)]
    for world, changed in WORLDS.items():
        runs = [watched(m, baseline, 2000) for m in days_of(replace(base, **changed), first[1], count)]
        shares = pd.concat([r.shares() for r in runs], axis=1).mean(axis=1)
        stays = [t.held_s for r in runs for t in r.machine.transitions if t.target.name != "DEADLINE"]
        changes = np.mean([len(r.machine.transitions) for r in runs])
        cells = " | ".join(f"{shares[name]:.1%}" for name in names)
        lines.append(f"| {world} | {cells} | {changes:.1f} | {min(stays):.0f} s |")
    return lines


def chosen_on(count: int) -> list[str]:
    """Return quantiles of the metrics on the days on which the thresholds were chosen."""
    base = RollParameters()
    baseline = RollVolumeBaseline.fit(days_of(base, CALIBRATION[0], 12), tz=ZONE)
    lines = ["| days | RPC 50 % | 99 % | 99.9 % | CDE 1 % | 0.1 % | abs(BDZ) 99 % | 99.9 % |", "|---|" + "---:|" * 7]
    for world, changed in WORLDS.items():
        days = days_of(replace(base, **changed), CALIBRATION[1], count)
        frame = pd.concat([roll_metrics(m, None, baseline) for m in days])
        cells = [
            *frame["rpc"].quantile([0.5, 0.99, 0.999]),
            *frame["cde"].quantile([0.01, 0.001]),
            *frame["bdz"].abs().quantile([0.99, 0.999]),
        ]
        lines.append(f"| {world} | " + " | ".join(f"{value:.2f}" for value in cells) + " |")
    return lines


def patience(count: int) -> list[str]:
    """Return what dwell and quiet cost and save, on the days on which they were chosen."""
    base = RollParameters()
    baseline = RollVolumeBaseline.fit(days_of(base, CALIBRATION[0], 12), tz=ZONE)
    shocked = replace(base, **WORLDS["8 shocks, half as large again"])
    usual = [roll_metrics(m, None, baseline) for m in days_of(base, CALIBRATION[1], count)]
    books = [simulate_roll(shocked, days=1, seed=CALIBRATION[1] + k).days[0] for k in range(count)]
    frames = [roll_metrics(market_of(day, shocked), None, baseline) for day in books]
    lines = [
        "| dwell | quiet | changes a usual day | shocks of 0.2 points or more that turn it red within 2 min |",
        "|---:|---:|---:|---:|",
    ]
    for dwell, quiet in ((5.0, 0.0), (60.0, 0.0), (60.0, 60.0), (120.0, 60.0), (300.0, 60.0), (600.0, 60.0)):
        config = RegimeConfig(dwell_s=dwell, quiet_s=quiet)
        changes = [len(run_machine(config, f, f.index[-1]).machine.transitions) for f in usual]
        caught = []
        for day, frame in zip(books, frames, strict=True):
            red = run_machine(config, frame, frame.index[-1]).to_frame()["regime"].eq("BASIS_STRESS").to_numpy()
            for bar, size in zip(day.shock_bars, day.shock_points, strict=True):
                if abs(size) >= 0.2 and 360 <= bar < len(red) - 204:
                    caught.append(red[bar : bar + 25].any())
        lines.append(f"| {dwell:.0f} s | {quiet:.0f} s | {np.mean(changes):.1f} | {sum(caught)} of {len(caught)} |")
    return lines


def legs_market(quotes: FuturesQuotes, near: str, far: str) -> RollMarket:
    """Return a roll's market with the spread book that the legs imply.

    Bid = far bid − near ask, ask = far ask − near bid, size = the smaller of the legs'; as volume the smaller of the
    legs' volumes, an upper bound of what was rolled, half to each side: minute bars do not tell aggressors.
    """
    fields = {name: getattr(quotes, name)[[near, far]] for name in ("bid", "ask", "bid_size", "ask_size", "volume")}
    sound = fields["bid"].notna().all(axis=1) & (fields["bid"] < fields["ask"]).all(axis=1)
    times = pd.DatetimeIndex(quotes.index[sound])
    bid, ask, bid_size, ask_size, volume = (frame[sound].to_numpy() for frame in fields.values())
    rolled = volume.min(axis=1)
    return RollMarket(
        times=times,
        bar_s=quotes.bar_s,
        bid=bid[:, 1] - ask[:, 0],
        ask=ask[:, 1] - bid[:, 0],
        bid_size=np.minimum(bid_size[:, 1], ask_size[:, 0]),
        ask_size=np.minimum(ask_size[:, 1], bid_size[:, 0]),
        sold=0.5 * rolled,
        bought=0.5 * rolled,
        cancelled=np.zeros((len(times), 2)),
        leg_bid=bid,
        leg_ask=ask,
        leg_bid_size=bid_size,
        leg_ask_size=ask_size,
        leg_volume=volume,
        tick=0.05,
        leg_tick=quotes.tick,
        multiplier=quotes.multiplier,
        legs=(near, far),
        source="synthesised from the legs",
        facts={"bars left out": int((~sound).sum())},
    )


def recorded(folder: Path) -> list[str]:
    """Return what the machine says to ES on 2013-12-18."""
    market = es_day(folder)
    # Recorded volume of earlier rolls is not at hand, so that the baseline is a simulated one; it is not rescaled.
    p = RollParameters(bar_s=60.0)
    baseline = RollVolumeBaseline.fit(days_of(p, FRESH[0], 12), tz=ZONE)
    scale = float(np.nansum(market.volume) / np.nansum(baseline.expected(market.times, 60.0)))
    # Quotes that the legs imply move by their tick, not by the spread's: so does the least scale of the basis.
    config = RollMetricsConfig(sigma_floor_points=market.leg_tick / np.sqrt(12.0))
    run = watched(market, None, 2000, config)
    order = RollOrder("even", 2000, market.times[0], market.times[-1])
    frame = roll_metrics(market, order, baseline, config=config, remaining=on_schedule(order, market))
    quantiles = frame[list(METRICS)].replace([np.inf], np.nan).quantile([0.01, 0.05, 0.5, 0.95, 0.99])
    lines = [
        f"{market.bars} minute bars of regular hours, {market.facts['bars left out']} left out; legs "
        f"{market.legs[0]} and {market.legs[1]}; spread book {market.source}; baseline {baseline.source}: the day's "
        f"volume is {scale:.2f} of it. Least scale of the basis: the legs' tick/√12.",
        "",
        "| quantile | " + " | ".join(METRICS) + " |",
        "|---|" + "---:|" * len(METRICS),
    ]
    for level, row in zip(quantiles.index.to_numpy(dtype=float), quantiles.to_numpy(), strict=True):
        lines.append(f"| {level:.0%} | " + " | ".join(f"{v:.2f}" for v in row) + " |")
    moves = []
    for minutes in (1, 2, 5):
        gone = np.abs(market.leg_mid[minutes:, 1] - market.leg_mid[:-minutes, 1]) * market.multiplier
        moves.append(f"{np.quantile(gone, 0.95):.0f} after {minutes} min")
    lines += ["", f"q95 of what the second leg moves while it waits, $ a contract: {', '.join(moves)}."]
    lines += ["", "Audit trail, without the simulated baseline:", "", "```text", *run.summary().splitlines(), "```"]
    return lines


def es_day(folder: Path) -> RollMarket:
    """Return ES of 2013-12-18 in the regular hours of New York."""
    quotes, _ = read_lean_futures(folder, "ES", days=["2013-12-18"], expiries=["201312", "201403"])
    opened, closed = (pd.Timestamp(f"2013-12-18 {clock}", tz=ZONE) for clock in ("09:30", "16:00"))
    return legs_market(quotes.between(opened, closed), "201312", "201403")


def speed() -> list[str]:
    """Return what a bar costs, and how far the two forms are apart on a long series."""
    p = RollParameters()
    market = days_of(p, FRESH[1], 1)[0]
    baseline = RollVolumeBaseline.fit(days_of(p, FRESH[0], 2), tz=ZONE)
    order = RollOrder("speed", 2000, market.times[0], market.times[-1])
    began = process_time()
    batch = roll_metrics(market, order, baseline)
    whole = process_time() - began
    stream = MetricStream.of(market, RollMetricsConfig(), baseline, order)
    began = process_time()
    rows = [stream.update_bar(market, k) for k in range(market.bars)]
    each = (process_time() - began) / market.bars
    began = process_time()
    run_machine(None, batch, order.cutoff)
    step = (process_time() - began) / market.bars
    one, two = batch.to_numpy(), pd.DataFrame(rows)[list(METRICS)].to_numpy()
    both = np.isfinite(one) & np.isfinite(two)
    gap = float(np.max(np.abs(one[both] - two[both]) / np.maximum(1.0, np.abs(one[both]))))
    return [
        f"A day of {market.bars} bars: {1e3 * whole:.0f} ms at once; {1e6 * each:.0f} µs a bar as a stream, "
        f"{1e6 * step:.0f} µs a step of the machine. The two forms differ by {gap:.0e} at most."
    ]


def main() -> None:
    """Print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=12, help="simulated days per row")
    parser.add_argument("--calibration", action="store_true", help="the seeds on which the defaults were chosen")
    parser.add_argument("--write", action="store_true", help="write the page and the picture")
    args = parser.parse_args()
    first = CALIBRATION if args.calibration else FRESH
    folder = Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data")) / "lean"
    page = ["### Triggers", "", *triggers(), ""]
    page += ["On the days on which the thresholds were chosen:", "", *chosen_on(args.days), ""]
    page += ["### Dwell and quiet", "", *patience(args.days), ""]
    page += ["### Simulated days", "", *simulated(first, args.days), ""]
    if folder.is_dir():
        page += ["### ES on 2013-12-18", "", *recorded(folder), ""]
    page += ["### Cost", "", *speed()]
    text = "\n".join(page)
    print(text)
    if args.write:
        PICTURE.write_text(machine_diagram(), encoding="utf-8")
        head, rest = PAGE.read_text(encoding="utf-8").split(START)
        PAGE.write_text(f"{head}{START}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
