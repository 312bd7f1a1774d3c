"""A gate at the beginning of a training that another command starts as a process of its own.

The training waits there until the test lets it through, so it cannot have ended before the test does something to it,
however busy the machine is.
"""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

AT_START = """
import os, sys
from pathlib import Path
words = sys.orig_argv[1:5]
gate = Path(__file__).with_name("gate")
if words[:3] == ["-m", "qtarget", "train"] and words[3:] != ["config.yaml"] and gate.exists():
    gate.with_name("who").write_text(str(os.getpid()))
    gate.read_bytes()
"""
"""Python runs it first; a user's own `qtarget train config.yaml` is let through."""
LIMIT_SECONDS = 600.0


class Gate:
    """The gate of one training; `environment` is for the command that starts it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(AT_START, encoding="utf-8")
        os.mkfifo(folder / "gate")
        self.folder = folder
        path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.environment = {**os.environ, "PYTHONPATH": path}

    @contextmanager
    def reached(self, by: subprocess.Popen) -> Iterator[psutil.Process]:
        """The training that a command has started, which waits until the end of the block. Later ones do not."""
        until = time.monotonic() + LIMIT_SECONDS
        while (gate := self._opened()) is None:
            assert by.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        try:
            (self.folder / "gate").unlink()
            yield psutil.Process(int((self.folder / "who").read_text()))
        finally:
            os.close(gate)

    def _opened(self) -> int | None:
        """The gate's handle, once somebody waits there."""
        try:
            return os.open(self.folder / "gate", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise
