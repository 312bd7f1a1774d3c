"""A rehearsal on a terminal."""

from typing import Any

import yaml
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.job.config.job import Job
from qtarget.job.validate import Rehearsal, RowCounts, Token

ALWAYS_SHOWN = (
    "learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "max_length", "packing", "bf16", "fp16", "gradient_checkpointing", "seed",
    "save_steps", "eval_strategy", "report_to", "output_dir",
)  # fmt: skip
"""Keys that are worth seeing though they keep their defaults."""


def resolved_configuration(job: Job) -> dict[str, Any]:
    """What was given, and the defaults that matter most."""
    defaults = {name: getattr(job.args, name) for name in ALWAYS_SHOWN if name not in job.given}
    plain = {name: getattr(value, "value", value) for name, value in defaults.items()}
    return {"method": job.method.name, "method_kwargs": dict(job.method.hyperparameters), **job.given, **plain} | {
        "method_kwargs": {name: _plain(value) for name, value in job.method.hyperparameters.items()}
    }


def rehearsal_view(job: Job, found: Rehearsal) -> RenderableType:
    """Configuration, models, data, a row, steps, and the step that was tried."""
    given = set(job.given) | {"method"}
    return Group(
        _heading("configuration", "defaults are dim"),
        *[_line(key, value, key in given) for key, value in resolved_configuration(job).items()],
        _heading("what was found"),
        _found(job, found),
        _heading("first row as it is trained on", f"{len(found.row)} of {found.row_tokens} tokens"),
        _row_text(found.row),
        Text("⟦ learned ⟧; a figure behind a token is its weight", style="dim"),
    )


def _heading(title: str, remark: str = "") -> Text:
    return Text.assemble("\n", (title, "bold"), "  ", (remark, "dim"))


def _line(key: str, value: Any, given: bool) -> Text:
    shown = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).strip()
    return Text(f"  {key}: {shown.removesuffix('...').strip()}", style="" if given else "dim")


def _found(job: Job, found: Rehearsal) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    share = f", {found.trainable:,} of them trained" if found.trainable != found.parameters else ""
    heads = ", ".join(f"{name} {count:,}" for name, count in found.vocabulary.items())
    table.add_row("  model", Text(f"{job.given['model']}: {found.parameters:,} parameters{share}"))
    table.add_row("  vocabulary", heads)
    table.add_row("  training", Text(_rows_text(found.train)))
    if found.evaluation is not None:
        table.add_row("  evaluation", Text(_rows_text(found.evaluation)))
    table.add_row("  steps", f"{found.steps:,} optimizer steps of {found.rows_per_step:,} rows")
    step = found.step
    table.add_row("  one step", f"{step.rows} rows: loss {step.loss:.4f}, gradient norm {step.gradient_norm:.4g}")
    if found.note:
        table.add_row("  precision", Text(found.note))
    return table


def _rows_text(rows: RowCounts) -> str:
    cut = f"; {rows.at_limit} are max_length long, so probably cut" if rows.at_limit else ""
    return (
        f"{rows.facts.source}: {rows.facts.rows:,} rows -> {rows.rows:,} of {rows.tokens:,} tokens, "
        f"{rows.supervised:,} of them learned{cut}"
    )


def _row_text(row: tuple[Token, ...]) -> Text:
    """Tokens apart, learned stretches in brackets, whitespace and control characters made visible."""
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
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown) or "∅"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
