"""What the study of hedge policies searches, how it varies P4, and the order in which all is done.

Everything is kept in files as it comes, so that a run that was cut short goes on where it ended.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hedge_policies_quick import Quick
from hedge_policies_study import (
    BF,
    BS,
    CELLS,
    CHECK_EVERY,
    MAKERS,
    P0,
    P1,
    P2,
    P3A,
    P3B,
    P4,
    POLICIES,
    SAME,
    SO,
    TRAIN,
    TRAIN_SEED,
    TRAINED,
    VARIED,
    Cell,
    Drawn,
    affine,
    costs,
    draw,
    paced,
    paces_of,
    pieces,
    read_paces,
    replay_piece,
    run,
    seed_of,
    weighed,
)

from crosswind.problems.hedge import FillPace, HedgeAction, HedgePolicy, HedgeState, MPCHedge
from crosswind.solvers.errors import CrosswindError

_INF = math.inf
_CLIPS = (0.1, 0.2, 0.5, _INF)
_SHARES = (0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0)
_FACTORS = (0.5, 2.0)
_RISKS = (1e3, 2e3, 4e3, 1e4)  # λ times the beta notional, or else times the reference
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    P1: {"clip_share": (0.02, 0.05, *_CLIPS)},
    P2: {"every": (2, 3, 5, 8), "clip_share": _CLIPS},
    P3B: {"threshold_bps": (0.003, 0.01, 0.03, 0.1, 0.3), "clip_share": _CLIPS},
    BF: {"fraction": _SHARES, "clip_share": _CLIPS},
    BS: {"fraction": _SHARES, "clip_share": _CLIPS},
    SO: {
        "relative": (True, False),
        "risk_aversion": _RISKS,
        "fraction": _SHARES,
        "clip_share": (_INF,),  # 0.5 and shares below 0.3 were the worst of the first 160 points
        "impact_factor": (1.0, 2.0),
    },
}
# Parameters of the policies that no batch can run are searched one after another, from the first values on: a whole
# grid would cost hours. A name may come again, to be searched at the best of the others.
WALKS: dict[str, tuple[tuple[str, tuple[Any, ...]], ...]] = {
    P4: (
        ("risk_aversion", _RISKS),
        ("impact_factor", (1.0, 2.0)),
        ("fee_bps", (0.0, 0.15, 0.3)),
        ("spread_power", (0.0, 2.0)),
        ("gap_penalty", (1e-3,)),
        ("gap_cap_share", (_INF, 0.2, 0.1)),
        ("relative", (True, False)),
        ("horizon", (30, 60)),
        ("risk_aversion", (1e3, 2e3, 4e3)),
    ),
    P3A: (
        ("risk_aversion", (1e-4, 3e-4, 5e-4, 7e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 1e-2, 3e-2)),
        ("buffer_bps", (0.0, 0.1, 0.3)),
        ("clip_share", (_INF, 0.5, 0.2)),
    ),
}


# -- tuning -----------------------------------------------------------------------------------------------------------
def score(bps: np.ndarray) -> np.ndarray:
    """Return ½ mean + ½ q95 over the last axis: what tuning minimises."""
    return np.asarray(0.5 * bps.mean(axis=-1) + 0.5 * np.quantile(bps, 0.95, axis=-1))


def grid_points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return all combinations."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def walk(
    steps: Sequence[tuple[str, Sequence[Any]]], price: Callable[[dict[str, Any]], float]
) -> Iterator[tuple[dict[str, Any], float]]:
    """Search one parameter after another, each at the best of those before; yields what was tried and its price."""
    best: dict[str, Any] = {}
    for name, options in steps:
        best.setdefault(name, options[0])
    found: float | None = None
    for name, options in steps:
        start = best
        for option in options:
            point = {**start, name: option}
            if found is not None and point == start:
                continue
            value = price(point)
            yield point, value
            if found is None or value < found:
                best, found = point, value


def quickly(quick: Sequence[Quick], make: Callable[[Drawn], HedgePolicy]) -> np.ndarray:
    """Return the costs of all parents by the quick replay, held against the event kernel's on some of them.

    Raises
    ------
    CrosswindError
        Where they differ.
    """
    parts = []
    for part in quick:
        bps = part.costs(make)
        for e in range(0, len(part.items), 2 * CHECK_EVERY):
            item = part.items[e]
            slow = float(costs([item], make(item))[0])
            if abs(slow - bps[e]) > SAME:
                raise CrosswindError(
                    "quick replay and event kernel differ",
                    field=item.episode.name,
                    value=(slow, float(bps[e])),
                    remedy="use the event kernel until this is found",
                )
        parts.append(bps)
    return np.concatenate(parts)


def tune(training: Mapping[str, Quick], kept: Path, say: Callable[[str], None]) -> None:
    """Try every point on the pooled training parents; what the file already holds is not run again.

    Rows of the file: policy, parameters (JSON), mean, q95 and score.
    """
    held: dict[tuple[str, str], float] = {}
    if kept.exists():
        table = pd.read_csv(kept)
        held = dict(zip(zip(table["policy"], table["parameters"], strict=True), table["score"], strict=True))

    def key(label: str, point: Mapping[str, Any]) -> tuple[str, str]:
        return label, json.dumps(dict(point), sort_keys=True)

    def note(label: str, points: Sequence[Mapping[str, Any]], bps: np.ndarray) -> None:
        rows = pd.DataFrame(
            {
                "policy": label,
                "parameters": [key(label, point)[1] for point in points],
                "mean": bps.mean(axis=1),
                "q95": np.quantile(bps, 0.95, axis=1),
                "score": score(bps),
            }
        )
        rows.to_csv(kept, mode="a", index=False, header=not kept.exists())
        held.update(dict(zip([key(label, point) for point in points], rows["score"], strict=True)))

    for label, grid in GRIDS.items():
        points = grid_points(grid)
        # Few at a time: a run's arrays hold every slice of every parent for every point.
        for part in (points[i : i + 40] for i in range(0, len(points), 40)):
            lacking = [point for point in part if key(label, point) not in held]
            if lacking:
                runs = [q.laid.run(affine(q.items, q.laid, label, lacking)).bps for q in training.values()]
                note(label, lacking, np.concatenate(runs, axis=1))
        say(f"tuned {label}")
    for label, steps in WALKS.items():

        def price(point: dict[str, Any], label: str = label) -> float:
            if key(label, point) not in held:
                note(label, [point], quickly(list(training.values()), lambda _: MAKERS[label](**point))[None, :])
            return held[key(label, point)]

        for point, value in walk(steps, price):
            say(f"{label} {point}: {value:.3f}")


def best_of(table: pd.DataFrame, label: str) -> dict[str, Any]:
    """Return the parameters with the least score; the first wins a tie."""
    if label == P0:
        return {}
    part = table[table["policy"] == label]
    return dict(json.loads(str(part["parameters"].iloc[int(part["score"].argmin())])))


# -- variants and the whole study --------------------------------------------------------------------------------------
class Doubtful(MPCHedge):
    """P4 that trusts a part of the cost of timing: of what past and planned trades do to the future's price."""

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the first trade of the program with half the linear cost."""
        return super().decide(replace(state, drift=0.5 * state.drift))


class Late(MPCHedge):
    """P4 that expects of the work that is due in a slice what the desk's blocks are done of on time: 85 %."""

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the first trade of the program with a path that trails its plan."""
        due = np.diff(state.planned_beta_q, prepend=state.beta_q)
        path, behind = [], 0.0
        for planned in due[:-1]:
            behind = 0.15 * (behind + planned)
            path.append(behind)
        return super().decide(replace(state, planned_beta_q=state.planned_beta_q - np.array([*path, 0.0])))


def tried(quick: Sequence[Quick], chosen: dict[str, Any], kept: Path, say: Callable[[str], None]) -> None:
    """Write what was tried besides the parameters, on the training parents: name, mean, q95 and score.

    λ by kind of order takes for each kind the factor that lowers the pooled score most, twice round: hindsight on these
    very parents, so what it gains here is the most it could.
    """
    risk = float(chosen["risk_aversion"])
    wide = {**chosen, "engine": "core", **weighed(risk, bool(chosen["relative"]))}
    plain = quickly(quick, lambda _: MAKERS[P4](**chosen))
    makers: dict[str, Callable[[Drawn], HedgePolicy]] = {
        "half the linear cost": lambda _: Doubtful(**wide),
        "late blocks expected at 85%": lambda i: (Late if i.episode.kind == "block" else MPCHedge)(**wide),
    }
    bps = {"as chosen": plain, **{name: quickly(quick, make) for name, make in makers.items()}}
    scaled = {f: quickly(quick, lambda _, f=f: MAKERS[P4](**{**chosen, "risk_aversion": f * risk})) for f in _FACTORS}
    scaled[1.0] = plain
    kinds = np.array([item.episode.kind for part in quick for item in part.items])
    taken = dict.fromkeys(np.unique(kinds), 1.0)

    def pooled(by: Mapping[str, float]) -> np.ndarray:
        return np.select([kinds == kind for kind in by], [scaled[factor] for factor in by.values()])

    for kind in [*taken, *taken]:
        taken = min(({**taken, kind: f} for f in scaled), key=lambda by: float(score(pooled(by))))
    said = ", ".join(f"{kind} ×{factor:g}" for kind, factor in taken.items())
    bps |= {f"λ ×{f:g}": values for f, values in scaled.items() if f != 1.0}
    bps[f"λ by kind of order ({said})"] = pooled(taken)
    rows = [(n, v.mean(), np.quantile(v, 0.95), float(score(v))) for n, v in bps.items()]
    pd.DataFrame(rows, columns=["tried", "mean", "q95", "score"]).to_csv(kept, index=False)
    say("tried what is no parameter")


class Blind(MPCHedge):
    """P4 that does not look at the cash plan: what is to hedge now is taken to stay."""

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the first trade of the program with a flat path."""
        return super().decide(replace(state, planned_beta_q=np.full(len(state.planned_beta_q), state.beta_q)))


def believing(item: Drawn, own: float, cross: float) -> Drawn:
    """Return the parent with the believed impact scaled: the hedge's on itself, and between the legs."""
    beliefs, modes = item.episode.beliefs, []
    for mode in beliefs.modes:
        matrix = np.asarray(mode.matrix) * own
        matrix[-1, :-1] *= cross
        matrix[:-1, -1] *= cross
        modes.append(replace(mode, matrix=matrix))
    return replace(item, episode=replace(item.episode, beliefs=replace(beliefs, modes=tuple(modes))))


def variants(chosen: Mapping[str, dict[str, Any]]) -> dict[str, tuple[Callable[[Drawn], Drawn], HedgePolicy]]:
    """Return what P4 is without its parts and with wrong beliefs: how a parent is changed, and the policy."""

    def same(item: Drawn) -> Drawn:
        return item

    def evenly(item: Drawn) -> Drawn:
        parent = replace(item.episode.parent, pace=FillPace())
        return replace(item, episode=replace(item.episode, parent=parent))

    def foreseen(item: Drawn) -> Drawn:
        parent = item.episode.parent
        if parent.revisions or parent.fills is None:
            return item
        return replace(item, episode=replace(item.episode, parent=replace(parent, plan=parent.fills)))

    def p4(**changed: Any) -> HedgePolicy:
        return MAKERS[P4](**{**chosen[P4], **changed})

    risk = float(chosen[P4]["risk_aversion"])
    blind = Blind(engine="core", **{**chosen[P4], **weighed(risk, bool(chosen[P4]["relative"]))})
    out: dict[str, tuple[Callable[[Drawn], Drawn], HedgePolicy]] = {
        "as it is": (same, p4()),
        "without the cash forecast": (same, blind),
        "what is behind, evenly": (evenly, p4()),
        "fills known ahead (where nothing is revised)": (foreseen, p4()),
        "horizon of 5 slices": (same, p4(horizon=5)),
        "without cross-impact": (lambda item: believing(item, 1.0, 0.0), p4()),
        "impact believed ×½": (lambda item: believing(item, 0.5, 1.0), p4()),
        "impact believed ×2": (lambda item: believing(item, 2.0, 1.0), p4()),
        "BS, what is behind, evenly": (evenly, MAKERS[BS](**chosen[BS])),
    }
    for name, parameter, neutral in (
        ("own impact as it is believed", "impact_factor", 1.0),
        ("without fees in the program", "fee_bps", 0.0),
        ("one variance at every spread", "spread_power", 0.0),
    ):
        if chosen[P4].get(parameter, neutral) != neutral:
            out[name] = (same, p4(**{parameter: neutral}))
    for factor in (1 / 8, 1 / 3, 3.0):
        out[f"λ ×{factor:.3g}"] = (same, p4(risk_aversion=risk * factor))
    return out


def variant_piece(cell: Cell, label: str, items: Sequence[Drawn], chosen: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the costs of one variant on some parents of a cell."""
    change, policy = variants(chosen)[label]
    rows = []
    for item in items:
        done = run(change(item).episode, policy)
        row = {"cell": cell.label, "piece": 0, "day": item.episode.name.split("-")[0], "parent": item.episode.name}
        cost = done.hedge_cost / done.notional * 1e4
        rows.append({**row, "policy": label, "cost": cost, "ledger_error": done.attribution.ledger_error})
    return pd.DataFrame(rows)


def study(into: Path, parents: float, say: Callable[[str], None], test: bool = True) -> None:
    """Tune, test and vary; whatever ``into`` already holds is not done again.

    Files: paces.json, tuning.csv, tried.csv, tuned (empty: tuning is over), rows.csv (a block of lines per piece),
    variants.csv. Without ``test`` it ends when tuning is over.
    """
    into.mkdir(parents=True, exist_ok=True)
    by_label = {cell.label: cell for cell in CELLS}
    if not (into / "tuned").exists():
        count = max(10, round(TRAIN * min(1.0, parents)))
        training = {name: draw(by_label[name], count, TRAIN_SEED + i) for i, name in enumerate(TRAINED)}
        if not (into / "paces.json").exists():
            learnt = paces_of([item for items in training.values() for item in items])
            (into / "paces.json").write_text(json.dumps({k: [p.planned, p.catch_up] for k, p in learnt.items()}))
        quick = {name: Quick(paced(items, read_paces(into))) for name, items in training.items()}
        say("training parents recorded")
        tune(quick, into / "tuning.csv", say)
        found = {label: best_of(pd.read_csv(into / "tuning.csv"), label) for label in POLICIES}
        tried(list(quick.values()), found[P4], into / "tried.csv", say)
        (into / "tuned").touch()
        del quick, training
    if not test:
        return
    table = pd.read_csv(into / "tuning.csv")
    chosen = {label: best_of(table, label) for label in POLICIES}
    paces = read_paces(into)
    kept = into / "rows.csv"
    held: dict[tuple[str, int], set[str]] = {}
    if kept.exists():
        for cell, number, label in pd.read_csv(kept)[["cell", "piece", "policy"]].drop_duplicates().to_numpy():
            held.setdefault((str(cell), int(number)), set()).add(str(label))
    for part, number, count in pieces(CELLS, parents):
        lacking = [label for label in POLICIES if label not in held.get((part.label, number), ())]
        if lacking:
            rows = replay_piece(part, number, count, chosen, paces, lacking)
            rows.to_csv(kept, mode="a", index=False, header=not kept.exists())
            say(f"tested {part.label} {number}")
    kept = into / "variants.csv"
    done = set(map(tuple, pd.read_csv(kept)[["cell", "policy"]].drop_duplicates().to_numpy())) if kept.exists() else ()
    for name in ("calm", "revisions"):
        lacking = [label for label in variants(chosen) if (name, label) not in done]
        count = max(2, round(VARIED * parents))
        items = draw(by_label[name], count, seed_of(by_label[name], 0), paces) if lacking else []
        for label in lacking:
            rows = variant_piece(by_label[name], label, items, chosen)
            rows.to_csv(kept, mode="a", index=False, header=not kept.exists())
            say(f"varied {label} in {name}")
