"""What the commands share: exit codes, the part of a command before anything runs, and how results are printed."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from qtarget.cli.fault_words import fault_in_words
from qtarget.console import COMMANDING, SafeConsole
from qtarget.disk.files import json_text
from qtarget.disk.os_errors import os_error_in_words
from qtarget.outcomes import Refusal

EXIT_FAILED, EXIT_REFUSED = 1, 2
"""Exit codes: the run failed; the request is wrong, and nothing was run. `Interruption` has its own."""
NONE_OPENED: Mapping[str, str | None] = {}
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TrustsCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run code of the model's.")]
ReadsPickles = Annotated[bool, typer.Option("--allow-pickled-weights", help="Read weights that are a pickle too.")]


@contextmanager
def preparation(models: Mapping[str, str | None] = NONE_OPENED) -> Iterator[None]:
    """The part of a command before anything runs: an error in it is about the request, so the exit code is 2.

    Args:
        models: the names of the models that it opens, by how the user gave them; each is a folder of a model, or may be
            a name on the hub.

    Raises:
        Refusal: in the place of any error that a wrong request can cause.
    """
    named = {given: name for given, name in models.items() if name is not None}
    try:
        if named:
            from qtarget.data.user_files.paths import check_model_name

            for given, name in named.items():
                check_model_name(name, given)
        yield
    except OSError as error:
        if error.errno is None and named:
            from qtarget.data.user_files.paths import unopened_models

            raise Refusal(unopened_models(named, error)) from error
        raise Refusal(os_error_in_words(error)) from error
    except Exception as error:
        words = fault_in_words(error)
        if words is None and not isinstance(error, ValueError | ImportError | RuntimeError):
            raise
        raise Refusal(words or str(error)) from error


def print_view(view: Callable[[Any, int], Any], value: Any) -> None:
    """Print `view(value, width)` at the terminal's width."""
    console = SafeConsole()
    console.print(view(value, console.width))


def print_json(value: Any) -> None:
    """Print a value as JSON, as `json_text` makes it.

    Characters that would command a terminal, and those that the output's encoding lacks, are written as ``\\u001b``.
    """
    text = json_text(value, indent=2, ensure_ascii=not _is_unicode())
    print(COMMANDING.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _is_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
