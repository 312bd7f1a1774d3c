"""What training prints while it runs: a table with a line for each log, and on a terminal a line of progress."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerState

from qtarget.console import SafeConsole
from qtarget.job.training_columns import SKIPPED, STEP, Column, chosen_columns, clock, heading, row

ALWAYS_LOGGED = ("loss", "nll", "grad_norm", "learning_rate", "num_tokens")
"""What a training log holds, so that an evaluation that comes first leaves room for it."""
SLOW_SECONDS = 10.0
"""Where a first step takes longer, its time is said: the first log may be far away."""


class TrainingTable(TrainerCallback):
    """Prints what a trainer logs as a table that fits the terminal, on the first rank; for a `with` block.

    The first log decides the columns. `disable_tqdm: true` leaves out the line of progress.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or SafeConsole()
        self.columns: list[Column] = []
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began, self._began_at, self._batches = time.monotonic(), 0, 0

    def __enter__(self) -> "TrainingTable":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def replace_printers_of(self, trainer: Trainer) -> None:
        """Print what this trainer logs, in the place of the callbacks of transformers that would."""
        for other in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(other)
        trainer.add_callback(self)

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._began, self._began_at, self.columns = time.monotonic(), state.global_step, []
        if not state.is_world_process_zero:
            return
        done = f", of which {state.global_step:,} are done" if state.global_step else ""
        self._print(f"training  {state.max_steps:,} optimizer steps{done}")
        if self.console.is_terminal and not args.disable_tqdm:
            parts = (TextColumn("{task.percentage:>3.0f}%"), BarColumn(bar_width=24), TextColumn("{task.description}"))
            self._bar = Progress(
                *parts, console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._task = self._bar.add_task("", total=state.max_steps, completed=state.global_step)
            self._bar.start()
            self._show(state)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self._batches = 0
        self._show(state)
        if state.is_world_process_zero and self._bar is None and state.global_step == self._began_at + 1:
            self._say_first_step(state)

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs) -> None:
        self._batches += 1
        self._show(state, f"; evaluating, batch {self._batches:,}")

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        self._batches = 0

    def on_log(self, args, state, control, logs: Mapping[str, Any] | None = None, **kwargs) -> None:
        if not state.is_world_process_zero or not logs:
            return
        evaluated = {name.removeprefix("eval_"): value for name, value in logs.items() if name.startswith("eval_")}
        if evaluated:
            self._row(state, evaluated, "eval")
        elif "learning_rate" in logs:
            self._row(state, {**logs, "left": self._seconds_left(state)}, "")

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self._stop()
        if state.is_world_process_zero:
            taken = state.global_step - self._began_at
            self._print(f"trained   {taken:,} steps in {clock(time.monotonic() - self._began)}")

    def _row(self, state: TrainerState, values: Mapping[str, Any], mark: str) -> None:
        is_first_skip = "skipped_steps" in values and SKIPPED not in self.columns
        if not self.columns or is_first_skip:
            self.columns = chosen_columns({*values, *ALWAYS_LOGGED}, self.console.width)
            for column in (STEP, *self.columns):
                self._print(f"  {column.heading:<11}{column.meaning}", style="dim")
            self._print(heading(self.columns), style="bold")
        self._print(row(state.global_step, values, self.columns, mark), style="cyan" if mark else "")

    def _say_first_step(self, state: TrainerState) -> None:
        seconds, left = time.monotonic() - self._began, self._seconds_left(state)
        if seconds > SLOW_SECONDS and left:
            self._print(f"          the first step took {seconds:.0f} s; about {clock(left)} (m:ss) for the rest")

    def _seconds_left(self, state: TrainerState) -> float | None:
        taken = state.global_step - self._began_at
        seconds = time.monotonic() - self._began
        return seconds * (state.max_steps - state.global_step) / taken if taken else None

    def _show(self, state: TrainerState, remark: str = "") -> None:
        if self._bar is None or self._task is None:
            return
        left = self._seconds_left(state)
        pace = f", {clock(left)} left" if left is not None else ""
        text = f"step {state.global_step:,} of {state.max_steps:,}{pace}{remark}"
        self._bar.update(self._task, completed=state.global_step, description=text)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def _print(self, line: str, style: str = "") -> None:
        self.console.print(Text(line, style=style), soft_wrap=True)
