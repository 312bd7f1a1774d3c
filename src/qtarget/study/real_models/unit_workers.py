"""Units side by side: as many at once as there are workers, each after those that it needs."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event
from typing import Any

from qtarget.study.real_models.real_protocol import RealProtocol
from qtarget.study.real_models.study_units import Unit, needed_before

Conduct = Callable[[Unit], Any]


def conducted(
    units: Sequence[Unit],
    protocol: RealProtocol,
    conduct: Conduct,
    workers: int,
    may_begin: Callable[[Unit], bool],
    stop: Event,
) -> Iterator[tuple[Unit, Any]]:
    """Units as they end, with what each gave.

    A unit's work is done by commands, which are processes of their own; so threads are enough to wait for them. One
    worker works in this thread.

    Args:
        units: those to run, in order. What a unit needs is among them, or done.
        may_begin: asked before each; once it says no, no further unit begins.
        stop: is set when the study is interrupted or fails, so that the commands under way end.

    Raises:
        ValueError: of the first unit that failed, once the units beside it have ended.
    """
    if workers == 1:
        for unit in units:
            if not may_begin(unit):
                return
            yield unit, conduct(unit)
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from _by_threads(pool, units, protocol, conduct, workers, may_begin)
        except BaseException:
            stop.set()
            raise


def _by_threads(
    pool: ThreadPoolExecutor,
    units: Sequence[Unit],
    protocol: RealProtocol,
    conduct: Conduct,
    workers: int,
    may_begin: Callable[[Unit], bool],
) -> Iterator[tuple[Unit, Any]]:
    needs = {unit: needed_before(unit, protocol) for unit in units}
    waiting, running = list(units), dict[Future[Any], Unit]()
    failure: BaseException | None = None
    while True:
        open_units = {*waiting, *running.values()}
        ready = [unit for unit in waiting if not needs[unit] & open_units]
        for unit in ready[: workers - len(running)]:
            if not may_begin(unit):
                waiting.clear()
                break
            waiting.remove(unit)
            running[pool.submit(conduct, unit)] = unit
        if not running:
            break
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            unit = running.pop(future)
            if (error := future.exception()) is None:
                yield unit, future.result()
            else:
                failure = failure or error
                waiting.clear()
    if failure is not None:
        raise failure
