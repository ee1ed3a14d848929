"""QPS, the punched-card format of linear programs (MPS) with a quadratic section; fixed columns and free fields.

What the dialects disagree about is decided here and nowhere else:

- QUADOBJ and QSECTION list one triangle of P, either one, and are mended by mirroring; QMATRIX lists all of P and must
  be symmetric as written. The objective is ½x'Px + q'x either way.
- The right-hand side of the objective row is minus the constant of the objective.
- A range R on an equality row means [b, b + |R|] for R > 0 and [b − |R|, b] for R < 0; on L rows [b − |R|, b], on G
  rows [b, b + |R|].
- Variables without bounds are non-negative. A negative upper bound without a lower one makes the lower bound −∞; MI
  leaves the upper bound alone.
- The first N row is the objective, further ones are dropped. A second RHS, RANGES or BOUNDS set is refused, since
  nobody can say which is meant; so are integer variables, maximisation, and everything that is no quadratic program.
- In fixed columns names may hold spaces. A file is read as free fields; if that fails and it keeps to the columns, as
  fixed ones.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import sparse

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.program import QuadraticProgram

__all__ = ["read_qps"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?$")
_INFINITY = re.compile(r"[+-]?inf(inity)?$", re.IGNORECASE)
_FIELDS = ((1, 3), (4, 12), (14, 22), (24, 36), (39, 47), (49, 61))
_SECTIONS = (
    "NAME",
    "OBJSENSE",
    "ROWS",
    "COLUMNS",
    "RHS",
    "RANGES",
    "BOUNDS",
    "QUADOBJ",
    "QMATRIX",
    "QSECTION",
    "ENDATA",
)
_INTEGER = ("BV", "LI", "UI", "SC", "SI")
_NO_VALUE = ("FR", "MI", "PL")


class _Wrong(Exception):
    def __init__(self, message: str, line: int, text: str, remedy: str) -> None:
        super().__init__(message)
        self.line, self.text, self.remedy = line, text, remedy


@dataclass
class _Parsed:
    rows: dict[str, str] = field(default_factory=dict)  # name → E, L, G, N
    objective: str | None = None
    columns: dict[str, int] = field(default_factory=dict)
    entries: dict[tuple[str, str], float] = field(default_factory=dict)
    rhs: dict[str, float] = field(default_factory=dict)
    ranges: dict[str, float] = field(default_factory=dict)
    lower: dict[str, float] = field(default_factory=dict)
    upper: dict[str, float] = field(default_factory=dict)
    bound_line: dict[str, tuple[int, str]] = field(default_factory=dict)
    quadratic: dict[tuple[str, str], float] = field(default_factory=dict)
    quadratic_line: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    quadratic_kind: str = ""
    sets: dict[str, str] = field(default_factory=dict)  # section → name of its set


def read_qps(path: str | Path, form: str = "auto") -> QuadraticProgram:
    """Read a convex quadratic (or linear) program from a QPS or MPS file; see the module's text for the dialect.

    Parameters
    ----------
    path
        The file, plain or .gz.
    form
        ``"free"``, ``"fixed"`` or ``"auto"``: free, and fixed where that fails.

    Returns
    -------
    QuadraticProgram
        With the file's names of rows and variables.

    Raises
    ------
    InvalidInput
        With file and line, on anything that cannot be read without guessing.
    """
    source = Path(path)
    if form not in ("auto", "free", "fixed"):
        raise InvalidInput("unknown form", field="form", value=form, remedy="auto, free or fixed")
    lines = _lines(source)
    first: _Wrong | None = None
    for kind in ("free", "fixed") if form == "auto" else (form,):
        try:
            return _build(_Reader(lines, kind == "fixed").parse())
        except _Wrong as wrong:
            first = first or wrong
    assert first is not None
    raise InvalidInput(str(first), field=f"{source.name}:{first.line}", value=first.text, remedy=first.remedy) from None


def _lines(source: Path) -> list[str]:
    try:
        content = source.read_bytes()
        if source.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8").splitlines()
    except FileNotFoundError as err:
        raise InvalidInput("no such file", field="path", value=source, remedy="check the path") from err
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as err:
        raise InvalidInput("is not a readable text", field="path", value=source, remedy="fetch it again") from err


class _Reader:
    def __init__(self, lines: list[str], fixed: bool) -> None:
        self.lines, self.fixed = lines, fixed
        self.out = _Parsed()
        self.number, self.text = 0, ""

    def wrong(self, message: str, remedy: str = "mend the line") -> _Wrong:
        return _Wrong(message, self.number, self.text.strip(), remedy)

    def parse(self) -> _Parsed:
        section = ""
        for number, text in enumerate(self.lines, start=1):
            self.number, self.text = number, text
            if not self.text.strip() or self.text.startswith("*"):
                continue
            if not self.text[0].isspace():
                section = self.header()
                if section == "ENDATA":
                    return self.check()
                continue
            handle = getattr(self, f"_{section.lower()}", None) if section else None
            if handle is None:
                raise self.wrong("data before any section that takes it", "start with NAME and ROWS")
            handle()
        self.number, self.text = len(self.lines), ""
        raise self.wrong("ends without ENDATA: the file is cut short", "fetch it again")

    def header(self) -> str:
        words = self.text.split()
        section = words[0].upper()
        if section not in _SECTIONS:
            raise self.wrong("section is not part of a quadratic program", f"one of {', '.join(_SECTIONS)}")
        if section in ("COLUMNS", "RHS", "RANGES", "BOUNDS", "QUADOBJ", "QMATRIX", "QSECTION") and not self.out.rows:
            raise self.wrong("comes before ROWS", "bring the sections into order")
        if section == "OBJSENSE" and len(words) > 1:
            self.sense(words[1])
        if section in ("QUADOBJ", "QMATRIX", "QSECTION"):
            if self.out.quadratic_kind:
                raise self.wrong("a second quadratic section", "keep one of QUADOBJ, QSECTION and QMATRIX")
            self.out.quadratic_kind = section
            if section == "QSECTION" and len(words) > 1 and words[1] != self.out.objective:
                raise self.wrong(
                    "a quadratic constraint is not part of a quadratic program", "write it as a cone program"
                )
        return section

    def check(self) -> _Parsed:
        if self.out.objective is None:
            raise self.wrong("there is no objective row", "add a row of type N")
        return self.out

    def fields(self) -> list[str]:
        """Return the six fields of a card; empty where absent. Free fields come left-aligned and unsorted."""
        if "\t" in self.text:
            raise self.wrong("tabs have no place in fixed columns", "use spaces, or free fields")
        card = [self.text[a:b].strip() for a, b in _FIELDS]
        rest = self.text[:1] + self.text[3:4] + self.text[12:14] + self.text[22:24] + self.text[36:39]
        if (rest + self.text[47:49] + self.text[61:]).strip():
            raise self.wrong("does not keep to the columns 2-3, 5-12, 15-22, 25-36, 40-47 and 50-61")
        return card

    def pairs(self, section: str) -> tuple[str, list[tuple[str, float]]]:
        """Return a card's leading name and its (name, value) pairs."""
        if self.fixed:
            _, head, *rest = self.fields()
            tokens = [part for part in rest if part]
        else:
            tokens = self.text.split()
            # In free fields the name of an RHS or RANGES set may be left out.
            head = tokens.pop(0) if len(tokens) % 2 or section == "COLUMNS" else ""
        if not tokens or len(tokens) % 2 or len(tokens) > 4:
            raise self.wrong("expected a name and one or two pairs of name and number")
        return head, [(tokens[i], self.value(tokens[i + 1])) for i in range(0, len(tokens), 2)]

    def value(self, token: str, infinite: bool = False) -> float:
        if _NUMBER.match(token):
            return float(token.replace("d", "e").replace("D", "e"))
        if infinite and _INFINITY.match(token):
            return float(token)
        raise self.wrong(f"{token!r} is no number")

    def known_row(self, name: str) -> str:
        kind = self.out.rows.get(name)
        if kind is None:
            raise self.wrong(f"row {name!r} is not declared", "declare it in ROWS")
        return kind

    def known_column(self, name: str) -> str:
        if name not in self.out.columns:
            raise self.wrong(f"variable {name!r} has no column", "declare it in COLUMNS")
        return name

    def one_set(self, section: str, name: str) -> None:
        if self.out.sets.setdefault(section, name) != name:
            raise self.wrong(
                f"a second {section} set {name!r}", f"keep {self.out.sets[section]!r} or the other, not both"
            )

    def sense(self, word: str) -> None:
        if not word.upper().startswith("MIN"):
            raise self.wrong("only minimisation is read", "change the signs of the objective and write MIN")

    def _objsense(self) -> None:
        self.sense(self.text.split()[0])

    def _rows(self) -> None:
        if self.fixed:
            kind, name, *rest = self.fields()
        else:
            kind, name, *rest = [*self.text.split(), "", ""]
        if any(rest) or not name or kind.upper() not in ("N", "E", "L", "G"):
            raise self.wrong("expected one of N, E, L, G and a name")
        if name in self.out.rows:
            raise self.wrong(f"row {name!r} is declared twice")
        self.out.rows[name] = kind.upper()
        if kind.upper() == "N" and self.out.objective is None:
            self.out.objective = name

    def _columns(self) -> None:
        if "'MARKER'" in self.text:
            raise self.wrong("integer variables are not part of a quadratic program", "relax them")
        column, pairs = self.pairs("COLUMNS")
        self.out.columns.setdefault(column, len(self.out.columns))
        for row, value in pairs:
            self.known_row(row)
            if (row, column) in self.out.entries:
                raise self.wrong(f"the entry of {column!r} in {row!r} is given twice")
            self.out.entries[row, column] = value

    def _rhs(self) -> None:
        self._side("RHS", self.out.rhs)

    def _ranges(self) -> None:
        self._side("RANGES", self.out.ranges)

    def _side(self, section: str, kept: dict[str, float]) -> None:
        name, pairs = self.pairs(section)
        self.one_set(section, name)
        for row, value in pairs:
            kind = self.known_row(row)
            if row in kept:
                raise self.wrong(f"row {row!r} is given twice")
            if section == "RANGES" and kind == "N":
                raise self.wrong("a free row takes no range")
            kept[row] = value

    def _bounds(self) -> None:
        if self.fixed:
            kind, name, column, number, *rest = self.fields()
            if any(rest):
                raise self.wrong("expected type, set, variable and number")
        else:
            kind, *words = self.text.split()
            bare = kind.upper() in _NO_VALUE
            # The set's name may be left out, and types without a number may carry one all the same.
            if bare and len(words) in (1, 2, 3):
                at = 0 if len(words) == 1 or (len(words) == 2 and words[1] not in self.out.columns) else 1
                name, column, number = (words[0] if at else ""), words[at], ""
            elif not bare and len(words) in (2, 3):
                name, column, number = ["", *words][-3:]
            elif kind.upper() in _INTEGER:
                name, column, number = "", "", ""
            else:
                raise self.wrong("expected type, set, variable and number")
        kind = kind.upper()
        if kind in _INTEGER:
            raise self.wrong(f"{kind} makes an integer or semi-continuous variable", "relax it")
        self.known_column(column)
        self.one_set("BOUNDS", name)
        self._bound(kind, column, number)

    def _bound(self, kind: str, column: str, number: str) -> None:
        lower, upper = self.out.lower, self.out.upper
        value = 0.0 if kind in _NO_VALUE else self.value(number, infinite=True)
        sides = {"LO": "l", "UP": "u", "FX": "lu", "FR": "lu", "MI": "l", "PL": "u"}.get(kind)
        if sides is None:
            raise self.wrong(f"unknown type of bound {kind!r}", "LO, UP, FX, FR, MI or PL")
        for side, kept in (("l", lower), ("u", upper)):
            if side in sides:
                if column in kept:
                    raise self.wrong(f"variable {column!r} gets a bound twice")
                kept[column] = value if kind not in _NO_VALUE else (-np.inf if side == "l" else np.inf)
        self.out.bound_line[column] = (self.number, self.text.strip())

    def _quadobj(self) -> None:
        if self.fixed:
            _, first, *rest = self.fields()
            tokens = [part for part in rest if part]
        else:
            first, *tokens = self.text.split()
        if len(tokens) not in (2, 4):
            raise self.wrong("expected two variables and a number")
        self.known_column(first)
        for i in range(0, len(tokens), 2):
            key = (first, self.known_column(tokens[i]))
            mirrored = (key[1], first)
            one_half = self.out.quadratic_kind != "QMATRIX"
            if key in self.out.quadratic or (one_half and mirrored in self.out.quadratic):
                raise self.wrong(f"the entry of {key[0]!r} and {key[1]!r} is given twice", "QUADOBJ takes one triangle")
            self.out.quadratic[key] = self.value(tokens[i + 1])
            self.out.quadratic_line[key] = (self.number, self.text.strip())

    _qmatrix = _qsection = _quadobj


def _build(parsed: _Parsed) -> QuadraticProgram:
    place = parsed.columns
    names = [row for row, kind in parsed.rows.items() if kind != "N"]
    row_place = {row: i for i, row in enumerate(names)}
    n, m = len(place), len(names)
    q = np.zeros(n)
    rows, columns, data = [], [], []
    for (row, column), value in parsed.entries.items():
        if row == parsed.objective:
            q[place[column]] = value
        elif row in row_place:
            rows.append(row_place[row])
            columns.append(place[column])
            data.append(value)
    l, u = np.full(m, -np.inf), np.full(m, np.inf)  # noqa: E741
    for row, i in row_place.items():
        l[i], u[i] = _interval(parsed.rows[row], parsed.rhs.get(row, 0.0), parsed.ranges.get(row))
    lb, ub = np.zeros(n), np.full(n, np.inf)
    for column, j in place.items():
        ub[j] = parsed.upper.get(column, np.inf)
        lb[j] = parsed.lower.get(column, -np.inf if ub[j] < 0.0 else 0.0)
        if lb[j] > ub[j]:
            raise _Wrong(
                f"the bounds of {column!r} leave no value: {lb[j]:g} above {ub[j]:g}",
                *parsed.bound_line[column],
                "make the lower bound at most the upper one",
            )
    return QuadraticProgram(
        _quadratic(parsed),
        q,
        sparse.csc_matrix((data, (rows, columns)), shape=(m, n)),
        l,
        u,
        lb,
        ub,
        constant=-parsed.rhs.get(str(parsed.objective), 0.0),
        row_names=tuple(names),
        var_names=tuple(place),
    )


def _interval(kind: str, side: float, width: float | None) -> tuple[float, float]:
    if width is None:
        return (-np.inf if kind == "L" else side), (np.inf if kind == "G" else side)
    if kind == "L" or (kind == "E" and width < 0.0):
        return side - abs(width), side
    return side, side + abs(width)


def _quadratic(parsed: _Parsed) -> sparse.csc_matrix:
    n, place = len(parsed.columns), parsed.columns
    entries = dict(parsed.quadratic)
    for (one, other), value in parsed.quadratic.items():
        if one == other:
            continue
        if parsed.quadratic_kind != "QMATRIX":
            entries[other, one] = value
        elif parsed.quadratic.get((other, one)) != value:
            raise _Wrong(
                f"QMATRIX lists all of P, and the entry of {other!r} and {one!r} differs from its mirror",
                *parsed.quadratic_line[one, other],
                "give both, or write QUADOBJ for one triangle",
            )
    keys = list(entries)
    return sparse.csc_matrix(
        (list(entries.values()), ([place[a] for a, _ in keys], [place[b] for _, b in keys])), shape=(n, n)
    )
