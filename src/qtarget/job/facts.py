"""What a run was made of: for its card and its files."""

import hashlib
import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from datasets import Dataset

import qtarget as qt
from qtarget.job.config.job import Job, Source

_PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "peft")


@dataclass(frozen=True)
class DataFacts:
    """Rows as the user gave them. sha256: over each row as JSON with sorted keys, a line each, in order."""

    source: str
    rows: int
    columns: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Facts:
    """What the card states beside the numbers."""

    job: Job
    train: DataFacts
    evaluation: DataFacts | None
    versions: dict[str, str]


def facts_of(job: Job, train: Dataset, evaluation: Dataset | None) -> Facts:
    second = None if job.evaluation is None or evaluation is None else data_facts(job.evaluation, evaluation)
    return Facts(job, data_facts(job.train, train), second, versions())


def data_facts(source: Source, rows: Dataset) -> DataFacts:
    return DataFacts(", ".join(source.names), len(rows), tuple(rows.column_names), rows_fingerprint(rows))


def rows_fingerprint(rows: Dataset) -> str:
    """sha256 over the rows' content, whatever file format they came in."""
    digest = hashlib.sha256()
    for row in rows:
        line = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def versions() -> dict[str, str]:
    return {"qtarget": qt.__version__, "python": platform.python_version(), **_installed()}


def _installed() -> dict[str, str]:
    found: dict[str, Any] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
