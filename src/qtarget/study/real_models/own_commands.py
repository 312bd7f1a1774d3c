"""`qtarget` as processes of its own: what a user would type, with what each cost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CommandCost:
    """What a command took: seconds on the clock, seconds of processors, and the most memory in GiB."""

    seconds: float
    cpu_seconds: float
    peak_gib: float


_RUNNING: set[subprocess.Popen[bytes]] = set()


def stop_commands() -> None:
    """End the commands that other threads wait for."""
    for process in tuple(_RUNNING):
        os.kill(process.pid, signal.SIGTERM)


def run_qtarget(words: Sequence[str], log: Path) -> CommandCost:
    """Run `qtarget WORDS`; what it prints goes to the end of a log.

    Raises:
        ValueError: it failed; with its last lines.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("ab") as file:
        file.write(f"$ qtarget {' '.join(words)}\n".encode())
        file.flush()
        process = subprocess.Popen([sys.executable, "-m", "qtarget", *words], stdout=file, stderr=file)
        _RUNNING.add(process)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            _RUNNING.discard(process)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-6:]
        raise ValueError(f"`qtarget {words[0]}` failed ({log} holds all it said):\n" + "\n".join(said))
    cpu = used.ru_utime + used.ru_stime
    return CommandCost(round(time.monotonic() - started, 1), round(cpu, 1), round(used.ru_maxrss / 2**20, 2))


def printed_by(words: Sequence[str]) -> str:
    """What `qtarget WORDS` prints.

    Raises:
        ValueError: it failed; with what it said.
    """
    done = subprocess.run([sys.executable, "-m", "qtarget", *words], capture_output=True, encoding="utf-8")
    if done.returncode:
        raise ValueError(f"`qtarget {' '.join(words)}` failed:\n{done.stderr.strip()[-600:]}")
    return done.stdout
