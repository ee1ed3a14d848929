"""The store under crashes at every file operation, and under many writers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import ImpactModel
from crosswind.problems.impact.store import ModelStore

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="crashes are made by killing a forked process")

PLACE = ("equity", "calm")
CHANGING = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "shutil.rmtree")


def model(scale: float) -> ImpactModel:
    return ImpactModel(("AAA",), np.array([0.01]), np.array([[[scale]]]))


def clock() -> pd.Timestamp:
    return pd.Timestamp("2024-03-06 12:00", tz="UTC")


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked process that ends without any clean-up; return its exit code."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the parent measures
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(root: Path, step: int, damage: bool, work: Callable[[], None]) -> bool:
    """Kill the work at its ``step``-th change of a file below root; False when it ended before that."""

    def armed() -> None:
        count = 0

        def hook(event: str, args: tuple[object, ...]) -> None:
            nonlocal count
            writes = event in CHANGING or (event == "open" and isinstance(args[1], str) and args[1][0] in "wax+")
            if not writes or not isinstance(args[0], (str, os.PathLike)) or not str(args[0]).startswith(str(root)):
                return
            count += 1
            if count == step:
                if damage:  # what was not flushed is lost: every file still under way is cut in half
                    for path in [p for t in root.rglob(".new-*") for p in t.rglob("*") if p.is_file()]:
                        os.truncate(path, path.stat().st_size // 2)
                os._exit(9)

        sys.addaudithook(hook)
        work()

    code = in_child(armed)
    assert code in (0, 9)
    return code == 9


def prepared(root: Path) -> ModelStore:
    store = ModelStore(root, clock)
    for k in (1, 2):
        store.put(model(k), *PLACE)
        store.promote(*PLACE, k)
    store.put(model(3), *PLACE)
    return store


ACTIONS: dict[str, tuple[Callable[[ModelStore], object], Callable[[ModelStore], object]]] = {
    "put": (lambda s: s.put(model(4), *PLACE), lambda s: len(s.versions())),
    "first put": (lambda s: s.put(model(4), "crypto", "stress"), lambda s: len(s.slots())),
    "promote": (lambda s: s.promote(*PLACE, 3), lambda s: s.latest(*PLACE).version),
    "rollback": (lambda s: s.rollback(*PLACE), lambda s: s.latest(*PLACE).version),
    "retire": (lambda s: s.retire(*PLACE, 3), lambda s: s.get(*PLACE, 3).state),
}


@pytest.mark.parametrize("damage", [False, True], ids=["stop", "lost writes"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_crash_at_any_write_leaves_the_old_or_the_new_state(tmp_path: Path, action: str, damage: bool) -> None:
    act, look = ACTIONS[action]
    whole = prepared(tmp_path / "whole")
    old = look(whole)
    act(whole)
    new = look(whole)
    assert old != new
    seen = []
    for step in range(1, 200):
        store = prepared(tmp_path / f"at{step}")
        if not killed_at(store.root, step, damage, lambda store=store: act(store)):  # type: ignore[misc]
            break
        assert store.verify().empty
        state = look(store)
        assert state in (old, new)
        seen.append(state)
        store.sweep()
        assert not list(store.root.rglob(".new-*"))
        if state == old:  # the next attempt works
            act(store)
        assert look(store) == new
        assert store.verify().empty
    else:
        pytest.fail("the action never ended")
    assert len(seen) >= 5  # folder, files, sums, rename, clean-up
    assert {old, new} == set(seen)
    assert seen == sorted(seen, key=lambda s: s == new)  # one point of no return


def test_a_failing_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = prepared(tmp_path)

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="no space"):
            store.put(model(4), *PLACE)
    assert len(store.versions()) == 3
    assert store.sweep() == 0
    assert store.put(model(4), *PLACE).version == 4


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    writers, each = 4, 6
    pids = []
    for w in range(writers):
        pid = os.fork()
        if pid == 0:  # pragma: no cover - the parent measures
            try:
                store = ModelStore(tmp_path, clock)
                for k in range(each):
                    kept = store.put(model(1 + w * each + k), *PLACE, parent=None)
                    store.promote(*PLACE, kept.version)
            except BaseException:
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids] == [0] * writers
    store = ModelStore(tmp_path, clock)
    assert store.verify().empty
    table = store.versions()
    assert table.index.get_level_values("version").tolist() == list(range(1, writers * each + 1))
    kept = {float(store.get(*PLACE, v).model.matrices[0, 0, 0]) for v in range(1, writers * each + 1)}
    assert kept == set(map(float, range(1, writers * each + 1)))
    assert (table["state"] == "live").sum() == 1
    assert len(store.history(*PLACE)) == writers * each
    assert store.history(*PLACE)["live"].iloc[-1] == store.latest(*PLACE).version


def test_a_reader_never_sees_a_half_written_store(tmp_path: Path) -> None:
    store = prepared(tmp_path)
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the parent measures
        try:
            for k in range(4, 30):
                kept = ModelStore(tmp_path, clock).put(model(k), *PLACE)
                store.promote(*PLACE, kept.version)
        except BaseException:
            os._exit(1)
        os._exit(0)
    reads, last = 0, 0
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        version = store.latest(*PLACE).version
        assert version >= last
        last, reads = version, reads + 1
    assert reads > 3
    assert store.latest(*PLACE).version == 29
