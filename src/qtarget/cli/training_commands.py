"""`qtarget train`, `validate` and `methods`."""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from qtarget.cli.library_noise import diverted_noise
from qtarget.cli.terminal import AsJson, preparation, print_json, print_view
from qtarget.console import SafeConsole
from qtarget.outcomes import stopped_by

if TYPE_CHECKING:
    from qtarget.job.config.checked_job import Job

training_app = typer.Typer()

PASS_KEYS_ON = {"ignore_unknown_options": True}
"""Typer hands every `--key value` on: a configuration's keys are checked by `qtarget.job`."""
ConfigArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG.yaml] [--KEY VALUE]", show_default=False, help="The run, and keys over its own."),
]
NOT_REPEATED = ("--resume-from-checkpoint", "--hub-token")
"""Flags of a run that the command to go on with it does not repeat."""
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
    output_dir      folder for the model, its card and its checkpoints
    rounds, sample  train so many times on the model's own samples

Every key of trl.SFTConfig and trl.ModelConfig is taken too, as

    learning_rate, lr_scheduler_type, warmup_steps, weight_decay
    num_train_epochs, max_steps, per_device_train_batch_size
    gradient_accumulation_steps, max_length, packing, dtype
    use_peft, lora_r, lora_alpha, lora_target_modules, load_in_4bit
    eval_strategy, save_steps, logging_steps, resume_from_checkpoint

and TRL's model_name_or_path and dataset_name. Other trainers' words
(lr, epochs, cutoff_len, ...) are refused with the line to write.

    qtarget validate config.yaml
    qtarget train config.yaml --learning-rate 1e-5 --output-dir out
    qtarget train config.yaml --resume-from-checkpoint
"""


@training_app.command(
    "train",
    context_settings=PASS_KEYS_ON,
    short_help="Fine-tune a model on your rows.",
    help="Fine-tune a model." + RUN_HELP,
)
def train_command(arguments: ConfigArguments = None) -> None:
    with diverted_noise() as noise, ExitStack() as held:
        from qtarget.job.announce import announce_result, announce_run
        from qtarget.job.config.flags import parse_arguments
        from qtarget.job.config.read_job import read_job
        from qtarget.job.teacher_mass import announce_mass
        from qtarget.job.training import claimed_output, prepare_training, run_training
        from qtarget.job.training_table import TrainingTable
        from qtarget.samples.run_rounds import check_rounds_can_run
        from qtarget.train.roll_call import ranks_told

        held.enter_context(ranks_told(ends_process=True))
        with preparation(), _untrained():
            job = read_job(parse_arguments(arguments or []))
            if job.args.log_level != "passive":
                noise.show_from(job.args.get_process_log_level())
            if job.rounds is not None:
                plan = check_rounds_can_run(job)
            else:
                trainer = prepare_training(job)
                held.enter_context(claimed_output(trainer))
        if job.rounds is not None:
            return _train_in_rounds(job, plan)
        noise.keep(job.output)
        announce_run(trainer)
        announce_mass(trainer)
        with TrainingTable() as table:
            table.replace_printers_of(trainer)
            run_training(trainer, _resuming(arguments or []), noise.say)
        announce_result(trainer)


def _train_in_rounds(job: "Job", plan: dict[str, Any]) -> None:
    """Rounds of sampling and training, each stage a command of its own."""
    from qtarget.samples.rounds_outcome import rounds_view
    from qtarget.samples.run_rounds import conduct_rounds

    console = SafeConsole(soft_wrap=True)
    records = conduct_rounds(job, plan, console.print)
    SafeConsole().print(rounds_view(records, job.output))


@contextmanager
def _untrained() -> Iterator[None]:
    """What an interrupt before the first step comes to."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        raise stopped_by(stopped, "before the first step: nothing was trained, and no file was written") from stopped


def _resuming(arguments: list[str]) -> Callable[[str], str]:
    """What gives the command that goes on with this run, should it be stopped: by the checkpoint to name, "" for none.

    The command repeats no token of the hub's. Under a launcher, whose own words are not known, it is not spelled out.
    """
    from qtarget.job.training import go_on_with

    if "WORLD_SIZE" in os.environ:
        return go_on_with
    words, is_value = [], False
    for word in arguments:
        is_flag, name = word.startswith("--"), word.replace("_", "-")
        is_value = name in NOT_REPEATED if is_flag else is_value
        if not is_value and not name.startswith(tuple(f"{flag}=" for flag in NOT_REPEATED)):
            words.append(word)
    command = shlex.join(["qtarget", "train", *words])
    return lambda checkpoint: f"`{f'{command} --resume-from-checkpoint {checkpoint}'.rstrip()}`"


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
    with diverted_noise():
        from qtarget.job.config.flags import parse_arguments
        from qtarget.job.config.read_job import read_job
        from qtarget.job.validate import validate_job
        from qtarget.job.validate_view import rehearsal_view, resolved_configuration

        with preparation():
            job = read_job(parse_arguments(arguments or []))
            rehearsal = validate_job(job, quick)
    if as_json:
        return print_json({"configuration": resolved_configuration(job), **asdict(rehearsal)})
    ready = Text.assemble("\n", ("ready", "green"), ": `qtarget train` with the same words runs it.")
    SafeConsole().print(rehearsal_view(job, rehearsal), ready)


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
