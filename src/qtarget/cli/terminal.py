"""What the commands share: exit codes, the part of a command before anything runs, and how results are printed."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from qtarget.outcomes import Refusal

EXIT_FAILED, EXIT_REFUSED = 1, 2
"""Exit codes: the run failed; the request is wrong, and nothing was run. `Interruption` has its own."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@contextmanager
def preparation() -> Iterator[None]:
    """The part of a command before anything runs: an error in it is about the request, so the exit code is 2.

    Raises:
        Refusal: in the place of any error that a wrong request can cause.
    """
    try:
        yield
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        raise Refusal(str(error)) from error


def print_view(view: Callable[[Any, int], Any], value: Any) -> None:
    """Print `view(value, width)` at the terminal's width."""
    console = Console()
    console.print(view(value, console.width))


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON cannot hold, such as a path, as text."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
