"""What `qtarget sample` prints."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.samples.kept_samples import SampleSummary


def sample_view(summary: SampleSummary, out: Path) -> RenderableType:
    """The table of one sampling, and what became of the samples that are no rows."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for name, count, remark in _lines(summary):
        table.add_row(name, Text(count), Text(remark, style="dim"))
    return Group(table, Text(f"rows are in {out}, which `train_dataset` takes"))


def _lines(summary: SampleSummary) -> Iterator[tuple[str, str, str]]:
    ask = summary.protocol
    yield "prompts", f"{summary.prompts:,}", f"answered by {summary.writer}"
    how = f"{ask['k']} of each, temperature {ask['temperature']:g}, top_p {ask['top_p']:g}, seed {ask['seed']}"
    yield "samples", f"{summary.samples:,}", f"{how}; {summary.tokens:,.0f} tokens on average"
    if summary.right is not None:
        unknown = f"; {summary.unknown:,} of unknown grade" if summary.unknown else ""
        yield "right", f"{summary.right:,}", f"{summary.right / summary.samples:.1%} of the samples{unknown}"
        yield "none right", f"{summary.none_right:,}", f"prompts; all are right of {summary.all_right:,}"
    weighed = "" if summary.weights == "equal" else f", weights {summary.weights}"
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in summary.left_out.items())
    yield "kept", f"{summary.rows:,}", f"keep {summary.keep}{weighed}{f'; left out: {left_out}' if left_out else ''}"
