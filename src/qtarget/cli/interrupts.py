"""Ctrl-C and SIGTERM end every command alike: with a message, and exit code 130 or 143."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from typer.core import TyperGroup

from qtarget.outcomes import Termination, stopped_by


class InterruptibleGroup(TyperGroup):
    """Commands that are interrupted by SIGTERM as by Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        with interruptible():
            return super().invoke(ctx)


@contextmanager
def interruptible() -> Iterator[None]:
    """While the block runs, SIGTERM raises `Termination`, so that it stops whatever Ctrl-C stops.

    Of several ranks, one that ends badly takes no SIGTERM after the block: the launcher sends it to all that are left
    when the first has ended, and would break off their last words.

    Raises:
        Interruption: in the place of a `KeyboardInterrupt` that the command itself has no words for.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if is_main else None
    try:
        yield
    except BaseException as error:
        if os.environ.get("WORLD_SIZE", "1") != "1":
            before = signal.SIG_IGN
        if not isinstance(error, KeyboardInterrupt):
            raise
        raise stopped_by(error, "before it was done; no file is left half-written") from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Termination
