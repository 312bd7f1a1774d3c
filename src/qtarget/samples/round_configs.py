"""The configurations of a round's commands: the run's own keys, with the rows, models and folders of the round."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtarget.job.config.checked_job import DataSource, Job
from qtarget.job.config.secrets_given import HELD_BACK
from qtarget.samples.prepare_sampling import ROWS

SAMPLES_FOLDER, STUDENT_FOLDER, ROUND_LOG = "samples", "model", "log.txt"
SAMPLE_CONFIG, TRAIN_CONFIG = "sample.yaml", "train.yaml"
CACHE_KEYS = ("teacher_cache", "reference_cache")
OF_ROUNDS = ("rounds", "rounds_from", "rounds_launch", "sample")
"""Keys that the configuration of a single round does not have."""
OF_OWN_ROWS = ("columns", "dataset_config", "dataset_train_split", "dataset_test_split", "mixture_stopping")
"""Keys about the configuration's own rows. A round writes them into each set of those rows, as samples have other
columns."""


@dataclass(frozen=True)
class RoundPlace:
    """One round of a run.

    Attributes:
        number: from 1.
        model: of the run, as the user names it.
        start: what its student is trained from: "base", the model, or "last", the student of the round before.
    """

    number: int
    out: Path
    model: str
    start: str

    @property
    def home(self) -> Path:
        """The round's folder."""
        return self.out / f"round-{self.number}"

    @property
    def student(self) -> Path:
        """Where its student is once it is trained."""
        return self.home / STUDENT_FOLDER

    @property
    def rows(self) -> Path:
        return self.home / SAMPLES_FOLDER / ROWS

    @property
    def writer(self) -> str:
        """Who writes its samples: the student of the round before, in the first round the model itself."""
        before = RoundPlace(self.number - 1, self.out, self.model, self.start)
        return self.model if self.number == 1 else str(before.student)

    @property
    def beginning(self) -> str:
        """What its student is trained from."""
        return self.model if self.start == "base" else self.writer


def sample_values(job: Job, place: RoundPlace) -> dict[str, Any]:
    """The configuration by which a round draws: the same prompts each time, other random numbers."""
    section = dict(job.given.get("sample") or {})
    seed = (job.args.seed if job.sampling.seed is None else job.sampling.seed) + place.number - 1
    drawn = {**section, "seed": seed, "out": str(place.home / SAMPLES_FOLDER)}
    kept = {key: value for key, value in job.given.items() if key not in (*OF_ROUNDS, *HELD_BACK)}
    return {**kept, "model": place.writer, "sample": drawn, "output_dir": str(place.student)}


def train_values(job: Job, place: RoundPlace) -> dict[str, Any]:
    """The configuration by which a round trains: on its samples, and where `sample` says so on the run's rows too."""
    gone = {*OF_ROUNDS, *OF_OWN_ROWS, *HELD_BACK, "train_dataset", "eval_dataset"}
    kept = {key: value for key, value in job.given.items() if key not in gone}
    sets: list[dict[str, Any]] = [{"path": str(place.rows)}]
    if job.sampling.with_rows:
        sets = [*_sets(job.train, job), *sets]
    held_out = {} if job.evaluation is None else {"eval_dataset": _sets(job.evaluation, job)}
    mine = {"model": place.beginning, "train_dataset": sets, "output_dir": str(place.student)}
    return {**kept, **mine, **held_out, **_caches(job, place)}


def writes_caches(job: Job) -> bool:
    """Whether each round writes caches of its teacher or reference ahead of its training: where the run has caches."""
    return any(job.given.get(key) is not None for key in CACHE_KEYS)


def _caches(job: Job, place: RoundPlace) -> dict[str, Any]:
    """A round's own caches, in the place of the run's, which are of other rows."""
    caches: dict[str, Any] = {}
    for key in CACHE_KEYS:
        given = job.given.get(key)
        if given is None:
            continue
        names = given if isinstance(given, list) else [given]
        folders = [str(place.home / f"{key.replace('_', '-')}-{number}") for number, _ in enumerate(names, 1)]
        caches[key] = folders if isinstance(given, list) else folders[0]
    return caches


def _sets(source: DataSource, job: Job) -> list[dict[str, Any]]:
    """The run's own rows as a list of sets, each with its columns, split and configuration written out."""
    return [_set_values(part, job) for part in source.sets or (source,)]


def _set_values(part: DataSource, job: Job) -> dict[str, Any]:
    split = {"dataset_train_split", "dataset_test_split"} & job.given.keys()
    names = list(part.names)
    values: Mapping[str, Any] = {
        "path": names[0] if len(names) == 1 else names,
        "share": part.share,
        "config": part.config,
        "split": part.split if split or part.held_out else None,
        "columns": part.columns or job.args.columns,
    }
    return {key: value for key, value in values.items() if value is not None}
