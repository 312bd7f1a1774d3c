"""What a search is made of by its contents: training rows, models and caches that keep their names may change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtarget.disk.files import read_json_object
from qtarget.job.config.checked_job import Job
from qtarget.job.run_digests import digest_of_rows, model_digests, names_given
from qtarget.search.arm_configs import best_values
from qtarget.search.search_space import SearchSpace
from qtarget.teacher.cache.format import MANIFEST, PLAN, is_cache

NAMING_CACHES = ("teacher_cache", "reference_cache")


def contents_of(job: Job, base: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Digests of the training rows, and of all models and caches that the configuration or an arm names.

    Raises:
        ValueError: rows that will not do, a folder without weights, or a damaged cache.
    """
    named = [base, *(best_values(base, arm.keys) for arm in space.arms)]
    named += [best_values(base, each.keys) for each in space.ranges]
    caches = dict.fromkeys(name for values in named for name in names_given(values, NAMING_CACHES))
    return {
        "training_rows": digest_of_rows(job, job.train, "train_dataset"),
        **model_digests(job, named),
        "caches": {name: _key_of_cache(folder) for name in caches if is_cache(folder := Path(name).expanduser())},
    }


def _key_of_cache(folder: Path) -> str:
    """The key of a cache, which is one while it is written and when it is done."""
    path = next(path for name in (MANIFEST, PLAN) if (path := folder / name).is_file())
    return str(read_json_object(path, f"write {folder} again with `qtarget teacher cache`").get("key"))
