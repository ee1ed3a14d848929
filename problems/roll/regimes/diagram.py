"""The machine as a table and as a picture, both from its configuration: what is drawn is what runs."""

from __future__ import annotations

from html import escape
from itertools import combinations

import pandas as pd

from crosswind.problems.roll.model import Regime
from crosswind.problems.roll.regimes.config import PRIORITY, RegimeConfig

__all__ = ["machine_diagram", "machine_edges", "trigger_table"]

_FILL = {
    Regime.PRE_ROLL: "#d6ecd2",
    Regime.CROWDED: "#fbe7c0",
    Regime.BASIS_STRESS: "#f6cfcb",
    Regime.DEADLINE: "#d3e0f2",
}
_WIDTH, _BOX, _HEIGHT, _GAP, _LEFT = 880, 170, 46, 62, 355


def trigger_table(config: RegimeConfig | None = None) -> pd.DataFrame:
    """Return the triggers: name → ``regime``, ``metric``, ``side``, ``enter``, ``leave``."""
    c = RegimeConfig() if config is None else config
    rows = [(t.regime.name, t.metric, t.side, t.enter, t.leave) for t in c.triggers]
    index = pd.Index([t.name for t in c.triggers], name="trigger")
    return pd.DataFrame(rows, index=index, columns=["regime", "metric", "side", "enter", "leave"])


def machine_edges(config: RegimeConfig | None = None) -> pd.DataFrame:
    """Return every change that the machine can make.

    Parameters
    ----------
    config
        Triggers, dwell and deadline rule; None: those that come with the toolkit.

    Returns
    -------
    DataFrame
        A row per change: ``source``, ``target`` (names of regimes), ``when`` in words, ``dwell_s`` that it waits for.
    """
    c = RegimeConfig() if config is None else config
    names = {regime: ", ".join(t.name for t in c.of(regime)) for regime in PRIORITY}
    reached = [regime for regime in PRIORITY[:-1] if regime is Regime.PRE_ROLL or names[regime]]
    rows: list[tuple[str, str, str, float]] = []
    for low, source in enumerate(reached):
        for target in reached[low + 1 :]:
            above = [r for r in reached[reached.index(target) + 1 :] if names[r]]
            none = f"; none of {', '.join(names[r] for r in above)} does" if above else ""
            rows.append((source.name, target.name, f"one of {names[target]} holds{none}", c.dwell_s))
            gone = ", ".join(names[r] for r in reached[low + 1 :])
            held = f"; one of {names[source]} holds" if names[source] else ""
            rows.append((target.name, source.name, f"{gone} have let go{held}", c.dwell_s))
    rows += [(source.name, Regime.DEADLINE.name, _deadline_text(c), 0.0) for source in reached]
    return pd.DataFrame(rows, columns=["source", "target", "when", "dwell_s"])


def machine_diagram(config: RegimeConfig | None = None) -> str:
    """Return the machine as an SVG picture: regimes, triggers with both thresholds, dwell and deadline rule.

    Parameters
    ----------
    config
        Triggers, dwell and deadline rule; None: those that come with the toolkit.
    """
    c = RegimeConfig() if config is None else config
    live = [r for r in PRIORITY if r is Regime.DEADLINE or r.name in set(machine_edges(c)["source"])]
    boxes = {regime: 30 + k * (_HEIGHT + _GAP) for k, regime in enumerate(live)}
    parts: list[str] = []
    for regime, top in boxes.items():
        lines = [t.text() for t in c.of(regime)]
        if regime is Regime.PRE_ROLL:
            lines = ["no trigger holds"]
        elif regime is Regime.DEADLINE:
            lines = [*_deadline_text(c).split(" or "), "at once, whatever the dwell; never left"]
        parts += [_box(regime, top), *_words(_LEFT + _BOX + 130, top + 18, lines)]
    # The table holds every pair of the lower regimes both ways, and each of them to DEADLINE.
    for low, high in combinations(live[:-1], 2):
        if live.index(high) == live.index(low) + 1:
            parts.append(_straight(boxes[low] + _HEIGHT, boxes[high]))
        else:
            parts.append(_arc(boxes[low], boxes[high], _LEFT, -64, both=True))
    for k, regime in enumerate(live[:-1]):
        depth = 30 + 24 * (len(live) - 1 - k)
        parts.append(_arc(boxes[regime], boxes[Regime.DEADLINE], _LEFT + _BOX, depth, both=False))
    notes = [
        f"dwell {c.dwell_s:g} s before any",
        "solid arrow is taken;",
        f"a trigger lets go after {c.quiet_s:g} s",
        "on the calm side of its",
        "second threshold.",
        "What is not known moves nothing.",
    ]
    parts += _words(14, 40, notes)
    height = boxes[Regime.DEADLINE] + _HEIGHT + 30
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13" role="img">\n'
        "<title>Regimes of a roll day</title>\n"
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path d="M0,0 L8,4 L0,8 z" fill="#444"/></marker></defs>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _deadline_text(c: RegimeConfig) -> str:
    rule = f"minutes left ≤ {c.deadline_min:g}"
    if c.late_min > c.deadline_min:
        rule += f" or minutes left ≤ {c.late_min:g} and rdp ≥ {c.late_rdp:g}"
    return rule


def _box(regime: Regime, top: int) -> str:
    middle = _LEFT + _BOX // 2
    return (
        f'<rect x="{_LEFT}" y="{top}" width="{_BOX}" height="{_HEIGHT}" rx="8" fill="{_FILL[regime]}" stroke="#444"/>\n'
        f'<text x="{middle}" y="{top + 20}" text-anchor="middle" font-weight="bold">{regime.name}</text>\n'
        f'<text x="{middle}" y="{top + 37}" text-anchor="middle" fill="#444">{regime.value}</text>'
    )


def _words(left: int, top: int, lines: list[str]) -> list[str]:
    return [f'<text x="{left}" y="{top + 17 * k}">{escape(line)}</text>' for k, line in enumerate(lines)]


def _straight(top: int, bottom: int) -> str:
    x = _LEFT + _BOX // 2
    return _path(f"M{x},{top} L{x},{bottom}", both=True)


def _arc(top: int, bottom: int, edge: int, depth: int, both: bool) -> str:
    y1, y2 = top + _HEIGHT // 2, bottom + _HEIGHT // 2
    return _path(f"M{edge},{y1} C{edge + depth},{y1} {edge + depth},{y2} {edge},{y2}", both)


def _path(path: str, both: bool) -> str:
    """Return a line with a tip at its end: solid with one at both ends, or dashed."""
    style = ' marker-start="url(#tip)"' if both else ' stroke-dasharray="5 4"'
    return f'<path d="{path}" stroke="#444" fill="none"{style} marker-end="url(#tip)"/>'
