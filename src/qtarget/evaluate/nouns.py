"""The nouns of an evaluation: the data that its parts hand to one another, and the protocols of the parts.

rows → Question → (SamplingProtocol) prompt ids → Request → (Generator) Completion → (Grader) Grade
Each completion and its grade is a Record on disk; a task's records together are its Answers, which statistics read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from qtarget.evaluate.number_range import COUNT, LARGEST_COUNT, NumberRange

Reason = Literal[
    "ok", "boxed", "tagged", "stated", "whole", "untrue",
    "no_answer", "cut_off", "several", "withdrawn", "unfinished_thinking",
    "parse_error", "timeout", "gold_unparseable", "grader_failed",
]  # fmt: skip
"""Why a grade is what it is; docs/tasks.md has what each means. "ok" and the five behind it are of completions that
were compared with the gold, right or wrong, and say where the answer stood; "timeout" is of one that could not be
judged within the grader's limits of time and memory; "grader_failed" of one on which the grader itself failed."""
NO_ANSWER: frozenset[str] = frozenset({"no_answer", "cut_off", "several", "withdrawn", "unfinished_thinking"})
"""The reasons of completions that give no answer, or not one."""
Finish = Literal["stop", "length"]
"""How a completion ended: by an end token, or cut off at the limit."""
OWN = "own"
"""The suite of a user's own questions. How these are graded is a run's to choose: it makes no other evaluation."""


@dataclass(frozen=True)
class Question:
    """One question of a task, as it will be asked.

    Attributes:
        qid: its name within its task; the same row has the same qid on every machine.
        text: the question without instructions; with its options, as shown, where it has any.
        gold: the right answer: an expression, or an option's letter.
        options: as shown, in the order of the letters A, B, C, …; empty for open questions.
        cluster: questions that share a passage or are variants of one another carry the same name here.
        accepted: other answers that are as right as the gold.
        row: the whole row as JSON, where a grader may read more of it than the gold; else empty.
    """

    qid: str
    text: str
    gold: str
    options: tuple[str, ...] = ()
    cluster: str = ""
    accepted: tuple[str, ...] = ()
    row: str = ""

    def as_json(self) -> dict[str, Any]:
        """Its fields, of which `accepted` and `row` only where they hold something, so that hashes of it stay."""
        values = asdict(self)
        return {name: value for name, value in values.items() if value or name not in ("accepted", "row")}

    @property
    def answers(self) -> tuple[str, ...]:
        """Every right answer, the gold first."""
        return (self.gold, *self.accepted)

    @property
    def unit(self) -> str:
        """What statistics resample: the cluster, or the question itself."""
        return self.cluster or self.qid


DRAWING_RANGES = {
    "k": COUNT,
    "temperature": NumberRange(0, math.inf, 0.7),
    "top_p": NumberRange(0, 1, 0.95, above=True),
    "max_new_tokens": NumberRange(1, LARGEST_COUNT, 1024),
}
"""The numbers by which answers are drawn, each with its range."""


@dataclass(frozen=True)
class SamplingProtocol:
    """How a task's questions are put to a model and its answers drawn: the part of a task that a run may override.

    In JSON files it stands under the key ``ask``.

    Attributes:
        prompt: a name in `evaluate.prompts.PROMPTS` ("qwen-boxed", "chat", "plain", …) or a text with ``{question}``.
        k: samples of each question.
        temperature: 0 is greedy.
        top_p: samples are drawn from the likeliest tokens of this much mass; 1 is the whole softmax.
        max_new_tokens: limit of a completion, in tokens.
        seed: of the whole run; every sample's own seed is made from it.

    Raises:
        ValueError: a value outside its domain.
    """

    prompt: str
    k: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in DRAWING_RANGES.items():
            if not allowed.has(value := getattr(self, name)):
                raise ValueError(
                    f"{name}={value} was given; write {allowed.words(value)}, as {name}={allowed.example:g}."
                )


@dataclass(frozen=True)
class RowSource:
    """Where a task's rows come from, unless the user gives a file of them.

    Attributes:
        hub: dataset id, or empty for rows that are made here or stand in a file.
        revision: branch or commit asked for; the commit found is recorded in the lock file.
        files: in the data set, where it is a folder of files rather than splits; read in this order.
        gated: the hub gives it only to users who agreed to its terms.
        make: returns the rows of a task that comes from no hub.
        file: of a user's own rows, in any format of `qtarget.data.user_files`.
    """

    hub: str = ""
    config: str | None = None
    split: str = "test"
    revision: str = "main"
    files: tuple[str, ...] = ()
    gated: bool = False
    make: Callable[[], Sequence[Mapping[str, Any]]] | None = None
    file: Path | None = None


class QuestionSet(NamedTuple):
    """The questions of a task's rows, with remarks for the reader of results on rows left out or odd."""

    questions: list[Question]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A versioned set of questions with the way to ask and to grade them.

    Attributes:
        version: raised whenever what the task asks changes; a grader has a version of its own.
        suite: "math", "medical", "lab", … or "own": what is averaged together.
        rows: number of questions that the published set has; None where it is not fixed.
        ask: how it is asked unless a run overrides it.
        read: raw rows to questions. Raises ValueError naming row and field.
        grader: a name in `evaluate.grading.GRADERS`.
        settings: of the grader, by name: what its class takes.
    """

    name: str
    version: int
    suite: str
    source: RowSource
    rows: int | None
    ask: SamplingProtocol
    read: Callable[[Sequence[Mapping[str, Any]]], QuestionSet]
    grader: str
    citation: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskFacts:
    """The part of a task that is kept on disk: everything but where its rows are from and how they are read."""

    name: str
    version: int
    suite: str
    grader: str
    citation: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(task: Task) -> TaskFacts:
        return TaskFacts(task.name, task.version, task.suite, task.grader, task.citation, dict(task.settings))

    @property
    def identity(self) -> list[Any]:
        """What makes samples comparable: name, version and, but for a user's own questions, the grader."""
        named = [self.name, self.version, self.grader]
        return named[:2] if self.suite == OWN else named + ([dict(self.settings)] if self.settings else [])


@dataclass(frozen=True)
class TaskRun:
    """A task as a run asks it: these questions, by this protocol.

    Attributes:
        rows: where the questions come from and the sha256 of the rows, in words.
        remarks: for the reader of results, on rows left out or odd.
        overridden: fields of `ask` that are not the task's own, and in words how many questions were left out.
    """

    task: TaskFacts
    ask: SamplingProtocol
    questions: tuple[Question, ...]
    rows: str = ""
    remarks: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grade:
    """What a completion is worth: 1 right, 0 wrong, None unknown (a time-out, a gold that does not parse).

    `extracted` is the answer that the grader read in the completion; None where it read none. `note` is what else it
    says of it: why it failed, or what a judge wrote.
    """

    value: Literal[0, 1] | None
    reason: Reason
    extracted: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Request:
    """One completion to draw. `seed` is its own: made from the run's seed, the question and the sample's number."""

    qid: str
    sample: int
    seed: int
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """A generator's answer to a request.

    Attributes:
        text: without special tokens.
        tokens: its length, the end token included.
        ids: its token ids, where the generator knows them.
    """

    request: Request
    text: str
    finish: Finish
    tokens: int
    ids: tuple[int, ...] | None = None


OnTokens = Callable[[int], None]
"""A callback with a number of tokens."""


def ignore_tokens(tokens: int) -> None:
    """An `OnTokens` that does nothing."""


@runtime_checkable
class Generator(Protocol):
    """Draws completions: from a model loaded here, or from a server."""

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, which makes the prompts."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What the answers depend on: {"model": {...}, "generation": {engine, version, dtype, batch size, …}}."""
        ...

    def generate(
        self, requests: Sequence[Request], ask: SamplingProtocol, on_tokens: OnTokens = ignore_tokens
    ) -> Iterator[Completion]:
        """The completions of the requests, in any order, each yielded as soon as it is finished.

        Args:
            on_tokens: called with the number of tokens drawn since its last call, by a generator that knows of them
                before their completion is finished.
        """
        ...


@runtime_checkable
class Grader(Protocol):
    """Judges completions. `grade` never raises on what a model wrote.

    One with an attribute `at_once` above 1 is asked by so many threads; one with a `close` is closed in the end. One
    with a `check` is asked before the work whether it can be done: it raises ValueError if not. One with a `trouble`
    is asked of each of a user's own questions what is wrong with it, in words; None for nothing. What one with
    `is_costly` has graded is kept where the grading is broken off.
    """

    def fingerprint(self) -> str:
        """Name, version and limits of the grader, and the libraries that grades depend on."""
        ...

    def grade(self, question: Question, completion: str) -> Grade: ...


@dataclass(frozen=True)
class Record:
    """One line of the sample store: a generation and its grade. The resume key is `key`; regrading replaces the grade.

    Attributes:
        task_sha: short sha256 of the task, its protocol and questions; see `store.task_sha`.
        sample_i: number of the sample among the question's k, from 0.
        prompt_ids_sha256: of the prompt's token ids, as JSON.
        extracted: the answer that the grader read in the completion.
        grade_reason: "ungraded" between the drawing of a sample and the grading of all, and then never again.
        model_fp, gen_fp, grader_fp: short sha256 of the fingerprints of model, generator and grader.
        grade_note: as of `Grade`; in a file only where it says something.
    """

    task: str
    task_sha: str
    qid: str
    sample_i: int
    seed: int
    prompt_ids_sha256: str
    completion: str
    finish_reason: Finish
    n_tokens: int
    extracted: str | None
    grade: Literal[0, 1] | None
    grade_reason: Reason | Literal["ungraded"]
    model_fp: str
    gen_fp: str
    grader_fp: str
    grade_note: str = ""

    @property
    def key(self) -> tuple[str, str, int, str, str]:
        return self.task_sha, self.qid, self.sample_i, self.model_fp, self.gen_fp


@dataclass(frozen=True)
class Answers:
    """What one model answered to one task: what statistics, comparison, effects and export read.

    Attributes:
        records: [Q][k], in the order of the questions and of the samples.
        model, generation: the generator's fingerprint; their short sha256 stands in the records.
        overridden: as of `TaskRun`.
    """

    task: TaskFacts | Task
    ask: SamplingProtocol
    questions: tuple[Question, ...]
    records: tuple[tuple[Record, ...], ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    overridden: tuple[str, ...] = ()

    @property
    def grades(self) -> list[list[Literal[0, 1] | None]]:
        """[Q][k]."""
        return [[record.grade for record in records] for records in self.records]

    @property
    def qids(self) -> list[str]:
        """The questions' names, in their order."""
        return [question.qid for question in self.questions]

    @property
    def units(self) -> list[str] | None:
        """The cluster of every question, where questions share one; None where each is its own. See `Question.unit`."""
        units = [question.unit for question in self.questions]
        return units if len(set(units)) < len(units) else None
