"""What a run was made of: its rows, with a hash, and the versions of the libraries. The model card states them."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from datasets import Dataset

import qtarget as qt
from qtarget.data import RowCounts, column_names
from qtarget.job.config.checked_job import DataSource, Job
from qtarget.job.rows.layout import RunRows
from qtarget.job.rows.own_samples import notes_on_samples
from qtarget.train.row_mixture import sets_of

_PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "peft")


@dataclass(frozen=True)
class DataFacts:
    """Rows as the user gave them.

    Attributes:
        source: files, directory or hub name.
        rows: how many; None of a stream, which is not counted.
        columns: their names.
        sha256: `rows_fingerprint` of them; "" of a stream, and of a sample.
        counts: how many rows and tokens of them are trained on, and what became of the others.
        notes: sentences about what was made of files and sets.
        sampled: only the first rows were looked at, and `rows` counts those.
    """

    source: str
    rows: int | None
    columns: tuple[str, ...]
    sha256: str
    counts: RowCounts
    notes: tuple[str, ...] = ()
    sampled: bool = False

    def by_now(self) -> "DataFacts":
        """The same, with what became of the rows of a stream until now."""
        return replace(self, counts=self.counts.by_now())

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and of a mixture a sentence on each of its sets."""
        return (*self.counts.sentences_of_sets(self.sampled), *self.notes)

    def sentence(self) -> str:
        """What is trained on, in words."""
        form = f"{self.counts.form}; " if self.counts.form else ""
        first = "a sample, the first rows of each of " if self.counts.sets else "a sample, the first "
        rest = first if self.sampled and self.rows is not None else ""
        return f"{form}{rest}{self.counts.sentence()}{'; the rest was not looked at' * self.sampled}"


@dataclass(frozen=True)
class Facts:
    """What the card states beside figures.

    Attributes:
        mixed_precision: what the surroundings have set without any key: "bf16", "fp16" or "fp8"; "" where keys decide.
    """

    job: Job
    train: DataFacts
    evaluation: DataFacts | None
    versions: dict[str, str]
    mixed_precision: str = ""

    @property
    def precision(self) -> str:
        """The precision in words, where no key of the user's decided it; else ""."""
        if not self.mixed_precision:
            return self.job.note
        return f"{self.mixed_precision} mixed precision, as ACCELERATE_MIXED_PRECISION in the environment says"


def facts_of(job: Job, train: RunRows, evaluation: RunRows | None, counts: Mapping[str, RowCounts]) -> Facts:
    """The facts of a run and the rows it takes.

    Args:
        counts: the trainer's, of "train" and "eval".
    """
    of_evaluation = None
    if job.evaluation is not None and evaluation is not None:
        of_evaluation = data_facts(job.evaluation, evaluation, counts["eval"])
    of_training = data_facts(job.train, train, counts["train"])
    own = notes_on_samples(job, sets_of(train.taken))
    facts = Facts(job, replace(of_training, notes=(*of_training.notes, *own)), of_evaluation, versions())
    if job.row_limit is None:
        return facts
    samples = [each and replace(each, sha256="", sampled=True) for each in (facts.train, facts.evaluation)]
    return replace(facts, train=samples[0], evaluation=samples[1])


def data_facts(source: DataSource, rows: RunRows, counts: RowCounts) -> DataFacts:
    """The facts of the rows of one source."""
    sets, counts = sets_of(rows.taken), rows.counted(counts)
    name, columns = ", ".join(source.names), tuple(dict.fromkeys(name for each in sets for name in column_names(each)))
    whole = [each for each in sets if isinstance(each, Dataset)]
    if len(whole) < len(sets):
        return DataFacts(name, None, columns, "", counts, rows.notes)
    return DataFacts(name, sum(map(len, whole)), columns, rows_fingerprint(*whole), counts, rows.notes)


def rows_fingerprint(*sets: Dataset) -> str:
    """sha256 over the rows in order, each as a line of JSON with sorted keys: the same in every file format. Of several
    sets the rows of one follow those of the other."""
    digest = hashlib.sha256()
    encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str).encode
    for batch in (each for rows in sets for each in rows.iter(1000)):
        columns: Any = batch
        for values in zip(*columns.values(), strict=True):
            digest.update(encode(dict(zip(columns, values, strict=True))).encode() + b"\n")
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of qtarget, Python and the libraries a run goes through, those that are installed."""
    return {"qtarget": qt.__version__, "python": platform.python_version(), **_installed()}


def _installed() -> dict[str, str]:
    installed: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
