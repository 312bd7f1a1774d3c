"""When one rank ends, the others stop, and the terminal says once which it was and why.

Ranks that lost each other see no more than a connection that closed. So a rank that fails leaves its words in the store
that the launcher keeps, and one that lost the others reads them there: whose words are missing was killed.
"""

import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NamedTuple

import psutil
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from qtarget.disk.os_errors import is_full_disk
from qtarget.outcomes import Interruption, LostRankError, OutsideFault, Refusal

ANSWER_SECONDS, PAUSE_SECONDS = 3.0, 0.05
"""How long a rank waits for the words of the others and for the store, and between two looks."""
PREFIX = "qtarget"
SIGNALLED = 128
"""Exit codes from here on are those of signals."""


class LastWords(NamedTuple):
    """What a rank left when it failed.

    Attributes:
        is_echo: whether all that it knows is that it lost another rank.
        words: of its error.
        code: the exit code that it ends with.
    """

    is_echo: bool
    words: str
    code: int


class RollCall:
    """What the ranks of a run tell each other beside training, in the launcher's store."""

    def __init__(self, store: Store, rank: int, ranks: int) -> None:
        self.store, self.rank, self.ranks = store, rank, ranks

    @classmethod
    def join(cls) -> "RollCall | None":
        """The one of this run; None for a single rank, or where no store can be reached.

        Where no launcher keeps one the first rank does, from the moment that it joins the process group.
        """
        environment = os.environ
        ranks = int(environment.get("WORLD_SIZE", "1"))
        if ranks == 1 or not {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
            return None
        try:
            address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
            with socket.create_connection((address, port), ANSWER_SECONDS):
                pass  # where nobody listens, torch's own attempt prints a stack
            store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=ANSWER_SECONDS))
        except (RuntimeError, ValueError, OSError):
            return None
        attempt = "/".join(
            (PREFIX, *(environment.get(f"TORCHELASTIC_{each}", "") for each in ("RUN_ID", "RESTART_COUNT")))
        )
        return cls(PrefixStore(attempt, store), int(environment["RANK"]), ranks)

    def begin(self) -> None:
        """Say where this rank is, and take back what it left before."""
        with suppress(RuntimeError):
            self.store.set(f"at/{self.rank}", json.dumps([os.getpid(), socket.gethostname()]))
            self.store.delete_key(f"end/{self.rank}")

    def answer(self, error: Exception) -> LostRankError | None:
        """Leave an error's words for the others. Where it says only that others are lost, which they are, and why."""
        mine = LastWords(is_echo(error), f"{type(error).__name__}: {error}", exit_code(error))
        try:
            if isinstance(error, Interruption) and (cause := self._cause(self._read("end", seconds=0.0), SIGNALLED)):
                return cause  # whose launcher has sent the signal
            self.store.set(f"end/{self.rank}", json.dumps(mine))
            return self._loss(mine) if mine.is_echo else None
        except RuntimeError:
            return LostRankError("rank 0 has ended, and with it the store of the ranks") if mine.is_echo else None

    def _loss(self, mine: LastWords) -> LostRankError:
        left = self._read("end")
        return self._cause(left) or LostRankError(self._silence(left, mine), mine.code, not self._is_first("told"))

    def _cause(self, left: dict[int, Any], below: int = 256) -> LostRankError | None:
        """The first other rank that failed of itself, with an exit code below `below`; it says so."""
        last = {rank: LastWords(*words) for rank, words in left.items() if rank != self.rank}
        found = next((rank for rank, each in last.items() if not each.is_echo and each.code < below), None)
        if found is None:
            return None
        return LostRankError(f"rank {found} has ended the run: {last[found].words}", last[found].code, is_told=True)

    def _silence(self, left: dict[int, Any], mine: LastWords) -> str:
        """Which ranks left no word, or why none did that lost the others."""
        missing = [rank for rank in range(self.ranks) if rank not in left and rank != self.rank]
        if missing:
            places = self._read("at", missing)
            return "; ".join(_absence(rank, places.get(rank)) for rank in missing)
        return f"the ranks lost each other, and none has ended: {mine.words}"

    def says(self, words: str) -> str | None:
        """What this rank prints in front of its last words, "" on the first; None where another prints the same."""
        with suppress(RuntimeError):
            self.store.set(f"said/{self.rank}", json.dumps(words))
            if self.rank == 0:
                return ""
            if self._read("said", [0]).get(0) == words or not self._is_first(
                hashlib.sha256(words.encode()).hexdigest()
            ):
                return None
        return f"rank {self.rank}: "

    def _is_first(self, name: str) -> bool:
        """Whether no rank has asked for this name before."""
        return self.store.add(name, 1) == 1

    def _read(self, name: str, ranks: list[int] | None = None, seconds: float = ANSWER_SECONDS) -> dict[int, Any]:
        """What ranks, by default all, have set under a name; waits for those that have not, for a while."""
        keys = {rank: f"{name}/{rank}" for rank in (range(self.ranks) if ranks is None else ranks)}
        until = time.monotonic() + seconds
        while not self.store.check(list(keys.values())) and time.monotonic() < until:
            time.sleep(PAUSE_SECONDS)  # the store's own wait prints warnings when it ends in vain
        return {rank: json.loads(self.store.get(key)) for rank, key in keys.items() if self.store.check([key])}


def is_echo(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, says no more than that the ranks lost each other."""
    while error is not None:
        if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def exit_code(error: Exception) -> int:
    """The one that the command ends with for an error."""
    if is_full_disk(error):
        return OutsideFault.exit_code
    return int(getattr(error, "exit_code", 2 if isinstance(error, Refusal) else 1))


def _absence(rank: int, place: list | None) -> str:
    """What is known of a rank that left no word."""
    if place is None:
        return f"rank {rank} does not answer"
    pid, host = place
    where = f"rank {rank} (process {pid} on {host})"
    if host != socket.gethostname():
        return f"{where} does not answer: it was killed, or its machine is gone"
    if _is_running(pid):
        return f"{where} does not answer, though it runs: it hangs, or computes for long"
    return f"{where} has ended without a word: it was killed, as the system does where memory runs out"


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@contextmanager
def ranks_told(ends_process: bool = False) -> Iterator[None]:
    """While the block runs on several ranks, an error of one is told to the others.

    Args:
        ends_process: whether the process ends with an error. Then SIGTERM, which launchers send when a rank has
            ended, is ignored from the error on, so that it does not hide it.

    Raises:
        LostRankError: names the rank that ended, in the place of an error that says only that a connection closed.
    """
    call = RollCall.join() if _has_store() else None
    if call is not None:
        call.begin()
    try:
        yield
    except LostRankError:
        _ignore_termination() if ends_process else None
        raise
    except Exception as error:
        before = _ignore_termination()
        lost = _answered(call, error)
        if before is not None and not ends_process:
            signal.signal(signal.SIGTERM, before)
        if lost is not None:
            raise lost from error
        raise


def _answered(call: RollCall | None, error: Exception) -> LostRankError | None:
    call = call or RollCall.join()
    return None if call is None else call.answer(error)


def _has_store() -> bool:
    """Whether a store can be reached by now."""
    return dist.is_initialized() or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _ignore_termination() -> Any:
    """Ignore SIGTERM under several ranks; the handler that was there before, or None."""
    is_several = os.environ.get("WORLD_SIZE", "1") != "1"
    if not is_several or threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, signal.SIG_IGN)
