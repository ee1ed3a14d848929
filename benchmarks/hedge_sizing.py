"""Measure what the pages on sizing and guardrails rest on: recorded carry and basis, the search, the guards.

    python benchmarks/hedge_sizing.py            # print the page
    python benchmarks/hedge_sizing.py --write    # also write docs/hedge/sizing-measured.md

The recorded histories are those of the shared market data (``CROSSWIND_DATA``); without them that part is refused. The
guards see minutes of the simulator's worlds, whose truth says when a shock or a break was planted.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pandas as pd

from crosswind.problems.hedge import (
    BasisShock,
    CorrelationBreak,
    DeltaAggression,
    GapLimits,
    GuardrailConfig,
    Guardrails,
    MessageRate,
    NotionalLimit,
    Observation,
    StaleData,
)
from crosswind.problems.hedge.sizing import SpotBook, best_lots, fit_basis, listed, neutral_carry
from crosswind.problems.market import read, simulate
from crosswind.problems.market.funding import basis

ROOT = Path(__file__).resolve().parents[1]
_SPANS = ("1 day: fit", "√t", "next year", "7 days: fit", "√t", "next year")
COINS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "DOGEUSDT")
QUIET_DAYS, PLANTED_DAYS = 250, 120
NS = 1_000_000_000


def data_folder() -> Path:
    """Return the folder of the recorded perpetuals."""
    folder = Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data")) / "perp_carry"
    if not folder.is_dir():
        raise SystemExit(f"no recorded data at {folder}: set CROSSWIND_DATA")
    return folder


# carry and basis -----------------------------------------------------------------------------------------------------


def carry_rows(folder: Path) -> Iterator[list[str]]:
    """Yield per coin what a neutral book of constant notional earned, at 4.5 bp a trade."""
    rates = read(f"perp:{folder / 'binance_funding'}", names=list(COINS)).funding
    book = SpotBook({"BTC": 1_000.0}, {"BTC": 1_000.0})
    for coin in COINS:
        history = rates[coin]
        times = pd.DatetimeIndex(history.rates.index)
        tool = listed("binance:BTCUSDT", 1_000.0, half_spread=5e-5, fee=4e-4, name=coin)
        size = neutral_carry(book, tool)
        whole = size.carry(times[0] - pd.Timedelta(seconds=history.interval_s), times[-1], {coin: history})
        paid = -history.paid(-1.0)
        month = paid.rolling("30D").sum().iloc[90:]
        yield [
            coin,
            f"{times[0]:%Y-%m}",
            f"{whole.per_year:+.1%}",
            f"{float((history.rates > 0.0).mean()):.0%}",
            f"{float(month.min()):+.1%}",
            f"{float(month.max()):+.1%}",
        ]


def basis_rows(folder: Path) -> Iterator[list[str]]:
    """Yield per coin and year how the fitted basis foresees its changes in the year after."""
    market = read(f"perp:{folder}", names=["SOL", "BNB"])
    for coin in ("SOL", "BNB"):
        premium = basis(market.bars[f"{coin}.perp"], market.bars[f"{coin}.spot"])
        for year in (2023, 2024):
            fit = fit_basis(premium.loc[str(year)])
            later = premium.loc[str(year + 1)]
            cells = []
            for days in (1, 7):
                changed = later.to_numpy()[24 * days :] - later.to_numpy()[: -24 * days]
                root = fit.vol(1 / 24) * math.sqrt(24 * days)
                cells += [f"{1e4 * fit.vol(days):.1f}", f"{1e4 * root:.1f}", f"{1e4 * float(np.std(changed)):.1f}"]
            yield [f"{coin} {year}", f"{fit.half_life_days * 24:.1f}", *cells]


# the search ----------------------------------------------------------------------------------------------------------


def search_rows() -> Iterator[list[str]]:
    """Yield per number of instruments: boxes, time, and what naive rounding loses."""
    for m in (1, 2, 3, 4, 6, 8):
        nodes, clock, worse, checked = [], [], [], 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            root = rng.normal(size=(2 * m, m))
            Q = root.T @ root / (2 * m) + 0.1 * np.eye(m)
            target = rng.normal(size=m) * 20.0
            args = (Q, Q @ target, np.zeros(m), np.zeros(m), np.full(m, -200.0), np.full(m, 200.0))
            start = time.process_time()
            found = best_lots(*args)
            clock.append(time.process_time() - start)
            nodes.append(found.nodes)

            def value(z: Any, Q: Any = Q, target: Any = target) -> float:
                return float((z - target) @ Q @ (z - target))

            worse.append(value(np.rint(target)) / max(value(found.lots), 1e-300))
            if m <= 3:
                around = itertools.product(*(range(round(t) - 2, round(t) + 3) for t in target))
                checked += value(found.lots) <= min(value(np.array(z, float)) for z in around) + 1e-12
        yield [
            str(m),
            f"{statistics.median(nodes):.0f} / {max(nodes)}",
            f"{1e3 * statistics.median(clock):.2f} / {1e3 * max(clock):.1f}",
            f"{statistics.mean(worse) - 1:.1%}",
            f"{checked} of 60" if m <= 3 else "–",
        ]


# the guards ----------------------------------------------------------------------------------------------------------


def minutes(world: str, days: int, seed: int) -> tuple[list[Observation], dict[str, Any]]:
    """Return the minutes of a world as observations, and its truth; the future is each day's nearest that is quoted."""
    data = simulate(world=world, days=days, seed=seed)
    assert data.truth is not None
    quotes, events = next(iter(data.futures.values())), data.events
    mids = 0.5 * (quotes.bid + quotes.ask)
    mid = events.mid.to_numpy()[events.index.get_indexer(quotes.index)]
    level = mid @ np.asarray(data.truth.parameters["index_shares"], dtype=float)
    names = mid[:, :5]
    seen = []
    for day, rows in mids.groupby(quotes.index.normalize()).indices.items():
        nearest = mids.iloc[rows].notna().all().idxmax()
        future, label = mids[nearest].to_numpy(), f"{day:%Y-%m-%d}"
        for k in rows[1:]:
            basket = float(np.mean(names[k] / names[k - 1] - 1.0))
            basis_now, moved = float(future[k] / level[k] - 1.0), float(future[k] / future[k - 1] - 1.0)
            at = int(quotes.index.asi8[k])
            seen.append(
                Observation(at, 0.0, 0.0, session=label, basis=basis_now, hedge_return=moved, basket_return=basket)
            )
    return seen, dict(data.truth.parameters)


CONFIG = GuardrailConfig(basis=BasisShock(), correlation=CorrelationBreak(), stale=None)


def tripped(seen: list[Observation], guard: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the times of the observations [ns] and whether a guard was tripped after each."""
    rails = Guardrails(CONFIG)
    state = [guard in rails.check(one).tripped for one in seen]
    return np.array([one.time_ns for one in seen]), np.array(state)


def quiet_rows() -> Iterator[list[str]]:
    """Yield trips on quiet days."""
    seen, _ = minutes("calm", QUIET_DAYS, 11)
    for guard, words in (("basis", "basis shock"), ("correlation", "correlation break")):
        _, state = tripped(seen, guard)
        count = int((np.diff(state.astype(int)) > 0).sum())
        share = f"{state.mean():.2%}"
        yield [words, f"{count} in {QUIET_DAYS} days", share]


def planted_rows() -> Iterator[list[str]]:
    """Yield the share of planted incidents that are caught, and the delay."""
    seen, truth = minutes("basis_shock", PLANTED_DAYS, 12)
    found = tripped(seen, "basis")
    jumps = [(pd.Timestamp(t).value, abs(float(size))) for t, size in truth["basis_jumps"]]
    for low, high in ((2e-4, 4e-4), (4e-4, 8e-4), (8e-4, 1.0)):
        label = f"{1e4 * low:.0f}–{1e4 * high:.0f} bp" if high < 1.0 else f"above {1e4 * low:.0f} bp"
        delays = [_delay(found, t, t + 300 * NS) for t, size in jumps if low <= size < high]
        yield _planted(f"basis shock, {label}", delays)
    seen, truth = minutes("correlation_break", PLANTED_DAYS, 13)
    spans = [(pd.Timestamp(a).value, pd.Timestamp(b).value) for a, b, _ in truth["break_windows"]]
    yield _planted(f"correlation {_within(seen, spans)} (the world's)", _delays(seen, spans))
    seen, spans = decoupled(PLANTED_DAYS)
    yield _planted(f"correlation {_within(seen, spans)} (another day's basket)", _delays(seen, spans))


def decoupled(days: int) -> tuple[list[Observation], list[tuple[int, int]]]:
    """Return quiet days in which the basket moves for ninety minutes as it did on another day, and these spans."""
    quiet, _ = minutes("calm", days, 14)
    seen = list(quiet)
    labels = np.array([one.session for one in seen])
    spans = []
    for number, label in enumerate(np.unique(labels)):
        rows = np.flatnonzero(labels == label)[200:290]
        other = np.flatnonzero(labels == np.unique(labels)[number - 1])[200:290]
        moves = [quiet[k].basket_return for k in other]
        for k, move in zip(rows, moves, strict=True):
            seen[k] = replace(seen[k], basket_return=move)
        spans.append((seen[rows[0]].time_ns, seen[rows[-1]].time_ns))
    return seen, spans[1:]  # the first day teaches what is usual


def _within(seen: list[Observation], spans: list[tuple[int, int]]) -> str:
    """Return the correlation outside and inside the spans, in words."""
    at = np.array([one.time_ns for one in seen])
    inside = np.zeros(len(at), dtype=bool)
    for a, b in spans:
        inside |= (at > a) & (at <= b)
    x = np.array([one.hedge_return for one in seen])
    y = np.array([one.basket_return for one in seen])
    usual, now = (float(np.corrcoef(x[m], y[m])[0, 1]) for m in (~inside, inside))
    return f"from {usual:.2f} to {now:.2f}"


def _delays(seen: list[Observation], spans: list[tuple[int, int]]) -> list[float | None]:
    found = tripped(seen, "correlation")
    return [_delay(found, a, b) for a, b in spans]


def _delay(found: tuple[Any, Any], start_ns: int, end_ns: int) -> float | None:
    """Return the seconds from the start of a span to the first tripped observation in it; None where there is none."""
    times, state = found
    hit = times[(times >= start_ns) & (times <= end_ns) & state]
    return float(hit[0] - start_ns) / NS if len(hit) else None


def _planted(label: str, delays: list[float | None]) -> list[str]:
    hit = [delay for delay in delays if delay is not None]
    if not delays:
        return [label, "none planted", "–", "–"]
    share = f"{len(hit)} of {len(delays)}"
    if not hit:
        return [label, share, "–", "–"]
    return [label, share, f"{statistics.median(hit):.0f}", f"{np.quantile(hit, 0.95):.0f}"]


def check_time() -> tuple[float, float]:
    """Return CPU µs of a check with all guards on: median and p99."""
    config = GuardrailConfig(
        gap=GapLimits({"index": {"normal": 1e6}}),
        basis=BasisShock(),
        correlation=CorrelationBreak(),
        stale=StaleData(),
        aggression=DeltaAggression(3e5),
        messages=MessageRate(50),
        notional=NotionalLimit(3e5, 1e12),
    )
    rails, rng = Guardrails(config), np.random.default_rng(0)
    draws = rng.normal(size=(20_000, 4)).tolist()
    clock = []
    for k, (a, b, c, d) in enumerate(draws):
        one = Observation(
            k * 10_000_000_000, 1e5 * a, 1e4 * b, instrument_class="index", regime="normal", basis=2e-5 * c,
            hedge_return=1e-4 * d, basket_return=1e-4 * (d + 0.3 * a), data_age_s=0.1,
        )  # fmt: skip
        start = time.process_time_ns()
        rails.check(one)
        clock.append((time.process_time_ns() - start) / 1e3)
    return float(np.median(clock)), float(np.quantile(clock, 0.99))


def table(head: list[str], rows: Iterator[list[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def page() -> str:
    """Return the page."""
    folder = data_folder()
    median, p99 = check_time()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "pandas"))
    return f"""# Sizing and guardrails, measured

Printed by `benchmarks/hedge_sizing.py`.

## What neutral carry earned
Long spot and short perpetual of constant notional from the first recorded settlement to the last, funding of Binance as
recorded, one round trip at 4.5 bp a trade; a year as a share of the spot, before the cost of the money that is tied
up. Positive: received by the short.

{table(["perpetual", "from", "a year", "settlements above 0", "worst 30 days", "best 30 days"], carry_rows(folder))}

The sign is the market's: while rates are above zero the short receives. Every coin has months in which it paid, and
past rates are no forecast.

## How well the basis' risk is foreseen
Hourly basis of OKX perpetuals. `fit_basis` on one year, held against the changes of the next [bps]. `√t` is what the
hourly changes would give if they did not revert.

{table(["fitted on", "half-life [h]", *_SPANS], basis_rows(folder))}

The basis reverts within hours, and over days √t overstates its risk many times. That the next year differs from the
last is what the fit cannot know.

## The search over whole contracts
Sixty drawn programs each. Boxes and CPU time: median / largest. The fourth column is the variance that rounding each
contract to the nearest adds, on average; for up to three instruments the answer is held against enumeration.

{table(["instruments", "boxes", "ms", "rounding adds", "equal to enumeration"], search_rows())}

## Guards on quiet days and planted incidents
Minutes of the simulator's worlds, default settings; the truth says when something was planted. Delays in seconds from
the incident to the trip; a minute is the least that can be seen.

{table(["guard on quiet days", "trips", "time tripped"], quiet_rows())}

{table(["planted", "caught", "median delay", "p95"], planted_rows())}

A shock counts as caught where the guard is tripped within five minutes of it, a break while it lasts. With four shocks
a day the standard deviation of the basis holds their traces, so the smaller ones are no surprise. A correlation that
falls a little is known for certain only after many observations: the guard tells it late or not at all, a complete
break soon.

A check with all seven guards on takes {median:.0f} µs (p99 {p99:.0f} µs) of CPU time.

CPython {platform.python_version()}, {versions}; {platform.machine()}, {os.cpu_count()} cores, one used.
"""


def main() -> None:
    """Print the page, and write it on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/hedge/sizing-measured.md")
    text = page()
    print(text)
    if parser.parse_args().write:
        (ROOT / "docs" / "hedge" / "sizing-measured.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
