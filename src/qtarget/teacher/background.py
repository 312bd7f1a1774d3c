"""Threads for work that mostly waits, such as asking a server, done beside the training."""

import atexit
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
THREADS = 2
EXIT_WAIT_S = 1.0
"""Seconds for which the end of the process waits for work that is under way."""


def in_background(work: Callable[[], Any]) -> Future[Any]:
    """A future of what `work` returns or raises. Work begins in the order in which it was given.

    The threads are daemons, so a training that stops does not wait for an answer that may never come.
    """
    future: Future[Any] = Future()
    _queue(os.getpid()).put((future, work))
    return future


def at_once(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """`work` of each item, in the order of the items, some at a time. The first error ends it, and is raised.

    The threads are daemons of this call alone, for the same reason.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    waiting: SimpleQueue[int] = SimpleQueue()
    done: SimpleQueue[int | BaseException] = SimpleQueue()
    results: dict[int, Result] = {}
    for index in range(len(items)):
        waiting.put(index)

    def take() -> None:
        try:
            while True:
                index = waiting.get_nowait()
                results[index] = work(items[index])
                done.put(index)
        except Empty:
            pass
        except BaseException as error:
            done.put(error)

    for _ in range(min(threads, len(items))):
        Thread(target=take, name="teacher", daemon=True).start()
    try:
        for _ in items:
            if isinstance(found := done.get(), BaseException):
                raise found
    finally:
        with suppress(Empty):  # what was not begun is not begun any more
            while True:
                waiting.get_nowait()
    return [results[index] for index in range(len(items))]


@functools.lru_cache(maxsize=1)
def _queue(process: int) -> SimpleQueue:
    """The queue of a process, with its threads running. A fork gets its own, since threads are not forked."""
    queue: SimpleQueue = SimpleQueue()
    threads = [Thread(target=_work, args=(queue,), name="teacher", daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    atexit.register(_stop_threads, process, queue, threads)
    return queue


def _work(queue: SimpleQueue) -> None:
    while (task := queue.get()) is not None:
        _finish(*task)


def _stop_threads(process: int, queue: SimpleQueue, threads: list[Thread]) -> None:
    """At exit: stop idle threads, and give busy ones a second to leave torch.

    A daemon thread that is inside torch when the interpreter shuts down aborts the process.
    """
    if process != os.getpid():
        return
    for _ in threads:
        queue.put(None)
    for thread in threads:
        thread.join(EXIT_WAIT_S / len(threads))


def _finish(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
