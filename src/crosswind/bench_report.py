"""The files of a benchmark: parquet tables, one self-contained page, a Markdown summary."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crosswind.solvers.bench import BenchResult

__all__ = ["report_html", "write_report"]


def report_html(result: BenchResult) -> str:
    """Return the report as one HTML page with plotly's script inside it once.

    Raises
    ------
    MissingDependency
        When plotly is not installed.
    """
    from crosswind.problems.page import Section, render
    from crosswind.solvers.bench.report import footer, parts, tiles

    sections = [Section(part.title, part.text, part.figures, part.tables) for part in parts(result)]
    suites = ", ".join(dict.fromkeys(row["suite"] for row in result.rows))
    plan = result.facts.get("plan", {})
    subtitle = (
        f"{suites}{' (quick subset)' if plan.get('quick') else ''}; {result.facts.get('started', 'unfinished run')}"
    )
    return render("Crosswind: benchmark of solvers", subtitle, tiles(result), sections, footer(result))


def write_report(result: BenchResult, *, html: bool = True) -> tuple[Path, ...]:
    """Write rows, times, steps and points as parquet, ``summary.md`` and ``report.html`` into the run's folder.

    Parameters
    ----------
    result
        Of :func:`crosswind.solvers.bench.run_bench`.
    html
        False leaves the page out, where plotly is not installed.

    Returns
    -------
    tuple of Path
        What was written. Each file appears whole or not at all.
    """
    from crosswind.solvers.bench.report import summary_markdown

    written = []
    for name, table in result.tables().items():
        path = result.folder / f"{name}.parquet"
        part = _beside(path)
        table.to_parquet(part, index=False)
        part.replace(path)
        written.append(path)
    texts = {"summary.md": summary_markdown(result)}
    if html:
        texts["report.html"] = report_html(result)
    for name, text in texts.items():
        path = result.folder / name
        part = _beside(path)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
        written.append(path)
    return tuple(written)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")
