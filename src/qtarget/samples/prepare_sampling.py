"""A sampling before it is run: its prompts, its writer and its folder, checked before anything is drawn."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qtarget.data import Asker
from qtarget.disk.files import file_digest, read_json_object
from qtarget.disk.place import check_place, free_name
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.evaluate.generators.whole_blocks import WholeBlocks
from qtarget.evaluate.grading.grader_settings import parse_grader
from qtarget.evaluate.nouns import OWN, Generator, Question, TaskFacts, TaskRun
from qtarget.evaluate.prompts import prompt_ids
from qtarget.evaluate.run.draw import requests_of
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.run.prepare import (
    PreparedEvaluation,
    check_grader,
    check_same_evaluation,
    generator_of,
    task_run_of,
)
from qtarget.evaluate.tasks.find import find_task
from qtarget.evaluate.tasks.own_task import OWN_ASK
from qtarget.job.config.checked_job import Job
from qtarget.models.loading import tokenizer_of
from qtarget.samples.right_answers import distinct_prompts, graded_questions, ungraded_questions
from qtarget.samples.sampled_prompts import SampledPrompt, rendering_of, sampled_prompts

ROWS, SUMMARY = "rows.jsonl", "sample.json"
TASK_OF_PROMPTS = "prompts"
"""The name under which the evaluator asks prompts that are of no task."""


@dataclass(frozen=True)
class PreparedSampling:
    """A sampling that is ready to be run.

    Attributes:
        evaluation: the prompts as the evaluator asks them, of one task.
        prompts: in the order of its questions.
        writer: the model that answers, as the user names it.
        tokenizer: the writer's.
        joins_texts: rows are texts, whose completion follows the prompt with nothing between.
    """

    job: Job
    evaluation: PreparedEvaluation
    prompts: tuple[SampledPrompt, ...]
    writer: str
    tokenizer: Any
    joins_texts: bool

    @property
    def run(self) -> TaskRun:
        """The prompts with their protocol."""
        return self.evaluation.task_runs[0]

    @property
    def is_graded(self) -> bool:
        return bool(self.run.task.grader)

    @property
    def out(self) -> Path:
        return self.evaluation.plan.out


def prepare_sampling(job: Job) -> PreparedSampling:
    """Read the prompts and their right answers, and check that the folder, if it is there, holds this very sampling.

    Raises:
        ValueError: what is wrong, with the line to write.
    """
    if job.streaming:
        raise ValueError("samples are of rows that are all there; write `streaming: false`.")
    out = Path(job.sampling.out).expanduser()
    check_place(out, f"`sample: {{out: {out}}}` (--out)")
    check_rows_in_the_way(out)
    plan = plan_of_sampling(job, out)
    run = None if job.sampling.task is None else _task_run(job, plan)
    generator = generator_of(plan)
    if run is not None:
        prompts = _prompts_of_task(run, generator.tokenizer)
        joins = False
    else:
        student = tokenizer_of(job.model, job.args.trust_remote_code)
        assert student is not None
        how = rendering_of(job, student, generator.tokenizer)
        run, prompts = _run_of_rows(job, sampled_prompts(job, how))
        joins = how.format is None
    _check_questions(run)
    source = _in_blocks(generator, run, prompts)
    ids = {run.task.name: tuple(prompt.ids for prompt in prompts)}
    prepared = PreparedEvaluation(plan, (run,), ids, generator.fingerprint(), source)
    check_same_evaluation(prepared)
    writer = str(job.given["model"]) if job.sampling.model is None else job.sampling.model
    return PreparedSampling(job, prepared, tuple(prompts), writer, generator.tokenizer, joins)


def plan_of_sampling(job: Job, out: Path) -> EvaluationPlan:
    """The evaluation as which samples are drawn."""
    options, is_student = job.sampling, job.sampling.model is None
    return EvaluationPlan(
        model=job.model if options.model is None else options.model,
        tasks=(),
        out=out,
        protocol=_protocol(job),
        limit=options.limit,
        generator=options.generator,
        url=options.url,
        revision=job.model_args.model_revision if is_student else None,
        batch_size=options.batch_size,
        dtype=options.dtype,
        device=options.device,
        trust_remote_code=bool(job.args.trust_remote_code),
        allow_pickled_weights=bool(job.args.allow_pickled_weights),
    )


def _protocol(job: Job) -> dict[str, Any]:
    names = ("k", "temperature", "top_p", "max_new_tokens", "seed")
    given = {name: value for name in names if (value := getattr(job.sampling, name)) is not None}
    return {"seed": job.args.seed, **given}


def check_rows_in_the_way(out: Path) -> None:
    """Refuse a folder whose rows were written by no sampling, or changed since.

    Raises:
        ValueError: names the file.
    """
    rows = out / ROWS
    if not rows.exists():
        return
    line = f"write another folder, as in `sample: {{out: {free_name(out)}}}` (or --out {free_name(out)})"
    if not (out / SUMMARY).is_file():
        raise ValueError(f"{rows} is there already, and no sampling wrote it; move it away, or {line}.")
    summary = read_json_object(out / SUMMARY, f"delete it and {rows}, and the same command writes both anew")
    if file_digest(rows) != summary.get("rows_sha256"):
        raise ValueError(
            f"{rows} is not what was written there: it was changed, or its writing was cut off. Move it away to "
            f"have it written anew, or {line}."
        )


def task_questions(job: Job) -> tuple[Question, ...]:
    """The questions of the task that `sample` names.

    Raises:
        ValueError: there is no such task, or its questions cannot be read.
    """
    return _task_run(job, plan_of_sampling(job, Path(job.sampling.out).expanduser())).questions


def _task_run(job: Job, plan: EvaluationPlan) -> TaskRun:
    """A task's questions, asked under `prompt_format`, by which rows of them are trained on too."""
    task = find_task(str(job.sampling.task))
    prompt = None if job.layout is None else job.layout.prompt
    if prompt is None:
        raise ValueError(
            f"`sample: {{task: {task.name}}}` asks questions as evaluation does, and rows of them are trained on "
            f"under the same prompt; write {Asker.COMMAND_LINE.line('prompt_format', task.ask.prompt)}."
        )
    run = task_run_of(replace(plan, protocol={**plan.protocol, "prompt": prompt}), task)
    check_grader(run)
    return run


def _prompts_of_task(run: TaskRun, tokenizer: Any) -> list[SampledPrompt]:
    return [SampledPrompt(each.text, prompt_ids(run.ask.prompt, each, tokenizer)) for each in run.questions]


def _run_of_rows(job: Job, found: list[SampledPrompt]) -> tuple[TaskRun, list[SampledPrompt]]:
    """The prompts of rows as the evaluator's task, each distinct one once."""
    options = job.sampling
    name, settings = ("", {}) if options.grade is None else parse_grader(options.grade)
    settings = {**settings, **options.grade_options}
    questions = graded_questions(found, options.answer, name, settings) if name else ungraded_questions(found)
    ask = replace(OWN_ASK, prompt="as trained", **_protocol(job))
    facts = TaskFacts(TASK_OF_PROMPTS, 1, OWN, name, "", settings)
    run = TaskRun(facts, ask, tuple(questions[: options.limit]), f"{len(found)} rows")
    if name:
        check_grader(run)
    return run, distinct_prompts(found)[: options.limit]


def _check_questions(run: TaskRun) -> None:
    if not run.questions:
        raise ValueError("there is no prompt to answer; look at `train_dataset`, or `sample: {prompts: FILE}`.")


def _in_blocks(generator: Generator, run: TaskRun, prompts: list[SampledPrompt]) -> Generator:
    """The generator; a model of this process draws in whole blocks, others make batches themselves."""
    if not isinstance(generator, HuggingFace):
        return generator
    return WholeBlocks(generator, tuple(requests_of(run, [prompt.ids for prompt in prompts])))
