"""`qtarget` as processes of its own: what a user would type, with what each cost."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.05
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals by which a user, or the system, stops a command: it has not failed by itself."""


@dataclass(frozen=True)
class CommandCost:
    """What a command took: seconds on the clock, seconds of processors, and the most memory in GiB."""

    seconds: float
    cpu_seconds: float
    peak_gib: float


class FailedCommandError(ValueError):
    """A command failed.

    Attributes:
        last: the last line that it printed.
        is_stopped: whether a user or the system stopped it, by one of `STOP_SIGNALS`.
    """

    def __init__(self, message: str, last: str, code: int) -> None:
        super().__init__(message)
        self.last = last
        self.is_stopped = code in {code for each in STOP_SIGNALS for code in (-each, 128 + each)}


@dataclass(frozen=True)
class CommandSurroundings:
    """What a command is run in.

    Attributes:
        program: the words of the command line before those of `qtarget`.
        environment: variables over those of this process.
        handles: open files that the command holds too, and with them their locks, for as long as it lives.
        is_stopped: asked all the while; once it is true, the command is told to end.
    """

    program: Sequence[str] = (sys.executable, "-m", "qtarget")
    environment: Mapping[str, str] | None = None
    handles: Sequence[int] = ()
    is_stopped: Callable[[], bool] = lambda: False


BY_ITSELF = CommandSurroundings()


def run_qtarget(words: Sequence[str], log: Path, around: CommandSurroundings = BY_ITSELF) -> CommandCost:
    """Run `qtarget WORDS`; what it prints goes to the end of a log.

    Raises:
        FailedCommandError: it failed; with its last lines.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("ab") as file:
        file.write(f"$ qtarget {' '.join(words)}\n".encode())
        file.flush()
        environment = {**os.environ, **(around.environment or {})}
        command = [*around.program, *words]
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, pass_fds=around.handles)
        try:
            status, used = _waited(process, around.is_stopped)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-6:]
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        message = f"`qtarget {words[0]}` failed ({log} holds all it said):\n" + "\n".join(said)
        raise FailedCommandError(message, last, process.returncode)
    cpu = used.ru_utime + used.ru_stime
    return CommandCost(round(time.monotonic() - started, 1), round(cpu, 1), round(used.ru_maxrss / 2**20, 2))


def _waited(process: subprocess.Popen[bytes], is_stopped: Callable[[], bool]) -> tuple[int, resource.struct_rusage]:
    """The status with which a process ends, and what it used; it is told to end when `is_stopped` says so."""
    is_told = False
    while True:
        number, status, used = os.wait4(process.pid, os.WNOHANG)
        if number:
            return status, used
        if is_stopped() and not is_told:
            process.terminate()
            is_told = True
        time.sleep(POLL_SECONDS)


def printed_by(words: Sequence[str]) -> str:
    """What `qtarget WORDS` prints.

    Raises:
        ValueError: it failed; with what it said.
    """
    done = subprocess.run([sys.executable, "-m", "qtarget", *words], capture_output=True, encoding="utf-8")
    if done.returncode:
        raise ValueError(f"`qtarget {' '.join(words)}` failed:\n{done.stderr.strip()[-600:]}")
    return done.stdout
