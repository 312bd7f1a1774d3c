"""Several processes that compare expressions, so that an answer that takes all its time holds up none but its own."""

import os
from functools import lru_cache
from queue import LifoQueue

from qtarget.evaluate.grading.worker import MathWorker, WorkerReply

MOST, REMEMBERED = 8, 10_000
"""Processes at most, and verdicts that are kept: the samples of a question often give one answer."""


class WorkerPool:
    """Workers for threads that ask at once, each started when the others are busy. Equal requests are judged once.

    Args:
        seconds, memory_bytes: of one answer; see `MathWorker`.
        at_once: workers; None for one a processor that this process may use, up to 8: more would share processors,
            and an answer's time is taken from the clock.
    """

    def __init__(self, seconds: float, memory_bytes: int, at_once: int | None = None) -> None:
        self.seconds, self.memory_bytes = seconds, memory_bytes
        self.workers = [MathWorker(seconds, memory_bytes) for _ in range(at_once or min(_processors(), MOST))]
        self.compare = lru_cache(REMEMBERED)(self._compare)
        self._idle: LifoQueue[MathWorker] = LifoQueue()  # the last one back is asked first: it runs already
        for worker in reversed(self.workers):
            self._idle.put(worker)

    def _compare(self, gold: str, answer: str) -> WorkerReply:
        worker = self._idle.get()
        try:
            return worker.compare(gold, answer)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the workers, whatever they do; a thread that waits for one gets `WorkerDied`."""
        for worker in self.workers:
            worker.close()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
