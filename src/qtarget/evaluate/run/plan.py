"""The plan of an evaluation: everything that `qtarget eval` can be asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qtarget.evaluate.nouns import Task
from qtarget.evaluate.tasks.find import TaskName
from qtarget.evaluate.tasks.lock_file import LOCK_NAME
from qtarget.evaluate.tasks.questions import parse_rows

Engine = Literal["hf", "http", "vllm"]


@dataclass(frozen=True)
class EvaluationPlan:
    """An evaluation of one model. None stands for the task's own protocol, or the generator's default.

    Attributes:
        model: folder or hub name; of an endpoint, the name it serves, whose tokenizer is loaded here.
        tasks: names in `evaluate.tasks.TASKS`, paths of task files, or tasks themselves, such as `own_task` makes.
        out: folder of the samples and results; the same plan goes on where an earlier run of it stopped.
        protocol: fields of `SamplingProtocol` that override the tasks' own, such as k or temperature.
        protocol_name: "task" for the tasks' own protocols, or "thinking"; see `evaluate.tasks.protocols`.
        limit: ask the first so many questions of each task only.
        rows: a file of rows in the place of a task's own, by the task's name.
        lock: the lock file of the tasks' rows.
        generator: "hf" (transformers), "http" (a server at `url`) or "vllm".
        adapter: folder of a LoRA adapter on the model.
        batch_size: completions at once.
        dtype, device: of a model loaded here; see `HuggingFace`.
        allow_pickled_weights: read weights that are a pickle too (generator "hf"; see docs/security.md).
        regrade: only grade again what the folder holds; nothing is drawn, and no model is loaded.
        base: folder or hub name of the model before training; with it forgetting is measured.
        reference_rows: file of prompts and completions on which calibration is measured.
    """

    model: str
    tasks: tuple[TaskName, ...]
    out: Path
    protocol: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    rows: Mapping[str, Path] = field(default_factory=dict)
    lock: Path = Path(LOCK_NAME)
    generator: Engine = "hf"
    url: str | None = None
    revision: str | None = None
    adapter: str | None = None
    batch_size: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    allow_pickled_weights: bool = False
    regrade: bool = False
    base: str | None = None
    reference_rows: Path | None = None
    protocol_name: str = "task"


def plan_of(
    model: str,
    tasks: Sequence[str],
    out: Path,
    protocol: Mapping[str, Any],
    rows: Sequence[str],
    own: Sequence[Task] = (),
    **rest: Any,
) -> EvaluationPlan:
    """A plan from a command line's words.

    Args:
        tasks: names, or paths of task files, several of them joined by commas.
        own: tasks of own questions besides.
        protocol: values of the protocol's fields; None where an option was not given.
        rows: files, each as ``TASK=FILE``.
        rest: other fields of `EvaluationPlan`.

    Raises:
        ValueError: a file of rows for a task that is not evaluated, or one that is not written ``TASK=FILE``.
    """
    names = tuple(name.strip() for words in tasks for name in _split(words) if name.strip())
    overrides = {name: value for name, value in protocol.items() if value is not None}
    files = parse_rows(rows)
    for name in (name for name in files if name not in names):
        raise ValueError(f"--rows gives a file for {name!r}, which is not among --task {','.join(names)}.")
    return EvaluationPlan(model, (*dict.fromkeys(names), *own), out, overrides, rows=files, **rest)


def _split(words: str) -> list[str]:
    """Names joined by commas; a file whose name has a comma in it stays whole."""
    return [words] if Path(words).is_file() else words.split(",")
