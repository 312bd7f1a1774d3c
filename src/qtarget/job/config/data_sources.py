"""The rows that a configuration names: `train_dataset` and `eval_dataset`, as a name, a list of files or of sets."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtarget.console import shortened
from qtarget.data.user_files.paths import describes_itself
from qtarget.job.config.checked_job import DataSource
from qtarget.job.config.keys import RUN_KEYS
from qtarget.target.hyperparameters import suggestion

SET_KEYS = ("path", "share", "split", "config", "columns")
"""Keys of one set in a list of them."""


def training_source(values: Mapping[str, Any]) -> DataSource:
    """The rows to train on.

    Raises:
        ValueError: a list of sets is not one, or `streaming` lacks what a stream needs.
    """
    source = _source(values, "train_dataset", "dataset_train_split")
    _check_config(source, values)
    if values.get("streaming"):
        _check_streaming(values)
    if values.get("mixture_stopping") is not None and not any(part.share for part in source.sets):
        raise ValueError(
            "`mixture_stopping` says when a mixture of sets ends, and `train_dataset` is none; remove it, or write the "
            f"sets with their shares: {_EXAMPLE}"
        )
    return source


def evaluation_source(values: Mapping[str, Any]) -> DataSource | None:
    """The rows to evaluate on: `eval_dataset`. Without it, where `eval_strategy` asks for evaluation, the test split of
    the training data, as in TRL's scripts.

    Raises:
        ValueError: there is nothing to evaluate on.
    """
    if values.get("eval_dataset") is not None:
        return _source(values, "eval_dataset", "dataset_test_split")
    strategy = values.get("eval_strategy", "no")
    strategy = getattr(strategy, "value", strategy)
    if strategy == "no":
        return None
    source = _source(values, "train_dataset", "dataset_test_split")
    if source.sets or any(Path(name).expanduser().is_file() for name in source.names):
        raise ValueError(
            f"`eval_strategy: {strategy}` asks to evaluate, and there is nothing to evaluate on; write `eval_dataset: "
            "path/to/rows.jsonl`."
        )
    return source._replace(held_out=True)


_EXAMPLE = "`- {path: a.jsonl, share: 0.7}` and `- {path: b.jsonl, share: 0.3}` under `train_dataset:`"


def _source(values: Mapping[str, Any], key: str, split_key: str) -> DataSource:
    given, config = values[key], values.get("dataset_config")
    split = values.get(split_key, RUN_KEYS[split_key][1])
    each = given if isinstance(given, list) else [given]
    if not each:
        raise ValueError(f"`{key}` is an empty list; write the name of a file, a directory or a data set on the hub.")
    if not any(isinstance(part, dict) for part in each):
        return DataSource(tuple(each), config, split)
    _check_keys(each, key)
    sets = tuple(_set(part, key, config, split) for part in each)
    _check_shares(sets, key)
    return DataSource(tuple(name for part in sets for name in part.names), config, split, sets=sets)


def _check_keys(parts: list[Any], key: str) -> None:
    """Refuse keys that no set has, all of them at once."""
    complaints = [
        f"`{key}`: set {number} has no key `{shortened(str(name))}`; {suggestion(str(name), SET_KEYS)}"
        for number, part in enumerate(parts, 1)
        for name in (part if isinstance(part, dict) else ())
        if name not in SET_KEYS
    ]
    if complaints:
        raise ValueError("\n".join(complaints))


def _set(part: Any, key: str, config: str | None, split: str) -> DataSource:
    if not isinstance(part, dict):
        raise ValueError(f"`{key}` holds sets and the bare name {part}; write that as a set too: `- path: {part}`.")
    path, columns = part.get("path"), part.get("columns")
    names: list[Any] = path if isinstance(path, list) else [path]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"`{key}`: the set {part} gives no `path`; write `path: rows.jsonl`, or a list of files.")
    if columns is not None and not isinstance(columns, dict):
        raise ValueError(f"`{key}`: `columns: {columns}` is no mapping; write `columns: {{prompt: question}}`.")
    for name in ("split", "config"):
        if not isinstance(part.get(name), str | None):
            raise ValueError(f"`{key}`: `{name}: {part[name]}` is no text; write `{name}: train`.")
    if part.get("config") is not None and not any(map(_has_configs, names)):
        raise ValueError(f"`{key}`: {', '.join(names)} has no configurations; remove `config: {part['config']}`.")
    share = _share(part.get("share"), key, names[0])
    return DataSource(tuple(names), part.get("config", config), part.get("split", split), share, columns)


def _share(share: Any, key: str, name: str) -> float | None:
    if share is None:
        return None
    if isinstance(share, bool) or not isinstance(share, int | float) or not (0 < share < math.inf):
        raise ValueError(
            f"`{key}`: `share: {share}` of {name} is no number above 0; write `share: 0.5`, or remove a set "
            "that is to give no rows."
        )
    return float(share)


def _check_shares(sets: tuple[DataSource, ...], key: str) -> None:
    without = [part.names[0] for part in sets if part.share is None]
    if len(without) == len(sets):
        return
    if key == "eval_dataset":
        raise ValueError(f"`{key}` takes every row of its sets, so shares mean nothing there; remove `share`.")
    if without:
        raise ValueError(f"`{key}`: {', '.join(without)} has no `share`, and others have; write `share: 0.5` for each.")


def _check_config(source: DataSource, values: Mapping[str, Any]) -> None:
    """Refuse a configuration of rows that have none: it would be passed over, without a word."""
    config = values.get("dataset_config")
    if config is None or any(_has_configs(name) for name in source.names):
        return
    raise ValueError(
        f"`dataset_config: {config}` names a part of a data set on the hub, and `train_dataset` is {source.names[0]}, "
        "which has none; remove `dataset_config`. Where `eval_dataset` is the one on the hub, write "
        f"`- {{path: its/name, config: {config}}}` under `eval_dataset:`."
    )


def _has_configs(name: str) -> bool:
    """Whether rows may have several configurations: on the hub, or in a folder that describes itself."""
    path = Path(name).expanduser()
    return not path.exists() or describes_itself(path)


def _check_streaming(values: Mapping[str, Any]) -> None:
    """Refuse what needs to know how many rows there are, or all of them at once."""
    if (values.get("max_steps") or -1) < 1:
        raise ValueError(
            "`streaming: true` reads rows as they come, so how long an epoch is is not known; write `max_steps: 1000`."
        )
    if values.get("train_rows_seed") is not None:
        raise ValueError(
            "`train_rows_seed` draws rows from all there are, and `streaming: true` knows only the next ones; remove "
            "it, and `train_rows` takes the first ones."
        )
    sampling = values.get("train_sampling_strategy")
    if sampling == "group_by_length":
        raise ValueError(
            "`train_sampling_strategy: group_by_length` sorts rows, and `streaming: true` knows only the next ones; "
            "remove one of the two."
        )
