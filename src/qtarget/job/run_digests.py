"""What runs read, by its contents: rows, models and templates that keep their names may change between two starts."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

from qtarget.job.config.checked_job import DataSource, Job
from qtarget.job.facts import rows_fingerprint
from qtarget.job.rows.mixtures import load_sets
from qtarget.models.identity import template_identity, tokenizer_identity, weights_identity
from qtarget.models.loading import tokenizer_of
from qtarget.teacher import SourceKind, SourceName

NAMING_MODELS = ("model", "teacher", "reference")
"""Keys of a configuration that name models."""


def digest_of_rows(job: Job, source: DataSource, key: str) -> str:
    """sha256 of the rows that a key names; streams, which are not read ahead, are left out.

    Raises:
        ValueError: as `load_rows`.
    """
    return rows_fingerprint(*(each for each in load_sets(job, source, key).rows if isinstance(each, Dataset)))


def model_digests(job: Job, named: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The identities of the student's tokenizer and chat template, and of the weights of all models that
    configurations name, by name. What a server holds is not asked. Costs one pass over the files.

    Args:
        named: keys and values of the configurations.

    Raises:
        ValueError: a folder without weights or tokenizer.
    """
    own, revision = str(job.given["model"]), job.model_args.model_revision
    models = dict.fromkeys(name for values in named for name in names_given(values, NAMING_MODELS))
    tokenizer = tokenizer_of(job.model, bool(job.args.trust_remote_code))
    return {
        "tokenizer": None if tokenizer is None else tokenizer_identity(tokenizer),
        "chat_template": template_identity(_given_template(job) or getattr(tokenizer, "chat_template", None)),
        "models": {
            name: weights_identity(name, revision if name == own else None)
            for name in models
            if SourceName.parse(name).kind is SourceKind.MODEL
        },
    }


def names_given(values: Mapping[str, Any], keys: Iterable[str]) -> Iterator[str]:
    """What the keys of a configuration name, each of which takes one name or a list."""
    for key in keys:
        given = values.get(key)
        yield from map(str, given if isinstance(given, list) else [] if given is None else [given])


def _given_template(job: Job) -> Any:
    """The template that `chat_template_path` names: a file's text, or that of a tokenizer; None without the key."""
    path = job.args.chat_template_path
    if path is None:
        return None
    if Path(path).is_file():
        return Path(path).read_text(encoding="utf-8")
    return getattr(tokenizer_of(path, bool(job.args.trust_remote_code)), "chat_template", None)
