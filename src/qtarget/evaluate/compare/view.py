"""A comparison as tables for a terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.evaluate.compare.tables import ArmScore, ComparisonTables, SideEffects, SuiteTable, TaskTable
from qtarget.evaluate.confidence import Estimate, SeedsDifference

_LEGEND = (
    "Per cent; in brackets 95 % intervals. Differences are paired by {paired}; p is of no difference, adjusted for "
    "{arms} by Holm; * marks adjusted p < 0.05."
)
OPINIONS, OPINIONS_LEGEND = ["sign flips", "bootstrap"], " Sign flips and bootstrap are second opinions, not adjusted."
_WIDE = 110
"""Columns from which on the second opinions have room."""


def comparison_view(tables: ComparisonTables, width: int) -> RenderableType:
    """Tables by task and suite, side effects, warnings. Below 110 columns the second opinions are left out."""
    opinions = width >= _WIDE
    arms = len(tables.tasks[0].scores) - 1
    paired = "question" if tables.evaluation_noise_only else "question and training seed"
    said = legend(paired, arms) + (OPINIONS_LEGEND if opinions else "")
    blocks: list[RenderableType] = []
    for table in tables.tasks:
        blocks += [_heading(table), _task_table(table, tables.baseline, opinions), *_power_lines(table)]
    for suite in tables.suites:
        blocks += [
            Text.assemble("\n", (f"{suite.suite}, mean of {len(suite.tasks)} tasks", "bold")),
            _suite(suite, tables.baseline),
        ]
    blocks += [Text(said, style="dim"), Text("\nbesides accuracy", style="bold"), _effects(tables.tasks)]
    return Group(*blocks, *[Text(f"! {text}", style="yellow") for text in tables.warnings])


def legend(paired: str, arms: int) -> str:
    """What the table's numbers are.

    Args:
        paired: what differences are paired by.
        arms: their number, without the baseline.
    """
    return _LEGEND.format(paired=paired, arms="one arm" if arms == 1 else f"{arms} arms")


def _heading(table: TaskTable) -> Text:
    clusters = f" in {table.n_units} clusters" if table.n_units < table.n_questions else ""
    limits = " or ".join(f"{limit:,}" for limit in dict.fromkeys(table.max_new_tokens))
    size = f"  {table.n_questions} questions{clusters}, {table.k} samples each, of at most {limits} tokens"
    return Text.assemble("\n", (table.task, "bold"), (size, "dim"))


def _task_table(table: TaskTable, baseline: str, opinions: bool) -> Table:
    several = any(score.n_seeds > 1 for score in table.scores)
    seeds = ["seeds"] if several else []
    grid = _grid("arm", *seeds, f"Average@{table.k}", f"minus {baseline}", "p", *(OPINIONS if opinions else []))
    for score in table.scores:
        cells = [str(score.n_seeds)] if several else []
        grid.add_row(Text(score.arm), *map(Text, cells), average_text(score.average), *_against(score, opinions))
    return grid


def _against(score: ArmScore, opinions: bool) -> list[Text]:
    if score.against is None or score.p_holm is None:
        return []
    against = score.against
    boot = f"({_points(against.bootstrap.low)}, {_points(against.bootstrap.high)})"
    seconds = [Text(p_in_words(against.sign_flip_p), style="dim"), Text(boot, style="dim")]
    return [*difference_cells(against.difference, score.p_holm, score.is_clear), *(seconds if opinions else [])]


def average_text(average: Estimate) -> Text:
    """An average with its interval, in per cent."""
    return Text(f"{_percent(average.mean)} ({_percent(average.low)}, {_percent(average.high)})")


def difference_cells(difference: SeedsDifference, p_holm: float, is_clear: bool) -> list[Text]:
    """A difference in points with its interval, marked where it is clear; and the adjusted p."""
    mark = "*" if is_clear else " "
    text = f"{_points(difference.mean)} ({_points(difference.low)}, {_points(difference.high)}){mark}"
    return [Text(text, style=("green" if difference.mean > 0 else "red") if is_clear else ""), Text(p_in_words(p_holm))]


def _power_lines(table: TaskTable) -> list[Text]:
    """The smallest difference that these questions show, and what to do to see a smaller one."""
    powers = [score.against.power for score in table.scores if score.against is not None]
    questions = [power.questions for power in powers if power.questions is not None]
    seeds_hide, reach = len(questions) < len(powers), max(power.smallest for power in powers)
    enough = (
        "train each arm with more seeds, as more questions alone do not show it"
        if seeds_hide
        else f"ask {max(questions):,} questions in all"
    )
    shown = (
        f"{table.n_questions:,} questions show a difference of {_percent(reach)} points or more, four times in five."
    )
    wanted = f" To see one of {100 * powers[0].gain:g}: {enough}." if reach > powers[0].gain else ""
    lines = [shown + wanted]
    helps = [score.more_samples for score in table.scores if score.more_samples is not None]
    if helps:
        lines.append(
            "More samples of each question (--k), however many, narrow an average's interval by at most "
            f"{_percent(max(helps))} points on either side."
        )
    lines += [
        f"{score.arm} is at the edge; Beta-binomial credible interval ({_percent(score.credible.low)}, "
        f"{_percent(score.credible.high)})."
        for score in table.scores
        if score.credible is not None
    ]
    return [Text(line, style="dim") for line in lines]


def _suite(suite: SuiteTable, baseline: str) -> Table:
    grid = _grid("arm", "average", f"minus {baseline}", "p")
    for score in suite.scores:
        cells = [Text(score.arm), Text(_percent(score.mean))]
        if score.against is not None and score.p_holm is not None:
            cells += difference_cells(score.against, score.p_holm, score.is_clear)
        grid.add_row(*cells)
    return grid


def _effects(tables: Sequence[TaskTable]) -> Table:
    rows = [(table.task, score) for table in tables for score in table.scores]
    forgetting = any(score.effects.forgetting is not None for _, score in rows)
    calibrated = any(score.effects.ece is not None for _, score in rows)
    heads = ["task", "arm", "cut off", "tokens", "distinct answers", "pass@k − avg@k"]
    grid = _grid(*heads, *(["ECE"] if calibrated else []), *(["forgetting KL"] if forgetting else []))
    grid.columns[1].justify = "left"
    before = ""
    for task, score in rows:
        more = [score.effects.ece] * calibrated + [score.effects.forgetting] * forgetting
        cells = [*_effect_cells(score.effects), *("" if value is None else f"{value:.4f}" for value in more)]
        grid.add_row(Text("" if task == before else task), Text(score.arm), *map(Text, cells))
        before = task
    return grid


def _effect_cells(effects: SideEffects) -> list[str]:
    return [
        f"{100 * effects.truncated:.1f} %",
        f"{effects.mean_tokens:,.0f}",
        f"{effects.distinct_answers:.2f}",
        f"{100 * effects.spread:.1f}",
    ]


def _grid(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(first, overflow="fold", min_width=8)
    for head in others:
        table.add_column(Text(head), justify="right", no_wrap=True)
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def p_in_words(value: float) -> str:
    """A p value with three places."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"
