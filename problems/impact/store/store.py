"""`ModelStore`: versions of impact models in plain files, one line of versions per asset class and regime."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.store.diff import ModelDiff, model_diff
from crosswind.problems.impact.store.errors import ModelCorrupted, StaleModel
from crosswind.problems.impact.store.files import (
    claim,
    entry_numbers,
    entry_path,
    leftovers,
    read_entry,
)
from crosswind.problems.impact.store.log import States, append, read_log
from crosswind.problems.impact.store.records import StoredModel, check_slot, events_digest, json_value
from crosswind.problems.market.checks import as_utc
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["ModelStore"]

_MODEL, _META, _FORMAT = "model.npz", "meta.json", 1
_ATTEMPTS = 1000  # writers that race for one number; each failure means that another one succeeded
_SKEW = pd.Timedelta(5, "s")  # clocks of two machines; more than that is an error of one of them


def _now() -> pd.Timestamp:
    return pd.Timestamp.now("UTC")


class ModelStore:
    """A folder of versioned impact models.

    ``root/asset_class/regime/versions/000001/`` holds ``model.npz``, ``meta.json`` and ``SHA256SUMS`` (as
    ``sha256sum -c`` reads them); ``root/asset_class/regime/log/`` holds the promotions. A version is never changed
    after it appeared. Whatever stops a writer, the store is as before its call or as after it; any number of writers
    and readers work at once, on one machine or on a shared file system with atomic renames.

    Parameters
    ----------
    root
        The folder; made by the first `put`.
    clock
        Gives the time for creation and ages, tz-aware; None: the system's.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> store = ModelStore(tempfile.mkdtemp())
    >>> model = ImpactModel(("AAA",), np.array([0.01]), np.array([[[1e-9]]]))
    >>> store.put(model, "equity", "calm").state
    'candidate'
    >>> store.promote("equity", "calm", 1)
    >>> store.latest("equity", "calm").version
    1
    """

    def __init__(self, root: str | Path, clock: Callable[[], pd.Timestamp] | None = None) -> None:
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise InvalidInput("is a file, not a folder", field="root", value=self.root, remedy="name a folder")
        self._clock = _now if clock is None else clock

    def __repr__(self) -> str:
        return f"ModelStore({str(self.root)!r})"

    # -- places ---------------------------------------------------------------------------------------------------
    def _folder(self, asset_class: str, regime: str) -> Path:
        return self.root / check_slot(asset_class, "asset_class") / check_slot(regime, "regime") / "versions"

    def _log(self, asset_class: str, regime: str) -> Path:
        return self._folder(asset_class, regime).with_name("log")

    def slots(self) -> list[tuple[str, str]]:
        """Return the (asset class, regime) pairs that hold a version, sorted."""
        if not self.root.is_dir():
            return []
        found = (p.relative_to(self.root).parts for p in self.root.glob("*/*/versions") if entry_numbers(p))
        return sorted((a, r) for a, r, _ in found)

    # -- write ----------------------------------------------------------------------------------------------------
    def put(
        self,
        fitted: Any,
        asset_class: str,
        regime: str,
        events: MarketEvents | None = None,
        *,
        parent: int | str | None = "live",
        data_hash: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        seed: int | None = None,
        code_version: str | None = None,
        note: str = "",
    ) -> StoredModel:
        """Store a model as a new candidate and return it as stored.

        Parameters
        ----------
        fitted
            A fitted estimator (its ``model_`` and ``get_params()`` are kept) or an `ImpactModel`.
        asset_class, regime
            Its place: letters, digits, ".", "-", "_".
        events
            What it was fitted on; gives ``data_hash`` and the span that its age is counted from.
        parent
            Version it descends from: a number, None, or "live" (default) for the live one, if any.
        data_hash
            Digest of the data where there are no events at hand.
        parameters
            Kept instead of the estimator's own.
        seed, code_version, note
            Kept as given; the code version is that of crosswind by default.

        Raises
        ------
        InvalidInput
            No model, a bad name, a parameter that JSON cannot hold, a place that cannot be written, or a naive clock.
        DataGap
            The parent does not exist.
        """
        model = getattr(fitted, "model_", fitted)
        if not isinstance(model, ImpactModel):
            raise InvalidInput(
                "holds no impact model",
                field="fitted",
                value=type(fitted).__name__,
                remedy="pass a fitted estimator or an ImpactModel",
            )
        if events is not None and not (hasattr(events, "index") and hasattr(events, "flow")):
            raise InvalidInput(
                "is not MarketEvents",
                field="events",
                value=type(events).__name__,
                remedy="pass what the model was fitted on, or its digest as data_hash",
            )
        folder = self._folder(asset_class, regime)
        states = read_log(self._log(asset_class, regime))
        if parent == "live":
            parent = states.live
        if isinstance(parent, str) or (parent is not None and parent not in entry_numbers(folder)):
            raise DataGap(
                "no such version to descend from",
                field="parent",
                value=parent,
                remedy=f"choose among {entry_numbers(folder)}, or None",
            )
        if parameters is None:
            parameters = fitted.get_params() if hasattr(fitted, "get_params") else {}
        meta: dict[str, Any] = {
            "format": _FORMAT,
            "asset_class": asset_class,
            "regime": regime,
            "created": as_utc(self._clock(), "clock").isoformat(),
            "data_start": None if events is None else events.index[0].isoformat(),
            "data_end": None if events is None else events.index[-1].isoformat(),
            "data_hash": data_hash if events is None else events_digest(events),
            "parent": parent,
            "estimator": None if fitted is model else type(fitted).__name__,
            "parameters": json_value(parameters, "parameters"),
            "code_version": _code_version() if code_version is None else str(code_version),
            "seed": None if seed is None else int(seed),
            "note": str(note),
        }
        for _ in range(_ATTEMPTS):
            number = max(entry_numbers(folder), default=0) + 1

            def fill(work: Path, number: int = number) -> None:
                model.save(work / _MODEL)
                text = json.dumps(meta | {"version": number}, indent=1, sort_keys=True)
                (work / _META).write_text(text + "\n", encoding="utf-8")

            if claim(folder, number, fill):
                return self.get(asset_class, regime, number)
        raise InvalidInput("too many writers at once", field="root", value=self.root, remedy="try again")

    def promote(self, asset_class: str, regime: str, version: int, reason: str = "") -> None:
        """Make a candidate the live version; the one before is retired in the same step and can be rolled back to.

        Raises
        ------
        DataGap
            No such version.
        InvalidInput
            It is not a candidate.
        ModelCorrupted
            Its files are not what was written: it is not promoted.
        """
        self.get(asset_class, regime, version)  # reads and verifies every byte first
        self._act(asset_class, regime, "promote", version, reason)

    def rollback(self, asset_class: str, regime: str, reason: str = "") -> StoredModel:
        """Make the version that was live before the live one again, and return it.

        Raises
        ------
        InvalidInput
            There is no earlier live version.
        ModelCorrupted
            The earlier version is damaged; `retire` it to reach the one before.
        """
        states = read_log(self._log(asset_class, regime))
        if states.before:
            self.get(asset_class, regime, states.before[-1])
        return self.get(asset_class, regime, self._act(asset_class, regime, "rollback", None, reason))

    def retire(self, asset_class: str, regime: str, version: int, reason: str = "") -> None:
        """Withdraw a version: it is no longer live, nor a candidate, nor one to roll back to. Its files stay.

        Raises
        ------
        DataGap
            No such version.
        InvalidInput
            It is withdrawn already.
        """
        if version not in entry_numbers(self._folder(asset_class, regime)):
            raise DataGap("no such version", field="version", value=version, remedy="look at .versions()")
        self._act(asset_class, regime, "retire", version, reason)

    def _act(self, asset_class: str, regime: str, action: str, version: int | None, reason: str) -> int:
        folder = self._log(asset_class, regime)
        for _ in range(_ATTEMPTS):
            states = read_log(folder)
            before = States(states.live, [*states.before], {**states.named}, states.events, states.digest)
            named = states.apply(action, version)
            event = {
                "action": action,
                "version": version,
                "live": states.live,
                "time": as_utc(self._clock(), "clock").isoformat(),
                "reason": str(reason),
            }
            if append(folder, before, event):
                return named
        raise InvalidInput("too many writers at once", field="root", value=self.root, remedy="try again")

    def sweep(self) -> int:
        """Remove what crashed writers left behind and return how many; call it while nobody writes."""
        found = [p for a, r in self._places() for f in (self._folder(a, r), self._log(a, r)) for p in leftovers(f)]
        for path in found:
            shutil.rmtree(path, ignore_errors=True)
        return len(found)

    def _places(self) -> Iterator[tuple[str, str]]:
        for path in sorted(self.root.glob("*/*")):
            if path.is_dir():
                yield path.parent.name, path.name

    # -- read -----------------------------------------------------------------------------------------------------
    def get(self, asset_class: str, regime: str, version: int) -> StoredModel:
        """Return one version after comparing every byte with its SHA-256.

        Raises
        ------
        DataGap
            No such version.
        ModelCorrupted
            A file is not what was written.
        """
        return self._get(asset_class, regime, version, read_log(self._log(asset_class, regime)))

    def _get(self, asset_class: str, regime: str, version: int, states: States) -> StoredModel:
        folder = self._folder(asset_class, regime)
        if isinstance(version, bool) or not isinstance(version, (int, np.integer)) or version < 1:
            raise InvalidInput("is not a number ≥ 1", field="version", value=version, remedy="look at .versions()")
        content = read_entry(folder, int(version))
        meta = _meta(content, folder, int(version))
        model = ImpactModel.load(entry_path(folder, version) / _MODEL)
        times: dict[str, Any] = {
            k: None if meta[k] is None else pd.Timestamp(meta[k]) for k in ("created", "data_start", "data_end")
        }
        since = times["data_end"] if times["data_end"] is not None else times["created"]
        sums = {line.split("  ")[1]: line[:64] for line in _sums(entry_path(folder, version))}
        kept = ("asset_class", "regime", "version", "data_hash", "parent", "estimator", "parameters", "code_version")
        return StoredModel(
            **{k: meta[k] for k in kept},
            **times,
            seed=meta["seed"],
            note=meta["note"],
            state=states.of(int(version)),
            model=model,
            model_hash=sums[_MODEL],
            age=as_utc(self._clock(), "clock") - since,
        )

    def latest(self, asset_class: str, regime: str, max_age: pd.Timedelta | str | None = None) -> StoredModel:
        """Return the live version.

        Parameters
        ----------
        asset_class, regime
            The place.
        max_age
            Oldest acceptable age of its data, e.g. "2D"; None accepts any.

        Raises
        ------
        DataGap
            Nothing is live there.
        StaleModel
            The live version is older than ``max_age``; the message names the age. Its data lying in the future by
            more than the skew of two clocks is refused by the same error.
        ModelCorrupted
            Its files are not what was written.
        """
        states = read_log(self._log(asset_class, regime))
        live = states.live
        if live is None:
            have = ", ".join(f"{a}/{r}" for a, r in self.slots() if read_log(self._log(a, r)).live is not None)
            raise DataGap(
                "no model is live here",
                field="asset_class/regime",
                value=f"{asset_class}/{regime}",
                remedy=f"promote a candidate; live are: {have or 'none'}",
            )
        found = self._get(asset_class, regime, live, states)
        if max_age is None:
            return found
        try:
            limit = pd.Timedelta(max_age)
        except ValueError as error:
            raise InvalidInput("is not a length of time", field="max_age", value=max_age, remedy="e.g. '2D'") from error
        if pd.isna(limit) or limit < pd.Timedelta(0):
            raise InvalidInput("is not a length of time ≥ 0", field="max_age", value=max_age, remedy="e.g. '2D'")
        if not -_SKEW <= found.age <= limit:
            what = f"is {found.age} old" if found.age > limit else f"knows data {-found.age} ahead of the clock"
            raise StaleModel(
                f"version {live} {what}, and at most {limit} is accepted",
                field=f"{asset_class}/{regime}",
                value=str(found.data_end or found.created),
                remedy="refit and promote on newer data, or accept a larger max_age knowingly",
            )
        return found

    def versions(self, asset_class: str | None = None, regime: str | None = None) -> pd.DataFrame:
        """Return one row per version: state, age, parent, data, digests; damaged versions show as such.

        Parameters
        ----------
        asset_class, regime
            Restrict to one; None for all.
        """
        rows = []
        for a, r in self.slots():
            if asset_class not in (None, a) or regime not in (None, r):
                continue
            states = read_log(self._log(a, r))
            for number in entry_numbers(self._folder(a, r)):
                row: dict[str, Any] = {"asset_class": a, "regime": r, "version": number}
                try:
                    found = self._get(a, r, number, states)
                except ModelCorrupted as error:
                    row |= {"state": "damaged", "note": str(error)}
                else:
                    row |= {
                        k: getattr(found, k)
                        for k in (
                            *("state", "age", "created", "data_end", "parent", "estimator", "seed"),
                            *("code_version", "data_hash", "model_hash", "note"),
                        )
                    }
                rows.append(row)
        columns = ["asset_class", "regime", "version", "state", "age", "created", "data_end", "parent", "estimator"]
        columns += ["seed", "code_version", "data_hash", "model_hash", "note"]
        return pd.DataFrame(rows, columns=columns).set_index(["asset_class", "regime", "version"])

    def lineage(self, asset_class: str, regime: str, version: int) -> list[StoredModel]:
        """Return the version, its parent, its parent's parent and so on."""
        chain = [self.get(asset_class, regime, version)]
        while (parent := chain[-1].parent) is not None:
            chain.append(self.get(asset_class, regime, parent))
        return chain

    def history(self, asset_class: str, regime: str) -> pd.DataFrame:
        """Return the promotion log, oldest first: time, action, version asked for, live version after it, reason."""
        events = read_log(self._log(asset_class, regime)).events
        frame = pd.DataFrame(events, columns=["time", "action", "version", "live", "reason"])
        return frame.assign(time=pd.to_datetime(frame["time"], utc=True)).astype({"version": "Int64", "live": "Int64"})

    def diff(self, asset_class: str, regime: str, old: int, new: int) -> ModelDiff:
        """Return how far the matrices of two versions lie apart, and which parameters changed."""
        a, b = self.get(asset_class, regime, old), self.get(asset_class, regime, new)
        return model_diff(a.model, b.model, a.parameters, b.parameters)

    def verify(self) -> pd.DataFrame:
        """Read every version and log entry and return one row per damage: place, what, message; empty when sound."""
        rows = []
        for a, r in self._places():
            try:
                read_log(self._log(a, r))
            except ModelCorrupted as error:
                rows.append((a, r, "log", str(error)))
            for number in entry_numbers(self._folder(a, r)):
                try:
                    _meta(read_entry(self._folder(a, r), number), self._folder(a, r), number)
                except ModelCorrupted as error:
                    rows.append((a, r, f"version {number}", str(error)))
        return pd.DataFrame(rows, columns=["asset_class", "regime", "what", "message"])


def _meta(content: dict[str, bytes], folder: Path, version: int) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads(content[_META])
        known = meta["format"] == _FORMAT and _MODEL in content
        moved = meta["version"] != version
    except (KeyError, ValueError, TypeError) as error:
        raise ModelCorrupted("is not a stored model", field="store", value=entry_path(folder, version)) from error
    if moved or not known:
        raise ModelCorrupted(
            "is of another layout" if not known else f"says that it is version {meta['version']}",
            field="store",
            value=entry_path(folder, version),
            remedy="restore the folder from a backup, or read it with the version of crosswind that wrote it",
        )
    return meta


def _sums(folder: Path) -> list[str]:
    return (folder / "SHA256SUMS").read_text(encoding="ascii").splitlines()


def _code_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"crosswind {version('crosswind')}"
    except PackageNotFoundError:  # run from a tree that is not installed
        return "crosswind, not installed"
