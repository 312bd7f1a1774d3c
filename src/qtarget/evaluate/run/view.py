"""An evaluation on a terminal: while it runs, and what it found."""

import time
from dataclasses import dataclass, field

import transformers
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from qtarget.evaluate.nouns import SamplingProtocol
from qtarget.evaluate.run.results import Results, TaskResult

_LINE_SECONDS = 10.0
"""Between lines, where no one looks at a terminal."""


@dataclass
class ProgressDisplay:
    """Samples done, rate and time left, on standard error: a bar on a terminal, else a line now and then."""

    console: Console = field(default_factory=lambda: Console(stderr=True, soft_wrap=True, highlight=False))
    what: str = ""
    total: int = 0
    before: int = 0
    now: int = 0
    tokens: int = 0
    _started: float = 0.0
    _said: float = 0.0
    _bar: Progress | None = None
    _task: TaskID | None = None

    def begin(self, what: str, total: int, done: int) -> None:
        self.what, self.total, self.before, self.now, self.tokens = what, total, done, 0, 0
        self._started = self._said = time.monotonic()
        if self.console.is_terminal:
            columns = (TextColumn("{task.percentage:>3.0f}%"), BarColumn(), TextColumn("{task.description}"))
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
        elif time.monotonic() - self._said > _LINE_SECONDS:
            self._said = time.monotonic()
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
        left = (self.total - self.before - self.now) * seconds / self.now
        return f"{done}, {speed}, {duration(left)} left" if left else f"{done}, {speed}, {duration(seconds)}"


def watch() -> ProgressDisplay:
    """Progress of a command of ours; the bars and notes of transformers are switched off."""
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    return ProgressDisplay()


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def results_view(results: Results, _width: int) -> RenderableType:
    """Table in per cent, how it was asked, and what to know before believing it."""
    told = [(one.task, text) for one in results.tasks for text in one.warnings]
    legend = Text("per cent; in brackets the 95 % interval by question\n", style="dim")
    blocks: list[RenderableType] = [_table(results.tasks), legend, _facts(results)]
    blocks += [Text(f"notice: {text}", style="yellow") for text in results.notices]
    blocks += [Text(f"{name}: {text}", style="yellow") for name, text in told]
    return Group(*blocks)


def _table(tasks: tuple[TaskResult, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("task", overflow="fold")
    for head in ("n × k", "Average@k", "pass@k", "no answer", "cut off", "tokens"):
        table.add_column(head, justify="right", no_wrap=True)
    for one in tasks:
        table.add_row(*_row(one))
    return table


def _row(one: TaskResult) -> tuple[Text, ...]:
    average = one.average
    return (
        Text(one.task),
        Text(f"{one.questions} × {one.ask.k}"),
        Text.assemble((percent(average.mean), "bold"), f" ({percent(average.low)}–{percent(average.high)})"),
        Text(percent(one.pass_at_k)),
        Text(percent(one.no_answer)),
        Text(percent(one.truncated)),
        Text(f"{one.mean_tokens:,.0f}"),
    )


def percent(share: float) -> str:
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
    for one in results.tasks:
        facts.add_row("asked", Text(f"{one.task} v{one.version}: {_asked(one.ask, one.overridden)}"))
        if one.unknown:
            reasons = ", ".join(f"{count} {reason}" for reason, count in one.unknown.items())
            facts.add_row("unknown", Text(f"{one.task}: grades of {reasons}"))
    for label, text in _effects(results):
        facts.add_row(label, Text(text))
    facts.add_row("written", Text(str(results.folder / "results.json")))
    return facts


def _effects(results: Results) -> list[tuple[str, str]]:
    found, rows = results.effects, []
    if found is None:
        return []
    for name, own in found.answers.items():
        text = (
            f"{name}: {own.distinct_answers:.2f} distinct answers a question, pass@k − Average@k {percent(own.spread)}"
        )
        rows.append(("effects", f"{text}; stop token {'learned' if own.learned_stop else 'not learned'}"))
    if (one := found.forgetting) is not None:
        nll = f"nll of the base's text {one.nll:.3f}, {one.base_nll:.3f} under the base"
        rows.append(("forgetting", f"KL(base ‖ model) {one.kl:.4f} nats a token, {nll}; {one.tokens:,} tokens"))
    if (two := found.calibration) is not None:
        text = f"ECE {two.ece:.4f}, confidence − accuracy {two.overconfidence:+.4f}, nll {two.nll:.3f}"
        rows.append(("calibration", f"{text}; {two.tokens:,} tokens of {found.reference_rows}"))
    return rows


def _asked(ask: SamplingProtocol, overridden: tuple[str, ...]) -> str:
    said = (
        f"prompt {ask.prompt}, k {ask.k}, temperature {ask.temperature:g}, top_p {ask.top_p:g}, "
        f"{ask.max_new_tokens} tokens, seed {ask.seed}"
    )
    return f"{said}; not the task's own: {', '.join(overridden)}" if overridden else said
