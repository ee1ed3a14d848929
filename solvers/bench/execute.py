"""Who runs the cells: threads with a worker process each, or the workers of a dask cluster."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from crosswind.solvers.backends.base import Program
from crosswind.solvers.bench.judge import judge
from crosswind.solvers.bench.lane import Lane
from crosswind.solvers.bench.messages import Request
from crosswind.solvers.bench.plan import Cell, run_plugins
from crosswind.solvers.errors import InvalidInput, MissingDependency

__all__ = ["Task", "measure", "on_dask", "on_threads", "one_thread"]

CONNECT_LIMIT_S = 10.0
Row = dict[str, Any]
Task = tuple[Cell, tuple[Program, ...]]
_here = threading.local()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold the linear algebra of this process to one thread: the judge must not take cores from what is timed."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def measure(lane: Lane, cell: Cell, programs: tuple[Program, ...]) -> Row:
    """Measure one cell in a worker of ``lane`` and judge it."""
    request = Request(cell.mode, programs, cell.accuracy, cell.time_limit_s, cell.repeats, cell.settings)
    loaded, answer = lane.ask(cell.solver, request, cell.memory_limit_mb)
    return judge(cell, programs, loaded, answer)


def on_threads(
    tasks: Iterator[Task],
    jobs: int,
    plugins: tuple[tuple[str, str], ...],
    started: Callable[[Cell], None],
) -> Generator[Row]:
    """Yield rows as they come from ``jobs`` lanes that share the tasks; leaving the iterator kills the workers."""
    done: queue.Queue[Row | BaseException | None] = queue.Queue()
    stop = threading.Event()
    gate = threading.Lock()
    lanes = [Lane(plugins) for _ in range(jobs)]

    def work(lane: Lane) -> None:
        try:
            while not stop.is_set():
                with gate:  # programs are made under the lock, one at a time
                    task = next(tasks, None)
                if task is None:
                    break
                started(task[0])
                done.put(measure(lane, *task))
        except BaseException as err:
            done.put(err)
        finally:
            lane.close()
            done.put(None)

    threads = [threading.Thread(target=work, args=(lane,), daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    left = jobs
    try:
        while left:
            item = done.get()
            if item is None:
                left -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        stop.set()
        for lane in lanes:
            lane.stop()
        for thread in threads:
            thread.join(5.0)


def on_dask(
    tasks: Iterator[Task],
    address: str,
    plugins: tuple[tuple[str, str], ...],
    started: Callable[[Cell], None],
) -> Generator[Row]:
    """Yield rows as they come from the workers of the dask scheduler at ``address``.

    Each dask worker starts worker processes of its own for the solvers, so limits and kills are the same as here. Give
    the dask workers one thread each, or cells share a processor.

    Raises
    ------
    MissingDependency
        When dask.distributed is not installed.
    InvalidInput
        When the scheduler cannot be reached or has no worker.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as err:
        raise MissingDependency(
            "dask.distributed is not installed",
            field="scheduler",
            value=address,
            remedy="pip install 'crosswind[scale]'",
        ) from err
    try:
        client = Client(address, timeout=CONNECT_LIMIT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as err:
        raise InvalidInput("cannot be reached", field="scheduler", value=address, remedy=str(err)[:200]) from err
    with client:
        workers = len(client.scheduler_info()["workers"])
        if not workers:
            raise InvalidInput("has no worker", field="scheduler", value=address, remedy="start dask workers")
        running: Any = as_completed(loop=client.loop)

        def feed(count: int) -> None:
            for _ in range(count):
                task = next(tasks, None)
                if task is None:
                    return
                started(task[0])
                # A cell whose dask worker died may be run again elsewhere: its row has not been written.
                running.add(client.submit(_on_worker, *task, plugins, pure=False, retries=2))

        feed(2 * workers)
        for future in running:
            yield future.result()
            feed(1)


def _on_worker(cell: Cell, programs: tuple[Program, ...], plugins: Sequence[tuple[str, str]]) -> Row:
    """Measure a cell on a dask worker, with one lane for each of its threads."""
    lane = getattr(_here, "lane", None)
    if lane is None or lane.plugins != tuple(plugins):
        if lane is not None:
            lane.close()
        run_plugins(tuple(plugins))
        lane = _here.lane = Lane(tuple(plugins))
    with one_thread():
        return measure(lane, cell, programs)
