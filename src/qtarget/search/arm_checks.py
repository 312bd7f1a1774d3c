"""Arms that `qtarget train` would refuse, refused before any is trained, as far as that needs no weights."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from qtarget.job.config.checked_job import Job
from qtarget.job.config.read_job import job_of
from qtarget.job.rows.sources import FIRST_ROWS
from qtarget.job.weightless_checks import check_without_weights
from qtarget.search.arm_configs import RunLength, arm_job, best_values, run_values
from qtarget.search.search_space import SearchArm, SearchSpace

OF_THE_MACHINE = ("bf16", "fp16", "tf32", "fsdp", "fsdp_config", "deepspeed")
"""Keys that say how a machine computes, of which a process has one state: arms are looked at with those of the
configuration, and only their own runs try theirs."""


def arms_and_ends(space: SearchSpace) -> Iterator[SearchArm]:
    """The arms of a space, and of its ranges both ends."""
    yield from space.arms
    for each in space.ranges:
        for end in ("low", "high"):
            yield SearchArm(0, {**each.keys, **{key: getattr(axis, end) for key, axis in each.axes.items()}})


def check_arm_keys(base: Mapping[str, Any], space: SearchSpace) -> None:
    """Refuse arms by their keys alone.

    Raises:
        ValueError: names the arm, and what `qtarget train` refuses of it.
    """
    for arm in arms_and_ends(space):
        job = arm_job(best_values(base, arm.keys), arm)
        if job.args.warmup_steps >= 1:
            raise ValueError(
                f"`warmup_steps: {job.args.warmup_steps:g}` counts steps, and rungs are of different lengths; write a "
                "share of the run, as in `warmup_steps: 0.03`."
            )


def check_arm_runs(base: Mapping[str, Any], space: SearchSpace, job: Job) -> None:
    """Refuse arms whose runs would be refused once rows and tokenizers, caches and servers are open.

    Of arms that differ in numbers alone one is looked at; without `rows` it has about the first `FIRST_ROWS` of each
    source.

    Args:
        job: the configuration's own run.

    Raises:
        ValueError: names the arm, and what `qtarget train` refuses of it.
    """
    length, looked = RunLength(1, space.seed, space.rows, space.seed), set()
    for arm in arms_and_ends(space):
        values = run_values(base, arm.keys, length, job.output, None)
        values = {key: value for key, value in values.items() if key not in OF_THE_MACHINE}
        values |= {key: base[key] for key in OF_THE_MACHINE if key in base}
        kind = repr(sorted((key, value) for key, value in values.items() if not isinstance(value, float)))
        if kind in looked:
            continue
        looked.add(kind)
        limit = FIRST_ROWS if space.rows is None else None
        try:
            check_without_weights(replace(job_of(values), row_limit=limit))
        except (ValueError, ImportError, OSError) as error:
            raise ValueError(f"arm {arm.name}: {error}") from error
