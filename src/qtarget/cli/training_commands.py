"""`qtarget train`, `validate` and `methods`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from qtarget.cli.terminal import AsJson, preparation, print_json, print_view

training_app = typer.Typer()

PASS_KEYS_ON = {"ignore_unknown_options": True}
"""Typer hands every `--key value` on: a configuration's keys are checked by `qtarget.job`."""
ConfigArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG.yaml] [--KEY VALUE]", show_default=False, help="The run, and keys over its own."),
]
RUN_HELP = """

CONFIG.yaml holds `key: value` lines, and `--key value` behind it overrides one.

    model           directory or hub name
    train_dataset   .jsonl, .json, .csv, .tsv or .parquet files, also with .gz,
                    a directory or a hub name; or sets with shares
    eval_dataset    the same; evaluated at the end, and as eval_strategy says
    method          a name of `qtarget methods`; its hyperparameters stand
                    beside it, as in `eta: 0.5`
    teacher         directory or hub name, for methods that need one
    reference       the same, or `initial`: the model as training starts

Every key of trl.SFTConfig and trl.ModelConfig is taken too (learning_rate,
max_length, use_peft, lora_r, ...), and TRL's model_name_or_path and dataset_name.
"""


@training_app.command(
    "train",
    context_settings=PASS_KEYS_ON,
    short_help="Fine-tune a model on your rows.",
    help="Fine-tune a model." + RUN_HELP,
)
def train_command(arguments: ConfigArguments = None) -> None:
    from qtarget.job.announce import announce_result, announce_run
    from qtarget.job.config.flags import parse_arguments
    from qtarget.job.config.read_job import read_job
    from qtarget.job.training import prepare_training, run_training

    with preparation():
        trainer = prepare_training(read_job(parse_arguments(arguments or [])))
    announce_run(trainer)
    run_training(trainer)
    announce_result(trainer)


@training_app.command(
    "validate",
    context_settings=PASS_KEYS_ON,
    short_help="Check a run without training.",
    help="Check everything a run needs, show a row as it is trained on, and try one step." + RUN_HELP,
)
def validate_command(
    arguments: ConfigArguments = None,
    quick: Annotated[bool, typer.Option("--quick", help="Look at the first thousand rows alone.")] = False,
    as_json: AsJson = False,
) -> None:
    from qtarget.job.config.flags import parse_arguments
    from qtarget.job.config.read_job import read_job
    from qtarget.job.validate import validate_job
    from qtarget.job.validate_view import rehearsal_view, resolved_configuration

    with preparation():
        job = read_job(parse_arguments(arguments or []))
        rehearsal = validate_job(job, quick)
    if as_json:
        return print_json({"configuration": resolved_configuration(job), **asdict(rehearsal)})
    Console().print(rehearsal_view(job, rehearsal), "\n[green]ready[/]: `qtarget train` with the same words runs it.")


@training_app.command("methods")
def methods_command(
    name: Annotated[str | None, typer.Argument(help="A method, to see all of it.", show_default=False)] = None,
    page: Annotated[Path | None, typer.Option(help="List nothing; write this page's table of methods anew.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the objectives, or show one: formula, source, limits, hyperparameters."""
    from qtarget.disk.pages import rewrite_page
    from qtarget.job.catalogue_page import catalogue_parts
    from qtarget.job.method_pages import entries, entry
    from qtarget.job.method_view import catalogue_table, method_page

    if page is not None:
        with preparation():
            return rewrite_page(page, catalogue_parts())
    if name is None:
        return print_json([asdict(each) for each in entries()]) if as_json else print_view(catalogue_table, entries())
    with preparation():
        method = entry(name)
    return print_json(asdict(method)) if as_json else print_view(method_page, method)
