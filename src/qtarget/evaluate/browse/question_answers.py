"""Questions with the samples of one run or of two, in the order in which a reader wants them: wrong ones first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple, get_args

from qtarget.evaluate.browse.verdict_words import GRADE_WORDS, Only
from qtarget.evaluate.nouns import Answers, Question, Record, SamplingProtocol
from qtarget.evaluate.store import load_answers


@dataclass(frozen=True)
class SamplePair:
    """A question's sample of the same number from each run; None where a run has none."""

    records: tuple[Record | None, ...]

    @property
    def words(self) -> list[Only]:
        return [GRADE_WORDS[record.grade] for record in self.records if record is not None]

    @property
    def differ(self) -> bool:
        return len(set(self.words)) > 1

    def is_shown(self, only: Only | None) -> bool:
        return only is None or (self.differ if only == "differ" else only in self.words)


@dataclass(frozen=True)
class QuestionAnswers:
    """A question of a task and its samples, those first that differ between the runs, then wrong, unknown, right.

    Attributes:
        right, asked: of each run, how many samples are right, and how many there are.
    """

    task: str
    question: Question
    pairs: tuple[SamplePair, ...]
    right: tuple[int, ...]
    asked: tuple[int, ...]

    @property
    def shares(self) -> list[float]:
        """The share of right samples of each run."""
        return [right / max(asked, 1) for right, asked in zip(self.right, self.asked, strict=True)]


class RunHeading(NamedTuple):
    """A run as a page's head names it: its folder, its model, and what it scored, a line each task."""

    name: str
    model: str
    scores: tuple[str, ...]


@dataclass(frozen=True)
class AnswersReport:
    """What `qtarget answers` shows.

    Attributes:
        questions: those shown, in their order.  total: how many there are without the limit.
        remarks: what a reader should know, such as questions that only one of the runs was asked.
    """

    runs: tuple[RunHeading, ...]
    questions: tuple[QuestionAnswers, ...]
    total: int
    remarks: tuple[str, ...] = ()


def read_questions(
    folders: Sequence[Path], tasks: Sequence[str] = (), only: str | None = None, limit: int | None = None
) -> AnswersReport:
    """The questions of one run or two, wrong ones first; of two runs those first whose samples differ most.

    Args:
        folders: of `qtarget eval`. Samples that are not graded yet are shown too.
        tasks: names of those wanted; none for all.
        only: of `Only`: show only samples of this grade, or those that the two runs have different grades of.
        limit: questions at most.

    Raises:
        ValueError: a folder without a run, an unknown task or word, runs without a common task, or a question that is
            not the same in both.
    """
    if only is not None and only not in get_args(Only):
        raise ValueError(f"--only {only} is not known; write --only {', '.join(get_args(Only)[:-1])} or differ.")
    if only == "differ" and len(folders) < 2:
        raise ValueError("--only differ compares two runs; write qtarget answers RUN RUN2 --only differ.")
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit} was given; write --limit 1 or more.")
    runs = [{answers.task.name: answers for answers in load_answers(folder, ungraded=True)} for folder in folders]
    names = _wanted(runs, folders, tasks)
    by_task = [[run[name] for run in runs] for name in names]
    questions = [question for answers in by_task for question in _questions(answers, folders)]
    shown = [found for question in sorted(questions, key=_order) if (found := _only(question, only)) is not None]
    facts = tuple(_facts(folder, [run[name] for name in names]) for folder, run in zip(folders, runs, strict=True))
    remarks = tuple(remark for answers in by_task for remark in _remarks(answers))
    return AnswersReport(facts, tuple(shown[:limit]), len(shown), remarks)


def _wanted(runs: Sequence[Mapping[str, Answers]], folders: Sequence[Path], tasks: Sequence[str]) -> list[str]:
    """The tasks to show: those asked for, or all that every run has."""
    for name in tasks:
        for run, folder in zip(runs, folders, strict=True):
            if name not in run:
                raise ValueError(f"{folder} has no answers to {name!r}; it has: {', '.join(run)}.")
    common = [name for name in tasks or runs[0] if all(name in run for run in runs)]
    if not common:
        answered = "; ".join(f"{folder}: {', '.join(run)}" for folder, run in zip(folders, runs, strict=True))
        raise ValueError(f"The two runs have no task in common ({answered}); name two that answered the same one.")
    return list(dict.fromkeys(common))


def _questions(answers: Sequence[Answers], folders: Sequence[Path]) -> Iterator[QuestionAnswers]:
    """The questions of a task that all runs were asked."""
    others = [dict(zip(one.qids, zip(one.questions, one.records, strict=True), strict=True)) for one in answers[1:]]
    for question, records in zip(answers[0].questions, answers[0].records, strict=True):
        found = [other[question.qid] for other in others if question.qid in other]
        if len(found) < len(others):
            continue
        if any(_asked(same) != _asked(question) for same, _ in found):
            raise ValueError(
                f"Question {question.qid!r} of {answers[0].task.name} has another text, gold or options in "
                f"{folders[1]} than in {folders[0]}, so its answers cannot stand side by side; name two runs of the "
                "same rows."
            )
        yield _with_pairs(answers[0].task.name, question, [records, *(other for _, other in found)])


def _asked(question: Question) -> tuple[str, ...]:
    """What was asked and what is right."""
    return (question.text, *question.options, *question.answers)


def _with_pairs(task: str, question: Question, records: Sequence[Sequence[Record]]) -> QuestionAnswers:
    by_number = [{record.sample_i: record for record in own} for own in records]
    numbers = sorted({number for own in by_number for number in own})
    pairs = [SamplePair(tuple(own.get(number) for own in by_number)) for number in numbers]
    order = list(GRADE_WORDS.values())
    pairs.sort(key=lambda pair: (not pair.differ, order.index(pair.words[0])))
    right = tuple(sum(record.grade == 1 for record in own) for own in records)
    return QuestionAnswers(task, question, tuple(pairs), right, tuple(map(len, records)))


def _order(question: QuestionAnswers) -> tuple[float, float]:
    """First where the runs differ most, then where least is right."""
    shares = question.shares
    return -(max(shares) - min(shares)), sum(shares)


def _only(question: QuestionAnswers, only: Only | str | None) -> QuestionAnswers | None:
    """The question with the samples that are asked for; None where it has no such."""
    pairs = tuple(pair for pair in question.pairs if pair.is_shown(only))  # type: ignore[arg-type]
    shown = QuestionAnswers(question.task, question.question, pairs, question.right, question.asked)
    return shown if pairs or only is None else None


def _facts(folder: Path, tasks: Sequence[Answers]) -> RunHeading:
    model = str(tasks[0].model.get("name", "")) if tasks else ""
    return RunHeading(str(folder), model, tuple(map(_score, tasks)))


def _score(answers: Answers) -> str:
    every = [record for records in answers.records for record in records]
    right, k = sum(record.grade == 1 for record in every), answers.ask.k
    wanted = len(answers.questions) * k
    part = "" if len(every) == wanted else f", {wanted - len(every):,} samples not drawn yet"
    share = f"{100 * right / max(len(every), 1):.1f} % right"
    return f"{answers.task.name}: {share}, {len(answers.questions):,} questions × {k}{part}"


def _remarks(answers: Sequence[Answers]) -> Iterator[str]:
    """Where two runs were not asked the same."""
    if len(answers) < 2:
        return
    first, other = answers
    alone = len(set(first.qids) ^ set(other.qids))
    if alone:
        yield f"{first.task.name}: {alone:,} questions that only one of the runs was asked are left out"
    for name in (field.name for field in fields(SamplingProtocol)):
        old, new = getattr(first.ask, name), getattr(other.ask, name)
        if old != new:
            yield f"{first.task.name} was not asked alike: {name} {old} and {new}"
