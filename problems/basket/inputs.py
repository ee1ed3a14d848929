"""Coercion of pandas inputs to checked float64 arrays in the order of the basket; every refusal names the culprit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.solvers.errors import InvalidInput

__all__ = [
    "FloatArray",
    "as_instant",
    "as_inventory",
    "as_scalar",
    "as_times",
    "covariance_matrix",
    "name_frame",
    "per_name",
    "require_names",
    "slice_frame",
]

FloatArray: TypeAlias = npt.NDArray[np.float64]


def _listing(items: Iterable[object], limit: int = 8) -> str:
    """Return ``items`` as one comma-separated text, cut after ``limit`` of them."""
    texts = [str(item) for item in items]
    return ", ".join(texts[:limit]) + (f" and {len(texts) - limit} more" if len(texts) > limit else "")


def as_scalar(value: object, field: str, *, minimum: float = 0.0, strict: bool = False) -> float:
    """Return ``value`` as a finite float that is not below ``minimum``.

    Parameters
    ----------
    value
        The number given by the user.
    field
        Name of the argument, for the message.
    minimum
        Smallest admissible value.
    strict
        Whether ``minimum`` itself is refused too.

    Raises
    ------
    InvalidInput
        When the value is not a number, not finite, or too small.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as err:
        raise InvalidInput("must be a number", field=field, value=value, remedy="pass one float") from err
    if not np.isfinite(number) or number < minimum or (strict and number == minimum):
        sign = ">" if strict else ">="
        raise InvalidInput(f"must be finite and {sign} {minimum:g}", field=field, value=value, remedy=f"check {field}")
    return number


def as_inventory(inventory: object) -> pd.Series:
    """Return the signed parent orders as a float64 Series with unique string names [currency, buy positive].

    Raises
    ------
    InvalidInput
        When it is not a Series, is empty, has duplicated names, or holds NaN or infinite values.
    """
    if not isinstance(inventory, pd.Series):
        raise InvalidInput(
            "must be a pandas Series from name to signed notional",
            field="inventory",
            value=type(inventory).__name__,
            remedy="pass pd.Series({'IBM': 2e6, 'BAC': -1e6})",
        )
    if inventory.empty:
        raise InvalidInput("holds no names", field="inventory", value=0, remedy="pass at least one name")
    out = pd.Series(_numbers(inventory, "inventory"), index=[str(n) for n in inventory.index], name="inventory")
    if not out.index.is_unique:
        doubled = sorted(set(out.index[out.index.duplicated()]))
        raise InvalidInput("duplicated names", field="inventory", value=doubled, remedy="sum the orders per name first")
    bad = out.index[~np.isfinite(out.to_numpy())]
    if len(bad):
        raise InvalidInput(
            f"not finite for {_listing(bad)}", field="inventory", value=float(out[bad[0]]), remedy="drop or repair them"
        )
    return out


def _numbers(values: pd.Series | pd.DataFrame, field: str) -> FloatArray:
    """Return a fresh float64 array of a pandas object, or refuse it when it is not numeric."""
    try:
        return np.array(values.to_numpy(), dtype=np.float64)
    except (TypeError, ValueError) as err:
        raise InvalidInput(
            "must be numeric", field=field, value=str(values.to_numpy().dtype), remedy="convert it to floats"
        ) from err


def require_names(available: Iterable[object], names: tuple[str, ...], field: str) -> None:
    """Refuse a table that lacks names of the basket, or that lists one twice.

    Raises
    ------
    InvalidInput
        Naming every missing or duplicated name.
    """
    listed = [str(n) for n in available]
    known = set(listed)
    missing = [n for n in names if n not in known]
    if missing:
        raise InvalidInput(
            f"unknown names: {_listing(missing)} of the inventory are not in {field}",
            field=field,
            value=missing,
            remedy=f"add them to {field} or drop them from the inventory",
        )
    if len(known) != len(listed):
        doubled = sorted({n for n in listed if listed.count(n) > 1})
        raise InvalidInput("duplicated names", field=field, value=doubled, remedy="keep one entry per name")


def as_instant(value: object, field: str) -> pd.Timestamp:
    """Return ``value`` as a UTC Timestamp.

    Raises
    ------
    InvalidInput
        When it is not a time, or has no time zone.
    """
    try:
        stamp = pd.Timestamp(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as err:
        raise InvalidInput("must be a time", field=field, value=value, remedy="pass a pd.Timestamp") from err
    if pd.isna(stamp):
        raise InvalidInput("must be a time, not NaT", field=field, value=value, remedy="pass a pd.Timestamp")
    if stamp.tzinfo is None:
        raise InvalidInput(
            "naive time", field=field, value=value, remedy="say where: ts.tz_localize('America/New_York')"
        )
    return stamp.tz_convert("UTC").as_unit("ns")


def as_times(times: object, field: str = "times") -> pd.DatetimeIndex:
    """Return slice starts as a strictly increasing UTC index of nanoseconds.

    Raises
    ------
    InvalidInput
        When the index is empty, naive, unsorted, or has duplicates.
    """
    if not isinstance(times, pd.DatetimeIndex) or len(times) == 0:
        raise InvalidInput(
            "must be a DatetimeIndex of at least one slice start",
            field=field,
            value=type(times).__name__,
            remedy="use pd.date_range(..., tz='UTC')",
        )
    if times.tz is None:
        raise InvalidInput(
            "naive time stamps",
            field=field,
            value=times[0],
            remedy="say where: times.tz_localize('America/New_York')",
        )
    utc = times.tz_convert("UTC").as_unit("ns")
    if utc.hasnans or not (utc.is_monotonic_increasing and utc.is_unique):
        raise InvalidInput(
            "must increase strictly", field=field, value=str(utc[0]), remedy="sort them and drop duplicates and NaT"
        )
    return utc


def per_name(value: object, names: tuple[str, ...], field: str, *, minimum: float = 0.0) -> FloatArray:
    """Return one non-negative number per name (N,) from a float or a Series.

    Raises
    ------
    InvalidInput
        On missing names, NaN, infinite values, or values below ``minimum``.
    """
    if isinstance(value, pd.Series):
        require_names(value.index, names, field)
        series = pd.Series(_numbers(value, field), index=[str(n) for n in value.index])
        out = series.reindex(list(names)).to_numpy(dtype=np.float64)
        bad = [n for n, v in zip(names, out, strict=True) if not np.isfinite(v) or v < minimum]
        if bad:
            raise InvalidInput(
                f"must be finite and >= {minimum:g}, but is not for {_listing(bad)}",
                field=field,
                value=float(series[bad[0]]),
                remedy=f"check {field} of these names",
            )
        return np.array(out, dtype=np.float64)
    return np.full(len(names), as_scalar(value, field, minimum=minimum))


def name_frame(frame: object, names: tuple[str, ...], columns: tuple[str, ...], field: str) -> FloatArray:
    """Return a finite (N, len(columns)) array from a frame of names × columns; further rows are ignored.

    Raises
    ------
    InvalidInput
        On missing names, or entries that are not finite.
    """
    if not isinstance(frame, pd.DataFrame):
        raise InvalidInput(
            "must be a DataFrame with one row per name",
            field=field,
            value=type(frame).__name__,
            remedy="index it by the names",
        )
    require_names(frame.index, names, field)
    table = pd.DataFrame(_numbers(frame, field), [str(n) for n in frame.index], [str(c) for c in frame.columns])
    values = np.array(table.loc[list(names), list(columns)].to_numpy(dtype=np.float64))
    if not np.isfinite(values).all():
        i, j = (int(k) for k in np.argwhere(~np.isfinite(values))[0])
        raise InvalidInput(
            f"not finite for {names[i]}, {columns[j]}", field=field, value=values[i, j], remedy="repair or drop it"
        )
    return values


def slice_frame(
    frame: object, times: pd.DatetimeIndex, names: tuple[str, ...], field: str, *, signed: bool = False
) -> FloatArray:
    """Return a (T, N) array from a frame of slices × names, checked against the slice starts.

    Parameters
    ----------
    frame
        DataFrame with tz-aware slice starts as index and names as columns; further rows and names are ignored.
    times
        Slice starts (T,), UTC.
    names
        Names of the basket (N,).
    field
        Name of the argument, for the message.
    signed
        Whether negative values are admissible (trades) or not (volumes, costs).

    Raises
    ------
    InvalidInput
        On missing slices or names, naive index, NaN or infinite or (unless signed) negative values.
    """
    if not isinstance(frame, pd.DataFrame):
        raise InvalidInput(
            "must be a DataFrame of slices × names",
            field=field,
            value=type(frame).__name__,
            remedy="index it by the slice starts, columns = names",
        )
    require_names(frame.columns, names, field)
    index = as_times(frame.index, f"{field}.index")
    gone = times.difference(index)
    if len(gone):
        raise InvalidInput(
            f"{len(gone)} slices are missing, the first at {gone[0]}",
            field=field,
            value=len(gone),
            remedy=f"give {field} a row for every slice start",
        )
    columns = pd.Index([str(c) for c in frame.columns])
    table = pd.DataFrame(_numbers(frame, field), index=index, columns=columns).loc[times, list(names)]
    values = np.array(table.to_numpy(dtype=np.float64))
    bad = ~np.isfinite(values) | (False if signed else values < 0.0)
    if bad.any():
        t, i = (int(k) for k in np.argwhere(bad)[0])
        raise InvalidInput(
            f"must be finite{'' if signed else ' and >= 0'}, but is not for {names[i]} at {times[t]}",
            field=field,
            value=float(values[t, i]),
            remedy="repair the forecast: a missing slice is not a zero",
        )
    return values


def covariance_matrix(frame: object, names: tuple[str, ...], field: str = "covariance") -> FloatArray:
    """Return the (N, N) covariance of relative returns per second, checked symmetric and positive semidefinite.

    The check is a dense symmetric eigendecomposition with a floor of -1e-10 of the largest eigenvalue.

    Raises
    ------
    InvalidInput
        On missing names, NaN, asymmetry, or a negative eigenvalue.
    """
    if not isinstance(frame, pd.DataFrame) or frame.shape[0] != frame.shape[1]:
        raise InvalidInput(
            "must be a square DataFrame of names × names",
            field=field,
            value=getattr(frame, "shape", type(frame).__name__),
            remedy="pass returns.cov() / seconds per return",
        )
    require_names(frame.columns, names, field)
    require_names(frame.index, names, field)
    columns, index = pd.Index([str(c) for c in frame.columns]), pd.Index([str(c) for c in frame.index])
    table = pd.DataFrame(_numbers(frame, field), index=index, columns=columns).loc[list(names), list(names)]
    matrix = np.array(table.to_numpy(dtype=np.float64))
    if not np.isfinite(matrix).all():
        i, j = (int(k) for k in np.argwhere(~np.isfinite(matrix))[0])
        raise InvalidInput(
            f"not finite for {names[i]}, {names[j]}", field=field, value=matrix[i, j], remedy="estimate it on full rows"
        )
    scale = float(np.abs(matrix).max())
    if np.abs(matrix - matrix.T).max() > 1e-10 * scale:
        raise InvalidInput(
            "is not symmetric",
            field=field,
            value=float(np.abs(matrix - matrix.T).max()),
            remedy="pass (C + C.T) / 2 if the difference is rounding",
        )
    matrix = 0.5 * (matrix + matrix.T)
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    if smallest < -1e-10 * scale:
        raise InvalidInput(
            f"is not positive semidefinite: smallest eigenvalue {smallest:.3g}",
            field=field,
            value=smallest,
            remedy="clip its eigenvalues at zero or estimate it with shrinkage",
        )
    return np.asarray(matrix, dtype=np.float64)
