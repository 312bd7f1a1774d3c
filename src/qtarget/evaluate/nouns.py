"""The nouns of an evaluation: what is asked, how, what came back, and what it was worth.

rows → Question → (Protocol) prompt ids → Completion → Record on disk → Grade → statistics
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

Reason = Literal["ok", "no_answer", "parse_error", "timeout", "gold_unparseable"]
"""Why a grade is what it is; "ok" for a completion that was compared with the gold, right or wrong; "timeout" for one
that could not be judged within the grader's limits of time and memory."""
Finish = Literal["stop", "length"]
"""How a completion ended: by an end token, or cut off at the limit."""


@dataclass(frozen=True)
class Question:
    """One question of a task, as it will be asked.

    Attributes:
        qid: names it within its task; the same row has the same qid on every machine.
        text: the question without instructions; with its options, as shown, where it has any.
        gold: the right answer: an expression, or an option's letter.
        options: as shown, in the order of the letters A, B, C, …; empty for open questions.
        cluster: questions that share a passage or are variants of one another carry the same name here.
    """

    qid: str
    text: str
    gold: str
    options: tuple[str, ...] = ()
    cluster: str = ""

    @property
    def unit(self) -> str:
        """What statistics resample: the cluster, or the question itself."""
        return self.cluster or self.qid


@dataclass(frozen=True)
class SamplingProtocol:
    """How a task's questions are put to a model and its answers drawn: the part of a task that a run may override.

    In JSON files it stands under the key ``ask``.

    Attributes:
        prompt: a name in `evaluate.prompts.PROMPTS`: "qwen-boxed", "chat", "plain", …
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
        for name in ("k", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} was given; write {name}=1 or more.")
        if not self.temperature >= 0:
            raise ValueError(
                f"temperature={self.temperature} was given; write one from 0 (greedy), as temperature=1.0."
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} was given; write one above 0 and up to 1, as top_p=1.0.")


@dataclass(frozen=True)
class RowSource:
    """Where a task's rows come from, unless the user gives a file of them.

    Attributes:
        hub: dataset id, or empty for rows that are made here.
        revision: branch or commit asked for; the commit found is recorded in the lock file.
        files: in the data set, where it is a folder of files rather than splits; read in this order.
        gated: the hub gives it only to users who agreed to its terms.
        make: makes the rows of a task that has no hub.
    """

    hub: str = ""
    config: str | None = None
    split: str = "test"
    revision: str = "main"
    files: tuple[str, ...] = ()
    gated: bool = False
    make: Callable[[], Sequence[Mapping[str, Any]]] | None = None


class QuestionSet(NamedTuple):
    """The questions of a task's rows, and what there was to say of rows left out or odd."""

    questions: list[Question]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A versioned set of questions with the way to ask and to grade them.

    Attributes:
        version: raised whenever prompts, extraction or grading of the task change.
        suite: "math", "medical" or "lab": what is averaged together.
        rows: number of questions that the published set has; None where it is not fixed.
        read: raw rows to questions. Raises ValueError naming row and field.
    """

    name: str
    version: int
    suite: str
    source: RowSource
    rows: int | None
    ask: SamplingProtocol
    read: Callable[[Sequence[Mapping[str, Any]]], QuestionSet]
    grader: str  # a name in `evaluate.grading.GRADERS`
    citation: str = ""


@dataclass(frozen=True)
class TaskFacts:
    """What is left of a task on disk: what it is, without the rows and how they are read."""

    name: str
    version: int
    suite: str
    grader: str
    citation: str = ""

    @staticmethod
    def of(task: Task) -> TaskFacts:
        return TaskFacts(task.name, task.version, task.suite, task.grader, task.citation)


@dataclass(frozen=True)
class TaskRun:
    """A task as a run asks it: these questions, in this way.

    Attributes:
        rows: where the questions come from and the sha256 of the rows, in words.
        remarks: what there was to say of rows left out or odd.
        overridden: fields of `ask` that are not the task's own.
    """

    task: TaskFacts
    ask: SamplingProtocol
    questions: tuple[Question, ...]
    rows: str = ""
    remarks: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grade:
    """What a completion is worth: 1 right, 0 wrong, None unknown (a time-out, a gold that does not parse)."""

    value: Literal[0, 1] | None
    reason: Reason
    extracted: str | None = None


@dataclass(frozen=True)
class Request:
    """One completion to draw. `seed` is its own: made from the run's seed, the question and the sample's number."""

    qid: str
    sample: int
    seed: int
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """What a generator gave. `tokens`: its length, the end token included; `ids` where the generator knows them."""

    request: Request
    text: str
    finish: Finish
    tokens: int
    ids: tuple[int, ...] | None = None


@runtime_checkable
class Generator(Protocol):
    """Who answers: a model in memory, or a server."""

    @property
    def tokenizer(self) -> Any:
        """The model's own: it makes the prompts."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What the answers depend on: {"model": {...}, "generation": {engine, version, dtype, batch size, …}}."""
        ...

    def generate(self, requests: Sequence[Request], ask: SamplingProtocol) -> Iterator[Completion]:
        """Completions in any order, each yielded as soon as it is finished."""
        ...


@runtime_checkable
class Grader(Protocol):
    """Who says what an answer is worth. `grade` never raises on what a model wrote."""

    def fingerprint(self) -> str: ...

    def grade(self, question: Question, completion: str) -> Grade: ...


@dataclass(frozen=True)
class Record:
    """One line of the sample store: a generation and its grade. The resume key is `key`; regrading replaces the grade.

    Attributes:
        task_sha: of task name, version, protocol and rows; another one is another task.
        prompt_ids_sha256: of the prompt's token ids, as JSON.
        grade_reason: "ungraded" between the drawing of a sample and the grading of all, and then never again.
        model_fp, gen_fp, grader_fp: short sha256 of what model, generator and grader said of themselves.
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

    @property
    def key(self) -> tuple[str, str, int, str, str]:
        return self.task_sha, self.qid, self.sample_i, self.model_fp, self.gen_fp


@dataclass(frozen=True)
class Answers:
    """What one model answered to one task: what statistics, comparison, effects and export read.

    Attributes:
        records: [Q][k], in the order of the questions and of the samples.
        model, generation: what the generator said of itself; their short sha256 stands in the records.
    """

    task: TaskFacts | Task
    ask: SamplingProtocol
    questions: tuple[Question, ...]
    records: tuple[tuple[Record, ...], ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def grades(self) -> list[list[Literal[0, 1] | None]]:
        """[Q][k]."""
        return [[record.grade for record in records] for records in self.records]

    @property
    def names(self) -> list[str]:
        """Of the questions."""
        return [question.qid for question in self.questions]

    @property
    def units(self) -> list[str] | None:
        """What statistics resample, where it is not the question; see `Question.unit`."""
        units = [question.unit for question in self.questions]
        return units if len(set(units)) < len(units) else None
