"""Processes that write a cache and come to grief."""

import os
import resource
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from teacher import caches

from qtarget.teacher.cache import CachePart, Ranks, write_cache


def killed_at_every_replace(folder: Path) -> None:
    """Write into FOLDER/0, FOLDER/1, ...: a fork that kills itself before, and one behind, each file's last step."""
    caches.teacher()
    for stop in range(1000):
        child = os.fork()
        if child == 0:
            try:
                _kill_at(stop)
                caches.written(folder / str(stop))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break


def _kill_at(stop: int) -> None:
    replace, count = os.replace, iter(range(1000))

    def replace_or_die(draft, target):
        _die_if(next(count) == stop)
        replace(draft, target)
        _die_if(next(count) == stop)

    os.replace = replace_or_die


def _die_if(now: bool) -> None:
    if now:
        os.kill(os.getpid(), signal.SIGKILL)


def full(folder: Path, says: Connection) -> None:
    """After two shards, no file can grow beyond 1000 bytes; what is said of it."""
    seen = []

    def fill(shard, was_there):
        seen.append(shard)
        if len(seen) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    try:
        caches.written(folder, on_shard=fill)
    except OSError as error:
        says.send(str(error))


def holding(folder: Path, says: Connection) -> None:
    """Hold the folder until killed."""

    def answer(documents):
        says.send("holding")
        time.sleep(1000)

    write_cache(folder, caches.plan(), answer)


def write_rank(folder: Path, rank: int, ranks: int, barrier) -> None:
    """One of several processes on one cache."""
    caches.written(folder, ranks=Ranks(rank, ranks, barrier.wait))


def write_part(folder: Path, part: CachePart, together, stops_at: int | None = None) -> None:
    """One of several processes that know nothing of one another; its first question waits until all ask theirs.

    Args:
        together: their barrier.  stops_at: the question at which it kills itself, from 0.
    """
    planned, asked = caches.plan(), iter(range(1000))
    say = caches.answer(planned)

    def answer(documents):
        question = next(asked)
        if question == 0:
            together.wait(300)
        _die_if(question == stops_at)
        return say(documents)

    write_cache(folder, planned, answer, Ranks(part=part))


def holding_part(folder: Path, says: Connection) -> None:
    """Hold part 1 of 3 until killed, in the middle of writing its first shard."""

    def replace_or_stay(draft, target):
        if target.name.startswith("shard-"):
            says.send("holding")
            time.sleep(1000)
        replace(draft, target)

    replace, os.replace = os.replace, replace_or_stay
    caches.written(folder, ranks=Ranks(part=CachePart(1, 3)))
