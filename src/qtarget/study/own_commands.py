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

from qtarget.disk.inherited_lock import LOCK_IS_STDIN
from qtarget.outcomes import OutsideFault
from qtarget.study.launcher_words import launcher_words

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
        last: the last line that it printed, or how it ended.
        signal: what ended it; None where it ended by itself.
        is_stopped: whether a user or the system stopped it, by one of `STOP_SIGNALS`.
        is_outside: whether what failed is outside of it: a server that stayed away, or a full disk.
        is_told: whether `code` is the command's own, and not that of a launcher which does not say how it ended.
    """

    def __init__(self, message: str, last: str, code: int, is_told: bool = True) -> None:
        super().__init__(message)
        self.last, self.is_told = last, is_told
        self.signal = signal_of(code)
        self.is_stopped = self.signal in STOP_SIGNALS
        self.is_outside = code == OutsideFault.exit_code


def signal_of(code: int) -> signal.Signals | None:
    """The signal that a code of a process tells of: minus its number, or 128 more, as a shell or launcher passes it on;
    None of any other code."""
    number = -code if code < 0 else code - 128
    return signal.Signals(number) if number in {each.value for each in signal.Signals} else None


@dataclass(frozen=True)
class CommandSurroundings:
    """What a command is run in.

    Attributes:
        program: the words of the command line before those of `qtarget`.
        is_launched: whether `program` is a launcher, which ends with a code of its own.
        environment: variables over those of this process.
        lock: the handle of an `inherited_lock`, which the command holds too for as long as it lives, and its launcher:
            it is their standard input, from which nothing is read.
        is_stopped: asked all the while; once it is true, the command is told to end.
    """

    program: Sequence[str] = (sys.executable, "-m", "qtarget")
    is_launched: bool = False
    environment: Mapping[str, str] | None = None
    lock: int | None = None
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
        begin = file.tell()
        environment = {**os.environ, **(around.environment or {})}
        command = [*around.program, *words]
        stdin = subprocess.DEVNULL if around.lock is None else around.lock
        environment |= {} if around.lock is None else {LOCK_IS_STDIN: "1"}
        process = subprocess.Popen(command, stdin=stdin, stdout=file, stderr=file, env=environment)
        try:
            status, used = _waited(process, around.is_stopped)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise failure_of(words[0], log, begin, process.returncode, around.is_launched)
    cpu = used.ru_utime + used.ru_stime
    return CommandCost(round(time.monotonic() - started, 1), round(cpu, 1), round(used.ru_maxrss / 2**20, 2))


def failure_of(word: str, log: Path, begin: int, code: int, is_launched: bool = False) -> FailedCommandError:
    """What to say of a command that ended with a code other than 0.

    Args:
        word: the first of its words.
        begin: where in the log, in bytes, that begins what it printed.
        is_launched: whether a launcher started it, whose code this is.
    """
    printed = log.read_bytes()[begin:].decode("utf-8", errors="replace").splitlines()
    is_told = not is_launched or signal_of(code) is not None
    if is_launched and (told := launcher_words(printed)) is not None:
        code, printed, is_told = told.code, told.before, True
    lines = [line for line in printed if line.strip()][-6:]
    if (by := signal_of(code)) is not None:
        how = "stopped" if by in STOP_SIGNALS else "killed"
        last = f"was {how} by {by.name}{' (out of memory?)' * (by.name == 'SIGKILL')}"
        return FailedCommandError(f"`qtarget {word}` {last}; {log} holds all it said", last, code, is_told)
    last = lines[-1].strip() if lines else f"ended with code {code} and printed nothing"
    said = "\n".join(lines) or last
    return FailedCommandError(f"`qtarget {word}` failed ({log} holds all it said):\n{said}", last, code, is_told)


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
