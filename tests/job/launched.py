"""Commands on several ranks, forked from this process and looked after as torchrun does it: a store that outlives them,
and SIGTERM for the others when one has ended badly, SIGKILL if that does not end them."""

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from job.stopped import Ended, Work, run_and_exit
from kept_ports import kept_port

GRACE_SECONDS = 30.0
"""torchrun's, between SIGTERM and SIGKILL."""
LIMIT_SECONDS = 1200.0


class OnRank(NamedTuple):
    """A fault of one rank alone."""

    rank: int
    fault: Any

    def install(self) -> None:
        if os.environ["RANK"] == str(self.rank):
            self.fault.install()


class Launched(NamedTuple):
    """How the ranks ended.

    Attributes:
        seconds: from the end of the first rank to the end of the last.
        killed: ranks that SIGTERM did not end.
    """

    ranks: list[Ended]
    seconds: float
    killed: list[int]

    @property
    def codes(self) -> list[int]:
        return [each.code for each in self.ranks]

    @property
    def err(self) -> str:
        """What the terminal shows of standard error, a rank after the other."""
        return "".join(each.err for each in self.ranks)


def launched(words: Work, *faults: Any, folder: Path, ranks: int = 2, has_agent: bool = True) -> Launched:
    """Run a command on several ranks until all have ended.

    Args:
        faults: each has `install`, which is called in every rank before the command runs.
        has_agent: whether somebody looks after the ranks; else they are left alone with each other.
    """
    with kept_port() as port, socket.socket() as door:
        if has_agent:  # else the first rank has the store, at this port
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(("127.0.0.1", port))
            door.listen()
        children = {rank: _forked(words, faults, folder, rank, ranks, port, door, has_agent) for rank in range(ranks)}
        listen: Any = {"is_master": True, "wait_for_workers": False}
        store = has_agent and dist.TCPStore("127.0.0.1", port, master_listen_fd=os.dup(door.fileno()), **listen)
    try:
        codes, seconds, killed = _looked_after(children, has_agent)
    finally:
        del store
    return Launched([Ended(codes[rank], *_said(folder, rank)) for rank in range(ranks)], seconds, killed)


def _forked(words, faults, folder, rank, ranks, port, door, has_agent) -> int:
    child = os.fork()
    if child:
        return child
    door.close()
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_USE_AGENT_STORE": str(has_agent),
    }
    run_and_exit(words, faults, folder / f"stdout_{rank}.txt", folder / f"stderr_{rank}.txt")
    raise AssertionError("the child has ended")


def _said(folder: Path, rank: int) -> tuple[str, str]:
    out, err = ((folder / f"{name}_{rank}.txt").read_text("utf-8") for name in ("stdout", "stderr"))
    return out, err


def _looked_after(children: dict[int, int], has_agent: bool) -> tuple[dict[int, int], float, list[int]]:
    codes: dict[int, int] = {}
    began, first_end, told_at, killed = time.monotonic(), 0.0, 0.0, []
    while len(codes) < len(children):
        now = time.monotonic()
        for rank, child in children.items():
            if rank not in codes and (ended := os.waitpid(child, os.WNOHANG))[0]:
                codes[rank] = os.waitstatus_to_exitcode(ended[1])
                first_end = first_end or now
        left = [rank for rank in children if rank not in codes]
        if has_agent and left and any(codes.values()) and not told_at:
            told_at = now
            for rank in left:
                os.kill(children[rank], signal.SIGTERM)
        if now - began > LIMIT_SECONDS or (told_at and now - told_at > GRACE_SECONDS):
            killed += left
            for rank in left:
                os.kill(children[rank], signal.SIGKILL)
            began = now
        time.sleep(0.02)
    return codes, time.monotonic() - first_end, killed
