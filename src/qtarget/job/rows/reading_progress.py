"""A bar while many rows are read; nothing is shown where standard error is no terminal."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from qtarget.console import SafeConsole

_BEFORE_SHOWN = 1000
"""Rows that are read before anything is shown."""


@dataclass
class ReadingProgress:
    """How far the reading of some files is.

    Attributes:
        rows: read so far.
        read: bytes of the files that are finished.
    """

    bars: Progress
    task: TaskID
    rows: int = 0
    read: int = 0

    def on_rows(self, count: int, position: int) -> None:
        """`count` more rows are read, and `position` bytes of the present file."""
        self.rows += count
        text = f"{self.rows:,} rows"
        self.bars.update(self.task, completed=self.read + position, rows=text, visible=self.rows > _BEFORE_SHOWN)

    def on_file(self, size: int) -> None:
        """A file of `size` bytes is finished."""
        self.read += size


@contextmanager
def reading_progress(what: str, paths: Sequence[Path]) -> Iterator[ReadingProgress]:
    """Show how much of some files is read: a bar of one line, which is gone at the end.

    Args:
        what: what is done to them: "reading" or "looking at".
    """
    first = os.environ.get("RANK", "0") == "0"
    console = SafeConsole(stderr=True, quiet=not (first and sys.stderr.isatty()))
    name = paths[0].name if len(paths) == 1 else f"{len(paths)} files"
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rows]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        label = Text(f"{what} {name}")
        label.truncate(32, overflow="ellipsis")
        total = sum(path.stat().st_size for path in paths)
        yield ReadingProgress(bars, bars.add_task(label.plain, total=total, rows="", visible=False))
