"""`qtarget inspect`: what a run's tokens are trained toward, before it is paid for."""

from pathlib import Path
from typing import Annotated

import typer

from qtarget.cli.library_noise import diverted_noise
from qtarget.cli.terminal import AsJson, preparation, print_json
from qtarget.cli.training_commands import PASS_KEYS_ON, ConfigArguments
from qtarget.console import SafeConsole

inspect_app = typer.Typer()
PAGE_FILE, FIGURES_FILE = "inspect.html", "inspect.json"
INSPECT_HELP = """Show what each token of your rows would be trained toward.

It takes the file of `qtarget train`, prepares the rows as that would, and passes
some of them once through model, teacher and reference. It prints an audit of the
rows, all methods side by side, the loss by kind of token, where the teacher
contradicts a label, and what that is evidence for. In FOLDER it writes

    inspect.html   a page to look at: every token with the target that each
                   method would train it toward; it needs no network
    inspect.json   the same figures for programs

    qtarget inspect config.yaml
    qtarget inspect config.yaml --method target-sft --teacher TEACHER

A quarter of the rows are the first ones, half are drawn at random, and a quarter
are those that conflict with the model most among --scan others; a set of no more
than --rows rows is shown whole. Nothing is trained.
"""


@inspect_app.command(
    "inspect",
    context_settings=PASS_KEYS_ON,
    short_help="Show what each token is trained toward.",
    help=INSPECT_HELP,
)
def inspect_rows_command(
    arguments: ConfigArguments = None,
    rows: Annotated[int, typer.Option(help="Rows to look at.", min=1)] = 64,
    scan: Annotated[int, typer.Option(help="Further rows that the model reads, to find conflicts.", min=0)] = 256,
    out: Annotated[Path, typer.Option(help="Folder of the page and its figures.")] = Path("runs/inspect"),
    as_json: AsJson = False,
) -> None:
    with diverted_noise():
        from qtarget.disk.files import json_text, replace_text
        from qtarget.disk.place import check_place
        from qtarget.job.config.flags import parse_arguments
        from qtarget.job.config.read_job import read_job
        from qtarget.job.inspection.html_page.target_page import write_target_page
        from qtarget.job.inspection.inspect_job import inspect_job
        from qtarget.job.inspection.view import inspection_view

        with preparation():
            check_place(out, f"`--out {out}`")
            _check_files(out)
            inspection = inspect_job(read_job(parse_arguments(arguments or [])), rows, scan)
        figures = inspection.as_json()
        out.mkdir(parents=True, exist_ok=True)
        replace_text(out / FIGURES_FILE, json_text(figures, indent=1) + "\n")
        page = write_target_page(out / PAGE_FILE, inspection)
    if as_json:
        return print_json({**figures, "page": str(out / PAGE_FILE)})
    SafeConsole().print(inspection_view(inspection))
    SafeConsole(soft_wrap=True).print(f"\nopen {out / PAGE_FILE} in a browser: {page}")


def _check_files(out: Path) -> None:
    """Refuse names that are folders, before the work.

    Raises:
        ValueError: with the line to write.
    """
    for name in (PAGE_FILE, FIGURES_FILE):
        if (out / name).is_dir():
            raise ValueError(f"{out / name} is a folder, and a file is to be written there; write --out {out / 'new'}.")
