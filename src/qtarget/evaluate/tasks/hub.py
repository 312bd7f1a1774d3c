"""Downloading the rows of a task from the Hugging Face hub, at one commit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qtarget.data.json_lines import read_json
from qtarget.evaluate.nouns import RowSource, Task


class Download(NamedTuple):
    """The rows of a data set and the commit they are from."""

    commit: str
    rows: Sequence[Mapping[str, Any]]


def from_hub(task: Task, commit: str | None) -> Download:
    """Download the rows of a task.

    Args:
        commit: the one to download; None for the commit that the source's revision now stands for.

    Raises:
        ValueError: no network, no access, or no such data set, with what to do about it.
    """
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        commit = commit or _commit(task.source)
        return Download(commit, _rows(task.source, commit))
    except (RepositoryNotFoundError, DatasetNotFoundError) as error:  # which gated ones are too
        raise ValueError(_no_access(task)) from error
    except Exception as error:  # the hub's client has had several HTTP libraries, each with errors of its own
        raise ValueError(
            f"The rows of {task.name} could not be downloaded from {task.source.hub} on the hub: {error}\n"
            f"Where there is no network, give them as a file: --rows {task.name}=FILE.jsonl"
        ) from error


def _commit(source: RowSource) -> str:
    from huggingface_hub import HfApi

    commit = HfApi().dataset_info(source.hub, revision=source.revision).sha
    assert commit is not None
    return commit


def _rows(source: RowSource, commit: str) -> Sequence[Mapping[str, Any]]:
    if source.files:
        return [row for name in source.files for row in _file_rows(source, commit, name)]
    from datasets import load_dataset

    data: Any = load_dataset(source.hub, name=source.config, split=source.split, revision=commit)
    return list(data)


def _file_rows(source: RowSource, commit: str, name: str) -> list[dict[str, Any]]:
    from huggingface_hub import HfApi

    return read_json(Path(HfApi().hf_hub_download(source.hub, name, repo_type="dataset", revision=commit)))


def _no_access(task: Task) -> str:
    if task.source.gated:
        return (
            f"{task.source.hub} is gated: its authors ask everyone to agree to terms, among them not to publish the "
            "questions. Log in on the hub, agree on the data set's page and make a token that may read; here, write "
            f"`hf auth login`, or set HF_TOKEN. Or give rows you have as a file: --rows {task.name}=FILE.jsonl"
        )
    return (
        f"The hub has no data set {task.source.hub} that you may read; it may have been moved, closed or gated. Give "
        f"its rows as a file: --rows {task.name}=FILE.jsonl"
    )
