"""Work that waits for someone else, done beside the training."""

import atexit
import functools
import os
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any

THREADS = 2
PARTING = 1.0
"""Seconds that the end of the process waits for a work that is under way."""


def in_background(work: Callable[[], Any]) -> Future[Any]:
    """A future of what `work` returns or raises. Works begin in the order in which they were given.

    The threads are daemons: a training that stops does not wait for an answer that may never come.
    """
    future: Future[Any] = Future()
    _queue(os.getpid()).put((future, work))
    return future


@functools.lru_cache(maxsize=1)
def _queue(process: int) -> SimpleQueue:
    """The works of a process, and its threads; a fork has none of its parent's."""
    queue: SimpleQueue = SimpleQueue()
    threads = [Thread(target=_serve, args=(queue,), name="teacher", daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    atexit.register(_part, process, queue, threads)
    return queue


def _serve(queue: SimpleQueue) -> None:
    while (given := queue.get()) is not None:
        _finish(*given)


def _part(process: int, queue: SimpleQueue, threads: list[Thread]) -> None:
    """End threads that have nothing to do, and let others reach a place where they only wait: one that Python's end
    finds inside torch aborts the process.
    """
    if process != os.getpid():
        return
    for _ in threads:
        queue.put(None)
    for thread in threads:
        thread.join(PARTING / len(threads))


def _finish(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
