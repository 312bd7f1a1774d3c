"""How a command ends early, and what is said where a library is not installed.

`qtarget.cli.main` turns these errors into exit codes, beside the `ValueError` of a run that failed. They stand below
every room that raises them.
"""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


class Refusal(Exception):
    """The request cannot be run, and nothing was run. The message says why, and what to write instead."""


class Interruption(Exception):
    """The user, or the system, stopped a run. The message says what is kept and where the run can be resumed.

    Args:
        number: the signal that stopped it; None for Ctrl-C.

    Attributes:
        exit_code: 130 for Ctrl-C and 143 for SIGTERM, as shells have it: 128 and the signal's number.
    """

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = 128 + (number or signal.SIGINT)


class OutsideFault(Exception):
    """What failed is outside of the command and its request, such as a server that stayed away: once it is mended, the
    same command goes on. So ends a command whose disk is full, too.

    Attributes:
        exit_code: EX_TEMPFAIL, as `sysexits.h` has it.
    """

    exit_code = 75


class LostRankError(RuntimeError):
    """Another rank of the run has ended, so that this one cannot go on. The message names it and what it left to say.

    Args:
        exit_code: the one that the other rank ends with, and this one.
        is_told: whether another rank says it on the terminal.
    """

    def __init__(self, message: str, exit_code: int = 1, is_told: bool = False) -> None:
        super().__init__(message)
        self.exit_code, self.is_told = exit_code, is_told


class Termination(KeyboardInterrupt):
    """SIGTERM, raised as Ctrl-C is."""


def stopped_by(stopped: KeyboardInterrupt, what: str) -> Interruption:
    """The error of a command that a signal has stopped: "stopped by SIGTERM " and `what`, which says when, what is kept
    and how to go on."""
    is_termination = isinstance(stopped, Termination)
    name, number = ("SIGTERM", signal.SIGTERM) if is_termination else ("Ctrl-C", signal.SIGINT)
    return Interruption(f"stopped by {name} {what}.", number)


class FinishedRunError(ValueError):
    """A run was to go on with changes, and no step is left that would be run with them; nothing was done."""


class UnusableRow(ValueError):
    """A row, or a data set, that cannot be trained on. The message names the row and the line to write; a stream raises
    it when it comes to the row."""


def leave_out_idle_warnings() -> None:
    """Of what our imports bring, bitsandbytes warns of a missing kernel, in every process anew: leave that out."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_concerns_someone)


def _concerns_someone(record: logging.LogRecord) -> bool:
    """Whether a record of bitsandbytes is another than that a kernel is missing which nothing here calls."""
    return "gemm_4bit_forward" not in str(record.msg)


@contextmanager
def needs_extra(part: str, extra: str = "train") -> Iterator[None]:
    """A context for the imports of a part of qtarget that needs more than torch.

    Args:
        part: what the user imports or calls, such as "qtarget.train".
        extra: the extra in pyproject.toml that brings the libraries.

    Raises:
        ImportError: in the place of an error about a library that is not there; it names the library and the pip line.
    """
    leave_out_idle_warnings()
    try:
        yield
    except (ImportError, RuntimeError) as error:
        library = missing_library(error)
        if library is None:
            raise
        raise ImportError(
            f"{part} needs {library}, which is not installed. Write: pip install 'qtarget[{extra}]'", name=library
        ) from error


def missing_library(error: BaseException) -> str | None:
    """The library that is not installed, if that is what an error of an import comes from; else None.

    TRL and transformers wrap such an error in others, so its causes are searched.
    """
    cause: BaseException | None = error
    while cause is not None:
        library = (getattr(cause, "name", None) or "").partition(".")[0] if isinstance(cause, ImportError) else ""
        if library and find_spec(library) is None:
            return library
        cause = cause.__cause__ or cause.__context__
    return None
