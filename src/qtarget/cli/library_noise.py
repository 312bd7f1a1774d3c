"""What libraries print goes to a log, and not to the terminal: their warnings, notes and progress bars.

Standard error is diverted as a whole, so that also C code is caught. What the terminal still shows: our own warnings,
errors that libraries log, and how far they are with long work.
"""

import io
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from qtarget.console import SafeConsole
from qtarget.servers.address_secrets import without_secrets

LOG = "train.log"
KEPT_LOGGERS = ("transformers", "datasets", "huggingface_hub", "torch")
"""Libraries that keep their records from the root logger."""
shows_all_noise: ContextVar[bool] = ContextVar("shows_all_noise", default=False)
"""Whether the user asked to see everything (`--debug`)."""
_LINE_SECONDS = 10.0


class DivertedStderr(io.TextIOBase):
    """Standard error while it is diverted: lines go to the log, a progress bar's to the terminal, in short.

    Args:
        log: the file that takes the lines.
        terminal: file descriptor of the standard error that was there before.
    """

    encoding = "utf-8"

    def __init__(self, log: Any, terminal: int) -> None:
        self.log, self.terminal = log, terminal
        self._bar, self._shown_at, self._is_drawn = "", 0.0, False
        self._begun = ""  # of a line: `print` writes its words and its end one by one

    @property
    def buffer(self) -> Any:
        return self.log

    def write(self, text: str) -> int:
        if "\r" in text:
            self._show(text.split("\r")[-1].strip())
        elif self._begun or text.strip("\n\x1b[A "):
            lines, end, self._begun = (self._begun + text).rpartition("\n")
            self._log(lines + end)
        return len(text)

    def finish(self) -> None:
        """Write down a line that nobody has ended."""
        self._log(self._begun)
        self._begun = ""

    def _log(self, text: str) -> None:
        """Whole lines as one write: several ranks have one log."""
        if text:
            self.log.write(without_secrets(text).encode("utf-8", "replace"))

    def fileno(self) -> int:
        return self.log.fileno()

    def writable(self) -> bool:
        return True

    def say(self, line: str) -> None:
        """Print a line on the terminal, over a line of progress; may be called in a signal handler."""
        self._put(f"{without_secrets(line)}\n")

    def _put(self, text: str) -> None:
        clear = "\r\x1b[2K" if os.isatty(self.terminal) else ""
        with suppress(OSError):
            os.write(self.terminal, f"{clear}{text}".encode())

    def _show(self, bar: str) -> None:
        """A library's bar as a short line, if it lasts: on a terminal in place, elsewhere every ten seconds."""
        what, _, rest = bar.partition(":")
        done = rest.partition("|" if "%" in rest else "[")[0].strip()
        is_terminal, now = os.isatty(self.terminal), time.monotonic()
        if what != self._bar:
            self._bar, self._shown_at = what, now
        elif done and done != "100%" and now - self._shown_at > (1.0 if is_terminal else _LINE_SECONDS):
            self._shown_at, self._is_drawn = now, is_terminal
            self._put(f"{what}: {done}" + ("" if is_terminal else "\n"))
        elif done == "100%" and self._is_drawn:
            self._is_drawn = False
            self._put("")


class LogEcho(logging.Handler):
    """Shows on the terminal what a library logs as an error. bitsandbytes' are none where nothing is quantised."""

    def __init__(self, stream: DivertedStderr) -> None:
        super().__init__(logging.ERROR)
        self.stream = stream
        self._shown: logging.LogRecord | None = None

    def emit(self, record: logging.LogRecord) -> None:
        is_repeat = record is self._shown  # a library that passes its records on has them at its logger and at the root
        self._shown = record
        if not is_repeat and not record.name.startswith("bitsandbytes"):
            self.stream.say(f"{record.name}: {record.getMessage()}")


class LibraryNoise:
    """The log of what libraries print: a file without a name until `keep` gives it one."""

    def __init__(self, stream: DivertedStderr | None, echo: LogEcho | None) -> None:
        self._stream, self._echo = stream, echo

    def say(self, line: str) -> None:
        """Print a line on standard error at once; may be called in a signal handler."""
        (self._stream or DivertedStderr(None, 2)).say(line)

    def show_from(self, level: int) -> None:
        """Show on the terminal too what libraries log at a level and above."""
        if self._echo is not None:
            self._echo.setLevel(level)

    def keep(self, folder: Path) -> None:
        """Write the log so far to `train.log` of a folder, behind what an earlier run wrote, and go on there."""
        if self._stream is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        before, named = self._stream.log, (folder / LOG).open("ab", buffering=0)
        before.seek(0)
        shutil.copyfileobj(before, named)
        os.dup2(named.fileno(), 2)
        self._stream.log = named
        before.close()


@contextmanager
def diverted_noise() -> Iterator[LibraryNoise]:
    """While the block runs, standard error goes to a log, and warnings that qtarget gives are shown as notes.

    Not with `--debug`.
    """
    if shows_all_noise.get():
        yield LibraryNoise(None, None)
        return
    sys.stderr.flush()
    terminal, before = os.dup(2), sys.stderr
    stream = DivertedStderr(tempfile.TemporaryFile(buffering=0), terminal)  # noqa: SIM115  (closed below)
    os.dup2(stream.log.fileno(), 2)
    sys.stderr = stream  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with _echoed_logs(stream) as echo, warnings.catch_warnings():
            _show_own_warnings(stream.say, lambda *given: stream.write(warnings.formatwarning(*given)))
            yield LibraryNoise(stream, echo)
    finally:
        sys.stderr = before
        os.dup2(terminal, 2)
        os.close(terminal)
        stream.finish()
        stream.log.close()


@contextmanager
def _echoed_logs(stream: DivertedStderr) -> Iterator[LogEcho]:
    echo, loggers = LogEcho(stream), [logging.getLogger(name) for name in ("", *KEPT_LOGGERS)]
    quiet = logging.StreamHandler(stream)  # a root without a handler of its own would print warnings elsewhere
    loggers[0].addHandler(quiet)
    for logger in loggers:
        logger.addHandler(echo)
    try:
        yield echo
    finally:
        loggers[0].removeHandler(quiet)
        for logger in loggers:
            logger.removeHandler(echo)


@contextmanager
def noted_warnings() -> Iterator[None]:
    """While the block runs, warnings that qtarget gives are shown as notes, and others as Python shows them: where
    standard error is not diverted, since what is logged is for the user."""
    with warnings.catch_warnings():
        if not shows_all_noise.get():
            shown = warnings.showwarning
            console = SafeConsole(stderr=True, soft_wrap=True)
            _show_own_warnings(lambda line: console.print(without_secrets(line)), lambda *given: shown(*given[:4]))
        yield


def _show_own_warnings(say: Callable[[str], Any], others: Callable[..., Any]) -> None:
    """Show the warnings that qtarget gives, each once, by `say`.

    Args:
        others: gets message, category, file, line and source line of another's warning.
    """
    seen: set[str] = set()

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        if not _is_ours():
            others(message, category, filename, lineno, line)
        elif str(message) not in seen:
            seen.add(str(message))
            say(f"note: {message}")

    warnings.showwarning = show


def _is_ours() -> bool:
    """Whether qtarget gives the warning under way: the innermost frame outside of `warnings` is its."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") == "warnings":
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__", "")).startswith("qtarget")
