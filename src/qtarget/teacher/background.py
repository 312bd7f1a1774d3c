"""Work that waits for someone else, done beside the training."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any

THREADS = 2


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
    for _ in range(THREADS):
        Thread(target=_serve, args=(queue,), name="teacher", daemon=True).start()
    return queue


def _serve(queue: SimpleQueue) -> None:
    while True:
        _finish(*queue.get())


def _finish(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
