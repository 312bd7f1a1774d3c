"""What a search is asked, checked before any run, and kept beside its results."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from qtarget.data.user_files.yaml_file import YamlFile, read_yaml
from qtarget.disk.files import first_difference, json_text, read_json_object, write_digested_json
from qtarget.disk.place import free_name
from qtarget.evaluate.tasks.own_words import OwnWords
from qtarget.job.config.checked_job import Job
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import check_job, job_of
from qtarget.job.config.user_input import user_input
from qtarget.job.cost.run_cost import cost_of_run
from qtarget.job.inspection.inspect_job import inspect_job
from qtarget.job.rows.layout import training_rows
from qtarget.search.arm_checks import check_arm_keys, check_arm_runs
from qtarget.search.arm_configs import whole_number_keys, write_values
from qtarget.search.dev_questions import (
    DevQuestions,
    read_dev_questions,
    refuse_trained_questions,
    write_parts_of,
)
from qtarget.search.drawn_arms import check_optuna
from qtarget.search.held_out_rows import HeldOutRows, read_held_out, write_row_halves
from qtarget.search.search_contents import contents_of
from qtarget.search.search_space import (
    SearchSpace,
    default_space,
    read_space,
    space_of,
    space_values,
    with_baseline,
)
from qtarget.search.teacher_caches import SharedCache, shared_caches

SEARCH_PLAN, SPACE, HALVES = "search.json", "space.yaml", "questions"
SPACE_HEAD = "The space of this search, as it was read: every arm, and the ranges that others were drawn from."
PILOT_SHARE = 0.25
"""Of the configuration's own steps, those of the last rung where the space does not say."""
INSPECTED_ROWS = 64
"""Rows that are looked at for a default space."""


@dataclass(frozen=True)
class SearchRequest:
    """What a command line asks.

    Attributes:
        run: the configuration of `qtarget train` and flags over it.
        space: None for a default one, made from what `inspect` finds.
        own: the development questions; none of them for held-out rows.
        words: of `qtarget eval`, besides the questions: grader and decoding.
        protocol: the decoding's fields, which those words say.
        launch: words before `-m qtarget train`, as accelerate's; none for this Python.
    """

    run: RunArguments
    space: Path | None
    out: Path
    own: OwnWords
    words: tuple[str, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    launch: tuple[str, ...] = ()
    keeps_models: bool = False


@dataclass(frozen=True)
class EvaluationWords:
    """How development questions are asked: the name of the task, and words of `qtarget eval`."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Search:
    """A search that was checked.

    Attributes:
        base: the configuration's keys.
        evaluation: None where held-out rows' loss is the score.
        development: what arms are scored on; None once it is on disk.
        caches: of the teachers, which arms share.
        step_seconds: of an optimizer step, by counting its operations.
        contents: digests of training rows, models and caches.
        launch: words before those of `qtarget train`; () for this Python.
    """

    base: Mapping[str, Any]
    space: SearchSpace
    out: Path
    evaluation: EvaluationWords | None
    development: DevQuestions | HeldOutRows
    step_seconds: float
    contents: Mapping[str, Any]
    caches: tuple[SharedCache, ...] = ()
    workers: int = 1
    launch: tuple[str, ...] = ()
    keeps_models: bool = False

    def steps_of_rung(self, rung: int) -> int:
        """Optimizer steps of a rung, counted from 1."""
        assert self.space.steps is not None  # chosen when the search was prepared
        return self.space.steps * 2 ** (rung - 1)

    @property
    def most_arms(self) -> int:
        return len(self.space.arms) + sum(each.draws for each in self.space.ranges)


def prepare_search(request: SearchRequest) -> Search:
    """Check everything that can be before a run.

    Raises:
        ValueError: a configuration, a space, questions or rows that will not do, or another search in the folder.
    """
    if request.launch and shutil.which(request.launch[0]) is None:
        raise ValueError(f"--launch {request.launch[0]}: there is no such command; write its path.")
    file = YamlFile({}, {}) if request.run.config is None else read_yaml(request.run.config)
    given = user_input(file, request.run)
    base, job = dict(given.values), check_job(given)
    if job.streaming:
        raise ValueError("a search trains every arm on the same rows, drawn once; write `streaming: false`.")
    if job.rounds is not None:
        raise ValueError(
            "a search races single trainings, and `rounds` makes several of each; remove it, and "
            "write it into `best.yaml`."
        )
    space = with_baseline(_space(request, job), float(job.args.learning_rate), job.method.name)
    if space.ranges:
        check_optuna()
    check_arm_keys(base, space)
    time = cost_of_run(job, with_pilot=False).time
    drawn = None
    if space.rows is not None:
        drawn = job_of({**base, "train_rows": space.rows, "train_rows_seed": space.seed})
        training_rows(drawn)
    dev = _development(request, job, drawn)
    check_arm_runs(base, space, job)
    space = replace(space, steps=space.steps or max(1, round(time.steps * PILOT_SHARE / 2 ** (space.rungs - 1))))
    search = Search(
        base,
        space,
        request.out,
        EvaluationWords(dev.name, request.words) if isinstance(dev, DevQuestions) else None,
        dev,
        time.training / max(time.steps, 1),
        contents_of(job, base, space),
        shared_caches(base, space, request.out),
        request.workers,
        (*request.launch, "-m", "qtarget") if request.launch else (),
        request.keeps_models,
    )
    meet_plan(search)
    return search


def _space(request: SearchRequest, job: Job) -> SearchSpace:
    """The user's; else the one that an earlier start wrote; else one that is made of what `inspect` finds."""
    path = request.space or request.out / SPACE
    if request.space is not None or path.is_file():
        return read_space(path, whole_number_keys())
    found = inspect_job(job, INSPECTED_ROWS, 0)
    values = default_space([each.line for each in found.findings.candidates], float(job.args.learning_rate))
    return space_of(YamlFile(values, {}), "the default space")


def _development(request: SearchRequest, job: Job, drawn: Job | None) -> DevQuestions | HeldOutRows:
    """What arms are scored on.

    Args:
        drawn: the run on the rows that the search draws; None where arms train on the configuration's own.
    """
    if not request.own.questions and not request.own.grade:
        return read_held_out(job, drawn)
    dev = read_dev_questions(request.own, request.protocol)
    refuse_trained_questions(dev, job)
    return dev


def meet_plan(search: Search) -> None:
    """Refuse a folder that holds another search.

    Raises:
        ValueError: names the first key that differs; or the plan is damaged.
    """
    path = search.out / SEARCH_PLAN
    if not path.is_file():
        return
    before = read_json_object(path, "bring it back, or write another --out")
    now = json.loads(json_text(plan_facts(search)))
    if before != now:
        raise ValueError(
            f"{search.out} holds another search, which differs in `{first_difference(before, now)}`, and the two are "
            f"not mixed. Ask for the same again to go on with it, or write --out {free_name(search.out)}."
        )


def plan_facts(search: Search) -> dict[str, Any]:
    """What makes two searches the same."""
    return {
        "configuration": dict(search.base),
        "space": asdict(search.space),
        "evaluation": None if search.evaluation is None else asdict(search.evaluation),
        "development": search.development.digest,
        "grader": search.development.grader,
        **search.contents,
    }


def write_plan(search: Search) -> None:
    """Write the plan, the space, and both halves of the development questions, where they are not there yet. The plan
    comes last: where it is, all of it is."""
    if (search.out / SEARCH_PLAN).is_file():
        return meet_plan(search)
    dev, seed, questions = search.development, search.space.seed, search.out / HALVES
    if isinstance(dev, DevQuestions):
        write_parts_of(dev, questions, seed)
    else:
        write_row_halves(dev, questions, seed)
    write_values(search.out / SPACE, space_values(search.space), SPACE_HEAD)
    write_digested_json(search.out / SEARCH_PLAN, plan_facts(search))
