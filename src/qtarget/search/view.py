"""A search on a terminal and as Markdown."""

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from qtarget.console import amount
from qtarget.disk.pages import markdown
from qtarget.search.search_outcome import ArmRecord, SearchOutcome

WIDE = 120
"""Columns from which on an arm's name has 24 or more; else it has 20."""
GAP_OF_CELLS, WIDTH_OF_THE_REST = 3, 56
"""Between two cells, and of all cells that are no rung's; the first rungs are left out where all of them do not fit."""


def columns_of(outcome: SearchOutcome) -> list[str]:
    """Heads of the table."""
    return ["arm", *(amount(steps, "step") for steps in outcome.steps), "behind the leader", "p", ""]


def table_rows(outcome: SearchOutcome) -> list[list[str]]:
    """A row for each arm, those that came furthest first."""
    order = sorted(outcome.arms, key=lambda each: (each.reached, each.arm == outcome.winner), reverse=True)
    return [_row(record, outcome) for record in order]


def _row(record: ArmRecord, outcome: SearchOutcome) -> list[str]:
    means = [f"{standing.mean:.3f}" for standing in record.standings]
    means += ["–"] * (len(outcome.steps) - len(means))
    if not record.standings:
        return [record.arm.name, *means, "", "", _fate(record, outcome)]
    last = record.standings[-1]
    behind = "leads" if last.p == 1 and not last.difference and not last.low else _interval(last)
    return [record.arm.name, *means, behind, "" if behind == "leads" else f"{last.p:.3f}", _fate(record, outcome)]


def _interval(standing) -> str:
    return f"{standing.difference:+.3f} [{standing.low:+.3f}, {standing.high:+.3f}]"


def _fate(record: ArmRecord, outcome: SearchOutcome) -> str:
    if record.failed:
        return "failed"
    if record.standings and record.standings[-1].is_dropped:
        return f"dropped after {amount(outcome.steps[len(record.standings) - 1], 'step')}"
    return "winner" if record.arm == outcome.winner else "stays"


def failures(outcome: SearchOutcome) -> list[str]:
    """A line for each arm that failed, with the last words of its command."""
    return [f"{each.arm.name} failed: {each.failed}" for each in outcome.arms if each.failed]


def search_view(outcome: SearchOutcome, width: int) -> Group:
    """The table, what failed, the sentence, and what `best.yaml` holds."""
    table = Table(box=box.SIMPLE_HEAD, title=f"scores: {outcome.measure}", title_justify="left")
    longest = len(amount(outcome.steps[-1], "step")) + GAP_OF_CELLS
    hidden = max(0, len(outcome.steps) - max(1, (width - WIDTH_OF_THE_REST) // longest))
    if hidden:
        table.caption = f"{amount(hidden, 'rung')} before these: see table.md"
    for place, name in enumerate(columns_of(outcome)):
        if 0 < place <= hidden:
            continue
        table.add_column(
            name,
            justify="left" if place in (0, len(outcome.steps) + 3) else "right",
            overflow="fold",
            min_width=24 if place == 0 and width >= WIDE else None,
            width=20 if place == 0 and width < WIDE else None,
        )
    for row in table_rows(outcome):
        table.add_row(row[0], *row[1 + hidden :])
    gone = [Text(f"{line}\n") for line in failures(outcome)]
    return Group(table, *gone, Text(outcome.sentence, style="bold"), Text(outcome.advice_sentence))


def search_markdown(outcome: SearchOutcome) -> str:
    """The same as a page."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in table_rows(outcome)]
    notes = (
        f"Scores: {outcome.measure}. `behind the leader` is of the last rung that an arm was in, with the interval of "
        "that pair alone; p is adjusted for arms and rungs, and below 0.05 an arm is dropped. The race's own means "
        "choose; they are no estimate of what the winner is worth."
    )
    said = f"{outcome.sentence}\n\n{outcome.advice_sentence}"
    gone = "".join(f"- {line}\n" for line in failures(outcome))
    return f"# Search\n\n{said}\n\n{markdown(columns_of(outcome), rows)}\n\n{gone and gone + chr(10)}{notes}\n"
