"""What is promoted on recorded markets, and whether it holds on data that neither fit nor choice has seen.

Run ``python benchmarks/impact_calibration.py`` to print the tables, with ``--write`` to put them into
docs/impact/calibration-study.md. Every figure in that page comes from this script. The data are looked for in
CROSSWIND_DATA, else beside the repository in shared/data.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import crosswind as cw
from crosswind.problems.impact.calibrate import Promotion, default_estimators
from crosswind.problems.market import MarketEvents
from crosswind.solvers.errors import DataGap

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "impact" / "calibration-study.md"
CRYPTO = ("BTCUSDT.spot", "ETHUSDT.spot", "BTCUSD_PERP.cm", "ETHUSD_PERP.cm")


@dataclass(frozen=True)
class Case:
    """One market, cut into what is calibrated on and what comes after."""

    label: str
    train: MarketEvents
    later: MarketEvents
    kernel: str


def data_folder() -> Path:
    """Return the folder of recorded data.

    Raises
    ------
    DataGap
        It is not there.
    """
    folder = Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        raise DataGap("no recorded data", field="CROSSWIND_DATA", value=folder, remedy="set it to the data's folder")
    return folder


def cases() -> Iterator[Case]:
    """Yield the equities at three bucket lengths and the stress set, each with fading and with permanent impact."""
    folder = data_folder()
    equities = cw.read(f"lean:{folder / 'lean'}").events
    for bucket in (10.0, 60.0, 300.0):
        events = equities.resample(bucket)
        for kernel in ("exponential", "instantaneous"):
            yield Case(
                f"SPY, IBM, BAC, AIG, {bucket:g} s, {kernel}",
                events.on(events.days[:-1]),
                events.on(events.days[-1:]),
                kernel,
            )
    events = cw.read(f"binance-raw:{folder / 'hftbacktest'}", names=CRYPTO, bucket_s=1.0).events
    cut = events.index[2 * len(events.index) // 3]
    for kernel in ("exponential", "instantaneous"):
        yield Case(
            f"BTC and ETH, spot and COIN-M, 1 s, {kernel}",
            events.between(events.index[0], cut),
            events.between(cut, events.index[-1]),
            kernel,
        )


def row(promotion: Promotion, verified: pd.DataFrame) -> dict[str, str]:
    """Return one row of the page's table: the choice, its held-out score, and the later data."""
    scores = promotion.calibration.out_of_sample()["mean"].xs(promotion.rule["horizon_s"], level="horizon_s")
    out = {
        "promoted": promotion.choice,
        "R² in the folds": f"{scores[promotion.choice]:.3f}",
        "own flow": f"{scores[promotion.baseline[0]]:.3f}",
        "full OLS": f"{scores['full OLS']:.3f}",
    }
    for horizon, line in verified.iterrows():
        text = f"{line['promoted']:.3f} against {line['baseline']:.3f}, {line['difference']:+.3f}"
        out[f"later, {horizon:g} s"] = f"{text} [{line['low']:+.3f}, {line['high']:+.3f}]"
    out["holds"] = "yes" if verified["holds"].all() else "**no**"
    return out


def markdown(draws: int) -> str:
    """Run all cases and return the page."""
    lines = [
        "# What is promoted on recorded markets",
        "",
        "Printed by `benchmarks/impact_calibration.py --write`; nothing on this page is typed by hand.",
        "",
        f"Each market is calibrated by `cw.calibrate` (5 blocked folds, {draws} draws, seed 0, 90 % intervals) on its "
        "earlier part, `cw.promote` chooses by the default rule, and the choice is then scored on the later part "
        "beside own-flow least squares. The equities are fitted on 2013-10-07 and 08 and scored on 09; the crypto set "
        "has eleven minutes in all, two thirds to fit: a case of stress, not a proving ground. R² is the mean over "
        "names against the forecast of no impact; *holds* means that the promoted model is not worse than own flow by "
        "more than its interval, on any horizon.",
        "",
    ]
    for case in cases():
        promotion = cw.promote(cw.calibrate(case.train, default_estimators(kernel=case.kernel), draws=draws))
        found = row(promotion, promotion.verify(case.later))
        lines += [f"## {case.label}", "", f"| {' | '.join(found)} |", f"|{'---|' * len(found)}"]
        lines += [f"| {' | '.join(found.values())} |", ""]
        table = promotion.to_frame()
        lines += ["| candidate | R² | why |", "|---|---|---|"]
        lines += [f"| {label} | {line['score']:.3f} | {line['reason']} |" for label, line in table.iterrows()]
        lines.append("")
    lines.append(f"crosswind {cw.__version__}, Python {platform.python_version()}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=40, help="resampled refits of each calibration (default: 40)")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    args = parser.parse_args()
    text = markdown(args.draws)
    if args.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
