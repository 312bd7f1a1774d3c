"""Three ways for a command to end early. `qtarget.cli.main` turns them into exit codes, beside the `ValueError` of a
run that failed; they stand below every room that raises them."""

import signal


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


class UnusableRow(ValueError):
    """A row, or a data set, that cannot be trained on. The message names the row and the line to write; a stream raises
    it when it comes to the row."""
