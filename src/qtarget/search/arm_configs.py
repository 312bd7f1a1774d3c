"""The configuration of a run of `qtarget train`, for an arm: the user's own keys with the arm's over them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import qtarget as qt
from qtarget.disk.files import replace_text
from qtarget.job.config.checked_job import Job
from qtarget.job.config.keys import all_keys
from qtarget.job.config.read_job import job_of
from qtarget.job.config.secrets_given import HELD_BACK
from qtarget.job.config.user_input import DEFAULT_METHOD
from qtarget.search.search_space import SearchArm
from qtarget.target.hyperparameters import Count, hyperparameters

OF_METHODS = ("method", "method_kwargs")
KEYS_OF_SOURCES = {"teacher": ("teacher", "teacher_cache"), "reference": ("reference", "reference_cache")}
"""Keys that a run may not have whose method does not read that source."""
NOT_OF_A_PILOT = (
    "num_train_epochs",
    "eval_strategy",
    "eval_dataset",
    "load_best_model_at_end",
    "push_to_hub",
    "save_steps",
    "eval_on_start",
    "resume_from_checkpoint",
    "data_seed",
)
"""Keys of the configuration that a pilot goes without: it is as long as its rung, scored by the search, and has a seed
of the search's, by which its rows are shuffled too."""


@dataclass(frozen=True)
class RunLength:
    """How far a run of the search goes.

    Attributes:
        steps: optimizer steps, with a schedule of the learning rate that ends there.
        rows: of the training rows, drawn at random with `rows_seed`; None for all.
        seed: of the run.
    """

    steps: int
    seed: int
    rows: int | None
    rows_seed: int


def best_values(base: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an arm over those of the configuration, at the configuration's own length.

    Hyperparameters of the configuration's method are kept where the arm has that method, or says none.
    """
    method = str(keys.get("method") or base.get("method") or DEFAULT_METHOD)
    own = {each.name for each in hyperparameters(qt.METHODS[method])}
    same = method == str(base.get("method") or DEFAULT_METHOD)
    needs = qt.method(method).needs
    unread = [key for source, of_source in KEYS_OF_SOURCES.items() if source not in needs for key in of_source]
    kept = {key: value for key, value in base.items() if key not in (*OF_METHODS, *HELD_BACK, *unread)}
    kwargs = (base.get("method_kwargs") or {}) if same else {}
    given = {key: value for key, value in keys.items() if key in own}
    rest = {key: value for key, value in keys.items() if key not in own and key != "method"}
    return {**kept, "method": method, **{**kwargs, **given}, **rest}


def run_values(
    base: Mapping[str, Any], keys: Mapping[str, Any], length: RunLength, output: Path, cache: str | list[str] | None
) -> dict[str, Any]:
    """The keys of one run of an arm.

    Args:
        cache: folders of the teachers' caches; None where the run has none, or the configuration's own.
    """
    values = {key: value for key, value in best_values(base, keys).items() if key not in NOT_OF_A_PILOT}
    rows = {} if length.rows is None else {"train_rows": length.rows, "train_rows_seed": length.rows_seed}
    cached = {} if cache is None else {"teacher_cache": cache}
    return {
        **values, **cached, **rows, "max_steps": length.steps, "seed": length.seed, "save_strategy": "no",
        "logging_steps": 0.1, "report_to": "none", "output_dir": str(output),
    }  # fmt: skip


def arm_job(values: Mapping[str, Any], arm: SearchArm) -> Job:
    """The checked run.

    Raises:
        ValueError: what `qtarget train` refuses about it, with the arm's name.
    """
    try:
        job = job_of(dict(values))
        if "teacher" in job.method.needs and not (job.args.teacher or job.args.teacher_cache):
            raise ValueError(
                f'"{job.method.name}" needs a teacher, and the configuration gives none; write '
                "`teacher: path/or/hub-name` in it."
            )
        assert job.method is not None
    except ValueError as error:
        raise ValueError(f"arm {arm.name}: {error}") from error
    return job


def whole_number_keys() -> frozenset[str]:
    """Keys of an arm that take whole numbers alone."""
    counts = {each.name for of in qt.METHODS.values() for each in hyperparameters(of) if isinstance(each.domain, Count)}
    return frozenset(counts | {key for key, kind in all_keys().items() if kind in (int, int | None)})


def write_values(path: Path, values: Mapping[str, Any], head: str = "") -> None:
    """A configuration as a file, with comment lines before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    replace_text(path, "".join(f"# {line}\n" for line in head.splitlines()) + text)
