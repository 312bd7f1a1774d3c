"""An evaluation on a terminal: its progress, and the table of its results."""

import time
from dataclasses import dataclass, field

import transformers
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from qtarget.console import SafeConsole
from qtarget.evaluate.effects.run_effects import RunEffects
from qtarget.evaluate.nouns import OWN, SamplingProtocol
from qtarget.evaluate.prompts import HOLE
from qtarget.evaluate.run.results import Results, TaskResult

_LINE_SECONDS = 10.0
"""Seconds between two lines of progress where standard error is no terminal."""


@dataclass
class ProgressDisplay:
    """Samples done, rate and time left, on standard error: a bar on a terminal, else a line now and then."""

    console: Console = field(default_factory=lambda: SafeConsole(stderr=True, soft_wrap=True))
    what: str = ""
    total: int = 0
    before: int = 0
    now: int = 0
    tokens: int = 0
    at_once: int = 1
    _started: float = 0.0
    _printed: float = 0.0
    _bar: Progress | None = None
    _task: TaskID | None = None

    def begin(self, what: str, total: int, done: int, at_once: int = 1) -> None:
        self.what, self.total, self.before, self.now, self.tokens = what, total, done, 0, 0
        self.at_once = at_once
        self._started = self._printed = time.monotonic()
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.percentage:>3.0f}%"),
                BarColumn(),
                TextColumn("{task.description}", markup=False),
            )
            self._bar = Progress(*columns, console=self.console)
            self._task = self._bar.add_task(self.line(), total=total, completed=done)
            self._bar.start()
        elif done:
            self.console.print(Text(f"{what}: {done:,} of {total:,} samples are there already"))

    def advance(self, tokens: int = 0) -> None:
        self.now += 1
        self.tokens += tokens
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.before + self.now, description=self.line())
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
        seconds = max(time.monotonic() - self._started, 1e-9)
        done = f"{self.what}: {self.before + self.now:,} of {self.total:,}"
        if not self.now:
            return done
        speed = f"{self.tokens / seconds:,.0f} tokens/s" if self.tokens else f"{self.now / seconds:,.0f}/s"
        remaining = self.total - self.before - self.now
        if not remaining:
            return f"{done}, {speed}, {duration(seconds)}"
        # Items that go on together end one after another, so the first of them say nothing about the others' time.
        left = f", {duration(remaining * seconds / self.now)} left" if self.now >= self.at_once else ""
        return f"{done}, {speed}{left}"


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


def results_view(results: Results, _width: int) -> RenderableType:
    """The table in per cent, the facts of model, engine and protocol, and what to know before believing it."""
    star = "; * not asked as the task says" if any(task.overridden for task in results.tasks) else ""
    legend = Text(f"per cent; in brackets the 95 % interval by question{star}\n", style="dim")
    blocks: list[RenderableType] = [_table(results.tasks), legend, _facts(results)]
    blocks += [Text(f"notice: {text}", style="yellow") for text in results.notices]
    blocks += [Text(f"{task.task}: {text}", style="yellow") for task in results.tasks for text in task.warnings]
    return Group(*blocks)


def _table(tasks: tuple[TaskResult, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("task", overflow="fold")
    for head in ("n × k", "Average@k", "pass@k", "no answer", "cut off", "tokens / limit"):
        table.add_column(head, justify="right", no_wrap=True)
    for result in tasks:
        table.add_row(*_row(result))
    return table


def _row(result: TaskResult) -> tuple[Text, ...]:
    average = result.average
    return (
        Text(f"{result.task}{'*' if result.overridden else ''}"),
        Text(f"{result.questions} × {result.ask.k}"),
        Text.assemble((percent(average.mean), "bold"), f" ({percent(average.low)}–{percent(average.high)})"),
        Text(percent(result.pass_at_k)),
        Text(percent(result.no_answer)),
        Text(percent(result.truncated)),
        Text(f"{result.mean_tokens:,.0f} / {result.ask.max_new_tokens:,}"),
    )


def percent(share: float) -> str:
    """A share in per cent, with one decimal and no sign: 0.145 is ``14.5``."""
    return f"{100 * share:.1f}"


def _facts(results: Results) -> Table:
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    generation = results.generation
    engine = [f"{generation['engine']} {generation.get('version') or '(version unknown)'}"]
    engine += [str(generation[name]) for name in ("dtype", "device") if name in generation]
    if generation.get("trust_remote_code"):
        engine.append("with the model's own code")
    facts.add_row("model", Text(str(results.model.get("name"))))
    facts.add_row("engine", Text(", ".join([*engine, f"{generation.get('batch_size')} at once"])))
    for result in results.tasks:
        protocol = _protocol_text(result.ask, result.overridden)
        facts.add_row("asked", Text(f"{result.task} v{result.version}: {protocol}"))
        if result.suite == OWN:
            facts.add_row("rows", Text(f"{result.task}: {result.rows}; graded by {result.grader}"))
        if result.agreement is not None:
            facts.add_row("judge", Text(f"{result.task}: {result.agreement.words()}"))
        if result.unknown:
            reasons = ", ".join(f"{count} {reason}" for reason, count in result.unknown.items())
            facts.add_row("unknown", Text(f"{result.task}: grades of {reasons}"))
    for label, text in _effect_rows(results.effects):
        facts.add_row(label, Text(text))
    facts.add_row("written", Text(str(results.folder / "results.json")))
    return facts


def _effect_rows(effects: RunEffects | None) -> list[tuple[str, str]]:
    if effects is None:
        return []
    rows = []
    for name, task in effects.answers.items():
        distinct = f"{name}: {task.distinct_answers:.2f} distinct answers a question"
        stop = "learned" if task.learned_stop else "not learned"
        rows.append(("effects", f"{distinct}, pass@k − Average@k {percent(task.spread)}; stop token {stop}"))
    if (forgetting := effects.forgetting) is not None:
        nll = f"nll of the base's text {forgetting.nll:.3f}, {forgetting.base_nll:.3f} under the base"
        kl = f"KL(base ‖ model) {forgetting.kl:.4f} nats a token"
        rows.append(("forgetting", f"{kl}, {nll}; {forgetting.tokens:,} tokens"))
    if (calibration := effects.calibration) is not None:
        text = f"ECE {calibration.ece:.4f}, confidence − accuracy {calibration.overconfidence:+.4f}"
        source = f"{calibration.tokens:,} tokens of {effects.reference_rows}"
        rows.append(("calibration", f"{text}, nll {calibration.nll:.3f}; {source}"))
    return rows


def _protocol_text(ask: SamplingProtocol, overridden: tuple[str, ...]) -> str:
    prompt = repr(ask.prompt) if HOLE in ask.prompt else ask.prompt
    text = (
        f"prompt {prompt}, k {ask.k}, temperature {ask.temperature:g}, top_p {ask.top_p:g}, "
        f"{ask.max_new_tokens} tokens, seed {ask.seed}"
    )
    return f"{text}; not the task's own: {', '.join(overridden)}" if overridden else text
