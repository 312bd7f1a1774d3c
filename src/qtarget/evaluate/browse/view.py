"""Questions and their answers on a terminal; two runs stand side by side."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from qtarget.console import shortened, visible
from qtarget.evaluate.browse.question_answers import AnswersReport, QuestionAnswers, SamplePair
from qtarget.evaluate.browse.verdict_words import length, verdict
from qtarget.evaluate.nouns import Record

ANSWER_LINES, ANSWER_SIGNS, QUESTION_SIGNS, NOTE_SIGNS = 12, 600, 900, 300
"""What is shown of an answer: its last lines and characters, where the answer that was read stands; and the beginning
of a question and of a note."""
_STYLES = {1: "green", 0: "red", None: "yellow"}


def answers_view(report: AnswersReport, width: int, *, full: bool = False) -> RenderableType:
    """The runs, and the questions with their samples. Long texts are shortened unless they are wanted in full."""
    blocks: list[RenderableType] = [_runs(report)]
    blocks += [_text(f"notice: {remark}", "yellow") for remark in report.remarks]
    for question in report.questions:
        blocks += [Text(), *_question(question, len(report.runs), width, full)]
    return Group(*blocks, Text(), Text(_count(report), style="dim"))


def _runs(report: AnswersReport) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    labels = ("run",) if len(report.runs) == 1 else ("left", "right")
    for label, run in zip(labels, report.runs, strict=True):
        grid.add_row(label, _text("\n".join([f"{run.name} ({run.model})", *run.scores])))
    return grid


def _count(report: AnswersReport) -> str:
    shown, total = len(report.questions), report.total
    if not total:
        return "No question has such samples."
    more = f"; --limit {total} shows all" if shown < total else ""
    return f"{shown:,} of {total:,} question{'s' if total > 1 else ''}{more}"


def _question(question: QuestionAnswers, runs: int, width: int, full: bool) -> Iterator[RenderableType]:
    counts = " and ".join(f"{right} of {asked}" for right, asked in zip(question.right, question.asked, strict=True))
    own = question.question
    yield Rule(_text(own.qid, "bold") + _text(f"  {question.task}, {counts} right"), align="left", style="dim")
    yield _text(own.text if full else shortened(own.text, QUESTION_SIGNS))
    yield Text("gold: ", "dim") + _text(", or ".join(own.answers), "not dim")
    yield _pairs(question.pairs, runs, width, full)


def _pairs(pairs: tuple[SamplePair, ...], runs: int, width: int, full: bool) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    for _ in range(runs):
        grid.add_column(ratio=1, overflow="fold", max_width=width // runs)
    for pair in pairs:
        grid.add_row(*(_sample(record, full) for record in pair.records))
    return grid


def _sample(record: Record | None, full: bool) -> RenderableType:
    if record is None:
        return Text("no sample", style="dim")
    head = Text(f"sample {record.sample_i}: ", "dim") + _text(verdict(record), _STYLES[record.grade])
    lines = [head + Text(f"; {length(record)}", "dim")]
    if record.grade_note:
        lines.append(_text(f"note: {record.grade_note if full else shortened(record.grade_note, NOTE_SIGNS)}", "dim"))
    text = record.completion if full else _end(record.completion)
    return Group(*lines, Padding(_text(text or "(empty)"), (0, 0, 0, 2)))


def _text(text: str, style: str = "") -> Text:
    """Text of a file or a model. Rich would drop some of its control characters, and reckon others' width wrongly."""
    return Text(visible(text), style)


def _end(text: str) -> str:
    """The end of an answer, where what was read of it stands."""
    end = "\n".join(text.strip().split("\n")[-ANSWER_LINES:])[-ANSWER_SIGNS:]
    return end if len(end) == len(text.strip()) else f"…{end}"
