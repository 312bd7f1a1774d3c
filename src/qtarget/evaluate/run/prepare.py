"""From what was asked for to what is run. Whatever is wrong with a plan is said here, before anything is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from qtarget.evaluate.generators.http import Endpoint
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.evaluate.generators.vllm import VLLM
from qtarget.evaluate.nouns import Generator, SamplingProtocol, Task, TaskFacts, TaskRun
from qtarget.evaluate.prompts import PromptIds, prompt_ids
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.store import TASK, read_run, read_task, task_sha
from qtarget.evaluate.tasks import task
from qtarget.evaluate.tasks.questions import load_questions


@dataclass(frozen=True)
class PreparedEvaluation:
    """A plan that can be run.

    Attributes:
        prompts: ids of every question's prompt, by task.
        facts: what the generator says of itself: "model" and "generation".
        generator: None where nothing is to be drawn.
    """

    plan: EvaluationPlan
    asked: tuple[TaskRun, ...]
    prompts: Mapping[str, tuple[PromptIds, ...]]
    facts: Mapping[str, Any]
    generator: Generator | None


def prepare_evaluation(plan: EvaluationPlan) -> PreparedEvaluation:
    """Read the rows, make the prompts, and look whether the folder is of the same evaluation.

    Raises:
        ValueError: what is wrong with the plan.
    """
    tasks = [task(name) for name in plan.tasks]
    if not tasks:
        raise ValueError("No task was given; write --task NAME, as in --task math-500.")
    if plan.regrade:
        return _regrading(plan)
    _check_effects(plan)
    asked = tuple(ask_of(plan, one) for one in tasks)
    generator = generator_of(plan)
    prompts = {
        one.task.name: tuple(prompt_ids(one.ask.prompt, question, generator.tokenizer) for question in one.questions)
        for one in asked
    }
    facts = generator.fingerprint()
    _check_same_run(plan, facts)
    for one in asked:
        _check_same_task(plan, one)
    return PreparedEvaluation(plan, asked, prompts, facts, generator)


def _regrading(plan: EvaluationPlan) -> PreparedEvaluation:
    facts = read_run(plan.out)
    for name in plan.tasks:
        if facts is None or not (plan.out / name / TASK).is_file():
            raise ValueError(
                f"{plan.out} holds no samples of {name} to grade again; draw them first, without --regrade."
            )
    return PreparedEvaluation(plan, tuple(read_task(plan.out / name) for name in plan.tasks), {}, facts or {}, None)


def _check_effects(plan: EvaluationPlan) -> None:
    if plan.generator != "hf" and (plan.base or plan.reference_rows):
        raise ValueError("--base and --reference-rows need the whole distribution of a model; write --generator hf.")
    if plan.reference_rows is not None and not plan.reference_rows.is_file():
        raise ValueError(f"--reference-rows {plan.reference_rows}: there is no such file.")


def ask_of(plan: EvaluationPlan, one: Task) -> TaskRun:
    """A task with its questions, as the plan asks it."""
    ask = replace(one.ask, **plan.protocol)
    _check(ask)
    found = load_questions(one, plan.lock, plan.rows.get(one.name))
    if plan.limit is not None and plan.limit < 1:
        raise ValueError(f"--limit {plan.limit} was given; write --limit 1 or more.")
    questions = found.questions[: plan.limit]
    rows = f"{found.locked.source}{'@' + found.locked.revision if found.locked.revision else ''}"
    told = f"{rows}, sha256 {found.locked.sha256}"
    return TaskRun(TaskFacts.of(one), ask, questions, told, found.remarks, _overridden(ask, one.ask))


def _overridden(ask: SamplingProtocol, own: SamplingProtocol) -> tuple[str, ...]:
    """What of a protocol is not the task's own."""
    names = (field.name for field in fields(SamplingProtocol) if field.name != "seed")
    return tuple(name for name in names if getattr(ask, name) != getattr(own, name))


def _check(ask: SamplingProtocol) -> None:
    if ask.temperature == 0 and ask.k > 1:
        raise ValueError(f"temperature 0 gives the same answer {ask.k} times; write --k 1, or a temperature above 0.")


def generator_of(plan: EvaluationPlan) -> Generator:
    """Who answers."""
    own: dict[str, Any] = {"revision": plan.revision, "trust_remote_code": plan.trust_remote_code}
    size = {} if plan.batch_size is None else {"batch_size": plan.batch_size}
    if plan.generator == "hf":
        return HuggingFace(plan.model, adapter=plan.adapter, dtype=plan.dtype, device=plan.device, **size, **own)
    if plan.generator == "vllm":
        return VLLM(plan.model, adapter=plan.adapter, dtype=plan.dtype, **size, **own)
    if plan.generator != "http":
        raise ValueError(f"Unknown generator {plan.generator!r}; write --generator hf, http or vllm.")
    if plan.url is None:
        raise ValueError("--generator http needs the server's address; write --url http://127.0.0.1:8000.")
    if plan.adapter is not None:
        raise ValueError(
            "--adapter is of models loaded here; serve the adapter under a name of its own, and give that."
        )
    return Endpoint(plan.model, plan.url, **size, **own)


def _check_same_run(plan: EvaluationPlan, facts: Mapping[str, Any]) -> None:
    there = read_run(plan.out)
    if there is None:
        return
    different = [
        f"{part} {name}: {there[part].get(name)!r} there, {facts[part].get(name)!r} now"
        for part in ("model", "generation")
        for name in (*there[part], *(new for new in facts[part] if new not in there[part]))
        if name not in ("name", "adapter") and there[part].get(name) != facts[part].get(name)
    ]
    if different:
        raise ValueError(_another(plan, "", different))


def _check_same_task(plan: EvaluationPlan, asked: TaskRun) -> None:
    folder = plan.out / asked.task.name
    if not (folder / TASK).is_file():
        return
    there = read_task(folder)
    if task_sha(there) == task_sha(asked):
        return
    pairs = [("version", there.task.version, asked.task.version), ("grader", there.task.grader, asked.task.grader)]
    pairs += [(f.name, getattr(there.ask, f.name), getattr(asked.ask, f.name)) for f in fields(SamplingProtocol)]
    pairs += [("questions", len(there.questions), len(asked.questions))]
    different = [f"{name}: {old!r} there, {new!r} now" for name, old, new in pairs if old != new]
    if there.questions != asked.questions and len(there.questions) == len(asked.questions):
        old, new = next((a, b) for a, b in zip(there.questions, asked.questions, strict=True) if a != b)
        different.append(f"question {new.qid!r}: {old.text[:40]!r}, gold {old.gold!r} there, {new.gold!r} now")
    raise ValueError(_another(plan, f" of {asked.task.name}", different))


def _another(plan: EvaluationPlan, of: str, different: list[str]) -> str:
    lines = "\n".join(f"  {line}" for line in different)
    return (
        f"{plan.out} holds another evaluation{of}, and the two are not mixed:\n{lines}\n"
        "Ask for the same again to go on with it, or write another --out."
    )
