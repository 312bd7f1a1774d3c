"""The results of an evaluation on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.evaluate.effects.run_effects import RunEffects
from qtarget.evaluate.nouns import OWN, SamplingProtocol
from qtarget.evaluate.prompts import HOLE
from qtarget.evaluate.run.results import Results, TaskResult


def results_view(results: Results, _width: int) -> RenderableType:
    """The table in per cent, the facts of model, engine and protocol, and what to know before believing it."""
    star = "; * not asked as the task says" if any(map(_is_asked_otherwise, results.tasks)) else ""
    legend = Text(f"per cent; in brackets the 95 % interval by question{star}\n", style="dim")
    blocks: list[RenderableType] = [_table(results.tasks), legend, _facts(results)]
    blocks += [Text(f"notice: {text}", style="yellow") for text in results.notices]
    blocks += [Text(f"{task.task}: {text}", style="yellow") for task in results.tasks for text in task.warnings]
    return Group(*blocks)


def _table(tasks: tuple[TaskResult, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("task", overflow="fold")
    for head in ("n × k", "Average@k", "pass@k", "no answer", "cut off", "tokens/limit"):
        table.add_column(head, justify="right", no_wrap=True)
    for result in tasks:
        table.add_row(*_row(result))
    return table


def _row(result: TaskResult) -> tuple[Text, ...]:
    average = result.average
    return (
        Text(f"{result.task}{'*' if _is_asked_otherwise(result) else ''}"),
        Text(f"{result.questions} × {result.ask.k}"),
        Text.assemble((percent(average.mean), "bold"), f" ({percent(average.low)}–{percent(average.high)})"),
        Text(percent(result.pass_at_k)),
        Text(percent(result.no_answer)),
        Text(percent(result.truncated)),
        Text(f"{result.mean_tokens:,.0f} / {result.ask.max_new_tokens:,}"),
    )


def _is_asked_otherwise(result: TaskResult) -> bool:
    """Whether its numbers are others than those that people publish for the task. A user's own questions have none."""
    return bool(result.overridden) and result.suite != OWN


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
        protocol = _protocol_text(result.ask, result.overridden if _is_asked_otherwise(result) else ())
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
