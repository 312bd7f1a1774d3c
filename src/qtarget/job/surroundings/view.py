"""What `qtarget doctor` prints."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.job.surroundings.observation import Observation

SIGNS = {"fine": ("ok", "green"), "note": ("note", "yellow"), "fails": ("FAILS", "bold red")}


def surroundings_view(findings: Sequence[Observation], width: int) -> RenderableType:
    """A line for each finding, with its remedy beneath it, and what it comes to at the end."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    part = ""
    for each in findings:
        if each.part != part:
            part = each.part
            table.add_row(Text(""), Text(""), Text(""))
            table.add_row(Text(""), Text(part, style="dim"), Text(""))
        table.add_row(Text(*SIGNS[each.state]), Text(each.name), Text(each.found))
        if each.remedy:
            table.add_row("", "", Text(f"→ {each.remedy}", style="cyan"))
    return Group(table, Text(), _verdict(findings))


def _verdict(findings: Sequence[Observation]) -> Text:
    failing = [each.name for each in findings if each.state == "fails"]
    if failing:
        return Text(f"a run would fail here: {', '.join(failing)}", style="bold red")
    notes = sum(each.state == "note" for each in findings)
    rest = f"; {notes} thing{'s' if notes != 1 else ''} to know" if notes else ""
    return Text(f"runs work here{rest}", style="green")
