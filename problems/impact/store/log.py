"""The promotion log: numbered, chained entries whose sequence gives every version's state.

A state is never stored: it is what the entries say one after the other. Promotion retires the version before in the
same entry, so that no crash leaves two live versions or none.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crosswind.problems.impact.store.errors import ModelCorrupted
from crosswind.problems.impact.store.files import claim, entry_numbers, read_entry
from crosswind.solvers.errors import InvalidInput

__all__ = ["States", "append", "read_log"]

_FILE = "event.json"
ACTIONS = ("promote", "rollback", "retire")


@dataclass
class States:
    """What the log says so far.

    Attributes
    ----------
    live
        The live version, if any.
    before
        Versions to roll back to, the nearest last.
    named
        State of each version the log names; all others are candidates.
    events
        The entries, oldest first.
    digest
        SHA-256 of the last entry, "" before the first: each entry carries that of the one before it.
    """

    live: int | None = None
    before: list[int] = field(default_factory=list)
    named: dict[int, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    digest: str = ""

    def of(self, version: int) -> str:
        """Return the state of a version."""
        return self.named.get(version, "candidate")

    def apply(self, action: str, version: int | None) -> int:
        """Change the states as one entry says and return the version it names.

        Raises
        ------
        InvalidInput
            The action is not possible in these states.
        """
        if action == "rollback":
            if not self.before:
                raise InvalidInput("there is no earlier live version", field="rollback", remedy="promote a candidate")
            target = self.before.pop()
            self._leave()
            self.live = target
            self.named[target] = "live"
            return target
        if version is None or action not in ACTIONS:
            raise InvalidInput("unknown action", field="action", value=(action, version))
        if action == "promote":
            if self.of(version) != "candidate":
                raise InvalidInput(
                    f"is {self.of(version)}, and only a candidate is promoted",
                    field="version",
                    value=version,
                    remedy="use rollback() to go back, or put the model again",
                )
            if self.live is not None:
                self.before.append(self.live)
            self._leave()
            self.live = version
            self.named[version] = "live"
            return version
        if self.of(version) == "retired" and version not in self.before:
            raise InvalidInput("is retired already", field="version", value=version)
        self.before = [v for v in self.before if v != version]
        if self.live == version:
            self.live = None
        self.named[version] = "retired"
        return version

    def _leave(self) -> None:
        if self.live is not None:
            self.named[self.live] = "retired"


def read_log(folder: Path) -> States:
    """Replay the log.

    Raises
    ------
    ModelCorrupted
        An entry is missing, changed, or does not follow from the one before it.
    """
    states = States()
    for expected, number in enumerate(entry_numbers(folder), start=1):
        content = read_entry(folder, number) if number == expected else {}
        try:
            event = json.loads(content[_FILE])
            if event["previous"] != states.digest:
                raise ValueError("chain")
            states.apply(event["action"], event["version"])
        except (KeyError, ValueError, TypeError) as error:  # InvalidInput is a ValueError: an impossible step
            raise ModelCorrupted(
                f"entry {expected} of the promotion log is missing or does not follow from the one before it",
                field="store",
                value=folder,
                remedy="restore the log from a backup; the versions themselves are not touched",
            ) from error
        states.digest = hashlib.sha256(content[_FILE]).hexdigest()
        states.events.append(event)
    return states


def append(folder: Path, states: States, event: dict[str, Any]) -> bool:
    """Write ``event`` after the ``states`` that were read; False when another writer was faster: read and try again."""

    def fill(work: Path) -> None:
        content = json.dumps(event | {"previous": states.digest}, indent=1, sort_keys=True)
        (work / _FILE).write_text(content + "\n", encoding="utf-8")

    return claim(folder, len(states.events) + 1, fill)
