"""How costs are printed: headings, tables, and figures with their units."""

from rich.table import Table
from rich.text import Text

_GIB = 2**30


def cost_heading(title: str, remark: str = "") -> Text:
    """The line above a table."""
    return Text.assemble("\n", (title, "bold"), "  ", (remark, "dim"))


def cost_table(rows: list[tuple[str, str, str]]) -> Table:
    """Rows of name, figure and remark."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=13)
    table.add_column(justify="right", no_wrap=True, min_width=9)
    table.add_column(style="dim")
    for name, figure, remark in rows:
        table.add_row(Text(f"  {name}"), Text(figure), Text(remark))
    return table


def in_gib(size: int) -> str:
    """Bytes of memory in words: "1.25 GiB"."""
    return f"{size / _GIB:.2f} GiB" if size >= _GIB / 10 else f"{size / 2**20:.1f} MiB"


def in_hours(seconds: float) -> str:
    """Seconds in words: "40 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def break_even_remark(read: int, read_live: float) -> str:
    """What the teacher reads for a cache, and beside a run without one."""
    return f"it reads {read:,} tokens once; live, {read_live:,.0f} beside each run"
