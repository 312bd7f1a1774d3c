"""`qtarget`: the groups of commands put together, and how a command ends: its exit code and its error message."""

import os
import sys
import traceback
from functools import partial
from types import TracebackType
from typing import Annotated, Any

try:
    import typer
    from rich.text import Text
except ModuleNotFoundError as missing:
    words = f"qtarget's command line needs {missing.name}; write: pip install 'qtarget[train]'\n"
    print(words, end="", file=sys.stderr)  # as one write: several ranks write at once
    raise SystemExit(1) from None

from qtarget.cli.evaluation_commands import evaluation_app
from qtarget.cli.fault_words import fault_in_words
from qtarget.cli.inspect_command import inspect_app
from qtarget.cli.interrupts import InterruptibleGroup
from qtarget.cli.lab_commands import experiments_app, lab_app
from qtarget.cli.library_noise import shows_all_noise
from qtarget.cli.model_commands import model_app
from qtarget.cli.real_commands import real_app
from qtarget.cli.recipe_commands import recipes_app
from qtarget.cli.sample_command import sample_app
from qtarget.cli.search_command import search_app
from qtarget.cli.secret_words import refuse_secret_words
from qtarget.cli.setup_commands import setup_app
from qtarget.cli.teacher_commands import teacher_app
from qtarget.cli.terminal import EXIT_FAILED, EXIT_REFUSED
from qtarget.cli.training_commands import training_app
from qtarget.cli.versions_report import print_versions
from qtarget.console import SafeConsole, accept_any_encoding, visible
from qtarget.disk.held_folders import SecondWriterError
from qtarget.disk.inherited_lock import take_lock_from_stdin
from qtarget.disk.os_errors import is_full_disk
from qtarget.outcomes import (
    FinishedRunError,
    Interruption,
    LostRankError,
    OutsideFault,
    Refusal,
    UnusableRow,
    leave_out_idle_warnings,
    missing_library,
)
from qtarget.servers.address_secrets import without_secrets

app = typer.Typer(
    name="qtarget",
    cls=InterruptibleGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Fine-tune language models by designing the target distribution.",
)
for top_level in (
    setup_app,
    inspect_app,
    search_app,
    training_app,
    sample_app,
    model_app,
    evaluation_app,
    experiments_app,
    real_app,
):
    app.add_typer(top_level)
app.add_typer(lab_app, name="lab")
app.add_typer(teacher_app, name="teacher")
app.add_typer(recipes_app, name="recipes")


@app.callback()
def declare_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show versions, ours and the libraries'.", callback=print_versions)
    ] = False,
) -> None:
    """`--debug` and `--version`. `main` reads the first itself, since it may stand behind any command."""


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 it failed, 2 it was refused, 75 a fault outside of it, 130 Ctrl-C, 143 SIGTERM.

    Args:
        argv: the arguments, without the program's name; None for those of this process.
    """
    take_lock_from_stdin()
    accept_any_encoding()
    leave_out_idle_warnings()
    arguments = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in arguments
    shows_all_noise.set(debug)
    arguments = [argument for argument in arguments if argument != "--debug"]
    before: str | None = ""
    try:
        refuse_secret_words(arguments)
        code = app(arguments, prog_name="qtarget", standalone_mode=False)
    except Exception as error:
        code = _exit_code(error)
        before = _before_last_words(error)
        if before is None:
            sys.exit(EXIT_FAILED if code is None else code)
        if debug or code is None:
            before = before or _first_rank()
            raise
        _print_error(error, before)
    finally:
        sys.excepthook = partial(_show_traceback, before or "")  # Typer has put its own in its place
    sys.exit(code if isinstance(code, int) else 0)


def _exit_code(error: Exception) -> int | None:
    """The code of an error that a user can cause; None for a fault of ours, which keeps its traceback."""
    if isinstance(error, Interruption | LostRankError):
        return error.exit_code
    if _is_outside(error):
        return OutsideFault.exit_code
    codes: dict[type[Exception], int] = {
        Refusal: EXIT_REFUSED,
        SecondWriterError: EXIT_REFUSED,
        FinishedRunError: EXIT_REFUSED,
        UnusableRow: EXIT_REFUSED,  # of a stream: of a finite set it was refused before the run
        ImportError: EXIT_REFUSED,  # a library is missing, or of a version that was not tested
        typer.Abort: Interruption("").exit_code,
        ValueError: EXIT_FAILED,
        OSError: EXIT_FAILED,
    }
    usage = getattr(error, "exit_code", None)  # of words that Typer cannot read
    if isinstance(usage, int):
        return usage
    code = next((codes[kind] for kind in codes if isinstance(error, kind)), None)
    return EXIT_FAILED if code is None and fault_in_words(error) else code


def _is_outside(error: Exception) -> bool:
    """Whether a server stayed away or a disk is full, of this command or of one that it started."""
    seen = (error, error.__cause__)
    return is_full_disk(error) or any(isinstance(e, OutsideFault) or getattr(e, "is_outside", False) for e in seen)


def _print_error(error: Exception, before: str = "") -> None:
    """Print an error in red; of words that Typer cannot read, how the command is called besides.

    Args:
        before: stands in front of it.
    """
    console = SafeConsole(stderr=True, soft_wrap=True)
    if isinstance(error, typer.Abort):
        return console.print("stopped", style="red")
    known = isinstance(error, Refusal | Interruption | ImportError | UnusableRow | LostRankError)
    text = _message(error) if known else fault_in_words(error) or str(error)
    text = _usage(error) if hasattr(error, "format_message") else text
    if text:
        said = "\n".join([before + text, *getattr(error, "__notes__", ())])
        console.print(Text(without_secrets(said), style="red"))


def _before_last_words(error: Exception) -> str | None:
    """What stands in front of an error on the terminal: which of several ranks it is of. None where another rank says
    the same."""
    if isinstance(error, LostRankError):
        return None if error.is_told else ""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ""
    from qtarget.train.roll_call import RollCall

    call = RollCall.join()
    if call is None:
        return None if isinstance(error, Refusal | Interruption) and os.environ.get("RANK", "0") != "0" else ""
    if isinstance(error, Interruption) and call.answer(error) is not None:
        return None
    return call.says(f"{type(error).__name__}: {error}")


def _first_rank() -> str:
    """What stands in front of a traceback of the first of several ranks."""
    return "" if os.environ.get("WORLD_SIZE", "1") == "1" else "rank 0: "


def _message(error: Exception) -> str:
    """What is printed: for a library that is not installed, the line that installs it."""
    cause = error.__cause__ if isinstance(error, Refusal) else error
    library = missing_library(cause) if isinstance(cause, ModuleNotFoundError) else None
    return f"qtarget needs {library}; write: pip install 'qtarget[train]'" if library else str(error)


def _usage(error: Any) -> str:
    """What is wrong with the words of a command, how it is called, and where its words are explained; "" where the
    error's own work was to print the help."""
    context, message = error.ctx, error.format_message()
    command = "qtarget" if context is None else context.command_path
    usage = "" if context is None else f"{context.get_usage()}\n"
    return f"{command}: {message}\n{usage}`{command} --help` explains every word." if message else ""


def _show_traceback(before: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's own traceback behind some words, in which what came from elsewhere cannot command the terminal, and no
    address says its secret. It is one write: several ranks write at once."""
    text = "".join(traceback.format_exception(kind, error, trace))
    print(before + visible(without_secrets(text)), end="", file=sys.stderr)
