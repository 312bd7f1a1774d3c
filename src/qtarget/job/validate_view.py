"""What `qtarget validate` prints."""

from typing import Any

import yaml
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.console import spelled_out
from qtarget.job.config.checked_job import Job
from qtarget.job.config.secrets_given import HELD_BACK
from qtarget.job.facts import DataFacts
from qtarget.job.validate import Rehearsal, Token

ALWAYS_SHOWN = (
    "learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "learn", "max_length", "packing", "bf16", "fp16", "gradient_checkpointing", "seed",
    "save_steps", "eval_strategy", "report_to", "output_dir",
)  # fmt: skip
"""Keys that are shown even where they keep their defaults."""


def resolved_configuration(job: Job) -> dict[str, Any]:
    """The keys the user wrote, the method with all its hyperparameters, and the defaults of `ALWAYS_SHOWN`."""
    defaults = {name: getattr(job.args, name) for name in ALWAYS_SHOWN if name not in job.given}
    shown = {name: getattr(value, "value", value) for name, value in defaults.items()}
    kwargs = {name: _as_list(value) for name, value in job.method.hyperparameters.items()}
    given = {key: "…" if key in HELD_BACK else value for key, value in job.given.items()}
    return {"method": job.method.name, "method_kwargs": kwargs, **given, **shown} | {"method_kwargs": kwargs}


def rehearsal_view(job: Job, rehearsal: Rehearsal) -> RenderableType:
    """Configuration, models, rows, steps, the step that was tried, and the first row as it is trained on."""
    given = set(job.given) | {"method"}
    return Group(
        _heading("configuration", "defaults are dim"),
        *[_line(key, value, key in given) for key, value in resolved_configuration(job).items()],
        _heading("what was found"),
        _facts_table(job, rehearsal),
        _heading("first row as it is trained on", f"{len(rehearsal.row)} of {rehearsal.row_tokens} tokens"),
        row_text(rehearsal.row),
        Text("⟦ learned ⟧; a figure behind a token is its weight", style="dim"),
        *[Text(f"\n{warning}", style="yellow") for warning in rehearsal.warnings],
    )


def _heading(title: str, remark: str = "") -> Text:
    return Text.assemble("\n", (title, "bold"), "  ", (remark, "dim"))


def _line(key: str, value: Any, given: bool) -> Text:
    shown = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).strip()
    return Text(f"  {key}: {shown.removesuffix('...').strip()}", style="" if given else "dim")


def _facts_table(job: Job, rehearsal: Rehearsal) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    share = f", {rehearsal.trainable:,} of them trained" if rehearsal.trainable != rehearsal.parameters else ""
    heads = ", ".join(f"{name} {count:,}" for name, count in rehearsal.vocabulary.items())
    table.add_row("  model", Text(f"{job.given['model']}: {rehearsal.parameters:,} parameters{share}"))
    table.add_row("  vocabulary", heads)
    table.add_row("  training", Text(_rows_text(rehearsal.train)))
    if rehearsal.evaluation is not None:
        table.add_row("  evaluation", Text(_rows_text(rehearsal.evaluation)))
    for note in (each for counts in (rehearsal.train, rehearsal.evaluation) if counts for each in counts.remarks):
        table.add_row("  note", Text(note))
    table.add_row("  steps", _steps_text(rehearsal))
    if rehearsal.rounds:
        table.add_row("  rounds", Text(rehearsal.rounds))
    step = rehearsal.step
    table.add_row("  one step", f"{step.rows} rows: loss {step.loss:.4f}, gradient norm {step.gradient_norm:.4g}")
    for context in rehearsal.contexts:
        table.add_row("  context", Text(context.sentence()))
    if rehearsal.note:
        table.add_row("  precision", Text(rehearsal.note))
    if rehearsal.resumes:
        table.add_row("  resumes", Text(rehearsal.resumes))
    if rehearsal.skipped:
        table.add_row("  skipped", Text(", ".join(rehearsal.skipped)))
    return table


def _steps_text(rehearsal: Rehearsal) -> str:
    if rehearsal.steps is None:
        return f"{rehearsal.rows_per_step:,} rows each; how many is not known from a sample of the rows"
    return f"{rehearsal.steps:,} optimizer steps of {rehearsal.rows_per_step:,} rows"


def _rows_text(data: DataFacts) -> str:
    return f"{data.source}: {data.sentence()}"


def row_text(row: tuple[Token, ...]) -> Text:
    """The row's tokens, spaced; stretches that are learned stand in brackets, whitespace and control characters are
    made visible."""
    line, inside = Text(), False
    for token in row:
        if token.supervised != inside:
            line.append("⟦ " if token.supervised else "⟧ ", style="bold green")
            inside = token.supervised
        line.append(_visible(token.text), style="green" if token.supervised else "dim")
        weighs = token.weight is not None and token.supervised and token.weight != 1
        line.append(f"·{token.weight:g} " if weighs else " ", style="yellow")
    return line.append("⟧" if inside else "", style="bold green")


def _visible(text: str) -> str:
    shown = text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
    return spelled_out(shown) or "∅"


def _as_list(value: Any) -> Any:
    """A list for a tuple, which YAML cannot write."""
    return list(value) if isinstance(value, tuple) else value
