"""Runs of a search beside one another: by threads here, and by other processes of the same command, also elsewhere.

Whoever begins a run locks a file in its folder, and the commands that it starts hold that lock too, behind a launcher
as well. So after kill -9 a run is taken up when its orphan has ended, and never by two at once. Nobody begins a run
that has a result.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from qtarget.disk.inherited_lock import inherited_lock, waiting_words
from qtarget.search.search_plan import Search
from qtarget.search.search_runs import RunPlace, RunResult, SearchRun, conduct_search_run, read_result
from qtarget.study.own_commands import CommandSurroundings, FailedCommandError

LOCK_NAME_OF_RUN = ".running"
LOOK_SECONDS = 0.5
"""Between two looks at runs that others do."""
OnResult = Callable[[SearchRun, RunResult], None]
Say = Callable[[str], None]


def all_results(runs: Sequence[SearchRun], search: Search, on_result: OnResult, say: Say) -> dict[SearchRun, RunResult]:
    """The results of all runs, in their order, after those without one have been done.

    Args:
        on_result: told of each run that is done now, by whomever.
        say: told once, where runs of others are waited for.

    Raises:
        KeyboardInterrupt: after its commands were told to end.
        ValueError: a damaged result; or a command was killed, or ended by a fault outside of it, told once all other
            runs are done.
    """
    pool = _Pool(runs, search, on_result, say)
    count = max(1, min(search.workers, len(pool.waiting)))
    workers = ThreadPoolExecutor(count)
    try:
        # not `Thread.join(timeout)`: interrupted, it takes a thread that runs for one that has ended (bpo-45274)
        wait([workers.submit(pool.work, place) for place in range(count)])
    except BaseException:
        pool.stop.set()
        raise
    finally:
        workers.shutdown()
    if pool.errors:
        raise pool.errors[0]
    for run, error in pool.unjudged.items():
        memory = " Where memory was short, write fewer --workers, or end what else runs there."
        raise ValueError(
            f"{run.place}: {str(error).rstrip('.')}. It is no failed arm: what is done stays in {search.out}, and the "
            f"same command runs it again.{'' if error.is_outside else memory}"
        ) from error
    return {run: pool.results[run] for run in runs}


class _Pool:
    """Runs that wait, and results that are there."""

    def __init__(self, runs: Sequence[SearchRun], search: Search, on_result: OnResult, say: Say) -> None:
        self.search, self.on_result, self.say = search, on_result, say
        self.results: dict[SearchRun, RunResult] = {}
        self.errors: list[BaseException] = []
        self.unjudged: dict[SearchRun, FailedCommandError] = {}
        self.stop, self._lock, self._taken = threading.Event(), threading.Lock(), set[SearchRun]()
        self._of_others: SearchRun | None = None
        self._is_told = False
        for run in runs:
            if (result := read_result(run, search)) is not None:
                self.results[run] = result
        self.waiting = [run for run in runs if run not in self.results]

    def work(self, place: int) -> None:
        """Take one run after the other until there is none."""
        try:
            while not self.stop.is_set() and (left := self._left()):
                if not any(self._try(run, place) for run in left):
                    self._tell_waiting()
                    self.stop.wait(LOOK_SECONDS)
        except BaseException as error:
            self.errors.append(error)
            self.stop.set()

    def _tell_waiting(self) -> None:
        """Say that runs are waited for which another process does: once."""
        with self._lock:
            run = self._of_others
            if run in self._left() and run not in self._taken and not self._is_told:
                self._is_told = True
                self.say(waiting_words(self.search.out / run.place))

    def _left(self) -> list[SearchRun]:
        return [run for run in self.waiting if run not in self.results and run not in self.unjudged]

    def _try(self, run: SearchRun, place: int) -> bool:
        """Do a run, unless another thread or process does. Whether it waits no longer: it is done, or broke off."""
        if self.stop.is_set() or not self._claim(run):
            return False
        try:
            return self._done_by_others(run) or self._do(run, place)
        except FailedCommandError as error:
            if error.is_stopped or self.stop.is_set():
                raise
            self.unjudged[run] = error
            return True
        finally:
            with self._lock:
                self._taken.discard(run)

    def _claim(self, run: SearchRun) -> bool:
        with self._lock:
            if run in self._taken or run in self.results or run in self.unjudged:
                return False
            self._taken.add(run)
            return True

    def _done_by_others(self, run: SearchRun) -> bool:
        result = read_result(run, self.search)
        if result is None:
            return False
        self._keep(run, result)
        return True

    def _do(self, run: SearchRun, place: int) -> bool:
        home = self.search.out / run.place
        home.mkdir(parents=True, exist_ok=True)
        with inherited_lock(home / LOCK_NAME_OF_RUN) as lock:
            if lock is None:
                self._of_others = run
                return False
            if self._done_by_others(run):
                return True
            around = CommandSurroundings(
                environment=_environment(place, self.search), lock=lock, is_stopped=self.stop.is_set
            )
            self._keep(run, conduct_search_run(run, RunPlace(self.search, around)))
        return True

    def _keep(self, run: SearchRun, result: RunResult) -> None:
        with self._lock:
            self.results[run] = result
            self.on_result(run, result)


def _environment(place: int, search: Search) -> dict[str, str]:
    """Of several workers each has a GPU of its own, by turns, and its share of the processor's cores."""
    if search.workers == 1:
        return {}
    cores = max(1, (os.cpu_count() or 1) // search.workers)
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(cores)}
    devices = [] if search.launch else _visible_devices()
    return {**threads, **({"CUDA_VISIBLE_DEVICES": devices[place % len(devices)]} if devices else {})}


def _visible_devices() -> list[str]:
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each for each in named.split(",") if each]
    return [str(number) for number in range(torch.cuda.device_count())]
