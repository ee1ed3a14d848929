"""`ImpactMoments`: what one pass over the events leaves behind, by block of time; all fits start from here."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.gram import FoldGrams, Gram
from crosswind.problems.impact.moments.blocks import Block, check_half_life, coarsened, decay
from crosswind.problems.impact.moments.sums import Sums
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.impact.factors import Defactor, FittedStage

__all__ = ["ImpactMoments", "merge_moments"]


@dataclass(frozen=True, eq=False)
class ImpactMoments:
    """Moments of flow, returns and factors by block of time: all that a fit needs, free of the number of rows.

    `+` merges partial results over other sessions in any order: with one block for each session or part of it the
    result is the same to the last bit. Size in memory: blocks × (NM)² numbers.

    Parameters
    ----------
    names
        The N names.
    dictionary
        Decay shapes that the regressors were made with.
    currency
        Of the flow.
    factors
        Names of the F factor returns beside the events; () without.
    blocks
        In time order.
    half_life_days
        Calendar days after which a row counts half; None: all rows count the same.
    block_s
        Length of the parts [s] into which sessions are cut; None: a block is a session or several.

    Raises
    ------
    InvalidInput
        A half-life that is not positive.
    """

    names: tuple[str, ...]
    dictionary: Dictionary
    currency: str
    factors: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    half_life_days: float | None = None
    block_s: float | None = None

    def __post_init__(self) -> None:
        check_half_life(self.half_life_days)

    # -- what is in it --------------------------------------------------------------------------------------------
    @property
    def bucket_s(self) -> float:
        """Bucket length [s]."""
        return self.dictionary.bucket_s

    @property
    def days(self) -> tuple[dt.date, ...]:
        """Sessions in it, ascending."""
        return tuple(sorted({d for block in self.blocks for d in block.days}))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(block.sums.rows for block in self.blocks)

    @property
    def effective_rows(self) -> float:
        """(Σ w)²/Σ w² over the rows."""
        return self.total().effective_rows

    @property
    def left_out(self) -> dict[str, int]:
        """Buckets that are no rows, by reason."""
        return dict(sum((Counter(block.left_out) for block in self.blocks), Counter()))

    def total(self, blocks: Iterable[Block] | None = None) -> Sums:
        """Return the sums over some blocks (default all), weighted as of the last day of all blocks."""
        chosen = self.blocks if blocks is None else tuple(blocks)
        none = Sums.empty(len(self.names), self.dictionary.size, len(self.factors))
        if not chosen:
            return none
        last = self.blocks[-1].days[-1]
        return reduce(add, (b.sums.scaled(decay((last - b.days[-1]).days, self.half_life_days)) for b in chosen))

    @property
    def dead_names(self) -> dict[str, str]:
        """Names that nothing can be learned about: name → "no flow" or "no moves"."""
        total = self.total()
        still = {n: "no moves" for n, v in zip(self.names, np.diag(total.rr), strict=True) if v <= 0}
        return still | {n: "no flow" for n, v in zip(self.names, np.diag(total.uu), strict=True) if v <= 0}

    # -- other moments from these ---------------------------------------------------------------------------------
    def __add__(self, other: ImpactMoments) -> ImpactMoments:
        return merge_moments((self, other))

    def with_half_life(self, half_life_days: float | None) -> ImpactMoments:
        """Return the moments with other weights, without reading anything again.

        Raises
        ------
        InvalidInput
            A half-life that is not positive, or blocks that hold several sessions, whose rows are joined already.
        """
        if half_life_days != self.half_life_days and any(len(b.days) > 1 for b in self.blocks):
            raise InvalidInput(
                "blocks of several sessions were joined with other weights",
                field="half_life_days",
                value=half_life_days,
                remedy="give half_life_days to StreamingGram, or sum without max_blocks",
            )
        return replace(self, half_life_days=half_life_days)

    def on(self, days: Sequence[dt.date]) -> ImpactMoments:
        """Return the blocks of some sessions, e.g. a rolling window.

        Raises
        ------
        DataGap
            A session is not there, or is joined with one that was not asked for.
        """
        wanted = set(days)
        kept = tuple(b for b in self.blocks if wanted >= set(b.days))
        missing = wanted - {d for b in kept for d in b.days}
        if missing or not wanted:
            raise DataGap(
                "no block holds these sessions alone",
                field="days",
                value=sorted(str(d) for d in missing),
                remedy=f"choose among {', '.join(str(d) for d in self.days)}",
            )
        return replace(self, blocks=kept)

    def select(self, names: Sequence[str]) -> ImpactMoments:
        """Return the moments of some names, in the order given, e.g. without the dead ones.

        Raises
        ------
        InvalidInput
            No name, an unknown one or one given twice.
        """
        chosen = tuple(names)
        unknown = [n for n in chosen if n not in self.names]
        if unknown or not chosen or len(set(chosen)) < len(chosen):
            raise InvalidInput(
                "unknown, repeated or no name",
                field="names",
                value=unknown or chosen,
                remedy=f"choose among {', '.join(self.names)}",
            )
        at = np.array([self.names.index(n) for n in chosen])
        wide = (np.arange(self.dictionary.size)[:, None] * len(self.names) + at).reshape(-1)

        def cut(s: Sums) -> Sums:
            pairs = {"ZZ": (wide, wide), "rZ": (at, wide), "rr": (at, at), "uu": (at, at)}
            held: dict[str, Any] = {key: getattr(s, key)[np.ix_(*index)] for key, index in pairs.items()}
            return replace(s, fZ=s.fZ[:, wide], fr=s.fr[:, at], **held)

        return replace(self, names=chosen, blocks=tuple(replace(b, sums=cut(b.sums)) for b in self.blocks))

    # -- to a fit -------------------------------------------------------------------------------------------------
    def check_dictionary(self, dictionary: Dictionary) -> ImpactMoments:
        """Return self where the moments were summed for these decay shapes.

        Raises
        ------
        InvalidInput
            Otherwise.
        """
        mine = self.dictionary
        same = (mine.family, mine.lags, len(mine.rates_per_s)) == (
            dictionary.family,
            dictionary.lags,
            len(dictionary.rates_per_s),
        )
        if not same or not np.allclose(mine.rates_per_s, dictionary.rates_per_s, rtol=1e-9, atol=0.0):
            raise InvalidInput(
                "the moments were summed for other decay shapes",
                field="moments.dictionary",
                value=(mine.family, mine.labels),
                remedy=f"sum them with make_dictionary({dictionary.family!r}, …) for {', '.join(dictionary.labels)}",
            )
        return self

    def fold_grams(self, folds: int = 0, defactor: bool | Defactor = True) -> tuple[FoldGrams, FittedStage | None]:
        """Return what an estimate reads, and the first stage fitted on all rows (None where there is none).

        Parameters
        ----------
        folds
            Number of groups of consecutive blocks, about equal in rows; 0 for none. Blocks beside a group in its own
            session neither train nor test, for as long as the slowest shape remembers (at most a quarter of a group);
            sessions start from rest and need no such guard.
        defactor
            Whether to regress returns on the factors beside the events, or a `Defactor`. In each fold the stage is
            fitted on the training rows alone.

        Raises
        ------
        DataGap
            No rows, or fewer blocks than folds.
        """
        total = self.total()
        if total.rows == 0:
            raise DataGap("no bucket has a return for every name", field="moments", remedy="sum over more buckets")
        stage = self._stage(defactor)
        scale = total.weight / total.square
        fitted = None if stage is None else stage.fit_sums(total, self.names, self.factors)
        whole = total if fitted is None else fitted.apply(total)
        trains: list[Gram] = []
        blocks: list[Gram] = []
        guards: list[Gram] = []
        for inside, beside in self._groups(folds):
            held = inside | beside
            pieces = [
                self.total(b for k, b in enumerate(self.blocks) if k not in held),
                self.total(self.blocks[k] for k in sorted(inside)),
                self.total(self.blocks[k] for k in sorted(beside)),
            ]
            if pieces[0].rows == 0:
                raise DataGap("a fold has no training rows", field="folds", value=folds, remedy="give more blocks")
            if stage is not None:
                own = stage.fit_sums(pieces[0], self.names, self.factors)
                pieces = [own.apply(piece) for piece in pieces]
            for into, piece in zip((trains, blocks, guards), pieces, strict=True):
                into.append(piece.gram(scale))
        raw = total.rr / total.weight
        return FoldGrams(whole.gram(scale), tuple(blocks), tuple(guards), raw, tuple(trains)), fitted

    def _stage(self, defactor: bool | Defactor) -> Defactor | None:
        from crosswind.problems.impact.factors import Defactor

        if isinstance(defactor, bool):
            return Defactor() if defactor and self.factors else None
        if not isinstance(defactor, Defactor):
            raise InvalidInput(
                "neither a truth value nor a Defactor",
                field="defactor",
                value=defactor,
                remedy="pass True, Defactor(…)",
            )
        return defactor

    def _groups(self, folds: int) -> list[tuple[set[int], set[int]]]:
        """Return the numbers of the blocks inside and beside each fold."""
        if folds == 0:
            return []
        if len(self.blocks) < folds:
            raise DataGap(
                f"{folds} folds need as many blocks",
                field="folds",
                value=len(self.blocks),
                remedy="sum more sessions, give StreamingGram a block_s shorter than a session, or ask for fewer folds",
            )
        ends = np.cumsum([b.sums.rows for b in self.blocks])
        cuts = [0]
        for k in range(1, folds):
            near = int(np.argmin(np.abs(ends - ends[-1] * k / folds))) + 1
            cuts.append(min(max(near, cuts[-1] + 1), len(self.blocks) - (folds - k)))
        cuts.append(len(self.blocks))
        out = []
        for a, b in pairwise(cuts):
            beside: set[int] = set()
            if self.block_s is not None:
                memory = math.ceil(self.dictionary.memory_buckets * self.bucket_s / self.block_s)
                reach = min(memory, max(1, (b - a) // 4))
                first, last = self.blocks[a].days[0], self.blocks[b - 1].days[-1]
                beside = {k for k in range(max(0, a - reach), a) if first in self.blocks[k].days}
                beside |= {k for k in range(b, min(b + reach, len(self.blocks))) if last in self.blocks[k].days}
            out.append((set(range(a, b)), beside))
        return out

    # -- out ------------------------------------------------------------------------------------------------------
    def to_frame(self) -> pd.DataFrame:
        """One row per block: first and last session, part, rows, weight as of the last day, buckets left out."""
        last = self.blocks[-1].days[-1] if self.blocks else None
        table = [
            {
                "first": b.days[0],
                "last": b.days[-1],
                "part": b.part,
                "rows": b.sums.rows,
                "weight": b.sums.weight * decay((last - b.days[-1]).days, self.half_life_days) if last else 0.0,
                "left_out": sum(b.left_out.values()),
            }
            for b in self.blocks
        ]
        return pd.DataFrame(table, columns=["first", "last", "part", "rows", "weight", "left_out"])

    def summary(self) -> str:
        """Say in a few lines what was summed, how it is weighted and what was left out."""
        span = f"{self.days[0]} .. {self.days[-1]}" if self.blocks else "no sessions"
        left = ", ".join(f"{n} {reason}" for reason, n in sorted(self.left_out.items())) or "none"
        weights = "equal" if self.half_life_days is None else f"half-life {self.half_life_days:g} days"
        lines = [
            f"moments of {len(self.names)} names, {self.dictionary.size} shapes, {len(self.factors)} factors, bucket "
            f"{self.bucket_s:g} s, {self.currency}",
            f"  sessions   {len(self.days)} ({span}) in {len(self.blocks)} blocks",
            f"  rows       {self.rows}, {self.effective_rows:.0f} effective; weights {weights}",
            f"  left out   {left}",
        ]
        dead = self.dead_names if self.rows else {}
        return "\n".join(
            lines + ([f"  dead       {', '.join(f'{n}: {why}' for n, why in dead.items())}"] if dead else [])
        )

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>"

    def plot(self) -> Any:
        """Return a plotly figure: rows and weighted rows by block."""
        from crosswind.problems.plotting import figure

        fig, table = figure("Rows by block", "block's last session", "rows"), self.to_frame()
        where = [f"{row.last} {row.part}" if self.block_s else str(row.last) for row in table.itertuples()]
        fig.add_bar(x=where, y=table["rows"], name="rows")
        fig.add_bar(x=where, y=table["weight"], name="weighted")
        return fig.update_layout(barmode="group")

    def save(self, path: str | Path) -> None:
        """Write one .npz file, atomically and without pickles; :meth:`load` gives back the same bits."""
        from crosswind.problems.impact.moments.store import save_moments

        save_moments(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> ImpactMoments:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataGap
            The file is absent.
        InvalidInput
            It does not hold moments, or damaged ones.
        """
        from crosswind.problems.impact.moments.store import load_moments

        return load_moments(Path(path))


def merge_moments(parts: Iterable[ImpactMoments], max_blocks: int | None = None) -> ImpactMoments:
    """Merge moments over different sessions, as of parallel workers; parts without rows change nothing.

    Parameters
    ----------
    parts
        Moments of the same names, shapes, factors, currency and weights, each over whole sessions.
    max_blocks
        Join neighbouring blocks with the fewest rows until so many are left; None: keep all.

    Raises
    ------
    InvalidInput
        Nothing to merge, moments that differ in one of these, or a session that is in two of them.
    """
    given = list(parts)
    if not given:
        raise InvalidInput("nothing to merge", field="parts", value=0, remedy="give at least one ImpactMoments")
    first = given[0]
    for other in given[1:]:
        for what in ("names", "dictionary", "currency", "factors", "half_life_days", "block_s"):
            if getattr(other, what) != getattr(first, what):
                raise InvalidInput(
                    "moments that differ cannot be merged",
                    field=f"moments.{what}",
                    value=(getattr(first, what), getattr(other, what)),
                    remedy="convert to one currency; sum all with the same names, shapes, factors and weights",
                )
    owner: dict[dt.date, int] = {}
    for k, part in enumerate(given):
        for day in part.days:
            if owner.setdefault(day, k) != k:
                raise InvalidInput(
                    "a session is in two of the parts, so its state would start anew or its rows count twice",
                    field="parts",
                    value=str(day),
                    remedy="give each part whole sessions of its own",
                )
    blocks = sorted((b for part in given for b in part.blocks), key=lambda b: b.key)
    return replace(first, blocks=coarsened(blocks, max_blocks, first.half_life_days))
