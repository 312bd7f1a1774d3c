"""What a run was made of: its rows, with a hash, and the versions of the libraries. The model card states them."""

import hashlib
import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from datasets import Dataset

import qtarget as qt
from qtarget.job.config.checked_job import DataSource, Job

_PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "peft")


@dataclass(frozen=True)
class DataFacts:
    """Rows as the user gave them.

    Attributes:
        source: files, directory or hub name.
        rows: how many.
        columns: their names.
        sha256: `rows_fingerprint` of them.
    """

    source: str
    rows: int
    columns: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Facts:
    """What the card states beside figures."""

    job: Job
    train: DataFacts
    evaluation: DataFacts | None
    versions: dict[str, str]


def facts_of(job: Job, train: Dataset, evaluation: Dataset | None) -> Facts:
    """The facts of a run and the rows it takes, before they are laid out."""
    evaluation_facts = None if job.evaluation is None or evaluation is None else data_facts(job.evaluation, evaluation)
    return Facts(job, data_facts(job.train, train), evaluation_facts, versions())


def data_facts(source: DataSource, rows: Dataset) -> DataFacts:
    """The facts of the rows of one source."""
    return DataFacts(", ".join(source.names), len(rows), tuple(rows.column_names), rows_fingerprint(rows))


def rows_fingerprint(rows: Dataset) -> str:
    """sha256 over the rows in order, each as a line of JSON with sorted keys: the same in every file format."""
    digest = hashlib.sha256()
    for row in rows:
        line = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
        digest.update(line.encode() + b"\n")
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
