"""Read, sign and bucket ticks of four names, against what one writes in pandas, in one run.

    python benchmarks/tick_day.py            # print the page
    python benchmarks/tick_day.py --write    # also write docs/reading-speed.md

Needs the recorded data (CROSSWIND_DATA or ../shared/data). Every side runs in a process of its own, so that its peak
memory is its own: imports included, one BLAS thread. The figures that travel between machines are the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
NAMES, DAYS, BUCKET_S = ("SPY", "IBM", "BAC", "AIG"), ("2013-10-07", "2013-10-08"), 10
NO_TRADE = 0x1000000 | 0x4000000
NO_AGGRESSOR = 0x40 | 0x80 | 0x100 | 0x200 | 0x100000 | 0x400 | 0x2000 | 0x4000 | 0x800 | 0x2000000 | 0x40000 | 0x200000


def data_dir() -> Path:
    """Return the folder of recorded data."""
    return Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data"))


def ours(quotes: str = "second") -> dict[str, Any]:
    """Read with crosswind."""
    import crosswind as cw

    market = cw.read(f"lean:{data_dir() / 'lean'}", NAMES, DAYS, BUCKET_S, quotes=quotes, futures=())
    assert market.report is not None
    rows = sum(sum(one.rows.values()) for one in market.report.instruments.values())
    return {"flow": market.events.flow, "volume": market.events.volume, "rows": rows}


def plain() -> dict[str, Any]:
    """Read with pandas, as one writes it for a study."""
    base = next((data_dir() / "lean").rglob("equity")) / "usa"
    flows, volumes, rows = [], [], 0
    trade = ["ms", "price", "size", "exchange", "condition", "suspicious"]
    sides = [f"{side}_{part}" for side in ("bid", "ask") for part in ("open", "high", "low", "close", "size")]
    for day in DAYS:
        stamp = day.replace("-", "")
        midnight = pd.Timestamp(day, tz="America/New_York").tz_convert("UTC")
        opens, closes = midnight + pd.Timedelta(hours=9.5), midnight + pd.Timedelta(hours=16)
        for name in NAMES:
            t = pd.read_csv(base / "tick" / name.lower() / f"{stamp}_trade.zip", header=None, names=trade)
            q = pd.read_csv(base / "second" / name.lower() / f"{stamp}_quote.zip", header=None, names=["ms", *sides])
            rows += len(t) + len(q)
            t["time"] = midnight + pd.to_timedelta(t["ms"], unit="ms")
            q["time"] = midnight + pd.to_timedelta(q["ms"] + 1000, unit="ms")
            t["condition"] = t["condition"].fillna("0").astype(str).map(lambda text: int(text, 16))
            t = t[(t["time"] >= opens) & (t["time"] < closes) & (t["suspicious"] == 0) & (t["price"] > 0)]
            t = t[(t["size"] > 0) & ((t["condition"] & NO_TRADE) == 0)].copy()
            t["price"] *= 1e-4
            q = q[(q["bid_close"] > 0) & (q["ask_close"] >= q["bid_close"])].copy()
            q["mid"] = 0.5e-4 * (q["bid_close"] + q["ask_close"])
            t["notional"] = t["price"] * t["size"]
            signed = t[(t["condition"] & NO_AGGRESSOR) == 0]
            signed = pd.merge_asof(signed, q[["time", "mid"]], on="time")
            away = np.sign((signed["price"] - signed["mid"]).round(9)).fillna(0.0)
            step = np.sign(signed["price"].diff().round(9)).replace(0.0, np.nan).ffill().fillna(0.0)
            signed["flow"] = signed["notional"] * away.where(away != 0, step)
            grid = pd.date_range(opens, closes, freq=f"{BUCKET_S}s", inclusive="left")
            for table, column, out in ((t, "notional", volumes), (signed, "flow", flows)):
                summed = (
                    table.groupby(table["time"].dt.floor(f"{BUCKET_S}s"))[column].sum().reindex(grid, fill_value=0.0)
                )
                summed.index = grid + pd.Timedelta(seconds=BUCKET_S)
                out.append(summed.rename(name))
    n = len(NAMES)
    joined = [
        pd.concat([pd.concat(x[k : k + n], axis=1) for k in range(0, len(x), n)])[list(NAMES)] for x in (flows, volumes)
    ]
    return {"flow": joined[0], "volume": joined[1], "rows": rows}


def table(path: Path, rows: int) -> None:
    """Write a csv of ticks of two names, 100 a second."""
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2024-03-04 14:30", tz="UTC").value // 10**6
    for at in range(0, rows, 50_000):
        n = min(50_000, rows - at)
        mid = 50 + 0.01 * rng.integers(-3, 4, n)
        part = pd.DataFrame({"time": start + 10 * np.arange(at, at + n), "name": rng.choice(["AAA", "BBB"], n)})
        part["price"], part["size"] = mid + 0.01 * rng.choice([-1, 1], n), rng.integers(1, 9, n) * 100
        part["bid"], part["ask"], part["bid_size"], part["ask_size"] = mid - 0.01, mid + 0.01, 500, 400
        part.round(4).to_csv(path, mode="a", index=False, header=at == 0)


def grown(path: Path) -> dict[str, Any]:
    """Read that csv in parts."""
    import crosswind as cw

    market = cw.read(
        f"csv:{path}",
        bucket_s=BUCKET_S,
        hours=None,
        tz="UTC",
        time_unit="ms",
        chunk_rows=50_000,
    )
    assert market.report is not None
    return {"rows": sum(one.rows["trades"] for one in market.report.instruments.values())}


def child(what: str, repeats: int) -> None:
    """Run one side, tell its times and its peak memory on stdout, and leave its result where asked."""
    kind, _, rest = what.partition(":")
    actions: dict[str, Callable[[], dict[str, Any]]] = {
        "ours": lambda: ours("second"),
        "ours-ticks": lambda: ours("tick"),
        "plain": plain,
        "csv": lambda: grown(Path(rest)),
    }
    result = actions[kind]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        actions[kind]()
        times.append(time.perf_counter() - begin)
    if kind in ("ours", "plain"):
        for field in ("flow", "volume"):
            np.save(Path(rest) / f"{kind}-{field}.npy", result[field].to_numpy())
    print(json.dumps({"seconds": statistics.median(times), "peak_mb": peak, "rows": result["rows"]}))


def run(what: str, repeats: int) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--child", what, "--repeats", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def differences(folder: str) -> dict[str, float]:
    """Return the largest relative difference of both results, by field."""
    out = {}
    for field in ("flow", "volume"):
        a, b = (np.load(Path(folder) / f"{side}-{field}.npy") for side in ("ours", "plain"))
        out[field] = float(np.abs(a - b).max() / np.abs(b).max())
    return out


def page(repeats: int) -> str:
    """Measure everything and return the page."""
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = run(f"ours:{folder}", repeats), run(f"plain:{folder}", repeats)
        apart = differences(folder)
        ticks = run("ours-ticks", max(1, repeats // 2))
        files = [Path(folder) / f"{k}.csv" for k in (1, 4)]
        for file, rows in zip(files, (300_000, 1_200_000), strict=True):
            table(file, rows)
        low, high = (run(f"csv:{file}", 1) for file in files)
        sizes = [file.stat().st_size / 1e6 for file in files]
    if max(apart.values()) > 1e-9:
        raise SystemExit(f"the results differ: {apart}")

    def line(name: str, told: dict[str, float]) -> str:
        rate = told["rows"] / told["seconds"] / 1e6
        return f"| {name} | {told['rows']:,.0f} | {told['seconds']:.2f} | {rate:.2f} | {told['peak_mb']:.0f} |"

    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("numpy", "pandas"))
    lines = [
        "# Reading speed",
        "",
        "Printed by `benchmarks/tick_day.py --write`. Trades of SPY, IBM, BAC and AIG on 2013-10-07 and 08 with their "
        f"1 s quotes, from LEAN's zips to signed {BUCKET_S} s buckets; each side in a process of its own, one core. "
        f"Medians of {repeats} reads after a first; the peak is of the first, imports included. The ratios travel "
        "between machines, the seconds do not.",
        "",
        "| | rows | seconds | million rows a second | peak memory [MB] |",
        "|---|---|---|---|---|",
        line("crosswind", mine),
        line("pandas: read_csv, merge_asof, groupby", theirs),
        f"| ratio, pandas to crosswind | | **{theirs['seconds'] / mine['seconds']:.1f}×** | "
        f"| **{theirs['peak_mb'] / mine['peak_mb']:.1f}×** |",
        line("crosswind, quote ticks for the three names that have them", ticks),
        "",
        f"Both give the same buckets: flow differs by at most {apart['flow']:.0e} of its largest value, volume by "
        f"{apart['volume']:.0e}. pandas counts all rows of the files, crosswind those that it used. The pandas "
        "side looks at nothing else; the other also checks times, units, stale quotes and bad rows.",
        "",
        "## Files larger than memory",
        "",
        "Ticks of a csv are read in parts of 50 000 rows here. Four times the file, the same memory:",
        "",
        "| csv | rows | seconds | million rows a second | peak memory [MB] |",
        "|---|---|---|---|---|",
        line(f"{sizes[0]:.0f} MB", low),
        line(f"{sizes[1]:.0f} MB", high),
        "",
        f"Python {platform.python_version()}, {versions}; {platform.machine()}, {os.cpu_count()} cores, one BLAS "
        "thread.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/reading-speed.md")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats (default: 5)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.repeats)
        return
    text = page(args.repeats)
    print(text)
    if args.write:
        (ROOT / "docs" / "reading-speed.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
