"""Starting, asking and killing a process that grades: expressions (`math_worker`), or by a user's own function."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from qtarget.evaluate.grading.math_worker import OUT_OF_LIMITS

SCRIPT = Path(__file__).with_name("math_worker.py")
START_SECONDS = 120.0
"""Time to start the process, which imports sympy, on a busy machine; not part of an answer's time."""
SECRET_NAMES = re.compile(r"TOKEN|KEY|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
"""Names of environment variables that hold a secret."""
WorkerReply = dict[str, Any]


class WorkerDied(Exception):
    """The process ended without a reply."""


class KillableWorker:
    """A script in a process of its own: one process at a time, one request at a time, from any thread.

    A thread's time limit cannot stop sympy, and an alarm works in the main thread alone; a process can be killed
    wherever it hangs.

    Args:
        seconds: for one request.
        memory_bytes: address space of the process (where the system can limit it).
        script: is given the memory and the seconds as arguments, and the others behind them. It says a line of JSON
            when it is ready, and then answers each line of JSON with one.
    """

    def __init__(self, seconds: float, memory_bytes: int, script: Path, *arguments: str) -> None:
        self.seconds = seconds
        self.memory_bytes = memory_bytes
        # -P: the script's folder, which has a math.py, stays out of its path.
        self.command = [sys.executable, "-P", str(script), str(memory_bytes), str(seconds), *arguments]
        self.process: subprocess.Popen[str] | None = None
        self.greeting: WorkerReply = {}
        self._replies: SimpleQueue[str] = SimpleQueue()
        self._turn = threading.Lock()
        self._closing = False

    def ask(self, request: Any) -> WorkerReply:
        """The worker's reply, or that limits were hit. A worker that died is replaced and asked once more.

        Raises:
            WorkerDied: it was closed meanwhile.
        """
        with self._turn:
            for _ in range(2):
                if self._closing:
                    raise WorkerDied
                try:
                    verdict = self._ask(request)
                except WorkerDied:
                    self._stop()
                    continue
                except TimeoutError:
                    verdict = OUT_OF_LIMITS
                if verdict == OUT_OF_LIMITS:
                    self._stop()
                return verdict
            return OUT_OF_LIMITS

    def close(self) -> None:
        """End the process, over an answer too; a later `ask` starts another."""
        self._closing, process = True, self.process
        if process is not None:
            process.kill()
        with self._turn:
            self._stop()
            self._closing = False

    def start(self) -> subprocess.Popen[str]:
        """The process, started if none runs; what it said then is `greeting`.

        Raises:
            RuntimeError: it does not start.
        """
        return self.process if self.process is not None and self.process.poll() is None else self._start()

    def _ask(self, request: Any) -> WorkerReply:
        process = self.start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except OSError as error:
            raise WorkerDied from error
        return self._reply(self.seconds)

    def _reply(self, seconds: float) -> WorkerReply:
        try:
            line = self._replies.get(timeout=seconds)
        except Empty:
            raise TimeoutError from None
        if not line:
            raise WorkerDied
        return json.loads(line)

    def _start(self) -> subprocess.Popen[str]:
        self._stop()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=_environment(),
        )
        self._replies = SimpleQueue()
        threading.Thread(target=_read, args=(self.process, self._replies), daemon=True).start()
        try:
            self.greeting = self._reply(START_SECONDS)
        except (TimeoutError, WorkerDied) as error:
            if self._closing:
                raise WorkerDied from error
            self._stop()
            raise RuntimeError(
                f"The process that grades answers does not start; see why: {shlex.join(self.command)}"
            ) from error
        return self.process

    def _stop(self) -> None:
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with suppress(OSError):  # a request that never left
            self.process.stdin.close()
        self.process = None


class MathWorker(KillableWorker):
    """The process that compares expressions."""

    def __init__(self, seconds: float, memory_bytes: int) -> None:
        super().__init__(seconds, memory_bytes, SCRIPT)

    def compare(self, gold: str, answer: str) -> WorkerReply:
        """`ask`, for two expressions."""
        return self.ask({"gold": gold, "answer": answer})

    def _start(self) -> subprocess.Popen[str]:
        if importlib.util.find_spec("math_verify") is None:
            raise ImportError("grading mathematics needs math-verify; write: pip install 'qtarget[train]'")
        return super()._start()


def _environment() -> dict[str, str]:
    """This process's environment without its secrets, which nothing that parses a model's words needs. With the hash
    seed, sympy's order of terms, and so its time, is always the same."""
    kept = {name: value for name, value in os.environ.items() if not SECRET_NAMES.search(name)}
    return {**kept, "PYTHONHASHSEED": "0"}


def _read(process: subprocess.Popen[str], replies: SimpleQueue[str]) -> None:
    """Hand on each line, and an empty one at the end."""
    assert process.stdout is not None
    with suppress(ValueError, OSError):  # closed under our hands
        for line in process.stdout:
            replies.put(line)
    replies.put("")
