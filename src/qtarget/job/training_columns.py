"""The columns of the table that training prints: which numbers, what each means, and how it is written."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


def _fixed(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.3g}"


def _counted(value: float) -> str:
    """A count in at most seven characters: 12,345, 1.23M, 4.56B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.2f}{letter}" if value < 1000 * size else f"{value / size:.0f}{letter}"
    return f"{value:,.0f}"


def clock(seconds: float) -> str:
    """`3:20` for minutes and seconds, `2:05:00` with hours, `3d 04h` with days."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    days, day_hours = divmod(hours, 24)
    if days:
        return f"{days}d {day_hours:02d}h"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Column(NamedTuple):
    """A number of the table.

    Attributes:
        name: in the trainer's log.
        width: of heading and numbers, in characters.
        meaning: one line for the legend.
    """

    name: str
    heading: str
    width: int
    meaning: str
    write: Callable[[float], str] = _fixed


STEP = Column("step", "step", 12, "optimizer steps so far; eval: measured on the evaluation rows", _counted)
TABLE_COLUMNS = (
    Column("loss", "loss", 7, "the objective that is minimised, per learned token"),
    Column("nll", "nll", 7, "-log p of the labels in nats a token; compares across methods"),
    Column("trust", "trust", 7, "share of the target that lies on the label; the rest is residual"),
    Column("grad_norm", "grad norm", 9, "length of the gradient, before it is clipped", lambda value: f"{value:.4g}"),
    Column("learning_rate", "rate", 8, "learning rate of the step", lambda value: f"{value:.2e}"),
    Column("num_tokens", "tokens", 7, "tokens read so far, prompts included", _counted),
    Column("left", "left", 8, "time left at the pace of this run, m:ss or h:mm:ss", clock),
    Column("aux_loss", "aux loss", 8, "load-balancing loss of the experts"),
    Column("entropy", "entropy", 7, "of the model's prediction, nats a token"),
    Column("target_kl", "KL(Q||p)", 8, "from the target to the model, nats a token"),
    Column("teacher_entropy", "teacher H", 9, "entropy of the teacher's prediction, nats a token"),
    Column("mean_token_accuracy", "top-1", 7, "share of learned tokens that the model ranks first"),
    Column("scale", "scale", 7, "mean weight of a token in the gradient"),
)
SKIPPED = Column("skipped_steps", "skipped", 7, "steps left out so far: loss or gradient was not finite", _counted)
"""Of a run that has left a step out, in front of the others."""
GAP = 2


def chosen_columns(logged: Iterable[str], width: int) -> list[Column]:
    """The columns of the numbers that are logged, the first of `TABLE_COLUMNS` that fit `width` characters."""
    names, room, chosen = {*logged, "left"}, width - STEP.width, []
    for column in (SKIPPED, *TABLE_COLUMNS):
        if column.name in names and room >= GAP + column.width:
            chosen.append(column)
            room -= GAP + column.width
    return chosen


def heading(columns: Iterable[Column]) -> str:
    """The names of the columns, above their numbers."""
    return f"{STEP.heading:>7}     " + "".join(f"{c.heading:>{GAP + c.width}}" for c in columns)


def row(step: int, values: Mapping[str, Any], columns: Iterable[Column], mark: str = "") -> str:
    """One line of the table; a number that was not measured is left empty."""
    cells = (f"{_cell(c, values.get(c.name)):>{GAP + c.width}}" for c in columns)
    return f"{_counted(step):>7} {mark:<4}{''.join(cells)}".rstrip()


def _cell(column: Column, value: Any) -> str:
    return "" if value is None else column.write(float(value))
