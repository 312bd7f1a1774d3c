"""An evaluation from beginning to end: tasks → prompt ids → generator → samples on disk → grades → statistics."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from qtarget.disk.files import write_digested_json, write_json
from qtarget.disk.one_writer import one_writer
from qtarget.evaluate.effects.effects_on_disk import write_effects
from qtarget.evaluate.effects.run_effects import RunEffects, measure_effects
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.evaluate.grading.grader_settings import make_grader
from qtarget.evaluate.grading.judge_agreement import judge_agreement
from qtarget.evaluate.nouns import TaskRun
from qtarget.evaluate.run.draw import SampleOrigin, draw_missing
from qtarget.evaluate.run.grade import grade_records
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.run.prepare import PreparedEvaluation, check_same_evaluation, prepare_evaluation
from qtarget.evaluate.run.progress import ProgressWatch, SilentWatch
from qtarget.evaluate.run.results import Results, TaskResult, summarise
from qtarget.evaluate.store import (
    RUN,
    SAMPLES,
    TASK,
    answers_in,
    answers_of,
    check_origin,
    cut_torn_line,
    read_records,
    read_task,
    write_task,
)
from qtarget.outcomes import stopped_by

RESULTS = "results.json"


def run_evaluation(plan: EvaluationPlan, watch: ProgressWatch | None = None) -> Results:
    """Draw what is not there yet, grade it, and write ``results.json``; see `EvaluationPlan`.

    Raises:
        ValueError: the plan cannot be run, its folder holds another evaluation, or a sample is damaged.
        SecondWriterError: another process is writing to the folder.
        Interruption: on Ctrl-C or SIGTERM; the samples drawn so far stay.
    """
    return conduct_evaluation(prepare_evaluation(plan), watch)


def conduct_evaluation(prepared: PreparedEvaluation, watch: ProgressWatch | None = None) -> Results:
    """Like `run_evaluation`, for a plan that `prepare_evaluation` has already checked."""
    watch, out = watch or SilentWatch(), prepared.plan.out
    with one_writer(out), _resumable(prepared):
        notices = _drawn(prepared, watch)
        tasks = tuple(_grade(prepared, run, watch) for run in prepared.task_runs)
        facts, effects = prepared.facts, _measure(prepared)
        results = Results(out, facts["model"], facts["generation"], tasks, tuple(filter(None, notices)), effects)
        write_json(out / RESULTS, results.as_json())
    return results


def conduct_drawing(prepared: PreparedEvaluation, watch: ProgressWatch | None = None) -> list[str | None]:
    """Draw what is not there yet, and grade nothing. Returns a notice, or None, of each task; raises as
    `run_evaluation`."""
    with one_writer(prepared.plan.out), _resumable(prepared):
        return _drawn(prepared, watch or SilentWatch())


def _drawn(prepared: PreparedEvaluation, watch: ProgressWatch) -> list[str | None]:
    check_same_evaluation(prepared)  # another may have begun and ended here since this one was prepared
    if not (prepared.plan.out / RUN).is_file():
        write_digested_json(prepared.plan.out / RUN, prepared.facts)
    return [_draw(prepared, run, watch) for run in prepared.task_runs]


def _measure(prepared: PreparedEvaluation) -> RunEffects | None:
    """Measure the effects that the plan asks for besides accuracy, and write them to `effects.json`."""
    plan, model = prepared.plan, prepared.generator
    if not (plan.base or plan.reference_rows) or not isinstance(model, HuggingFace):
        return None
    names = [run.task.name for run in prepared.task_runs]
    answers = [answers_in(plan.out / name, prepared.facts) for name in names]
    prompts = [ids for name in names for ids in prepared.prompts[name]]
    effects = measure_effects(answers, model, prompts, plan.base, plan.reference_rows)
    write_effects(plan.out, effects, prepared.facts, prepared.task_runs)
    return effects


@contextmanager
def _resumable(prepared: PreparedEvaluation) -> Iterator[None]:
    """Turn Ctrl-C or SIGTERM into an `Interruption`, which says how many samples are on disk."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        paths = [prepared.plan.out / run.task.name / SAMPLES for run in prepared.task_runs]
        drawn = sum(path.read_bytes().count(b"\n") for path in paths if path.is_file())
        total = sum(len(run.questions) * run.ask.k for run in prepared.task_runs)
        raise stopped_by(
            stopped,
            f"with {drawn} of {total} samples in {prepared.plan.out}. They stay: the same command goes on from there",
        ) from stopped


def _draw(prepared: PreparedEvaluation, run: TaskRun, watch: ProgressWatch) -> str | None:
    """Draw the samples of a task that are not on disk yet. Returns a notice where a torn line was cut off the file."""
    folder = prepared.plan.out / run.task.name
    if not (folder / TASK).is_file() or read_task(folder).task != run.task:  # own questions may be graded anew
        write_task(folder, run)
    notice = cut_torn_line(folder / SAMPLES)
    if prepared.generator is not None:
        draw_missing(folder / SAMPLES, run, SampleOrigin.of(prepared, run), prepared.generator, watch)
    else:
        check_origin(run, read_records(folder / SAMPLES), prepared.facts)
    return notice


def _grade(prepared: PreparedEvaluation, run: TaskRun, watch: ProgressWatch) -> TaskResult:
    path = prepared.plan.out / run.task.name / SAMPLES
    make = partial(make_grader, run.task.grader, run.task.settings)
    records = grade_records(path, run, make, watch, again=prepared.plan.regrade)
    return replace(summarise(run, answers_of(run, records, prepared.facts)), agreement=judge_agreement(make(), run))
