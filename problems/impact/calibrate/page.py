"""The calibration as one page: scores, costs, stability, what is known of the matrices, and the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.impact import plots
from crosswind.problems.impact.calibrate import figures
from crosswind.problems.impact.diagnose import figures as looks
from crosswind.problems.impact.diagnose.model import Diagnosis, diagnose
from crosswind.problems.impact.diagnose.page import limits_section
from crosswind.problems.page import Section, render
from crosswind.solvers.errors import CrosswindError

if TYPE_CHECKING:
    from crosswind.problems.impact.calibrate.model import Calibration
    from crosswind.problems.impact.calibrate.promotion import Promotion

__all__ = ["calibration_html", "calibration_sections"]

_SHOWN = 12  # names up to which a matrix is a table one reads


def calibration_sections(calibration: Calibration, promotion: Promotion | None = None) -> list[Section]:
    """Return the parts of the page in order."""
    parts = [] if promotion is None else [_decision(promotion)]
    parts += [_scores(calibration), _costs(calibration), _stability(calibration)]
    found = None
    if calibration.main in calibration.fitted:
        found = diagnose(calibration.fitted[calibration.main], calibration.sectors, calibration.bands)
    if promotion is not None and promotion.choice != calibration.main:
        parts.append(_promoted(calibration, promotion))
    if found is not None:
        parts += [_matrix(calibration, found), limits_section(found)]
    return [*parts, _how(calibration)]


def _flat(table: pd.DataFrame, *levels: str) -> pd.DataFrame:
    """Return a table with one column of labels, as the page shows it."""
    out = table.copy()
    out.index = pd.Index([", ".join(_label(x) for x in row) for row in table.index], name=", ".join(levels))
    return out


def _label(value: object) -> str:
    return f"{value:g} s" if isinstance(value, float) else str(value)


def _decision(promotion: Promotion) -> Section:
    rule = promotion.rule
    return Section(
        "Decision",
        f"Promoted: {promotion.choice}. Eligible is what was fitted everywhere, is admissible, keeps promises within "
        f"{rule['ratio'][0]:g} to {rule['ratio'][1]:g} as far as held-out data can tell, and is stable between halves; "
        f"of these the simplest within {rule['errors']:g} standard errors of the best score is taken.",
        figures=[figures.plot_decision(promotion)],
        tables={
            "Why each candidate was or was not taken": promotion.to_frame()[["score", "behind_best", "se", "reason"]]
        },
    )


def _scores(calibration: Calibration) -> Section:
    level = f"{calibration.settings['level']:.0%}"
    return Section(
        "Out of sample",
        "Each time block is scored by fits that saw neither it nor the purged and embargoed rows around it. R² is "
        f"against the forecast of no impact; intervals ({level}) come from resampled blocks of time, the same for "
        "every model, so differences are paired. Whichever model wins is shown winning.",
        figures=[
            figures.plot_out_of_sample(calibration),
            figures.plot_differences(calibration),
            figures.plot_names(calibration),
        ],
        tables={
            "All candidates; r2 of single buckets, saving: realised cost against the reference, relative": (
                calibration.to_frame().drop(columns="error")
            ),
            f"Mean R² less that of {calibration.reference}; share_better: share of the draws above 0": _flat(
                calibration.differences(), "model", "horizon"
            ),
        },
    )


def _costs(calibration: Calibration) -> Section:
    tables = {
        "Costs per standard set of baskets (a leg alone, traded at once, costs ½); a positive cost is money lost": (
            calibration.costs
        )
    }
    if calibration.recovery is not None:
        tables["Distance to the simulator's truth, lower is better; excess cost of schedules optimised on it"] = (
            calibration.recovery
        )
    return Section(
        "Cost",
        "Schedules are optimised on a fit to one half of the data and paid for under least squares on the other half: "
        "an unbiased account, noisy as the whiskers show, tilted to no model. A model that promises too much sees "
        "profits that are not there.",
        figures=[figures.plot_costs(calibration)],
        tables=tables,
    )


def _stability(calibration: Calibration) -> Section:
    drawn = [figures.plot_stability(calibration)]
    tables = {
        "Halves: distances relative to the mean kernel; agreement: correlation of the cross terms": calibration.halves
    }
    if len(calibration.drift):
        drawn.append(figures.plot_drift(calibration))
        table = calibration.drift
        tables["Drift by period"] = table.drop(columns="error") if not table["error"].any() else table
    return Section(
        "Stability",
        "The same estimator on either half of the data, and on each day. A distance within the noise level is what a "
        "period of that length shows where nothing drifts.",
        figures=drawn,
        tables=tables,
    )


def _promoted(calibration: Calibration, promotion: Promotion) -> Section:
    """Show the matrices that will be used, where they are not those that the rest of the page is about."""
    model = promotion.model
    names = list(model.names)
    table = pd.DataFrame(model.immediate * 1e10, index=pd.Index(names, name="moves"), columns=names)
    crossed = bool(model.matrices[:, ~np.eye(len(names), dtype=bool)].any())
    drawn: list[Any] = [plots.plot_matrix(model, calibration.sectors)] if crossed else []
    about = "" if crossed else ", which has no cross terms, so that there is no matrix to draw"
    return Section(
        "Promoted model",
        f"The model that is handed on: {promotion.choice}{about}. What follows on matrices and limits is about "
        f"{calibration.main}.",
        figures=[*drawn, plots.plot_decay(model)],
        tables={f"Immediate impact [bps per million {model.currency}]; flow in the column moves the row": table}
        if len(names) <= _SHOWN
        else {},
    )


def _matrix(calibration: Calibration, found: Diagnosis) -> Section:
    drawn: list[Any] = [plots.plot_matrix(found.model, calibration.sectors)]
    tables = {"Figures of merit": found.to_frame()}
    if calibration.bands is not None:
        drawn += [figures.plot_entries(calibration), looks.plot_bands(calibration.bands, calibration.bands.lags_s())]
        tables["Eigenvalues of the scaled matrix with their intervals"] = calibration.bands.eigenvalues()
    return Section(
        f"Matrix of {calibration.main}",
        f"What is known of the matrices of {calibration.main}: the order is by sector or cluster, intervals are those "
        "of refits on resampled blocks with penalties held; where cross terms are shrunk they show spread, not "
        "coverage.",
        figures=drawn,
        tables=tables,
    )


def _how(calibration: Calibration) -> Section:
    s = calibration.settings
    cut = s["purge_s"] < s["purge_asked_s"]
    text = (
        f"{s['rows']} buckets of {s['bucket_s']:g} s; purge {s['purge_s']:g} s"
        + (f", cut to a quarter of a block from the kernel's memory of {s['purge_asked_s']:g} s" if cut else "")
        + f", embargo {s['embargo_s']:g} s; {s['bootstrap']} blocks of {s['block_s']:g} s out of {s['cells']} cells, "
        f"{s['draws']} refits and {s['score_draws']} draws of the scores."
    )
    tables = {"Blocks in time": calibration.folds}
    if calibration.errors:
        errors = pd.DataFrame({"reason": calibration.errors}).rename_axis("model")
        tables["What could not be fitted"] = errors
    return Section("How it was measured", text, tables=tables)


def calibration_html(calibration: Calibration, promotion: Promotion | None = None) -> str:
    """Return the page as self-contained HTML.

    Raises
    ------
    MissingDependency
        When plotly is not installed.
    """
    from importlib import metadata

    table = calibration.to_frame()
    best = str(table["r2_mean"].idxmax())
    tiles = {"names": str(len(calibration.names)), "days": str(len(calibration.settings["days"]))}
    if promotion is not None:
        tiles["promoted"] = promotion.choice
    tiles[f"mean R² out of sample, best: {best}"] = f"{table['r2_mean'][best]:.3f}"
    if calibration.main in table.index and pd.notna(table["vs_reference"][calibration.main]):
        row = table.loc[calibration.main]
        tiles[f"R², {calibration.main} less {calibration.reference}"] = (
            f"{row['vs_reference']:+.3f} [{row['vs_low']:+.3f}, {row['vs_high']:+.3f}]"
        )
        tiles[f"promised/realised, {calibration.main}"] = f"{row['promised_over_realised']:.2f}"
    footer: dict[str, object] = {k: calibration.settings[k] for k in ("seed", "scheme", "folds", "bootstrap", "draws")}
    solution = getattr(calibration.fitted.get(calibration.main), "solution_", None)
    if solution is not None:
        # The structured solver is ours and has one way only; the others say which backend answered.
        footer["solver"] = getattr(solution, "backend", None) or "gram"
    try:
        footer["crosswind"] = metadata.version("crosswind")
    except metadata.PackageNotFoundError as error:  # a checkout that was never installed
        raise CrosswindError("crosswind is not installed", remedy="pip install -e .") from error
    days = calibration.settings["days"]
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return render(
        "Crosswind: impact calibration",
        f"{', '.join(calibration.names[:8])}{'…' if len(calibration.names) > 8 else ''}, {span}",
        tiles,
        calibration_sections(calibration, promotion),
        footer,
    )
