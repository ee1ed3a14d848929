"""A report as one self-contained page: sections of prose, tables and figures, no request to anywhere."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

__all__ = ["Section", "render", "table_html"]

_STYLE = """
:root { color-scheme: light; --ink: #1c2733; --soft: #5b6b7b; --line: #dfe5ea; --back: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
body { color: var(--ink); background: var(--back); }
header { background: #17324d; color: #fff; padding: 28px 0; }
header p { margin: 4px 0 0; color: #c9d6e2; }
h1 { margin: 0; font-size: 26px; } h2 { margin: 0 0 6px; font-size: 19px; }
main, .inner { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 8px; margin: 18px 0; padding: 20px 22px; }
section > p { color: var(--soft); margin: 4px 0 12px; max-width: 90ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin: 18px 0; }
.tile { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 20px; } .tile span { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; margin: 8px 0 14px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13.5px; }
th, td { padding: 4px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--soft); font-weight: 600; }
tr.best td { background: #eef6ee; }
footer { color: var(--soft); font-size: 13px; padding: 8px 0 40px; }
nav { margin: 14px 0 0; } nav a { color: #9fc3e6; margin-right: 14px; text-decoration: none; font-size: 14px; }
"""


@dataclass(frozen=True)
class Section:
    """One part of the page: a heading, a paragraph that says what is seen, then figures and tables in order."""

    title: str
    text: str
    figures: Sequence[Any] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    link: tuple[str, str] | None = None
    """A page beside this one, (words, file), that says more."""

    @property
    def anchor(self) -> str:
        """Return the part of the address after ``#`` that leads here."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower()).strip("-")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value != value:
            return "–"
        size = abs(value) if abs(value) > 1e-12 else 0.0  # what rounding leaves of nothing
        value = value if size else 0.0
        return f"{value:,.0f}" if size >= 1e4 else f"{value:.3g}" if 0 < size < 1e-2 else f"{value:,.3f}"
    return html.escape(str(value))


def table_html(table: pd.DataFrame, best: Sequence[object] = ()) -> str:
    """Return ``table`` as HTML with its index as first column; rows whose label is in ``best`` are shaded.

    A missing value is a dash, never a zero.
    """
    head = "".join(f"<th>{html.escape(str(c))}</th>" for c in [table.index.name or "", *table.columns])
    rows = []
    for label, row in zip(table.index, table.itertuples(index=False), strict=True):
        cells = "".join(f"<td>{_cell(v.item() if hasattr(v, 'item') else v)}</td>" for v in [label, *row])
        rows.append(f'<tr class="best">{cells}</tr>' if label in best else f"<tr>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _link(link: tuple[str, str] | None) -> str:
    return "" if link is None else f' <a href="{html.escape(link[1], quote=True)}">{html.escape(link[0])}</a>'


def render(
    title: str, subtitle: str, tiles: Mapping[str, str], sections: Sequence[Section], footer: Mapping[str, object]
) -> str:
    """Return the whole page as HTML text; plotly's script is inside it once.

    Parameters
    ----------
    title, subtitle
        Head of the page.
    tiles
        Label to value, shown large below the head.
    sections
        The parts in order.
    footer
        Facts that let a reader repeat the page: solver, seed, versions, configuration hash.
    """
    script_needed = True
    body = []
    for section in sections:
        parts = [
            f'<section id="{section.anchor}"><h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}'
            f"{_link(section.link)}</p>"
        ]
        for fig in section.figures:
            parts.append(
                fig.to_html(
                    full_html=False,
                    include_plotlyjs=script_needed,
                    config={"displaylogo": False, "responsive": True},
                    # plotly would draw a random one, and the page would not be repeatable
                    div_id=f"fig-{section.anchor}-{len(parts)}",
                )
            )
            script_needed = False
        for caption, table in section.tables.items():
            parts.append(f"<p>{html.escape(caption)}</p>{table_html(table)}")
        body.append("".join(parts) + "</section>")
    nav = "".join(f'<a href="#{s.anchor}">{html.escape(s.title)}</a>' for s in sections)
    tile_html = "".join(
        f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(label)}</span></div>'
        for label, value in tiles.items()
    )
    foot = " · ".join(f"{html.escape(str(k))}: {html.escape(str(v))}" for k, v in footer.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<header><div class="inner"><h1>{html.escape(title)}</h1><p>{html.escape(subtitle)}</p><nav>{nav}</nav></div>'
        f'</header><main><div class="tiles">{tile_html}</div>{"".join(body)}</main>'
        f'<footer><div class="inner">{foot}</div></footer></body></html>\n'
    )
