"""A teacher cache on a terminal: progress while it is written, a summary, and the report of `teacher verify`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from qtarget.console import SafeConsole
from qtarget.disk.sizes import in_bytes
from qtarget.teacher.cache import CachePlan, CacheShard, Ranks, Report
from qtarget.teacher.cache.contents import by_mass_of, tokens_in
from qtarget.teacher.cache.parts import WHOLE_CACHE
from qtarget.teacher.cache.recompute import Recomputation
from qtarget.teacher.cache.verify import histogram_lines

_LINE_SECONDS = 10.0
"""Between lines of progress where the output is no terminal, such as a log file."""


@dataclass
class CacheProgress:
    """Progress of this rank's share of a cache or a part: tokens, tokens a second, time left. The first rank shows it.

    Attributes:
        asked: tokens of text that went through the model.
        on_disk: tokens in shards that an earlier run had finished.
        seconds: the whole time, known at the end.
    """

    name: str
    folder: Path
    plan: CachePlan
    ranks: Ranks
    asked: int = 0
    on_disk: int = 0
    started: float = 0.0
    seconds: float = 0.0
    _last_line: float = 0.0
    _console: Console = field(default_factory=lambda: SafeConsole(soft_wrap=True))
    _bars: Bars | None = None
    _task: TaskID | None = None

    @property
    def total(self) -> int:
        """Tokens of this rank's shards."""
        return self._tokens_of(self.ranks.share_of(len(self.plan.shards)))

    @property
    def rate(self) -> float:
        """Tokens a second of all ranks together, if they are as fast as this one."""
        return self.ranks.ranks * self.asked / max(self.seconds or time.monotonic() - self.started, 1e-9)

    def __enter__(self) -> "CacheProgress":
        self.started = self._last_line = time.monotonic()
        if self.ranks.rank == 0:
            self._console.print(Text(self._heading()))
            if self._console.is_terminal:
                self._bars = Bars(
                    TextColumn("{task.percentage:>3.0f}%"), BarColumn(), TextColumn("{task.description}", markup=False)
                )
                self._task = self._bars.add_task("", total=self.total)
                self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.monotonic() - self.started
        if self._bars is not None:
            self._bars.stop()

    def on_batch(self, tokens: int) -> None:
        self.asked += tokens
        self._show()

    def on_shard(self, shard: CacheShard, was_there: bool) -> None:
        self.on_disk += shard.tokens if was_there else 0
        self._show()

    def _show(self) -> None:
        if self.ranks.rank != 0:
            return
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=self.asked + self.on_disk, description=self._line())
        elif time.monotonic() - self._last_line > _LINE_SECONDS:
            self._last_line = time.monotonic()
            self._console.print(Text(self._line()))

    def _tokens_of(self, shards: range) -> int:
        return sum(tokens_in(self.plan.shards[index]) for index in shards)

    def _heading(self) -> str:
        plan, part = self.plan, self.ranks.part
        size = f"{_shards(len(plan.shards))}, {'about' if plan.by_mass is None else 'at most'} {in_bytes(plan.bytes)}"
        own = "" if part == WHOLE_CACHE else f"; part {part}: {_shards(len(self.ranks.part_of(len(plan.shards))))}"
        return f"{self.name}: {plan.tokens:,} tokens in {size}, to {self.folder}{own}"

    def _line(self) -> str:
        done = self.ranks.ranks * (self.asked + self.on_disk)
        total = self._tokens_of(self.ranks.part_of(len(self.plan.shards)))
        left = max(total - done, 0) / self.rate if self.asked else 0.0
        return f"{min(done, total):,} of {total:,} tokens, {self.rate:,.0f} tokens/s, {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def print_summary(report: Report, progress: CacheProgress) -> None:
    """Print what was written, and how fast."""
    rows = {"asked": "nothing: every shard was there"}
    if progress.asked:
        rows["asked"] = f"{progress.rate:,.0f} tokens/s, in {_duration(progress.seconds)}"
    SafeConsole().print(_table({**_rows(report), **rows}))
    if report.warning is not None:
        SafeConsole(soft_wrap=True).print(report.warning, style="yellow")


def print_part(there: int, progress: CacheProgress) -> None:
    """Print that a part is written, and what lacks of the cache.

    Args:
        there: finished shards of all parts.
    """
    shards, part = len(progress.plan.shards), progress.ranks.part
    speed = f" ({progress.rate:,.0f} tokens/s, in {_duration(progress.seconds)})" if progress.asked else ""
    said = (
        f"part {part} of {progress.folder} is written{speed}: {there:,} of {_shards(shards)} are there. The last of "
        f"the {part.of} parts finishes the cache; so does the same command without `--part`."
    )
    SafeConsole(soft_wrap=True).print(Text(said))


def report_view(report: Report, _width: int) -> RenderableType:
    """What a cache holds, how much of the teacher's probability it captured, and what is wrong with it."""
    parts = report.parts
    kept = f"{_tokens_kept(parts)} in {parts['storage_dtype']}"
    rows = {
        **_rows(report),
        "kept": f"{kept}, temperature {parts['temperature']:g}",
        "teacher": f"{parts['teacher']} in {parts['compute_dtype']}",
        "rows": parts["rows"],
        "rendered": parts["truncation"],
    }
    blocks: list[RenderableType] = [_table(rows)]
    if report.captured:
        blocks += [
            Text("\nmass captured", style="bold"),
            *(Text(f"  {line}") for line in histogram_lines(report.captured)),
        ]
    blocks.append(Text())
    blocks += [Text(f"problem: {problem}", style="red") for problem in report.problems]
    if not report.problems:
        blocks.append(Text("every hash, range, mass and target agrees", style="green"))
    if report.warning is not None:
        blocks.append(Text(report.warning, style="yellow"))
    return Group(*blocks)


def _tokens_kept(parts: Mapping[str, Any]) -> str:
    """How many, and which."""
    by_mass = by_mass_of(parts)
    if by_mass is None:
        return f"{parts['k']} {'draws' if parts['how'] == 'sampled' else 'likeliest tokens'}"
    return f"{by_mass.min_k} to {by_mass.max_k} likeliest tokens, until {by_mass.missing:g} of the mass is left"


def recomputed_view(found: Recomputation, _width: int) -> RenderableType:
    """A cache beside a model with which some of its rows were computed again."""
    worst = found.worst
    where = f"token {worst.token} at place {worst.place} of row {worst.row}"
    numbers = f"{worst.cached:.4f}, recomputed {worst.recomputed:.4f}"
    rounding = f"; storing rounds that one by up to {found.rounding:.2g}" if found.rounding else ""
    rows = {
        "against": f"{found.model}: {found.tokens:,} tokens of {found.rows} rows computed again",
        "largest": f"{found.largest:.2g} nats of a log-probability ({where}: {numbers}){rounding}",
        "": f"{found.probability:.2g} of a probability",
        "labels": f"{found.label_mean:.2g} nats in the mean",
    }
    if found.is_same:
        return _table(rows)
    verdict = (
        f"These are not the log-probabilities of {found.model}: another model, one of another precision, or numbers at "
        "a temperature or after a filter."
    )
    return Group(_table(rows), Text(verdict, style="red"))


def _rows(report: Report) -> dict[str, str]:
    rows = {
        "cache": report.folder,
        "tokens": f"{report.tokens:,} in {report.documents:,} documents, {_shards(report.shards)}",
        "size": f"{in_bytes(report.bytes)}, {report.bytes_per_token:.1f} bytes a token",
    }
    if report.mean_captured is not None and report.label_outside is not None:
        low = ", ".join(f"{value:.3f} at {percent} %" for percent, value in report.percentiles.items())
        rows["captured"] = f"{report.mean_captured:.4f} of the mass in the mean; {low}"
        rows["label"] = f"{report.label_outside:.1%} outside of the likeliest"
    return rows


def _table(rows: dict[str, str]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows.items():
        table.add_row(label, Text(text))
    return table


def _shards(count: int) -> str:
    return f"{count:,} shard{'s' if count != 1 else ''}"
