"""What a search is made of by its contents: training rows, models and caches that keep their names may change."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

from qtarget.disk.files import read_json_object
from qtarget.job.config.checked_job import Job
from qtarget.job.facts import rows_fingerprint
from qtarget.job.rows.mixtures import load_sets
from qtarget.models.identity import weights_identity
from qtarget.search.arm_configs import best_values
from qtarget.search.search_space import SearchSpace
from qtarget.teacher import SourceKind, SourceName
from qtarget.teacher.cache.format import MANIFEST, PLAN, is_cache

NAMING_MODELS = ("model", "teacher", "reference")
NAMING_CACHES = ("teacher_cache", "reference_cache")


def contents_of(job: Job, base: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Digests of the training rows, and of all models and caches that the configuration or an arm names.

    What a server holds is not asked. Costs one pass over the files.

    Raises:
        ValueError: rows that will not do, a folder without weights, or a damaged cache.
    """
    rows = [each for each in load_sets(job, job.train, "train_dataset").rows if isinstance(each, Dataset)]
    named = [base, *(best_values(base, arm.keys) for arm in space.arms)]
    named += [best_values(base, each.keys) for each in space.ranges]
    models = dict.fromkeys(name for values in named for name in _names(values, NAMING_MODELS))
    caches = dict.fromkeys(name for values in named for name in _names(values, NAMING_CACHES))
    own = (str(base.get("model")), job.model_args.model_revision)
    return {
        "training_rows": rows_fingerprint(*rows),
        "models": {
            name: weights_identity(name, own[1] if name == own[0] else None)
            for name in models
            if SourceName.parse(name).kind is SourceKind.MODEL
        },
        "caches": {name: _key_of_cache(folder) for name in caches if is_cache(folder := Path(name).expanduser())},
    }


def _names(values: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        given = values.get(key)
        yield from map(str, given if isinstance(given, list) else [] if given is None else [given])


def _key_of_cache(folder: Path) -> str:
    """The key of a cache, which is one while it is written and when it is done."""
    path = next(path for name in (MANIFEST, PLAN) if (path := folder / name).is_file())
    return str(read_json_object(path, f"write {folder} again with `qtarget teacher cache`").get("key"))
