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
from collections.abc import Callable, Mapping, Sequence
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

# Seeds below 10 000 were looked at while the policies were designed, those of the first test (40 000 to 940 000) when
# P4 had been tuned on too few parents. The second test is drawn above all of them, and was replayed once.
TRAIN_SEED, FIRST_SEED, TEST_SEED = 20_000, 40_000, 1_000_000
LEDGER, SAME = 1e-9, 1e-6  # relative; bps between the two ways to run a rule
CHECK_EVERY = 50  # parents of a piece whose rules run on the event kernel too
PIECE, VARIED = 200, 100  # parents of a test piece, and of a world in which P4 is varied
TRAIN = 300  # parents of each training world
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
REFERENCE = 1e7  # currency: a usual parent


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
    items: Sequence[Drawn], laid: HedgeBatch, risk: float, relative: bool, clip: float, factor: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the trades of each parent's plan, solved once, and the gaps it foresees, (E, T) [contracts].

    Where the solve fails, the rule's own way out: trade with the cash plan.
    """
    trades, gaps = laid.planned.copy(), np.zeros_like(laid.planned)
    for e, item in enumerate(items):
        witness, lead = _Witness(), int(laid.replay.lead[e])
        with contextlib.suppress(_FirstState):
            run(item.episode, witness)
        policy = SolvedOnceHedge(**weighed(risk, relative), fraction=0.5, clip_share=clip, impact_factor=factor)
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
    plans: dict[tuple[float, bool, float, float], tuple[np.ndarray, np.ndarray]] = {}
    parts = []
    for p in points:
        key = (p["risk_aversion"], p["relative"], p["clip_share"], p.get("impact_factor", 1.0))
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


def replay_piece(
    cell: Cell,
    number: int,
    count: int,
    chosen: Mapping[str, dict[str, Any]],
    paces: Mapping[str, FillPace],
    labels: Sequence[str] = POLICIES,
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

    policies = {label: MAKERS[label](**chosen[label]) for label in labels}
    limited = declared(cell.world).venue.max_orders_per_minute is not None
    batched = [p for p in (P0, P1, P2, P3B, BF, BS, SO) if p in labels and not limited]
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
