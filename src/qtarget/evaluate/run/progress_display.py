"""The progress of an evaluation on standard error: a bar on a terminal, else a line now and then."""

import time
from dataclasses import dataclass, field

import transformers
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from qtarget.console import SafeConsole

_LINE_SECONDS = 10.0
"""Seconds between two lines of progress where standard error is no terminal."""
_ENOUGH = 8
"""Items that have ended before their pace is believed: known to about a third (1/√8)."""


@dataclass
class Pace:
    """How far the work is, how fast it goes, and how long it will take.

    Attributes:
        before: items that were there when it began.  now: those that have ended since.
        told: tokens that the generator told of as it drew them.  ended: tokens of the items that have ended.
    """

    total: int = 0
    before: int = 0
    at_once: int = 1
    most_tokens: int = 0
    now: int = 0
    told: int = 0
    ended: int = 0

    @property
    def tokens(self) -> int:
        return max(self.told, self.ended)

    @property
    def remaining(self) -> int:
        return self.total - self.before - self.now

    def text(self, seconds: float) -> str:
        """What of it there is to say after so many seconds, behind a comma each."""
        if not self.tokens:
            return f", {self.now / seconds:,.0f}/s{self.time_left(seconds)}" if self.now else ""
        counted = "" if self.now else f", {self.tokens:,} tokens"
        return f"{counted}, {self.tokens / seconds:,.0f} tokens/s{self.time_left(seconds)}"

    def time_left(self, seconds: float) -> str:
        """The time that is left, by the pace at which items end. Until enough have, only a bound can be said: items
        that go on together end one after another, the short ones first."""
        if not self.remaining:
            return f", {duration(seconds)}"
        bound = self.remaining * self.most_tokens * seconds / self.tokens if self.tokens else 0.0
        if self.now < min(_ENOUGH, self.at_once):
            return f", at most {duration(bound)} left" if bound else ""
        left = self.remaining * seconds / self.now
        return f", {duration(min(left, bound) if bound else left)} left"


@dataclass
class ProgressDisplay:
    """Items done, tokens a second and time left, from the first token on."""

    console: Console = field(default_factory=lambda: SafeConsole(stderr=True, soft_wrap=True))
    what: str = ""
    pace: Pace = field(default_factory=Pace)
    _started: float = 0.0
    _printed: float = 0.0
    _bar: Progress | None = None
    _task: TaskID | None = None

    def begin(self, what: str, total: int, done: int, at_once: int = 1, most_tokens: int = 0) -> None:
        self.what, self.pace = what, Pace(total, done, at_once, most_tokens)
        self._started = self._printed = time.monotonic()
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.percentage:>3.0f}%"),
                BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=40)),
                TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            )
            self._bar = Progress(*columns, console=self.console, expand=True)
            self._task = self._bar.add_task(self.line(), total=total, completed=done)
            self._bar.start()
        elif done:
            self.console.print(Text(f"{what}: {done:,} of {total:,} samples are there already"))

    def add_tokens(self, tokens: int) -> None:
        self.pace.told += tokens
        self._show()

    def advance(self, tokens: int = 0) -> None:
        self.pace.now += 1
        self.pace.ended += tokens
        self._show()

    def _show(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.pace.before + self.pace.now, description=self.line())
        elif time.monotonic() - self._printed > _LINE_SECONDS:
            self._printed = time.monotonic()
            self.console.print(Text(self.line()))

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self.what:
            self.console.print(Text(self.line()))
        self._bar, self.what = None, ""

    def line(self) -> str:
        """As in ``math-500: 12 of 500, 68 tokens/s, 3 h 05 min left``."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        done = f"{self.what}: {self.pace.before + self.pace.now:,} of {self.pace.total:,}"
        return done + self.pace.text(seconds)


def quiet_progress() -> ProgressDisplay:
    """A display for a command: switches off the progress bars and notes of transformers, so that only ours is seen."""
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    return ProgressDisplay()


def duration(seconds: float) -> str:
    """``2 h 05 min``, ``3 min 20 s`` or ``14 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
