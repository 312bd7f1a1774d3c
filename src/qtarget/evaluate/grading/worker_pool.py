"""Several processes that grade, so that an answer that takes all its time holds up none but its own."""

import json
import os
from collections.abc import Callable
from functools import lru_cache
from queue import LifoQueue
from typing import Any

from qtarget.evaluate.grading.worker import KillableWorker, MathWorker, WorkerReply

MOST, REMEMBERED = 8, 10_000
"""Processes at most, and verdicts that are kept: the samples of a question often give one answer."""


class WorkerPool:
    """Workers for threads that ask at once, each started when the others are busy. Equal requests are judged once.

    Args:
        seconds, memory_bytes: of one answer; see `MathWorker`.
        at_once: workers; None for one a processor that this process may use, up to 8: more would share processors,
            and an answer's time is taken from the clock.
        make: makes a worker of the two limits.
    """

    def __init__(
        self,
        seconds: float,
        memory_bytes: int,
        at_once: int | None = None,
        make: Callable[[float, int], KillableWorker] = MathWorker,
    ) -> None:
        self.seconds, self.memory_bytes = seconds, memory_bytes
        self.workers = [make(seconds, memory_bytes) for _ in range(at_once or min(_processors(), MOST))]
        self._asked = lru_cache(REMEMBERED)(self._ask)
        self._idle: LifoQueue[KillableWorker] = LifoQueue()  # the last one back is asked first: it runs already
        for worker in reversed(self.workers):
            self._idle.put(worker)

    def compare(self, gold: str, answer: str) -> WorkerReply:
        """The verdict on two expressions; see `KillableWorker.ask`."""
        return self.ask({"gold": gold, "answer": answer})

    def ask(self, request: Any) -> WorkerReply:
        """A worker's reply to a request of JSON; see `KillableWorker.ask`."""
        return self._asked(json.dumps(request))

    def _ask(self, request: str) -> WorkerReply:
        worker = self._idle.get()
        try:
            return worker.ask(json.loads(request))
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the workers, whatever they do; a thread that waits for one gets `WorkerDied`."""
        for worker in self.workers:
            worker.close()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
