"""Three ways for a command to end early. `qtarget.cli.main` turns them into exit codes, beside the `ValueError` of a
run that failed; they stand below every room that raises them."""


class Refusal(Exception):
    """The request cannot be run, and nothing was run. The message says why, and what to write instead."""


class Interruption(Exception):
    """The user stopped a run. The message says where the run can be resumed."""


class UnusableRow(ValueError):
    """A row, or a data set, that cannot be trained on. The message names the row and the line to write; a stream raises
    it when it comes to the row."""
