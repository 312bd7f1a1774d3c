"""What a data set must hold before it is worth tokenising."""

from collections.abc import Iterable
from typing import Any

from datasets import Dataset, IterableDataset

from qtarget.target.types import IGNORED

AnyDataset = Dataset | IterableDataset


def column_names(dataset: AnyDataset) -> list[str]:
    """The names of the columns; of a stream that does not know them, those of its first row."""
    return list(dataset.column_names or next(iter(dataset), {}))


def check_columns(dataset: AnyDataset, name: str, text_field: str = "text") -> None:
    """Refuse a data set that has none of the four forms the trainer reads, naming the columns it has."""
    names = set(column_names(dataset))
    forms = ({"input_ids"}, {"prompt", "completion"}, {"messages"}, {"conversations"}, {text_field})
    if not any(form <= names for form in forms):
        raise ValueError(
            f"The {name} data set has the columns {sorted(names)}; expected `prompt` and `completion`, or "
            f"`messages`, or `{text_field}`, or `input_ids`. Rename yours, for example "
            "`dataset = dataset.rename_column('question', 'prompt')`."
        )


def checked_completions(dataset: AnyDataset, name: str) -> AnyDataset:
    """The data set, after refusing the first row with an empty completion; a stream refuses it when it comes to it."""
    if "completion" not in column_names(dataset):
        return dataset
    if not isinstance(dataset, Dataset):
        return dataset.map(_checked_row, with_indices=True, fn_kwargs={"name": name})
    for index, completion in enumerate(dataset["completion"]):
        _check_completion(completion, index, name)
    return dataset


def check_supervision(dataset: AnyDataset, name: str) -> None:
    """Refuse a prepared data set in which no token is left to learn from."""
    if isinstance(dataset, Dataset) and not any(map(_supervised, dataset["labels"])):
        raise ValueError(
            f"Every token of the {name} data set is masked ({len(dataset)} rows after preparation), so there "
            "is no loss to compute. Look at `max_length` (a prompt may fill it), `completion_only_loss`, "
            "`assistant_only_loss` and the `labels` or mask columns."
        )


def _checked_row(row: dict[str, Any], index: int, name: str) -> dict[str, Any]:
    _check_completion(row["completion"], index, name)
    return row


def _check_completion(completion: Any, index: int, name: str) -> None:
    if _is_empty(completion):
        raise ValueError(
            f"Row {index} of the {name} data set has an empty completion ({completion!r}), so there is nothing to "
            "learn from it. Drop such rows: `dataset = dataset.filter(lambda row: row['completion'])`."
        )


def _is_empty(completion: str | Iterable[dict[str, Any]]) -> bool:
    if isinstance(completion, str):
        return not completion.strip()
    return not any(message.get("content") or message.get("tool_calls") for message in completion or [])


def _supervised(labels: list[int]) -> bool:
    return any(label != IGNORED for label in labels[1:])
