"""`qtarget sample`: completions of a model as rows to train on."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qtarget.cli.evaluation_commands import GradeName, GraderSettings, options_from
from qtarget.cli.library_noise import diverted_noise
from qtarget.cli.terminal import AsJson, preparation, print_json
from qtarget.cli.training_commands import PASS_KEYS_ON, ConfigArguments
from qtarget.console import SafeConsole

if TYPE_CHECKING:
    from qtarget.job.config.checked_job import Job

sample_app = typer.Typer()
SAMPLE_HELP = """Write a model's own completions of prompts as rows that `qtarget train` takes.

It takes the file of `qtarget train`: its model answers the prompts of its rows, as
they are trained on. What is drawn and kept stands in its section `sample`, or in
options over it:

    model: Qwen/Qwen2.5-1.5B
    train_dataset: rows.jsonl
    sample: {k: 8, temperature: 1.0, grade: number, answer: answer, keep: right}

    qtarget sample config.yaml --out runs/own
    qtarget sample config.yaml --prompts questions.jsonl --k 16 --keep all
    qtarget sample config.yaml --task math-500
    qtarget train config.yaml --train-dataset runs/own/rows.jsonl

Every sample is on disk as soon as it is drawn: stopped at any moment, the same
command goes on, and ends with the same rows. `rounds: 2` in the file lets
`qtarget train` sample and train in turns.
"""


@dataclass(frozen=True)
class SampleCommandOptions:
    """Arguments and options of `qtarget sample`, in the order of its help. None: as the section `sample` says."""

    arguments: ConfigArguments = None
    out: Annotated[str | None, typer.Option(help="Folder of samples and rows.", show_default="runs/sample")] = None
    keep: Annotated[
        str | None, typer.Option(help="right, all or best.", show_default="right with a grader, else all")
    ] = None
    grade: GradeName = None
    grade_option: GraderSettings = None
    answer: Annotated[str | None, typer.Option(help="Column with right answers.", show_default="found")] = None
    weights: Annotated[str | None, typer.Option(help="equal, per-prompt or paced.", show_default="equal")] = None
    prompts: Annotated[list[str] | None, typer.Option(help="Files of prompts.", show_default="the rows'")] = None
    task: Annotated[str | None, typer.Option(help="A task of qtarget eval.", show_default=False)] = None
    k: Annotated[int | None, typer.Option("--k", help="Samples of each prompt.", show_default="4")] = None
    temperature: Annotated[float | None, typer.Option(show_default="1")] = None
    top_p: Annotated[float | None, typer.Option(show_default="1")] = None
    max_new_tokens: Annotated[int | None, typer.Option(show_default="1024")] = None
    limit: Annotated[int | None, typer.Option(help="Only the first prompts.", show_default="all")] = None
    generator: Annotated[str | None, typer.Option(help="hf, http or vllm.", show_default="hf")] = None
    url: Annotated[str | None, typer.Option(help="Of an OpenAI-compatible server.", show_default=False)] = None
    batch_size: Annotated[int | None, typer.Option(help="Completions at once.", show_default="the engine's")] = None
    as_json: AsJson = False

    def job(self) -> "Job":
        """The configuration with the options over its section `sample`.

        Raises:
            ValueError: what is wrong with them.
        """
        from qtarget.data.user_files.yaml_file import YamlFile, read_yaml
        from qtarget.evaluate.tasks.own_words import OwnWords
        from qtarget.job.config.flags import parse_arguments
        from qtarget.job.config.read_job import check_job
        from qtarget.job.config.user_input import user_input

        arguments = parse_arguments(self.arguments or [])
        file = YamlFile({}, {}) if arguments.config is None else read_yaml(arguments.config)
        given = user_input(file, arguments)
        section = given.values.get("sample") or {}
        options = {f.name: getattr(self, f.name) for f in fields(self)[1:-1] if getattr(self, f.name) is not None}
        if "grade_option" in options:
            options["grade_options"] = OwnWords(grade_option=options.pop("grade_option")).settings()
        if isinstance(section, dict):
            given.values["sample"] = {**section, **options}
            _let_prompts_be_rows(given.values)
        return check_job(given)


def _let_prompts_be_rows(values: dict[str, Any]) -> None:
    """A sampling with prompts of its own needs no rows to train on, and no rounds are run here."""
    prompts = values["sample"].get("prompts") or values["sample"].get("task")
    if prompts is not None:
        values.setdefault("train_dataset", prompts)
    for key in ("rounds", "rounds_from", "rounds_launch"):
        values.pop(key, None)


@sample_app.command(
    "sample",
    context_settings=PASS_KEYS_ON,
    short_help="Write a model's own completions as rows to train on.",
    help=SAMPLE_HELP,
)
@options_from(SampleCommandOptions)
def sample_command(options: SampleCommandOptions) -> None:
    with diverted_noise():
        from qtarget.evaluate.run.progress_display import quiet_progress
        from qtarget.samples.prepare_sampling import ROWS, prepare_sampling
        from qtarget.samples.run_sampling import conduct_sampling
        from qtarget.samples.view import sample_view

        with preparation():
            prepared = prepare_sampling(options.job())
    summary = conduct_sampling(prepared, quiet_progress())
    if options.as_json:
        return print_json(summary.as_json())
    SafeConsole().print(sample_view(summary, Path(prepared.out) / ROWS))
