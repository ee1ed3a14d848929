"""What both verbs of ``crosswind roll`` share: where the day comes from, limits in words, files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosswind.cli.common import Outcome, split_names

if TYPE_CHECKING:
    import pandas as pd

    from crosswind.problems.roll.contracts import RollContract
    from crosswind.problems.roll.replay import RollEpisode

__all__ = ["dry_run", "episode_of", "limits_of", "source_of", "written"]


def source_of(text: str) -> dict[str, Any]:
    """Return what --data says: its kind; seed, stress and level of simulated days, or the folder of recorded ones."""
    from crosswind.solvers.errors import InvalidInput

    kind, _, rest = text.partition(":")
    if kind not in ("sim", "lean") or (kind == "lean" and not rest):
        raise InvalidInput("is unknown", field="--data", value=text, remedy="write sim, sim:seed=3 or lean:DIR")
    if kind == "lean":
        if not Path(rest).is_dir():
            raise InvalidInput("is no folder", field="--data", value=rest, remedy="name LEAN's folder or the one above")
        return {"kind": kind, "folder": rest}
    out: dict[str, Any] = {"kind": kind}
    casts = {"seed": int, "stress": str, "level": float}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        try:
            if key in out:
                raise ValueError
            out[key] = casts[key](value)
        except (KeyError, ValueError):
            raise InvalidInput(
                "is not understood",
                field="--data",
                value=part,
                remedy="keys: seed=N, stress=NAME, level=POINTS, each once",
            ) from None
    return out


def episode_of(args: argparse.Namespace, terms: RollContract, keys: dict[str, Any]) -> RollEpisode:
    """Return the order on its day."""
    from crosswind.problems.roll.contracts import roll_instant, simulated_roll_day
    from crosswind.problems.roll.replay import real_roll_day

    start, cutoff = (roll_instant(getattr(args, name), args.day, terms.spec.tz, name) for name in ("start", "cutoff"))
    legs = split_names(args.legs, "--legs")
    given: dict[str, Any] = {
        "legs": None if legs is None else _pair(legs),
        "max_naked": args.max_naked,
        "carry_cap": args.carry_cap,
    }
    if keys["kind"] == "lean":
        return real_roll_day(
            args.day,
            start,
            cutoff,
            args.quantity,
            terms.spec.root,
            data=keys["folder"],
            seed=args.seed,
            **given,
        )
    seed, stress = keys.get("seed", 0), keys.get("stress", "calm")
    return simulated_roll_day(terms, args.day, start, cutoff, args.quantity, seed=seed, stress=stress, **given)


def _pair(legs: tuple[str, ...]) -> tuple[str, str]:
    from crosswind.solvers.errors import InvalidInput

    if len(legs) != 2 or not all(len(leg) == 6 and leg.isdigit() for leg in legs):
        raise InvalidInput("are not two months", field="--legs", value=",".join(legs), remedy="write 202403,202406")
    return legs[0], legs[1]


def limits_of(args: argparse.Namespace, terms: RollContract, episode: RollEpisode | None) -> dict[str, Any]:
    """Return order, legs and limits: what a dry run prints, and every summary holds."""
    from dataclasses import asdict

    from crosswind.problems.market.contracts import expiry_of
    from crosswind.problems.roll.churn import ChurnLimits

    out: dict[str, Any] = {
        "contract": f"{terms.name} ({terms.spec.title})",
        "one spread is": terms.unit,
        "currency": terms.currency,
        "spread tick [points]": terms.parameters.tick,
        "currency per point": terms.parameters.multiplier,
        "fee per contract of a leg": terms.fee if args.fee is None else args.fee,
    }
    if episode is not None:
        order, market = episode.order, episode.market
        expiry = expiry_of(terms.name, market.legs[0])
        out |= {
            "order": f"{'buy' if order.side > 0 else 'sell'} {order.size} spreads",
            "legs": " into ".join(market.legs),
            "start": order.start.isoformat(),
            "cutoff": order.cutoff.isoformat(),
            "near leg ends trading": expiry.at.isoformat(),
            "spread book": market.source,
            "bars": episode.bars,
            "most contracts that legs stand apart by": order.max_naked,
            "spreads that may stay undone": order.carry_cap,
        }
    if args.kind == "plan":
        out |= {
            "crossing over others' volume, at most": args.participation,
            "planned for the forced cross, at most": args.deadline_share,
            "scenarios": args.scenarios,
            "slices": args.slices,
        }
    else:
        out |= {f"anti-churn: {name}": value for name, value in asdict(ChurnLimits()).items()}
        if episode is None:
            out["orders"] = args.orders
    return out


def dry_run(limits: dict[str, Any]) -> Outcome:
    """Return the limits as the whole outcome."""
    text = ["limits, nothing was solved or replayed", *(f"  {name}: {value}" for name, value in limits.items())]
    return Outcome("\n".join(text), {"dry_run": True, "limits": limits})


def written(out: str | None, outcome: Outcome, tables: Mapping[str, pd.DataFrame], pages: Mapping[str, Any]) -> Outcome:
    """Write tables, pages and summary where asked, whole or not at all, and say so."""
    if out is None:
        return outcome
    from crosswind.problems.atomic import atomic_directory
    from crosswind.problems.workflow.output import write_json, write_tables

    with atomic_directory(out) as work:
        write_tables(work / "tables", dict(tables))
        for name, page in pages.items():
            if hasattr(page, "panel"):  # the report: its page, and the panel's values beside it
                page.to_html(work / name)
                write_json(work / "panel.json", page.panel())
            else:
                page.write_html(work / name, include_plotlyjs=True)
        write_json(work / "summary.json", outcome.payload)
    return Outcome(f"{outcome.text}\nwritten to {out}/", outcome.payload, outcome.exit_code)
