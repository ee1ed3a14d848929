"""Two runs against each other: ratios of times on the cells that both solved, with a bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosswind.solvers.bench.statistics import bootstrap_ratio
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

    from crosswind.solvers.bench.engine import BenchResult

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """The outcome of :func:`compare`.

    Attributes
    ----------
    ratios
        One row per mode, accuracy and solver: geometric mean of time B over time A with its interval, pairs.
    changed
        Cells that one run solved and the other did not.
    notes
        What makes the two hard to compare: another machine, other versions, other limits.
    """

    ratios: pd.DataFrame
    changed: pd.DataFrame
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return ``ratios``."""
        return self.ratios

    def summary(self) -> str:
        """Return the tables as text."""
        parts = [self.ratios.to_string(index=False, float_format=lambda v: f"{v:.3g}")]
        if len(self.changed):
            parts.append("solved by one run only:\n" + self.changed.to_string(index=False))
        parts += [f"note: {note}" for note in self.notes]
        return "\n\n".join(parts)


def compare(a: BenchResult | str | Path, b: BenchResult | str | Path, *, seed: int = 0) -> Comparison:
    """Compare run B with run A, program by program.

    Parameters
    ----------
    a, b
        Results, or their folders.
    seed
        Of the bootstrap.

    Returns
    -------
    Comparison
        Ratios below one mean that B is faster. An interval that holds one shows no difference.

    Raises
    ------
    InvalidInput
        When a folder holds no run, or the two share no cell.
    """
    import pandas as pd

    one, two = _loaded(a), _loaded(b)
    left, right = ({_match(row): row for row in run.rows if row["mode"] != "anytime"} for run in (one, two))
    common = [key for key in left if key in right]
    if not common:
        raise InvalidInput("the runs share no cell", field="compare", value=(str(a), str(b)), remedy="same suites")
    pairs: dict[tuple[str, float, str], list[tuple[float, float]]] = {}
    changed = []
    for key in common:
        first, second = left[key], right[key]
        group = (first["mode"], first["accuracy"], first["solver"])
        pairs.setdefault(group, [])
        if first["success"] and second["success"]:
            pairs[group].append((first["total_s"], second["total_s"]))
        elif first["success"] != second["success"]:
            changed.append(
                {
                    **{name: first[name] for name in ("suite", "case", "solver", "mode", "accuracy")},
                    "A": first["status"],
                    "B": second["status"],
                }
            )
    rows = []
    for (mode, accuracy, solver), times in sorted(
        pairs.items(), key=lambda item: (item[0][0], -item[0][1], item[0][2])
    ):
        ratio, low, high = (
            bootstrap_ratio([t[0] for t in times], [t[1] for t in times], seed=seed) if times else (float("nan"),) * 3
        )
        verdict = "no pairs" if not times else "faster" if high < 1.0 else "slower" if low > 1.0 else "no difference"
        rows.append(
            {
                "mode": mode,
                "accuracy": accuracy,
                "solver": solver,
                "pairs": len(times),
                "B over A": ratio,
                "low": low,
                "high": high,
                "B is": verdict,
            }
        )
    notes = [*_differences(one.facts, two.facts)]
    for name, count in (("A", len(left) - len(common)), ("B", len(right) - len(common))):
        if count:
            notes.append(f"{count} cells are in {name} alone")
    columns = ["suite", "case", "solver", "mode", "accuracy", "A", "B"]
    return Comparison(pd.DataFrame(rows), pd.DataFrame(changed, columns=columns), tuple(notes))


def _loaded(run: BenchResult | str | Path) -> BenchResult:
    from crosswind.solvers.bench.engine import load_result

    return load_result(run) if isinstance(run, (str, Path)) else run


def _match(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["digest"], row["solver"], row["mode"], row["accuracy"], row["settings"]


def _differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    found = []
    for name in ("processor", "cores", "memory_mb", "versions"):
        left, right = a.get("machine", {}).get(name), b.get("machine", {}).get(name)
        if left != right:
            found.append(f"{name} differs: {left} against {right}")
    if a.get("solvers") != b.get("solvers"):
        names = sorted({*a.get("solvers", {}), *b.get("solvers", {})})
        diff = [n for n in names if a.get("solvers", {}).get(n) != b.get("solvers", {}).get(n)]
        found.append(f"versions of solvers differ: {', '.join(diff)}")
    for name in ("time_limit_s", "repeats"):
        left, right = a.get("plan", {}).get(name), b.get("plan", {}).get(name)
        if left != right:
            found.append(f"{name} differs: {left} against {right}")
    return found
