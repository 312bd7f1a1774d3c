"""`qtarget`: the groups of commands put together, and how a command ends: its exit code and its error message."""

import os
import sys
from typing import Annotated

try:
    import typer
    from rich.console import Console
except ModuleNotFoundError as missing:
    raise SystemExit(f"qtarget's command line needs {missing.name}; write: pip install 'qtarget[train]'") from None

from qtarget.cli.evaluation_commands import evaluation_app
from qtarget.cli.lab_commands import experiments_app, lab_app
from qtarget.cli.recipe_commands import recipes_app
from qtarget.cli.teacher_commands import teacher_app
from qtarget.cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_REFUSED
from qtarget.cli.training_commands import training_app
from qtarget.outcomes import Interruption, Refusal, UnusableRow

app = typer.Typer(
    name="qtarget",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune language models by designing the target distribution.",
)
for top_level in (training_app, evaluation_app, experiments_app):
    app.add_typer(top_level)
app.add_typer(lab_app, name="lab")
app.add_typer(teacher_app, name="teacher")
app.add_typer(recipes_app, name="recipes")


@app.callback()
def declare_debug(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """`--debug`, for the help. `main` reads it itself, since it may stand behind any command."""


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 the run failed, 2 it was refused, 130 the user stopped it.

    Args:
        argv: the arguments, without the program's name; None for those of this process.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in arguments
    try:
        app([argument for argument in arguments if argument != "--debug"], prog_name="qtarget", standalone_mode=True)
    except Exception as error:
        code = _exit_code(error)
        if debug or code is None:
            raise
        if not isinstance(error, Refusal) or _is_first_rank():
            Console(stderr=True, soft_wrap=True, highlight=False).print(str(error), style="red", markup=False)
        sys.exit(code)


def _exit_code(error: Exception) -> int | None:
    """The code of an error that a user can cause; None for a fault of ours, which keeps its traceback."""
    codes = {
        Refusal: EXIT_REFUSED,
        UnusableRow: EXIT_REFUSED,  # of a stream: of a finite set it was refused before the run
        ImportError: EXIT_REFUSED,  # a library is missing, or of a version that was not tested
        Interruption: EXIT_INTERRUPTED,
        ValueError: EXIT_FAILED,
        OSError: EXIT_FAILED,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), None)


def _is_first_rank() -> bool:
    """Whether this process prints a refusal for all ranks, which all see the same configuration."""
    return os.environ.get("RANK", "0") == "0"
