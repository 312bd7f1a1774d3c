"""What teachers say about the rows, written once for all arms that keep the same of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtarget.job.config.read_job import job_of
from qtarget.job.teacher_cache import models_to_cache
from qtarget.search.arm_configs import RunLength, best_values, run_values, write_values
from qtarget.search.search_space import SearchSpace
from qtarget.study.own_commands import CommandSurroundings, run_qtarget
from qtarget.teacher import SourceKind, SourceName

OF_ROWS = ("max_length", "prompt_format", "learn", "columns", "chat_template_path", "eos_token", "longer_rows")
"""Keys that change which tokens a teacher is asked about."""


@dataclass(frozen=True)
class SharedCache:
    """A cache of the search's own.

    Attributes:
        key: what arms must have in common to read it: what is kept of each teacher, and how rows are made tokens.
        folders: one for each teacher.
        values: of the configuration that writes it.
    """

    key: tuple[Any, ...]
    folders: tuple[Path, ...]
    values: Mapping[str, Any]

    @property
    def names(self) -> str | list[str]:
        """As `teacher_cache` takes them."""
        names = [str(folder) for folder in self.folders]
        return names[0] if len(names) == 1 else names


def shared_caches(base: Mapping[str, Any], space: SearchSpace, out: Path) -> tuple[SharedCache, ...]:
    """The caches that arms share; none where the configuration names its own, or the teachers are served."""
    fixed = [dict(arm.keys) for arm in space.arms]
    drawn = [{**e.keys, **{k: a.low for k, a in e.axes.items()}} for e in space.ranges if _is_one_key(e.axes)]
    caches: dict[str, SharedCache] = {}
    for keys in (*fixed, *drawn):
        values = best_values(base, keys)
        key = cache_key(values)
        if key is None or repr(key) in caches:
            continue
        number, teachers = len(caches) + 1, _teachers(values)
        folders = tuple(out / "caches" / f"{number}-{place}" for place, _ in enumerate(teachers, 1))
        length = RunLength(1, space.seed, space.rows, space.seed)
        names = [str(folder) for folder in folders]
        written = run_values(base, keys, length, out / "caches" / "run", names[0] if len(names) == 1 else names)
        kept = {name: value for name, value in written.items() if name != "reference_cache"}
        caches[repr(key)] = SharedCache(key, folders, kept)
    return tuple(caches.values())


def _is_one_key(axes: Mapping[str, Any]) -> bool:
    """Whether all draws keep the same of a teacher: its temperature is no axis."""
    return not {"teacher_temperature", "temperature", *OF_ROWS} & axes.keys()


def cache_key(values: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What an arm needs of a cache; None where it reads none of the search's own, also because none would serve its
    method, so that its runs ask the teacher themselves."""
    teachers = _teachers(values)
    if not teachers or values.get("teacher_cache") is not None:
        return None
    if any(SourceName.parse(name).kind is not SourceKind.MODEL for name in teachers):
        return None
    names = [f"cache-{place}" for place, _ in enumerate(teachers)]
    job = job_of({**without(values, "reference_cache"), "teacher_cache": names[0] if len(names) == 1 else names})
    if "teacher" not in job.method.needs:
        return None
    try:
        keeps = tuple(model.keep for model in models_to_cache(job) if model.role == "teacher")
    except ValueError:  # the run itself was not refused
        return None
    return (*keeps, *(repr(values.get(name)) for name in OF_ROWS))


def without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values without one of their keys."""
    return {key: value for key, value in values.items() if key != name}


def _teachers(values: Mapping[str, Any]) -> list[str]:
    given = values.get("teacher")
    return given if isinstance(given, list) else [] if given is None else [str(given)]


def cache_names(caches: Sequence[SharedCache], values: Mapping[str, Any]) -> str | list[str] | None:
    """What an arm writes as `teacher_cache`; None where none of the search's own is for it."""
    key = cache_key(values) if caches else None
    return next((cache.names for cache in caches if key is not None and cache.key == key), None)


def write_shared_cache(cache: SharedCache, log: Path, around: CommandSurroundings) -> None:
    """Ask the teachers, by `qtarget teacher cache`, which goes on where it was stopped.

    Raises:
        FailedCommandError: the teachers cannot be asked; with the command's last words.
    """
    config = cache.folders[0].parent / f"{cache.folders[0].name}.yaml"
    write_values(config, cache.values)
    run_qtarget(["teacher", "cache", str(config)], log, around)
