"""The catalogue of methods on a terminal: `qtarget methods` and `qtarget methods NAME`."""

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.job.method_pages import MethodEntry

_LEGEND = (
    "p the student, p_y its probability of the label, d the one-hot label, r the reference, t the teacher; "
    "Q = γ·d + (1 − γ)·π̃ is what the student is pulled to"
)


def catalogue_table(entries: tuple[MethodEntry, ...], width: int) -> RenderableType:
    """All methods: a row each; under 100 columns with the source below the name, under 72 a paragraph each."""
    shown = _table(entries, width) if width >= 72 else Group(*(_paragraph(entry) for entry in entries))
    more = "`qtarget methods NAME` says more about one of them."
    return Group(shown, Text(_LEGEND, style="dim"), Text(more, style="dim"))


def _table(entries: tuple[MethodEntry, ...], width: int) -> Table:
    narrow = width < 100
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("method", style="bold", no_wrap=True)
    table.add_column("needs", no_wrap=True)
    for name in ("trust γ", "residual π̃", *([] if narrow else ["source"])):
        table.add_column(name, overflow="fold")
    for entry in entries:
        source = entry.source.replace(", ", ",\n") if narrow else entry.source
        row = [Text("\n".join(entry.needs)), Text(entry.trust), Text(entry.residual)]
        if narrow:
            table.add_row(Text.assemble(entry.name, "\n", (source, "dim")), *row)
        else:
            table.add_row(Text(entry.name), *row, Text(source, style="dim"))
    return table


def _paragraph(entry: MethodEntry) -> Text:
    facts = {"needs": ", ".join(entry.needs), "γ": entry.trust, "π̃": entry.residual, "": entry.source}
    lines = [Text.assemble((f"{label:<7}", "dim"), text) for label, text in facts.items() if text]
    return Text("\n  ").join([Text(entry.name, style="bold"), *lines])


def method_page(entry: MethodEntry, _width: int) -> RenderableType:
    """One method: its summary, facts and hyperparameters, and the lines that ask for it in a configuration."""
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    needs = ", ".join(entry.needs) or "nothing besides the data"
    for label, text in (
        ("use when", entry.use_when),
        ("formula", entry.formula),
        ("trust γ", entry.trust),
        ("residual π̃", entry.residual),
        ("limits", entry.limits),
        ("needs", needs),
        (
            "looks at",
            {"token": "each token alone", "sequence": "whole sequences", "batch": "the whole batch"}[entry.scope],
        ),
        ("remarks", entry.remarks),
        ("source", entry.source),
    ):
        if text:
            facts.add_row(label, Text(text))
    parts = [Text.assemble((entry.name, "bold"), "  ", entry.summary), Text(), facts, Text()]
    parts += [_parameters(entry), Text()] if entry.parameters else []
    return Group(
        *parts, Text("in a configuration", style="dim"), Text(_lines(entry)), Text(), Text(_LEGEND, style="dim")
    )


def _parameters(entry: MethodEntry) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("hyperparameter", "default", "may be", "meaning"):
        table.add_column(column, style="bold" if column == "hyperparameter" else "")
    for parameter in entry.parameters:
        table.add_row(*map(Text, (parameter.name, _yaml(parameter.default), parameter.domain, parameter.meaning)))
    return table


def _lines(entry: MethodEntry) -> str:
    """The lines that ask for this method in a configuration, with every default written out."""
    lines = [f"method: {entry.name}"]
    lines += [f"{parameter.name}: {_yaml(parameter.default)}" for parameter in entry.parameters]
    lines += ["teacher: path/or/hub-name"] if "teacher" in entry.needs else []
    lines += ["reference: initial"] if "reference" in entry.needs else []
    return "\n".join(f"  {line}" for line in lines)


def _yaml(value: Any) -> str:
    """A default value as it is written in YAML."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"[{', '.join(f'{each:g}' for each in value)}]" if isinstance(value, tuple) else str(value)
