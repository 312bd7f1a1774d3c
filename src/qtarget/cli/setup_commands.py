"""`qtarget init`, `doctor`, `estimate` and `schema`: what comes before a run."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from qtarget.cli.library_noise import diverted_noise
from qtarget.cli.terminal import EXIT_FAILED, AsJson, preparation, print_json, print_view
from qtarget.cli.training_commands import PASS_KEYS_ON, ConfigArguments
from qtarget.console import SafeConsole
from qtarget.outcomes import Refusal

setup_app = typer.Typer()

INIT_HELP = """Write a first configuration for a model and rows, with a reason for every key.

It looks at the model (without its weights), the rows and the machine. Every key
of a configuration is taken, as `--key value`, and stands in the file as given.

    qtarget init --model MODEL --train-dataset rows.jsonl
    qtarget init --model MODEL --train-dataset rows.jsonl --teacher TEACHER
    qtarget init --model MODEL --train-dataset rows.csv \\
        --columns '{prompt: question, completion: answer}' --use-peft

In a terminal it asks for a model and rows that are not given.
"""
InitKeys = Annotated[
    list[str] | None, typer.Argument(metavar="[--KEY VALUE]", show_default=False, help="Keys of the configuration.")
]


@setup_app.command(
    "init",
    context_settings=PASS_KEYS_ON,
    short_help="Write a first configuration for a model and rows.",
    help=INIT_HELP,
)
def init_command(
    arguments: InitKeys = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("config.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file, if it is there.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Look at the first thousand rows alone.")] = False,
) -> None:
    from qtarget.job.config.flags import parse_arguments

    with preparation():
        given = parse_arguments(arguments or [])
        if given.config is not None:
            raise Refusal(f"`qtarget init` reads no file, and {given.config} is named; write {_meant(given.config)}.")
        flags = {**given.flags, **_asked(given.flags)}
    with diverted_noise(), preparation():
        from qtarget.job.first_config.write_config import prepare_config

        config = prepare_config(out, flags, force, quick)
        config.write()
    console = SafeConsole(soft_wrap=True)
    chosen = [each for settings in config.settings.values() for each in settings if not each.is_off]
    console.print(f"{config.path}: {len(chosen)} keys, each with its reason; {config.schema} is for editors.")
    console.print(f"next: qtarget validate {config.path}")


def _meant(word: Path) -> str:
    """The flags for a word that has none before it."""
    from qtarget.data.user_files.formats import reader_of

    if word.suffix.lower() in (".yaml", ".yml"):
        return f"--out {word}"
    return f"--train-dataset {word}" if reader_of(word) else f"--model {word} --train-dataset rows.jsonl"


def _asked(flags: dict[str, list[str]]) -> dict[str, list[str]]:
    """Model and rows that flags do not name, asked for in a terminal.

    Raises:
        Refusal: one is missing, and there is nobody to ask.
    """
    wanted = {"model": ("model_name_or_path", "MODEL"), "train_dataset": ("dataset_name", "rows.jsonl")}
    missing = {key: example for key, (other, example) in wanted.items() if key not in flags and other not in flags}
    if not missing:
        return {}
    if not sys.stdin.isatty():
        lines = " ".join(f"--{key.replace('_', '-')} {example}" for key, example in missing.items())
        raise Refusal(f"`qtarget init` looks at a model and at rows; write {lines}.")
    words = {"model": "model (a directory or a hub name)", "train_dataset": "rows to train on (a file or a hub name)"}
    answers = {key: [typer.prompt(words[key])] for key in missing}
    teacher = "" if "teacher" in flags else typer.prompt("teacher (empty for none)", default="", show_default=False)
    return {**answers, **({"teacher": [teacher]} if teacher else {})}


@setup_app.command("schema")
def schema_command(
    out: Annotated[Path | None, typer.Option(help="File to write; without it, it is printed.")] = None,
) -> None:
    """Print the JSON Schema of a configuration file, by which editors complete keys and mark wrong ones."""
    from qtarget.disk.files import json_text, replace_text
    from qtarget.disk.place import check_place

    with diverted_noise(), preparation():
        from qtarget.job.config.config_schema import SCHEMA_LINE, configuration_schema

        schema = configuration_schema()
        if out is not None:
            check_place(out.parent, f"`--out {out}`")
            replace_text(out, json_text(schema, indent=1) + "\n")
    if out is None:
        return print_json(schema)
    SafeConsole(soft_wrap=True).print(f"{out}; write at a configuration's head: {SCHEMA_LINE.format(out)}")


@setup_app.command("doctor")
def doctor_command(
    runs: Annotated[Path, typer.Option(help="Folder that runs will be written to.")] = Path("."),
    as_json: AsJson = False,
) -> None:
    """Look at this machine: versions, devices, precision, disks, extras, and one step of training.

    Ends with 1 where a run would fail here.
    """
    from qtarget.job.surroundings.examine import examine

    with diverted_noise():
        findings = examine(runs)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        from qtarget.job.surroundings.view import surroundings_view

        print_view(surroundings_view, findings)
    if any(finding.state == "fails" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


@setup_app.command(
    "estimate",
    context_settings=PASS_KEYS_ON,
    short_help="Say what a run will take: memory, hours, disk.",
    help="Say what a run will take, before it is run: memory by part, hours by a pilot of a few steps, bytes on disk.",
)
def estimate_command(
    arguments: ConfigArguments = None,
    pilot: Annotated[bool, typer.Option("--pilot/--no-pilot", help="Time a few steps; weights are loaded.")] = True,
    tasks: Annotated[list[str] | None, typer.Option("--task", help="NAME[,NAME…]: evaluation's hours too.")] = None,
    as_json: AsJson = False,
) -> None:
    with diverted_noise():
        from qtarget.job.config.flags import parse_arguments
        from qtarget.job.config.read_job import read_job
        from qtarget.job.cost.run_cost import cost_of_run
        from qtarget.job.cost.view import cost_view

        with preparation():
            job = read_job(parse_arguments(arguments or []))
            cost = cost_of_run(job, pilot, [name for each in tasks or [] for name in each.split(",")])
    if as_json:
        return print_json(cost.as_json())
    SafeConsole().print(cost_view(job, cost))
