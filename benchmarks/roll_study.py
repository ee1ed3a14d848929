"""Roll policies on held-out simulated days and on recorded ones: tails, completion, frontier, ablations.

    python benchmarks/roll_study.py --rows FILE            # runs what FILE does not hold yet, in pieces
    python benchmarks/roll_study.py --rows FILE --write    # also writes docs/roll/study.md and its pictures

Every figure on that page comes from this script. Parameters of all policies, baselines as well, are tuned on training
seeds by ½ mean + ½ q95 and frozen; the test days are of another seed.
"""

from __future__ import annotations

import argparse
import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
from roll_study_watch import DayWatch

from crosswind.problems.market.simulator.worlds_table import world as world_of
from crosswind.problems.roll import Regime, RollPolicy
from crosswind.problems.roll.metrics import RollMetricsConfig, RollVolumeBaseline
from crosswind.problems.roll.policy import DisplayCap, PlaybookRoll, RollPolicyConfig, TailAwareRoll
from crosswind.problems.roll.policy_table import PlaybookTable, default_rules
from crosswind.problems.roll.program import RollSettings, ScheduledRoll
from crosswind.problems.roll.regimes import RegimeWatch
from crosswind.problems.roll.replay import (
    AdaptiveTwap,
    AllEarly,
    AllLate,
    Legged,
    PassiveThenCross,
    RollEpisode,
    RollReplay,
    RollReplayConfig,
    TwapSpread,
    VolumeFollowing,
    real_roll_day,
    replay_roll,
    roll_episodes,
)
from crosswind.problems.roll.replay.bootstrap import measures

SEEDS = {"baseline": 5001, "train": 5100, "test": 5200}
TRAIN, TEST, CHUNK = 240, 2000, 100
DISPLAY = 0.2  # of its own side's displayed size, of every policy that rests
WHOLE = 1e5  # a slice longer than any window: the whole order rests at once
PLACES = {"frontier": 200, "volatility": 300}
# Where a replay costs much or the outcome is plain, the first test orders only; comparisons pair what both have.
FEWER = {
    "volume following": 1000,
    "legged": 1000,
    "all early": 1000,
    "all late": 1000,
    "playbook": 1000,
    "without reversion": 1000,
    "without carry-forward": 1000,
    "roll program": 200,
    "roll program without the tail term": 200,
    "tail-aware on the roll program's pace": 200,
}
KEPT = [
    *("episode", "block", "stress", "size", "side", "cost", "spread_fees", "impact", "basis_drift", "legging"),
    *("timing", "fees", "completion", "own_completion", "forced_share", "residual", "over_cap", "most_naked"),
    *("most_replaces", "replaces"),
]
REAL = {
    "2013-12-18": ("mostly after the roll", ("09:00", "11:00", "12:30")),
    "2013-12-02": ("before the roll", ("09:00", "11:00", "12:30")),
}

Maker = Callable[[Mapping[str, Any]], RollPolicy]


def table_of(p: Mapping[str, Any]) -> PlaybookTable:
    """Return the declared table with what is tuned: chase in ticks, tail weights as declared or all one."""
    rules = default_rules()
    if "chase" in p:
        rules = tuple(replace(rule, chase_ticks=float(p["chase"])) for rule in rules)
    if p.get("tails") == "one":
        rules = tuple(replace(rule, tail=1.0) for rule in rules)
    return PlaybookTable(rules)


def config_of(p: Mapping[str, Any]) -> RollPolicyConfig:
    """Return the configuration with what is tuned."""
    names = RollPolicyConfig.__dataclass_fields__
    return RollPolicyConfig(**{k: v for k, v in p.items() if k in names})


def capped(policy: RollPolicy) -> RollPolicy:
    """Return a policy under the display that all share."""
    return DisplayCap(policy, DISPLAY)


def scheduled(p: Mapping[str, Any]) -> ScheduledRoll:
    """Return the roll program as a policy, at a size that thousands of replays can pay for."""
    return ScheduledRoll(
        settings=RollSettings(tail_weight=float(p.get("tail", 0.0))), scenarios=40, slices=12, every_s=1800.0
    )


# Family → (maker, grid of parameters, watched).
FAMILIES: dict[str, tuple[Maker, list[dict[str, Any]], bool]] = {
    "TWAP in the spread": (lambda p: TwapSpread(p["slice"]), [{"slice": s} for s in (20.0, 60.0, 120.0, 300.0)], False),
    "adaptive TWAP": (
        lambda p: capped(AdaptiveTwap(p["slice"])),
        [{"slice": s} for s in (60.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, WHOLE)],
        False,
    ),
    "volume following": (
        lambda p: VolumeFollowing(p["share"]),
        [{"share": s} for s in (None, 0.02, 0.05, 0.1, 0.2)],
        False,
    ),
    "legged": (
        lambda p: Legged(p["slice"], p["let"]),
        [{"slice": s, "let": t} for s in (60.0, 300.0) for t in (0.0, 60.0, 300.0)],
        False,
    ),
    "all early": (lambda p: AllEarly(), [{}], False),
    "all late": (lambda p: AllLate(p["last"]), [{"last": s} for s in (30.0, 60.0, 300.0, 600.0)], False),
    "rest, then the forced cross": (
        lambda p: capped(PassiveThenCross(p["slice"])),
        [{"slice": s} for s in (300.0, 1200.0, 3600.0, WHOLE)],
        False,
    ),
    "roll program": (
        lambda p: capped(scheduled(p)),
        [{"tail": w} for w in (0.3, 1.0, 3.0)],
        False,
    ),
    "playbook": (
        lambda p: PlaybookRoll(config_of(p), table_of(p)),
        [{"slice_s": s, "chase": c} for s in (300.0, 1200.0) for c in (0.0, 0.3, 0.6)],
        True,
    ),
}
# The tail-aware policy is tuned one number after the other.
TAIL_GRID: dict[str, tuple[Any, ...]] = {
    "tail_weight": (0.05, 0.1, 0.25, 0.5),
    "chase": (0.0, 0.3, 0.6),
    "reference_s": (1800.0, 3600.0, 5400.0),
    "reversion": (0.0, 0.5, 1.0, 1.5),
    "edge": (0.5, 0.7, 0.9),
    "trust": (0.0, 0.5, 0.8),
    "tails": ("declared", "one"),
}
TAIL_START = {
    "tail_weight": 0.25,
    "chase": 0.3,
    "reference_s": 3600.0,
    "reversion": 1.0,
    "edge": 0.7,
    "trust": 0.5,
    "tails": "declared",
}
FRONTIER_TAIL = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
FRONTIER_SLICE = (30.0, 60.0, 120.0, 200.0, 300.0, 450.0, 600.0, 900.0, 1200.0, 1800.0, 2400.0, 3600.0, 5400.0, WHOLE)


def tail_aware(p: Mapping[str, Any], **options: Any) -> TailAwareRoll:
    """Return the tail-aware policy."""
    return TailAwareRoll(config_of(p), table_of(p), **options)


class Store:
    """Pieces of the study in a file of JSON lines: what is there is not run again."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.held: dict[str, Any] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                piece = json.loads(line)
                self.held[piece["key"]] = piece["value"]

    def get(self, key: str, run: Callable[[], Any]) -> Any:
        """Return a piece, run first if it is not there."""
        if key not in self.held:
            self.held[key] = run()
            if self.path is not None:
                with self.path.open("a") as file:
                    file.write(json.dumps({"key": key, "value": self.held[key]}) + "\n")
        return self.held[key]


def watch() -> DayWatch:
    """Return the watch, its baseline of past rolls on days of their own."""
    days = roll_episodes(12, seed=SEEDS["baseline"], stress={}, orders_per_day=1)
    return DayWatch(RollVolumeBaseline.fit([e.market for e in days], tz="America/New_York"))


def row_of(replay: RollReplay, seconds: float, faults: int) -> list[Any]:
    """Return what is kept of a replay, in the order of ``KEPT`` and of what follows."""
    row = replay.row()
    order = (Regime.PRE_ROLL, Regime.CROWDED, Regime.BASIS_STRESS)
    met = max((order.index(r) for r in replay.regimes if r in order), default=0)
    late = bool(replay.regimes) and replay.regimes[0] is Regime.DEADLINE
    values = [row[name] for name in KEPT]
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    return [*plain, "DEADLINE" if late else order[met].name, seconds, faults]


COLUMNS = [*KEPT, "worst", "seconds", "faults"]


def replayed(episodes: tuple[RollEpisode, ...], policy: RollPolicy, config: RollReplayConfig) -> list[list[Any]]:
    """Return the rows of a policy."""
    rows = []
    for episode in episodes:
        began = process_time()
        replay = replay_roll(episode, policy, config)
        inner = getattr(policy, "policy", policy)
        rows.append(row_of(replay, process_time() - began, int(getattr(inner, "faults", 0))))
    return rows


def frame_of(rows: list[list[Any]]) -> pd.DataFrame:
    """Return rows as a frame by episode."""
    return pd.DataFrame(rows, columns=COLUMNS).set_index("episode")


def objective(rows: list[list[Any]]) -> float:
    """Return ½ mean + ½ q95 of the cost; what does not complete 99.9 % is out."""
    frame = frame_of(rows)
    mean, _, q95, _ = measures(frame["cost"].to_numpy(float))
    return float(0.5 * mean + 0.5 * q95) + (1e3 if frame["completion"].mean() < 0.999 else 0.0)


class Study:
    """The study's pieces."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.watched = RollReplayConfig(watch=watch())
        self.plain = RollReplayConfig()
        self._train: tuple[RollEpisode, ...] | None = None

    def _score(self, family: str, p: Mapping[str, Any], make: Maker, watched: bool) -> float:
        def run() -> float:
            if self._train is None:
                self._train = roll_episodes(TRAIN, seed=SEEDS["train"])
            part = self._train[:40] if family == "roll program" else self._train
            return objective(replayed(part, make(p), self.watched if watched else self.plain))

        score = float(self.store.get(f"tune|{family}|{json.dumps(p, sort_keys=True)}", run))
        print(f"{family} {dict(p)}: {score:.3f}", file=sys.stderr, flush=True)
        return score

    def tuned(self) -> dict[str, dict[str, Any]]:
        """Return the parameters of every family, chosen on the training days."""
        found = {}
        for family, (make, grid, watched) in FAMILIES.items():
            scores = [self._score(family, p, make, watched) for p in grid]
            found[family] = grid[int(np.argmin(scores))]
        best = dict(TAIL_START)
        score = self._score("tail-aware", best, tail_aware, True)
        for name, values in TAIL_GRID.items():
            for value in values:
                if value == best[name]:
                    continue
                trial = {**best, name: value}
                got = self._score("tail-aware", trial, tail_aware, True)
                if got < score - 1e-9:
                    best, score = trial, got
        found["tail-aware"] = best
        return found

    def policies(self) -> dict[str, tuple[RollPolicy, bool]]:
        """Return the policies of the main comparison with their frozen parameters."""
        chosen = self.tuned()
        out: dict[str, tuple[RollPolicy, bool]] = {}
        for family, (make, _, watched) in FAMILIES.items():
            if family != "roll program":
                out[family] = (make(chosen[family]), watched)
        best = chosen["tail-aware"]
        out["adaptive TWAP, 5 min"] = (capped(AdaptiveTwap(300.0)), False)
        out["tail-aware"] = (tail_aware(best), True)
        out["without the tail term"] = (tail_aware({**best, "tail_weight": 0.0}), True)
        out["without reversion"] = (tail_aware({**best, "reversion": 0.0, "chase": np.inf}), True)
        out["without carry-forward"] = (tail_aware(best, carry=False), True)
        out["without regimes"] = (tail_aware(best), False)
        out["roll program"] = (capped(scheduled(chosen["roll program"])), False)
        out["roll program without the tail term"] = (capped(scheduled({"tail": 0.0})), False)
        out["tail-aware on the roll program's pace"] = (
            tail_aware(best, schedule=scheduled(chosen["roll program"])),
            True,
        )
        return out

    def chunks(
        self, total: int, seed: int, tag: str, volatility: float = 1.0
    ) -> Iterator[tuple[str, Callable[..., Any]]]:
        """Yield keys of chunks with what draws their episodes, once for all policies of the chunk."""
        parameters = world_of("roll_day").roll
        assert parameters is not None
        roll = parameters.scaled(volatility) if volatility != 1.0 else None
        for number in range(total // CHUNK):
            drawn: list[tuple[RollEpisode, ...]] = []

            def episodes(number: int = number, drawn: list[tuple[RollEpisode, ...]] = drawn) -> tuple[RollEpisode, ...]:
                if not drawn:
                    # A seed of its own for each chunk; names and blocks are made distinct.
                    got = roll_episodes(CHUNK, seed=seed + 10_000 * (number + 1), parameters=roll)
                    mark = f"{number:02d}"
                    drawn.append(
                        tuple(
                            RollEpisode(
                                f"{mark}-{e.name}",
                                e.market,
                                e.order,
                                f"{mark}-{e.block}",
                                e.stress,
                                e.seed,
                                e.arrival_s,
                            )
                            for e in got
                        )
                    )
                return drawn[0]

            yield f"{tag}|{number}", episodes

    def rows(
        self, policies: Mapping[str, tuple[RollPolicy, bool]], total: int, tag: str, volatility: float = 1.0
    ) -> dict[str, pd.DataFrame]:
        """Return the rows of policies on test days, by label."""
        parts: dict[str, list[list[Any]]] = {label: [] for label in policies}
        for key, episodes in self.chunks(total, SEEDS["test"], tag, volatility):
            for label, (policy, watched) in policies.items():
                if tag == "main" and int(key.split("|")[1]) * CHUNK >= FEWER.get(label, total):
                    continue
                config = self.watched if watched else self.plain

                def run(
                    policy: RollPolicy = policy,
                    config: RollReplayConfig = config,
                    episodes: Callable[..., Any] = episodes,
                ) -> list[list[Any]]:
                    return replayed(episodes(), policy, config)

                parts[label] += self.store.get(f"{key}|{label}", run)
            print(key, file=sys.stderr, flush=True)
        return {label: frame_of(rows) for label, rows in parts.items()}

    def main(self) -> dict[str, pd.DataFrame]:
        """Return the rows of the main comparison."""
        return self.rows(self.policies(), TEST, "main")

    def frontier(self) -> dict[str, pd.DataFrame]:
        """Return the rows of both families along their urgency, on the first test days."""
        best = self.tuned()["tail-aware"]
        points: dict[str, tuple[RollPolicy, bool]] = {
            f"tail-aware|{w:g}": (tail_aware({**best, "tail_weight": w}), True) for w in FRONTIER_TAIL
        }
        points |= {f"adaptive TWAP|{s:g}": (capped(AdaptiveTwap(s)), False) for s in FRONTIER_SLICE}
        return self.rows(points, PLACES["frontier"], "main")

    def volatility(self) -> dict[float, dict[str, pd.DataFrame]]:
        """Return the rows with all price volatilities of the day halved and doubled, parameters as frozen."""
        names = ("TWAP in the spread", "adaptive TWAP", "adaptive TWAP, 5 min", "tail-aware", "without the tail term")
        kept = {name: self.policies()[name] for name in names}
        return {f: self.rows(kept, PLACES["volatility"], f"volatility {f:g}", f) for f in (0.5, 2.0)}

    def real(self) -> dict[str, Any]:
        """Return the recorded days: rows by day, size and policy, and the machine's transitions."""
        data = os.environ.get("CROSSWIND_DATA")
        folder = Path(data) / "lean" if data else Path(__file__).resolve().parents[2] / "shared" / "data" / "lean"
        chosen = self.policies()
        names = [n for n in chosen if not n.startswith(("without", "roll program without"))]
        # Quotes made up from the legs move by the legs' ticks: so does the least scale of the basis.
        config = RollReplayConfig(watch=RegimeWatch(None, RollMetricsConfig(sigma_floor_points=0.25 / np.sqrt(12.0))))

        def run() -> dict[str, Any]:
            found: dict[str, Any] = {"rows": [], "trails": {}}
            for day, (_, starts) in REAL.items():
                for size in (200, 2000):
                    for place, start in enumerate(starts):
                        end = f"{int(start[:2]) + 2:02d}{start[2:]}"
                        for side in (1, -1):
                            episode = real_roll_day(
                                day,
                                start,
                                end,
                                side * size,
                                data=folder,
                                max_naked=size // 10,
                                seed=10 * place + side + 1,
                            )
                            for name in names:
                                policy, watched = chosen[name]
                                replay = replay_roll(episode, policy, config if watched else self.plain)
                                found["rows"].append([day, name, *row_of(replay, 0.0, 0)])
            long = real_roll_day("2013-12-18", "09:00", "15:00", 2000, data=folder, max_naked=200)
            replay = replay_roll(long, chosen["tail-aware"][0], config)
            found["source"], found["text"] = long.market.source, replay.summary()
            found["trails"]["2013-12-18"] = [{**t.to_dict(), "text": t.text()} for t in replay.transitions]
            return json.loads(json.dumps(found, default=float))

        def cautious() -> list[list[Any]]:
            """Return what the caution does to large orders: day, caution, mean cost, impact and legs' share."""
            best, out = self.tuned()["tail-aware"], []
            for day, (_, starts) in REAL.items():
                episodes = [
                    real_roll_day(
                        day, start, f"{int(start[:2]) + 2:02d}{start[2:]}", side * 2000, data=folder, max_naked=200
                    )
                    for start in starts
                    for side in (1, -1)
                ]
                for caution in (0.65, 0.4, 0.2, 0.1):
                    trial = {**best, "caution": caution}
                    policy, score = tail_aware(trial), self._score("tail-aware", trial, tail_aware, True)
                    got = [replay_roll(episode, policy, config) for episode in episodes]
                    legs = [sum(abs(f.units) for f in r.fills if f.kind == "first leg") / r.size for r in got]
                    impact = [r.components["impact"] / r.size for r in got]
                    costs = [r.per_contract for r in got]
                    out.append(
                        [day, caution, *map(float, (np.mean(costs), max(costs), np.mean(impact), np.mean(legs), score))]
                    )
            return out

        result: dict[str, Any] = dict(self.store.get("real", run))
        result["caution"] = self.store.get("real caution", cautious)
        return result


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, help="JSON lines in which pieces are kept")
    parser.add_argument("--only", choices=("tune", "main", "frontier", "volatility", "real"), help="run one part")
    parser.add_argument("--write", action="store_true", help="write the page and its pictures")
    given = parser.parse_args()
    study = Study(Store(given.rows))
    parts = {"tune": study.tuned, "main": study.main, "frontier": study.frontier, "volatility": study.volatility}
    parts["real"] = study.real
    if given.only:
        found = parts[given.only]()
        print(found if given.only in ("tune", "real") else {k: len(v) for k, v in found.items()})
        return
    from roll_study_page import page, pictures

    text = page(study)
    print(text)
    if given.write:
        root = Path(__file__).resolve().parents[1] / "docs"
        (root / "roll" / "study.md").write_text(text)
        pictures(study, root / "img")


if __name__ == "__main__":
    main()
