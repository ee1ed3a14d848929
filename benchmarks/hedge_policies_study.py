"""What the study of hedge policies draws, tunes and replays; its statistics and page are in hedge_policies.py.

Parents come in pieces: one simulated market of a world each, with a seed of its own. Rules that are affine run on a
piece at once (:mod:`crosswind.problems.hedge.vectorised`); the marginal rule, the controller, and all policies where
messages are limited run on the event kernel, which holds every replay's components against its ledger.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge import (
    AdaptiveTrigger,
    BatchedHedge,
    Episode,
    FillPace,
    FractionHedge,
    HedgeAction,
    HedgeBatch,
    HedgeContext,
    HedgePolicy,
    HedgeReplay,
    HedgeState,
    ImmediateHedge,
    MarginalRule,
    MPCHedge,
    NoHedge,
    PlanHedge,
    SolvedOnceHedge,
    batch,
    episodes_of,
    learn_pace,
    replay_hedge,
)
from crosswind.problems.market import simulate
from crosswind.problems.market.simulator.worlds_table import world as declared
from crosswind.problems.replay.vectorised import AffinePolicy
from crosswind.solvers.errors import CrosswindError

TRAIN_SEED, TEST_SEED = 20_000, 40_000  # seeds below 10 000 were looked at while the policies were designed
LEDGER, SAME = 1e-9, 1e-6  # relative; bps between the two ways to run a rule
CHECK_EVERY = 50  # parents of a piece whose rules run on the event kernel too
PIECE, VARIED = 200, 100  # parents of a test piece, and of a world in which P4 is varied
TRAIN = 60  # parents of each training world
P0, P1, P2, P3A, P3B = "P0 none", "P1 immediate", "P2 batched", "P3a marginal", "P3b trigger"
BF, BS, SO, P4 = "BF fraction", "BS plan", "SO solved once", "P4 MPC"
RULES = (P1, P2, P3A, P3B)
POLICIES = (P0, *RULES, BF, BS, SO, P4)


@dataclass(frozen=True)
class Cell:
    """A world or a variant of it, and how many parents of it are tested."""

    label: str
    world: str
    parents: int
    impact: float = 1.0
    volatility: float = 1.0
    latency: float = 1.0
    silent: bool = False  # the venue has no impact, whatever the policies believe


CELLS = (
    Cell("calm", "calm", 600),
    Cell("stress", "stress", 800),
    Cell("basis_shock", "basis_shock", 600),
    Cell("correlation_break", "correlation_break", 600),
    Cell("revisions", "revisions", 1000),
    Cell("rate_limited", "rate_limited", 100),
    Cell("zero_impact", "zero_impact", 400),
    Cell("misspecified", "misspecified", 600),
    Cell("believed impact absent", "calm", 400, silent=True),
    Cell("latency ×2", "calm", 200, latency=2.0),
    Cell("impact ×½", "calm", 200, impact=0.5),
    Cell("impact ×2", "calm", 200, impact=2.0),
    Cell("volatility ×½", "calm", 200, volatility=0.5),
    Cell("volatility ×2", "calm", 200, volatility=2.0),
)
# Where messages are limited the batch does not apply, so tuning leaves that world out, for every policy.
TRAINED = ("calm", "stress", "basis_shock", "correlation_break", "revisions", "zero_impact", "misspecified")
_INF = math.inf
_CLIPS = (0.1, 0.2, 0.5, _INF)
_SHARES = (0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0)
_RISKS = (300.0, 1e3, 2e3, 4e3, 1e4, 3e4)  # λ times the beta notional, or else times the reference
REFERENCE = 1e7  # currency: a usual parent
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    P1: {"clip_share": (0.02, 0.05, *_CLIPS)},
    P2: {"every": (2, 3, 5, 8), "clip_share": _CLIPS},
    P3B: {"threshold_bps": (0.003, 0.01, 0.03, 0.1, 0.3), "clip_share": _CLIPS},
    BF: {"fraction": _SHARES, "clip_share": _CLIPS},
    BS: {"fraction": _SHARES, "clip_share": _CLIPS},
    SO: {
        "relative": (True, False),
        "risk_aversion": (*_RISKS[1:], 1e5),
        "fraction": (0.05, 0.1, 0.2, *_SHARES),
        "clip_share": (0.5, _INF),
    },
}
# Parameters of the policies on the event kernel are searched one after another, from the first values on: a whole grid
# would cost hours. A name may come again, to be searched at the best of the others.
WALKS: dict[str, tuple[tuple[str, tuple[Any, ...]], ...]] = {
    P4: (
        ("risk_aversion", _RISKS),
        ("clip_share", (_INF, 0.5, 0.2)),
        ("horizon", (30, 10, 60)),
        ("gap_cap_share", (_INF, 0.2, 0.05)),
        ("temporary", (0.0, 5e-12)),
        ("relative", (True, False)),
        ("risk_aversion", (2e3, 1e4)),
    ),
    P3A: (("risk_aversion", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)), ("buffer_bps", (0.0, 0.3))),
}


def weighed(risk_aversion: float, relative: bool) -> dict[str, Any]:
    """Return λ in shares of each parent, or one per currency that is the same for a parent of the reference."""
    return {"risk_aversion": risk_aversion if relative else risk_aversion / REFERENCE, "relative": relative}


def _once(risk_aversion: float, relative: bool, **rest: Any) -> HedgePolicy:
    return SolvedOnceHedge(**weighed(risk_aversion, relative), **rest)


def _again(risk_aversion: float, relative: bool, **rest: Any) -> HedgePolicy:
    return MPCHedge(**weighed(risk_aversion, relative), engine="core", **rest)


MAKERS: dict[str, Callable[..., HedgePolicy]] = {
    P0: NoHedge,
    P1: ImmediateHedge,
    P2: BatchedHedge,
    P3A: MarginalRule,
    P3B: AdaptiveTrigger,
    BF: FractionHedge,
    BS: PlanHedge,
    SO: _once,
    P4: _again,
}


# -- parents ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Drawn:
    """An episode and what the tables sort it by.

    Parameters
    ----------
    episode
        Parent, market, venue, beliefs.
    participation
        Parent's notional over what its names traded in its time.
    stressed
        Share of its time in the stressed regime.
    """

    episode: Episode
    participation: float
    stressed: float


def draw(cell: Cell, count: int, seed: int, paces: Mapping[str, FillPace] | None = None) -> list[Drawn]:
    """Return the first ``count`` parents of a market drawn with this seed, with the paces learnt for their kinds."""
    record = declared(cell.world).scaled(cell.impact, cell.volatility, cell.latency)
    assert record.desk is not None
    days = 2 + math.ceil(1.15 * count / record.desk.parents_per_day)
    data = simulate(world=record, days=days, seed=seed)
    assert data.truth is not None
    path = data.truth.parameters.get("regime_path") or []
    found = []
    for episode in episodes_of(data, record, most=count):
        parent, times = episode.parent, episode.market.times
        window = (data.events.index > times[0]) & (data.events.index <= times[-1])
        volume = float(data.events.volume.loc[window, list(parent.names)].to_numpy().sum())
        if cell.silent:
            episode = replace(episode, venue=episode.venue.without_impact())
        found.append(Drawn(episode, parent.notional(episode.market) / volume, stressed_share(path, times)))
    return found if paces is None else paced(found, paces)


def paced(items: Sequence[Drawn], paces: Mapping[str, FillPace]) -> list[Drawn]:
    """Return the parents with the forecast of their kind."""
    return [
        replace(i, episode=replace(i.episode, parent=replace(i.episode.parent, pace=paces[i.episode.kind])))
        for i in items
    ]


def stressed_share(path: Sequence[Sequence[Any]], times: pd.DatetimeIndex) -> float:
    """Return the share of a window in which the regime is 1; the regime holds from each entry's time on."""
    if not path:
        return 0.0
    starts = pd.DatetimeIndex([pd.Timestamp(at) for at, _ in path]).as_unit("ns").asi8
    states = np.array([state for _, state in path])
    bounds = times.as_unit("ns").asi8
    middle = bounds[:-1] + np.diff(bounds) // 2
    return float(states[np.maximum(np.searchsorted(starts, middle, side="right") - 1, 0)].mean())


def paces_of(drawn: Sequence[Drawn]) -> dict[str, FillPace]:
    """Return the pace of each kind of order, learnt on what training parents' algorithms did."""
    kinds = sorted({item.episode.kind for item in drawn})
    return {
        kind: learn_pace((d.episode.parent, d.episode.market) for d in drawn if d.episode.kind == kind)
        for kind in kinds
    }


def read_paces(into: Path) -> dict[str, FillPace]:
    """Return the paces that were learnt."""
    return {kind: FillPace(*values) for kind, values in json.loads((into / "paces.json").read_text()).items()}


# -- replays ----------------------------------------------------------------------------------------------------------
class _FirstState(Exception):
    """Carries a first decision out of a replay that is not needed further."""


class _Witness:
    closes = True

    def reset(self, context: HedgeContext) -> None:
        self.context = context

    def decide(self, state: HedgeState) -> HedgeAction:
        self.state = state
        raise _FirstState


def run(episode: Episode, policy: HedgePolicy) -> HedgeReplay:
    """Replay one parent on the event kernel.

    Raises
    ------
    CrosswindError
        When components and ledger differ by more than 1e-9.
    """
    done = replay_hedge(episode.parent, policy, episode.market, episode.beliefs, episode.venue)
    if not done.attribution.ledger_error <= LEDGER:
        raise CrosswindError(
            "components and ledger differ",
            field=f"parent {episode.name}",
            value=done.attribution.ledger_error,
            remedy="do not trust the study before this is found",
        )
    return done


def solved(
    items: Sequence[Drawn], laid: HedgeBatch, risk: float, relative: bool, clip: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the trades of each parent's plan, solved once, and the gaps it foresees, (E, T) [contracts].

    Where the solve fails, the rule's own way out: trade with the cash plan.
    """
    trades, gaps = laid.planned.copy(), np.zeros_like(laid.planned)
    for e, item in enumerate(items):
        witness, lead = _Witness(), int(laid.replay.lead[e])
        with contextlib.suppress(_FirstState):
            run(item.episode, witness)
        policy = SolvedOnceHedge(**weighed(risk, relative), fraction=0.5, clip_share=clip)
        policy.reset(witness.context)
        policy.decide(witness.state)
        if policy.trades is not None:
            trades[e, lead:] = policy.trades / laid.contract[e]
            gaps[e, lead:] = policy.gaps / laid.contract[e]
    return trades, gaps


def affine(items: Sequence[Drawn], laid: HedgeBatch, label: str, points: Sequence[Mapping[str, Any]]) -> AffinePolicy:
    """Return a rule with several sets of parameters for the batch."""
    clip = np.array([p.get("clip_share", _INF) for p in points])
    if label == P0:
        return laid.policy(closes=False)
    if label == P1:
        return laid.immediate(clip)
    if label == P3B:
        return laid.trigger(np.array([p["threshold_bps"] for p in points]), clip)
    if label in (BF, BS):
        share = np.array([p["fraction"] for p in points])
        return laid.fraction(share, clip) if label == BF else laid.plan(share, clip)
    if label == P2:
        return stacked([laid.batched(p["every"], p["clip_share"]) for p in points], laid)
    plans: dict[tuple[float, bool, float], tuple[np.ndarray, np.ndarray]] = {}
    parts = []
    for p in points:
        key = (p["risk_aversion"], p["relative"], p["clip_share"])
        if key not in plans:
            plans[key] = solved(items, laid, *key)
        parts.append(laid.solved_once(*plans[key], p["fraction"], p["clip_share"]))
    return stacked(parts, laid)


def stacked(policies: Sequence[AffinePolicy], laid: HedgeBatch) -> AffinePolicy:
    """Return several rules as one with as many sets of parameters: one compilation serves them all."""
    episodes, slices, n = laid.schedule.shape
    out = {}
    for field in fields(AffinePolicy):
        arrays = [np.asarray(getattr(policy, field.name)) for policy in policies]
        if field.name in ("feed", "gain", "threshold", "clip", "pull", "closing"):
            full = (episodes, n) if field.name == "closing" else (episodes, slices, n)
            wide = [np.broadcast_to(a, (a.shape[0], *full)) for a in arrays]
            out[field.name] = np.concatenate(wide)
        else:
            out[field.name] = arrays[0]
    return AffinePolicy(**out)


def costs(items: Sequence[Drawn], policy: HedgePolicy) -> np.ndarray:
    """Return the hedge cost of each parent by the event kernel, (E,) [bps of its notional]."""
    done = [run(item.episode, policy) for item in items]
    return np.array([one.hedge_cost / one.notional * 1e4 for one in done])


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


def tune(training: Mapping[str, Sequence[Drawn]], kept: Path, say: Callable[[str], None]) -> None:
    """Try every point on the pooled training parents; what the file already holds is not run again.

    Rows of the file: policy, parameters (JSON), mean, q95 and score.
    """
    laid = {name: batch([item.episode for item in items]) for name, items in training.items()}
    everyone = [item for items in training.values() for item in items]
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
                runs = [laid[w].run(affine(items, laid[w], label, lacking)).bps for w, items in training.items()]
                note(label, lacking, np.concatenate(runs, axis=1))
        say(f"tuned {label}")
    for label, steps in WALKS.items():

        def price(point: dict[str, Any], label: str = label) -> float:
            if key(label, point) not in held:
                note(label, [point], costs(everyone, MAKERS[label](**point))[None, :])
            return held[key(label, point)]

        for point, value in walk(steps, price):
            say(f"{label} {point}: {value:.3f}")


def best_of(table: pd.DataFrame, label: str) -> dict[str, Any]:
    """Return the parameters with the least score; the first wins a tie."""
    if label == P0:
        return {}
    part = table[table["policy"] == label]
    return dict(json.loads(part.loc[part["score"].idxmin(), "parameters"]))


# -- test -------------------------------------------------------------------------------------------------------------
def pieces(cells: Sequence[Cell], parents: float) -> list[tuple[Cell, int, int]]:
    """Return (cell, number, parents) of each piece, those of every cell in turn; ``parents`` scales all counts."""
    queue = []
    for cell in cells:
        count = max(2, round(cell.parents * parents))
        sizes = [PIECE] * (count // PIECE) + ([count % PIECE] if count % PIECE else [])
        queue.append([(cell, number, size) for number, size in enumerate(sizes)])
    return [piece for row in itertools.zip_longest(*queue) for piece in row if piece is not None]


def seed_of(cell: Cell, number: int) -> int:
    """Return the seed of a test piece: one of its own for each."""
    return TEST_SEED + zlib.crc32(f"{cell.label}/{number}".encode()) % 900_000


def test_piece(
    cell: Cell, number: int, count: int, chosen: Mapping[str, dict[str, Any]], paces: Mapping[str, FillPace]
) -> pd.DataFrame:
    """Return one row per parent and policy of a piece.

    Columns: cell, piece, day, parent, kind, notional, participation, stressed, policy, cost [bps], the components and
    the ledger's error where the event kernel ran.
    """
    items = draw(cell, count, seed_of(cell, number), paces)
    rows: list[dict[str, Any]] = []

    def note(item: Drawn, label: str, cost: float, done: HedgeReplay | None = None) -> None:
        episode = item.episode
        row: dict[str, Any] = {
            "cell": cell.label,
            "piece": number,
            "day": episode.name.split("-")[0],
            "parent": episode.name,
            "kind": episode.kind,
            "notional": episode.parent.notional(episode.market),
            "participation": item.participation,
            "stressed": item.stressed,
            "policy": label,
            "cost": cost,
        }
        if done is not None:
            row |= {str(name): float(value) for name, value in done.components_bps.items()}
            row["ledger_error"] = done.attribution.ledger_error
        rows.append(row)

    # The marginal rule is slow to replay and near the others: the first piece of each cell tells.
    policies = {label: MAKERS[label](**chosen[label]) for label in POLICIES if label != P3A or number == 0}
    limited = declared(cell.world).venue.max_orders_per_minute is not None
    batched = () if limited else (P0, P1, P2, P3B, BF, BS, SO)
    quick: dict[str, np.ndarray] = {}
    if batched:
        laid = batch([item.episode for item in items])
        rules = [affine(items, laid, label, [chosen[label]]) for label in batched]
        quick = dict(zip(batched, laid.run(stacked(rules, laid)).bps, strict=True))
    for label, policy in policies.items():
        for e, item in enumerate(items):
            if label in quick and e % CHECK_EVERY:
                note(item, label, float(quick[label][e]))
                continue
            done = run(item.episode, policy)
            cost = done.hedge_cost / done.notional * 1e4
            if label in quick and abs(cost - quick[label][e]) > SAME:
                raise CrosswindError(
                    "batch and event kernel differ",
                    field=f"{label} on {item.episode.name}",
                    value=(cost, float(quick[label][e])),
                    remedy="use the event kernel until this is found",
                )
            note(item, label, cost, done)
    return pd.DataFrame(rows)


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

    def p4(**changed: Any) -> HedgePolicy:
        return MAKERS[P4](**{**chosen[P4], **changed})

    risk = float(chosen[P4]["risk_aversion"])
    blind = Blind(engine="core", **{**chosen[P4], **weighed(risk, bool(chosen[P4]["relative"]))})
    out: dict[str, tuple[Callable[[Drawn], Drawn], HedgePolicy]] = {
        "as it is": (same, p4()),
        "without the cash forecast": (
            same,
            Blind(engine="core", **{**chosen[P4], **weighed(risk, bool(chosen[P4]["relative"]))}),
        ),
        "what is behind, evenly": (evenly, p4()),
        "horizon of 5 slices": (same, p4(horizon=5)),
        "without cross-impact": (lambda item: believing(item, 1.0, 0.0), p4()),
        "impact believed ×½": (lambda item: believing(item, 0.5, 1.0), p4()),
        "impact believed ×2": (lambda item: believing(item, 2.0, 1.0), p4()),
        "BS, what is behind, evenly": (evenly, MAKERS[BS](**chosen[BS])),
    }
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


def study(into: Path, parents: float, say: Callable[[str], None]) -> None:
    """Tune, test and vary; whatever ``into`` already holds is not done again.

    Files: paces.json, tuning.csv, tuned (empty: tuning is over), rows.csv (a block of lines per piece), variants.csv.
    """
    into.mkdir(parents=True, exist_ok=True)
    by_label = {cell.label: cell for cell in CELLS}
    if not (into / "tuned").exists():
        count = max(10, round(TRAIN * min(1.0, parents)))
        training = {name: draw(by_label[name], count, TRAIN_SEED + i) for i, name in enumerate(TRAINED)}
        if not (into / "paces.json").exists():
            learnt = paces_of([item for items in training.values() for item in items])
            (into / "paces.json").write_text(json.dumps({k: [p.planned, p.catch_up] for k, p in learnt.items()}))
        tune({name: paced(items, read_paces(into)) for name, items in training.items()}, into / "tuning.csv", say)
        (into / "tuned").touch()
    table = pd.read_csv(into / "tuning.csv")
    chosen = {label: best_of(table, label) for label in POLICIES}
    paces = read_paces(into)
    kept = into / "rows.csv"
    done = set(map(tuple, pd.read_csv(kept)[["cell", "piece"]].drop_duplicates().to_numpy())) if kept.exists() else ()
    for cell, number, count in pieces(CELLS, parents):
        if (cell.label, number) not in done:
            test_piece(cell, number, count, chosen, paces).to_csv(kept, mode="a", index=False, header=not kept.exists())
            say(f"tested {cell.label} {number}")
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
