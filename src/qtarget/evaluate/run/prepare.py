"""Checking a plan and gathering what it needs: questions, prompts, generator. Errors come before anything is drawn."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from qtarget.disk.place import check_place
from qtarget.evaluate.generators.endpoint import Endpoint
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.evaluate.generators.vllm import VLLM
from qtarget.evaluate.grading.grader_settings import make_grader
from qtarget.evaluate.grading.judge_agreement import read_hand_grades
from qtarget.evaluate.nouns import OWN, Generator, Question, SamplingProtocol, Task, TaskFacts, TaskRun
from qtarget.evaluate.prompts import PromptIds, check_prompt, chosen_prompt, prompt_ids
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.store import RUN, SAMPLES, TASK, read_run, read_task, task_sha
from qtarget.evaluate.tasks.find import TaskName, find_task, find_tasks
from qtarget.evaluate.tasks.protocols import under_protocol
from qtarget.evaluate.tasks.questions import load_questions
from qtarget.models.gguf_file import checkpoint_folder
from qtarget.models.named_kernels import refuse_named_kernels
from qtarget.models.pickled_weights import refuse_pickled_weights


@dataclass(frozen=True)
class PreparedEvaluation:
    """A plan that can be run.

    Attributes:
        task_runs: the tasks with their questions, as the plan asks them.
        prompts: ids of every question's prompt, by task.
        facts: what the generator says of itself: "model" and "generation".
        generator: None where nothing is to be drawn.
    """

    plan: EvaluationPlan
    task_runs: tuple[TaskRun, ...]
    prompts: Mapping[str, tuple[PromptIds, ...]]
    facts: Mapping[str, Any]
    generator: Generator | None


def prepare_evaluation(plan: EvaluationPlan) -> PreparedEvaluation:
    """Read the rows, make the prompts, and check that the folder, if it is there, holds this very evaluation.

    Raises:
        ValueError: what is wrong with the plan.
    """
    if not plan.tasks:
        raise ValueError(
            "No task was given; write --task NAME, as in --task math-500, or --questions FILE for your own questions."
        )
    check_place(plan.out, f"`--out {plan.out}`")
    if plan.regrade:
        return _regrading(plan)
    _check_effects(plan)
    task_runs = tuple(task_run_of(plan, task) for task in find_tasks(plan.tasks))
    for run in task_runs:
        check_grader(run)
    generator = generator_of(plan)
    task_runs = tuple(_with_prompt(run, generator) for run in task_runs)
    prompts = {
        run.task.name: tuple(prompt_ids(run.ask.prompt, question, generator.tokenizer) for question in run.questions)
        for run in task_runs
    }
    prepared = PreparedEvaluation(plan, task_runs, prompts, generator.fingerprint(), generator)
    check_same_evaluation(prepared)
    return prepared


def check_same_evaluation(prepared: PreparedEvaluation) -> None:
    """Refuse a folder that holds samples of another evaluation; ValueError lists what differs."""
    _check_same_run(prepared.plan, prepared.facts)
    for run in prepared.task_runs:
        _check_same_task(prepared.plan, run)


def _regrading(plan: EvaluationPlan) -> PreparedEvaluation:
    facts = read_run(plan.out)
    if facts is None:
        raise ValueError(_nothing_to_grade(plan, "a task", RUN))
    runs = tuple(_run_on_disk(plan, given) for given in plan.tasks)
    for run in runs:
        check_grader(run)
    return PreparedEvaluation(plan, runs, {}, facts, None)


def _nothing_to_grade(plan: EvaluationPlan, name: str, missing: str) -> str:
    return (
        f"{plan.out} holds no samples of {name} to grade again ({missing} is missing); draw them first, without "
        "--regrade."
    )


def _run_on_disk(plan: EvaluationPlan, given: TaskName) -> TaskRun:
    """A task as it was asked, to be graded as it was or, of own questions, as it is given now."""
    is_there = isinstance(given, str) and (plan.out / given / TASK).is_file()
    task = None if is_there else find_task(given)
    name = str(given) if task is None else task.name
    missing = [file for file in (f"{name}/{TASK}", f"{name}/{SAMPLES}") if not (plan.out / file).is_file()]
    if missing:
        raise ValueError(_nothing_to_grade(plan, name, missing[0]))
    run = read_task(plan.out / name)
    if task is None or not task.suite == OWN == run.task.suite:
        return run
    _check_golds(plan, task, run)
    return replace(run, task=TaskFacts.of(task))


def _check_golds(plan: EvaluationPlan, task: Task, run: TaskRun) -> None:
    """Refuse to grade again by golds that the questions' file, where it is still there, does not have any more."""
    if task.source.file is None or not task.source.file.is_file():
        return
    now = {question.qid: question for question in load_questions(task, plan.lock).questions}
    for old in run.questions:
        new = now.get(old.qid)
        if new is None or (old.gold, old.accepted) != (new.gold, new.accepted):
            said = _question_difference(old, new, set()) if new else f"question {old.qid!r} ({old.text[:40]!r}) is gone"
            raise ValueError(
                f"{task.source.file} is not what {plan.out} was asked from, and --regrade keeps the questions and gold "
                f"answers of the samples:\n  {said}\nBring the file back as it was, or write another --out, without "
                "--regrade, to ask these questions."
            )


def check_grader(run: TaskRun) -> str:
    """Refuse a grader that cannot do its work, before the work; its fingerprint."""
    grader = make_grader(run.task.grader, run.task.settings)
    try:
        getattr(grader, "check", lambda: None)()
        if isinstance(hand := getattr(grader, "hand_grades", None), str):
            read_hand_grades(Path(hand), run.questions)
        return grader.fingerprint()
    finally:
        getattr(grader, "close", lambda: None)()


def _with_prompt(run: TaskRun, generator: Generator) -> TaskRun:
    """The run with the prompt that its protocol stands for under the generator's tokenizer."""
    return replace(run, ask=replace(run.ask, prompt=chosen_prompt(run.ask.prompt, generator.tokenizer)))


def _check_effects(plan: EvaluationPlan) -> None:
    if plan.generator != "hf" and (plan.base or plan.reference_rows):
        raise ValueError("--base and --reference-rows need the whole distribution of a model; write --generator hf.")
    if plan.reference_rows is not None and not plan.reference_rows.is_file():
        raise ValueError(f"--reference-rows {plan.reference_rows}: there is no such file.")


def task_run_of(plan: EvaluationPlan, task: Task) -> TaskRun:
    """A task with its questions, as the plan asks it."""
    ask = replace(under_protocol(plan.protocol_name, task.ask), **plan.protocol)
    check_prompt(ask.prompt)
    if ask.temperature == 0 and ask.k > 1:
        raise ValueError(f"temperature 0 gives the same answer {ask.k} times; write --k 1, or a temperature above 0.")
    rows = load_questions(task, plan.lock, plan.rows.get(task.name))
    if plan.limit is not None and plan.limit < 1:
        raise ValueError(f"--limit {plan.limit} was given; write --limit 1 or more.")
    entry = rows.entry
    source = f"{entry.source}{'@' + entry.revision if entry.revision else ''}, sha256 {entry.sha256}"
    overridden = (*_overridden(ask, task.ask), *_left_out(len(rows.questions), plan.limit))
    return TaskRun(TaskFacts.of(task), ask, rows.questions[: plan.limit], source, rows.remarks, overridden)


def _left_out(questions: int, limit: int | None) -> list[str]:
    """That a limit leaves questions out, in words, if it does."""
    return [f"questions (the first {limit} of {questions})"] if limit is not None and limit < questions else []


def _overridden(ask: SamplingProtocol, default: SamplingProtocol) -> tuple[str, ...]:
    """The fields of a protocol that are not the task's own. The seed is always the run's."""
    names = (field.name for field in fields(SamplingProtocol) if field.name != "seed")
    return tuple(name for name in names if getattr(ask, name) != getattr(default, name))


def generator_of(plan: EvaluationPlan) -> Generator:
    """The generator that a plan names: a model loaded here, or a server.

    Raises:
        ValueError: an unknown name, a server without an address, an adapter for a server, or weights that are a pickle.
    """
    loading: dict[str, Any] = {"revision": plan.revision, "trust_remote_code": plan.trust_remote_code}
    if plan.generator != "http" and not plan.allow_pickled_weights:
        for model in filter(None, (plan.model, plan.adapter, plan.base)):
            refuse_pickled_weights(checkpoint_folder(model))
    if plan.generator != "http":
        for model in filter(None, (plan.model, plan.base)):
            refuse_named_kernels(checkpoint_folder(model), loading)
    size = {} if plan.batch_size is None else {"batch_size": plan.batch_size}
    if plan.generator == "hf":
        here: dict[str, Any] = {"device": plan.device, "allow_pickled_weights": plan.allow_pickled_weights}
        return HuggingFace(plan.model, adapter=plan.adapter, dtype=plan.dtype, **here, **size, **loading)
    if plan.generator == "vllm":
        pickles = {"allow_pickled_weights": plan.allow_pickled_weights}
        return VLLM(plan.model, adapter=plan.adapter, dtype=plan.dtype, **pickles, **size, **loading)
    if plan.generator != "http":
        raise ValueError(f"Unknown generator {plan.generator!r}; write --generator hf, http or vllm.")
    if plan.url is None:
        raise ValueError("--generator http needs the server's address; write --url http://127.0.0.1:8000.")
    if plan.adapter is not None:
        raise ValueError(
            f"--adapter {plan.adapter} was given with --generator http, but a server loads its adapters itself; serve "
            "the adapter under a name of its own, and write that name as MODEL."
        )
    return Endpoint(plan.model, plan.url, **size, **loading)


def _check_same_run(plan: EvaluationPlan, facts: Mapping[str, Any]) -> None:
    """Refuse a folder whose samples another model drew, or the same one in another way."""
    earlier = read_run(plan.out)
    if earlier is None:
        return
    different = [
        f"{part} {name}: {earlier[part].get(name)!r} there, {facts[part].get(name)!r} now"
        for part in ("model", "generation")
        for name in (*earlier[part], *(new for new in facts[part] if new not in earlier[part]))
        if name not in ("name", "adapter") and earlier[part].get(name) != facts[part].get(name)
    ]
    if different:
        raise ValueError(_holds_another(plan, "", RUN, different))


def _check_same_task(plan: EvaluationPlan, run: TaskRun) -> None:
    """Refuse a folder whose samples of this task answer other questions, or the same ones asked otherwise."""
    folder = plan.out / run.task.name
    if not (folder / TASK).is_file():
        return
    earlier = read_task(folder)
    if task_sha(earlier) == task_sha(run):
        return
    pairs = [("version", earlier.task.version, run.task.version)]
    pairs += [("grader", earlier.task.grader, run.task.grader)] if run.task.suite != OWN else []
    pairs += [(f.name, getattr(earlier.ask, f.name), getattr(run.ask, f.name)) for f in fields(SamplingProtocol)]
    pairs += [("questions", len(earlier.questions), len(run.questions))]
    different = [f"{name}: {old!r} there, {new!r} now" for name, old, new in pairs if old != new]
    if earlier.questions != run.questions and len(earlier.questions) == len(run.questions):
        old, new = next((a, b) for a, b in zip(earlier.questions, run.questions, strict=True) if a != b)
        different.append(_question_difference(old, new, {one.qid for one in earlier.questions}))
    raise ValueError(_holds_another(plan, f" of {run.task.name}", f"{run.task.name}/{TASK}", different))


def _question_difference(old: Question, new: Question, there: set[str]) -> str:
    """What is other about the first question that differs."""
    if old.qid != new.qid:
        order = "the same rows in another order: " if new.qid in there else ""
        return (
            f"{order}question {old.qid!r} ({old.text[:40]!r}) there, {new.qid!r} ({new.text[:40]!r}) now, at one place"
        )
    said = [
        f"{part} {getattr(old, part)!r} there, {getattr(new, part)!r} now"
        for part in ("gold", "accepted", "options", "cluster")
        if getattr(old, part) != getattr(new, part)
    ]
    one, other = (json.loads(question.row or "{}") for question in (old, new))
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    said += [f"field `{name}` {one.get(name)!r} there, {other.get(name)!r} now" for name in names if not said]
    return f"question {new.qid!r}: {old.text[:40]!r}, {'; '.join(said) or 'its row is written otherwise'}"


def _holds_another(plan: EvaluationPlan, of: str, file: str, different: list[str]) -> str:
    lines = "\n".join(f"  {line}" for line in different)
    return (
        f"{plan.out} holds another evaluation{of}, as its {file} says, and the two are not mixed:\n{lines}\n"
        "Ask for the same again to go on with it, or write another --out."
    )
