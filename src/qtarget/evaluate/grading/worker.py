"""Starting, asking and killing the process that compares expressions (`math_worker`)."""

import importlib.util
import json
import os
import re
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


class MathWorker:
    """One process at a time, one request at a time, from any thread.

    A thread's time limit cannot stop sympy, and an alarm works in the main thread alone; a process can be killed
    wherever it hangs.
    """

    def __init__(self, seconds: float, memory_bytes: int) -> None:
        self.seconds = seconds
        self.memory_bytes = memory_bytes
        self.process: subprocess.Popen[str] | None = None
        self._replies: SimpleQueue[str] = SimpleQueue()
        self._turn = threading.Lock()
        self._closing = False

    def compare(self, gold: str, answer: str) -> WorkerReply:
        """The worker's verdict, or that limits were hit. A worker that died is replaced and asked once more.

        Raises:
            WorkerDied: it was closed meanwhile.
        """
        with self._turn:
            for _ in range(2):
                if self._closing:
                    raise WorkerDied
                try:
                    verdict = self._ask({"gold": gold, "answer": answer})
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
        """End the process, over an answer too; a later `compare` starts another."""
        self._closing, process = True, self.process
        if process is not None:
            process.kill()
        with self._turn:
            self._stop()
            self._closing = False

    def _ask(self, request: dict[str, str]) -> WorkerReply:
        process = self.process if self.process is not None and self.process.poll() is None else self._start()
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
        if importlib.util.find_spec("math_verify") is None:
            raise ImportError("grading mathematics needs math-verify; write: pip install 'qtarget[train]'")
        self._stop()
        # -P: the script's folder, which has a math.py, stays out of its path.
        command = [sys.executable, "-P", str(SCRIPT), str(self.memory_bytes), str(self.seconds)]
        self.process = subprocess.Popen(
            command,
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
            self._reply(START_SECONDS)
        except (TimeoutError, WorkerDied) as error:
            if self._closing:
                raise WorkerDied from error
            self._stop()
            raise RuntimeError(
                f"The process that grades mathematics does not start; see why: {' '.join(command)}"
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
