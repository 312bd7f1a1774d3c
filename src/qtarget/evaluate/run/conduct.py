"""An evaluation from beginning to end: tasks → prompt ids → generator → samples on disk → grades → statistics."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

from qtarget.disk.one_writer import one_writer
from qtarget.evaluate.effects.measured import RunEffects, measure_effects
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.evaluate.generators.sampling import seed_of
from qtarget.evaluate.grading import GRADERS
from qtarget.evaluate.nouns import Completion, Generator, Grader, Question, Record, Request, TaskRun
from qtarget.evaluate.prompts import PromptIds
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.run.prepare import PreparedEvaluation, prepare_evaluation
from qtarget.evaluate.run.results import Results, TaskResult, summarise
from qtarget.evaluate.store import (
    EFFECTS_FILE,
    RUN,
    SAMPLES,
    TASK,
    answers_in,
    answers_of,
    appending,
    cut_torn_line,
    identity,
    read_records,
    short_sha,
    task_sha,
    write_json,
    write_records,
    write_task,
)
from qtarget.outcomes import Interruption

RESULTS = "results.json"


class ProgressWatch(Protocol):
    """Who is told how a run goes."""

    def begin(self, what: str, total: int, done: int) -> None: ...
    def advance(self, tokens: int = 0) -> None: ...
    def end(self) -> None: ...


class SilentWatch:
    """No one."""

    def begin(self, what: str, total: int, done: int) -> None: ...
    def advance(self, tokens: int = 0) -> None: ...
    def end(self) -> None: ...


def run_evaluation(plan: EvaluationPlan, watch: ProgressWatch | None = None) -> Results:
    """Draw what is not there yet, grade it, and write ``results.json``; see `Plan`.

    Raises:
        ValueError: the plan cannot be run, its folder holds another evaluation, or a sample is damaged.
        Interruption: on Ctrl-C; the samples drawn so far stay.
    """
    return conduct_evaluation(prepare_evaluation(plan), watch)


def conduct_evaluation(prepared: PreparedEvaluation, watch: ProgressWatch | None = None) -> Results:
    """The same of a plan that was looked at."""
    watch, out = watch or SilentWatch(), prepared.plan.out
    out.mkdir(parents=True, exist_ok=True)
    with one_writer(out), _resumable(prepared):
        if not (out / RUN).is_file():
            write_json(out / RUN, prepared.facts)
        notices = [_drawn(prepared, asked, watch) for asked in prepared.asked]
        tasks = tuple(_graded(prepared, asked, watch) for asked in prepared.asked)
        told = tuple(notice for notice in notices if notice)
        facts, effects = prepared.facts, _effects(prepared)
        results = Results(out, facts["model"], facts["generation"], tasks, told, effects)
        write_json(out / RESULTS, results.as_json())
    return results


def _effects(prepared: PreparedEvaluation) -> RunEffects | None:
    """What the plan wants to know besides accuracy, written to `effects.json`."""
    plan, model = prepared.plan, prepared.generator
    if not (plan.base or plan.reference_rows) or not isinstance(model, HuggingFace):
        return None
    names = [asked.task.name for asked in prepared.asked]
    answers = [answers_in(plan.out / name, prepared.facts) for name in names]
    prompts = [ids for name in names for ids in prepared.prompts[name]]
    found = measure_effects(answers, model, prompts, plan.base, plan.reference_rows)
    write_json(plan.out / EFFECTS_FILE, asdict(found))
    return found


@contextmanager
def _resumable(prepared: PreparedEvaluation) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stopped:
        paths = [(prepared.plan.out / one.task.name / SAMPLES, one) for one in prepared.asked]
        drawn = sum(path.read_bytes().count(b"\n") for path, _ in paths if path.is_file())
        total = sum(len(one.questions) * one.ask.k for _, one in paths)
        raise Interruption(
            f"stopped: {drawn} of {total} samples are in {prepared.plan.out} and stay; the same command goes on from "
            "there."
        ) from stopped


def _drawn(prepared: PreparedEvaluation, asked: TaskRun, watch: ProgressWatch) -> str | None:
    """Draw the samples of a task that are not there yet. What was cut off the file, in words."""
    folder = prepared.plan.out / asked.task.name
    if not (folder / TASK).is_file():
        write_task(folder, asked)
    notice = cut_torn_line(folder / SAMPLES)
    if prepared.generator is not None:
        draw_missing(folder / SAMPLES, asked, _Stamp.of(prepared, asked), prepared.generator, watch)
    return notice


class _Stamp:
    """What the records of a task have in common, and the prompts they answer."""

    def __init__(self, asked: TaskRun, prompts: Sequence[PromptIds], model_fp: str, gen_fp: str) -> None:
        self.task, self.task_sha, self.model_fp, self.gen_fp = asked.task.name, task_sha(asked), model_fp, gen_fp
        self.prompts = {question.qid: ids for question, ids in zip(asked.questions, prompts, strict=True)}
        self.sha256 = {qid: prompt_sha256(ids) for qid, ids in self.prompts.items()}

    @staticmethod
    def of(prepared: PreparedEvaluation, asked: TaskRun) -> "_Stamp":
        model_fp, gen_fp = (identity(prepared.facts[part]) for part in ("model", "generation"))
        return _Stamp(asked, prepared.prompts[asked.task.name], model_fp, gen_fp)

    def record(self, completion: Completion) -> Record:
        request = completion.request
        return Record(
            task=self.task,
            task_sha=self.task_sha,
            qid=request.qid,
            sample_i=request.sample,
            seed=request.seed,
            prompt_ids_sha256=self.sha256[request.qid],
            completion=completion.text,
            finish_reason=completion.finish,
            n_tokens=completion.tokens,
            extracted=None,
            grade=None,
            grade_reason="ungraded",
            model_fp=self.model_fp,
            gen_fp=self.gen_fp,
            grader_fp="",
        )

    def check(self, record: Record, path: Path) -> None:
        """Refuse a sample that belongs to another evaluation than its folder."""
        same = (record.task_sha, record.model_fp, record.gen_fp) == (self.task_sha, self.model_fp, self.gen_fp)
        if not same or record.qid not in self.sha256:
            raise ValueError(f"{path} holds a sample of another evaluation ({record.qid}); write another --out.")
        if record.prompt_ids_sha256 != self.sha256[record.qid]:
            raise ValueError(
                f"{path}: the prompt of question {record.qid!r} has other token ids now than when its samples were "
                "drawn. The tokenizer, its chat template or the prompt was changed; write another --out."
            )


def prompt_sha256(ids: PromptIds) -> str:
    """sha256 of a prompt's ids, as JSON."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def requests_of(asked: TaskRun, prompts: Sequence[PromptIds]) -> list[Request]:
    """Every sample of a task, each with a seed of its own."""
    return [
        Request(question.qid, i, seed_of(asked.ask.seed, f"{asked.task.name}/{question.qid}", i), ids)
        for question, ids in zip(asked.questions, prompts, strict=True)
        for i in range(asked.ask.k)
    ]


def draw_missing(path: Path, asked: TaskRun, stamp: _Stamp, generator: Generator, watch: ProgressWatch) -> None:
    """Draw the samples that a file lacks, and append each as soon as it is there."""
    there = read_records(path)
    for record in there:
        stamp.check(record, path)
    drawn = {(record.qid, record.sample_i) for record in there}
    requests = requests_of(asked, [stamp.prompts[question.qid] for question in asked.questions])
    missing = [request for request in requests if (request.qid, request.sample) not in drawn]
    if not missing:
        return
    watch.begin(asked.task.name, len(requests), len(drawn))
    try:
        with appending(path) as samples:
            for completion in generator.generate(missing, asked.ask):
                samples.append(stamp.record(completion))
                watch.advance(completion.tokens)
    finally:
        watch.end()


def _graded(prepared: PreparedEvaluation, asked: TaskRun, watch: ProgressWatch) -> TaskResult:
    path = prepared.plan.out / asked.task.name / SAMPLES
    records = grade_records(path, asked, GRADERS[asked.task.grader], watch, again=prepared.plan.regrade)
    return summarise(asked, answers_of(asked, records, prepared.facts))


def grade_records(
    path: Path, asked: TaskRun, grader_of: Callable[[], Grader], watch: ProgressWatch, *, again: bool = False
) -> list[Record]:
    """The records with the present grader's grades: nothing is drawn, and the file is replaced as a whole.

    Args:
        again: also those that this very grader has graded.
    """
    records, grader = read_records(path), grader_of()
    try:
        fingerprint = short_sha(grader.fingerprint())
        if not again and all(record.grader_fp == fingerprint for record in records):
            return records
        watch.begin(f"grading {asked.task.name}", len(records), 0)
        questions = {question.qid: question for question in asked.questions}
        graded = []
        for record in _in_order(records, asked):
            fresh = record.grader_fp == fingerprint and not again
            graded.append(record if fresh else _with_grade(record, questions[record.qid], grader, fingerprint))
            watch.advance()
    finally:
        watch.end()
        getattr(grader, "close", lambda: None)()
    write_records(path, graded)
    return graded


def _in_order(records: Sequence[Record], asked: TaskRun) -> list[Record]:
    place = {question.qid: place for place, question in enumerate(asked.questions)}
    return sorted(records, key=lambda record: (place[record.qid], record.sample_i))


def _with_grade(record: Record, question: Question, grader: Grader, fingerprint: str) -> Record:
    found = grader.grade(question, record.completion)
    return replace(
        record, extracted=found.extracted, grade=found.value, grade_reason=found.reason, grader_fp=fingerprint
    )
