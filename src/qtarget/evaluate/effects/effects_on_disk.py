"""`effects.json`: the effects of a run, and which model's answers to which tasks they are of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from qtarget.disk.files import read_json_object, reading_fields, write_digested_json
from qtarget.evaluate.effects.run_effects import RunEffects
from qtarget.evaluate.nouns import Answers, Task, TaskFacts, TaskRun
from qtarget.evaluate.store import EFFECTS_FILE, RUN, TASK, identity, task_sha

ORIGIN = "of"
"""The key of what the effects are of; files of versions that did not write it are read as they are."""
_REMEDY = "delete it, and run the same `qtarget eval` again"


def write_effects(out: Path, effects: RunEffects, facts: Mapping[str, Any], runs: Sequence[TaskRun]) -> None:
    """Write the effects of a run into its folder.

    Args:
        facts: the fingerprint of model and generator; runs: the tasks that the effects were measured on.
    """
    origin = {**_fingerprints(facts), "tasks": {run.task.name: task_sha(run) for run in runs}}
    write_digested_json(out / EFFECTS_FILE, {ORIGIN: origin, **asdict(effects)})


def read_effects(file: Path, answered: Mapping[str, Answers]) -> dict[str, Any]:
    """What a run's `effects.json` holds, of which comparisons read the calibration and the forgetting.

    Args:
        answered: the answers in its folder, by task; there is one at least.

    Raises:
        ValueError: the file is damaged, or of another evaluation than the answers.
    """
    effects = read_json_object(file, _REMEDY, [ORIGIN, *(field.name for field in fields(RunEffects))])
    origin = effects.pop(ORIGIN, None)
    with reading_fields(file, _REMEDY):
        if origin is not None:
            _check_origin(origin, file, answered)
        for part, name in (("calibration", "ece"), ("forgetting", "kl")):
            _ = float(effects[part][name]) if effects.get(part) else None
    return effects


def _facts(task: Task | TaskFacts) -> TaskFacts:
    return task if isinstance(task, TaskFacts) else TaskFacts.of(task)


def _check_origin(origin: Mapping[str, Any], file: Path, answered: Mapping[str, Answers]) -> None:
    one = next(iter(answered.values()))
    same_model = _fingerprints({"model": one.model, "generation": one.generation}).items() <= origin.items()
    runs = {name: TaskRun(_facts(task.task), task.ask, task.questions) for name, task in answered.items()}
    same_tasks = all(name in runs and task_sha(runs[name]) == sha for name, sha in origin["tasks"].items())
    if not (same_model and same_tasks):
        than = f"the tasks in {TASK}" if same_model else f"the model in {RUN}"
        raise ValueError(f"{file} holds the effects of another evaluation than of {than} beside it; {_REMEDY}.")


def _fingerprints(facts: Mapping[str, Any]) -> dict[str, str]:
    return {"model_fp": identity(facts["model"]), "gen_fp": identity(facts["generation"])}
