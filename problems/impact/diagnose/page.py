"""A diagnosis as one page: the matrix and its decay, the limits that shaped it, noise, clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crosswind.problems.page import Section, render

if TYPE_CHECKING:
    import pandas as pd

    from crosswind.problems.impact.diagnose.model import Diagnosis

__all__ = ["diagnosis_html", "diagnosis_sections", "limits_section"]


def limits_section(found: Diagnosis) -> Section:
    """Return the part on what stands above noise, which limits bind at which price, and the worst round trip."""
    figures = found.figures()
    tables: dict[str, pd.DataFrame] = {}
    if found.prices is not None:
        tables["Limits by kind: how many bind, and what 1 % of all of them is worth"] = found.prices.counts()
    text = "Cross-impact against the edge of pure noise, the limits that bind at their prices, the worst round trip. "
    return Section(
        "Limits and noise",
        text + " ".join(f"Note: {note}." for note in found.notes),
        figures=[figures[name] for name in ("signal", "prices", "round_trip") if name in figures],
        tables=tables,
    )


def diagnosis_sections(found: Diagnosis) -> list[Section]:
    """Return the parts of the page in order."""
    figures = found.figures()
    parts = [
        Section(
            "Matrix",
            "Immediate impact with each name scaled by its own, ordered by sector or cluster, with its spectrum. Cross "
            "share: size of the cross terms for names of equal own cost; effective rank: N without cross terms, 1 for "
            "one common mode.",
            figures=[figures["matrix"]],
            tables={"Figures of merit": found.to_frame()},
        ),
        Section(
            "Decay", "How impact fades after a trade; an admissible kernel only falls.", figures=[figures["decay"]]
        ),
        limits_section(found),
    ]
    if "lead_lag" in figures:
        text = (
            "Correlation of two names' returns over shifts of one against the other. A peak beside zero is a shifted "
            "clock, or a real lead; either takes cross-impact away that is there, or shows some that is not."
        )
        parts.append(Section("Clocks", text, figures=[figures["lead_lag"]]))
    return parts


def diagnosis_html(found: Diagnosis, subtitle: str = "", footer: dict[str, Any] | None = None) -> str:
    """Return the page as self-contained HTML.

    Raises
    ------
    MissingDependency
        When plotly is not installed.
    """
    merit = found.figures_of_merit
    tiles = {
        "names": str(len(found.model.names)),
        "cross share": f"{merit['cross_share']:.1%}",
        "condition number": f"{merit['condition']:.3g}",
        "effective rank": f"{merit['effective_rank']:.2f}",
    }
    if found.signal is not None:
        tiles["cross-impact modes above noise"] = f"{merit['above_noise']:.0f}"
    if found.round_trip is not None:
        tiles["worst round trip"] = (
            "costs" if found.round_trip.admissible else f"pays {merit['round_trip_bps']:.2f} bps"
        )
    names = found.model.names
    shown = f"{', '.join(names[:8])}{'…' if len(names) > 8 else ''}"
    head = f"{shown}, {subtitle}" if subtitle else shown
    return render("Crosswind: cross-impact", head, tiles, diagnosis_sections(found), footer or {})
