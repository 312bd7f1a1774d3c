"""Ctrl-C and SIGTERM: the first asks for a stop, the second ends at once."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

HANDED_ON_SECONDS = 3.0
"""torchrun sends its processes again what the terminal has sent them: such a signal is no second one."""


class StopSignals:
    """While the block runs, the first SIGINT or SIGTERM is noted; the second raises `KeyboardInterrupt`.

    Outside the main thread, where Python delivers no signals, nothing changes.

    Args:
        on_first: called with the name for the user, "Ctrl-C" or "SIGTERM", inside the signal handler.

    Attributes:
        received: the first signal, or None.
    """

    def __init__(self, on_first: Callable[[str], None] | None = None) -> None:
        self.received: signal.Signals | None = None
        self._on_first = on_first
        self._at = 0.0
        self._before: dict[int, Any] = {}

    @property
    def name(self) -> str:
        """What the user did: "Ctrl-C" or "SIGTERM"."""
        return signal_name(self.received)

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._handle) for each in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._at = signal.Signals(number), time.monotonic()
            if self._on_first is not None:
                self._on_first(self.name)
        elif not (_is_launched() and time.monotonic() - self._at < HANDED_ON_SECONDS):
            raise KeyboardInterrupt


def signal_name(number: int | None) -> str:
    """What a signal is called in messages."""
    return "SIGTERM" if number == signal.SIGTERM else "Ctrl-C"


def _is_launched() -> bool:
    """Whether torchrun or `accelerate launch` started this process with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ
