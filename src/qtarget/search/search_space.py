"""The design space of a search: a YAML file of arms, as a list, a grid or ranges, and how long they are raced."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import qtarget as qt
from qtarget.console import printable
from qtarget.data.user_files.yaml_file import YamlFile, read_yaml
from qtarget.target.hyperparameter_words import setting_words
from qtarget.target.hyperparameters import suggestion

BASELINE_METHOD = "sft"
RANGE_KEYS = ("low", "high", "log")
DRAWS_KEY = "draws"
SHARED_ROWS = "all arms share the rows of the configuration"
ONE_TRAINING = "a search races single trainings; write it into `best.yaml`"
OF_THE_RACE = {
    "max_steps": "write `steps:` of the first rung, and `rungs:`",
    "num_train_epochs": "write `steps:` of the first rung, and `rungs:`",
    "train_rows": "write `rows:`",
    "train_rows_seed": "write `seed:`",
    "seed": "write `seed:` beside `arms:`; all arms share it",
    "data_seed": "write `seed:` beside `arms:`; all arms share it",
    "output_dir": "every run has a folder of its own under --out",
    **dict.fromkeys(("train_dataset", "dataset_name", "eval_dataset", "streaming", "mixture_stopping"), SHARED_ROWS),
    **dict.fromkeys(("dataset_config", "dataset_train_split", "dataset_test_split"), SHARED_ROWS),
    **dict.fromkeys(("rounds", "rounds_from", "rounds_launch", "sample"), ONE_TRAINING),
    "eval_strategy": "an arm is scored when it is trained",
    "save_strategy": "a run is kept when it is done",
    "resume_from_checkpoint": "the same command goes on by itself",
    "teacher_cache": "the search writes one for all arms, or takes the configuration's",
    **dict.fromkeys(("model", "model_name_or_path"), "all arms begin from the model of the configuration"),
}
"""Keys of `qtarget train` that no arm may have, and what to do instead."""


class SpaceFile(BaseModel):
    """What a space file may hold."""

    model_config = ConfigDict(extra="forbid", strict=True)

    arms: list[dict[str, Any]] = Field(min_length=1)
    steps: int | None = Field(None, ge=1)
    rungs: int = Field(3, ge=1, le=12)
    rows: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0, le=2**31)
    confirm_seeds: int = Field(3, ge=1, le=20)


@dataclass(frozen=True)
class SearchArm:
    """One way of training.

    Attributes:
        number: unique within a search, counted from 1.
        keys: of `qtarget train`, over the configuration's own.
    """

    number: int
    keys: Mapping[str, Any] = field(hash=False)

    @property
    def method(self) -> str | None:
        return self.keys.get("method")

    @property
    def name(self) -> str:
        """What tables call it: its method and keys, with its number where a value is too long to be shown whole."""
        rest = [f"{key}={_shown(value)}" for key, value in self.keys.items() if key != "method"]
        name = " ".join([*([str(self.method)] if self.method else []), *rest])
        return f"{name} #{self.number}" if "…" in name else name

    @property
    def folder(self) -> str:
        """A name for its folder."""
        words = re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-.")
        return f"{self.number:02d}-{words}"[:80].rstrip("-.")


@dataclass(frozen=True)
class NumberAxis:
    """A range of numbers, even or by ratio."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class RangeArms:
    """Arms that are drawn one after the other from ranges, by what earlier ones scored.

    Attributes:
        keys: those with one value.  axes: the ranges by key.  draws: how many arms.
    """

    keys: Mapping[str, Any]
    axes: Mapping[str, NumberAxis]
    draws: int


@dataclass(frozen=True)
class SearchSpace:
    """What is raced, and for how long.

    Attributes:
        arms: those that are known before the first run.
        ranges: those that are drawn while the first rung runs.
        steps: of the first rung; None for a default by the configuration. Every rung has twice the steps of the last.
        rows: rows that all arms train on, drawn at random; None for all.
        seed: of all runs of the race; the confirmation takes the `confirm_seeds` numbers after it.
    """

    arms: tuple[SearchArm, ...]
    ranges: tuple[RangeArms, ...]
    steps: int | None
    rungs: int
    rows: int | None
    seed: int
    confirm_seeds: int


def read_space(path: Path, whole: Set[str] = frozenset()) -> SearchSpace:
    """The space in a file.

    Args:
        whole: keys that take whole numbers alone, of which no range is taken.

    Raises:
        ValueError: what is wrong, where, and what to write.
    """
    return space_of(read_yaml(path, "the space", "`arms:`"), str(path), whole)


def space_of(file: YamlFile, name: str, whole: Set[str] = frozenset()) -> SearchSpace:
    """The space that keys and values describe; `name` is the file's, for errors."""
    try:
        given = SpaceFile(**file.values)
    except ValidationError as error:
        raise ValueError("\n".join(_complaints(error, file, name))) from error
    arms, ranges = [], []
    for place, keys in enumerate(given.arms, 1):
        grid, drawn = _arms_of(keys, f"{name}, arm {place}", whole)
        arms += grid
        ranges += drawn
    distinct = list({repr(sorted(keys.items(), key=str)): keys for keys in arms}.values())
    numbered = tuple(SearchArm(number, keys) for number, keys in enumerate(distinct, 1))
    return SearchSpace(numbered, tuple(ranges), given.steps, given.rungs, given.rows, given.seed, given.confirm_seeds)


def _complaints(error: ValidationError, file: YamlFile, name: str) -> Iterator[str]:
    for each in error.errors():
        key = str(each["loc"][0])
        where = f"{name}, line {file.lines[key]}" if key in file.lines else name
        if each["type"] == "extra_forbidden":
            yield f"{where}: a space has no key `{printable(key)}`; {suggestion(key, SpaceFile.model_fields)}"
        elif key == "arms":
            example = "- {method: sft, learning_rate: [1e-5, 2e-5]}"
            yield f"{where}: `arms:` is a list with a mapping for each arm; write `{example}`."
        else:
            yield f"{where}: `{key}: {printable(str(file.values.get(key)))}` is not accepted: {each['msg'].lower()}."


def _arms_of(keys: dict[str, Any], where: str, whole: Set[str]) -> tuple[list[dict[str, Any]], list[RangeArms]]:
    """What an entry stands for: the arms of its grid; or, where it has ranges, draws at each point of its grid."""
    for key in keys:
        if (why := OF_THE_RACE.get(key)) is not None:
            raise ValueError(f"{where}: `{key}` is not an arm's own: {why}.")
    if (method := keys.get("method")) is not None:
        for each in method if isinstance(method, list) else [method]:
            if each not in qt.METHODS:
                raise ValueError(f"{where}: no method {each!r}; {suggestion(str(each), qt.METHODS)}")
    axes = {key: _axis(value, f"{where}: `{key}`") for key, value in keys.items() if _is_range(value)}
    for key in axes.keys() & whole:
        ends = f"{round(axes[key].low)}, {round(axes[key].high)}"
        raise ValueError(
            f"{where}: `{key}` takes whole numbers, and a range draws others; write a list, as in `{key}: [{ends}]`."
        )
    draws = _draws(keys, axes, where)
    lists = {key: _choices(value, f"{where}: `{key}`") for key, value in keys.items() if key not in (*axes, DRAWS_KEY)}
    grid = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
    if not axes:
        return grid, []
    return [], [RangeArms(point, axes, draws) for point in grid]


def _choices(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    if not value:
        raise ValueError(f"{where} is an empty list, so there is no arm; write its values, as in [1e-5, 2e-5].")
    return value


def _is_range(value: Any) -> bool:
    return isinstance(value, dict) and bool({"low", "high"} & value.keys()) and value.keys() <= set(RANGE_KEYS)


def _axis(value: dict[str, Any], where: str) -> NumberAxis:
    low, high, log = (value.get(key, default) for key, default in zip(RANGE_KEYS, (None, None, False), strict=True))
    if not (_is_number(low) and _is_number(high) and low < high) or not isinstance(log, bool) or (log and low <= 0):
        raise ValueError(f"{where} is no range; write {{low: 1e-5, high: 1e-4, log: true}}, low above 0 with `log`.")
    return NumberAxis(float(low), float(high), log)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _draws(keys: Mapping[str, Any], axes: Mapping[str, NumberAxis], where: str) -> int:
    draws = keys.get(DRAWS_KEY, 8)
    if DRAWS_KEY in keys and not axes:
        raise ValueError(f"{where}: `draws` is of ranges, and there is none; write {{low: 0.1, high: 0.9}} for a key.")
    if not isinstance(draws, int) or isinstance(draws, bool) or not 1 <= draws <= 1000:
        raise ValueError(f"{where}: `draws: {printable(str(draws))}` is no count; write `draws: 8`.")
    return draws


def with_baseline(space: SearchSpace, rate: float, default_method: str) -> SearchSpace:
    """The space with sft in it: where no arm is, at every learning rate of the others, or at the configuration's.

    Args:
        rate, default_method: the configuration's.
    """
    methods = [
        keys.get("method", default_method)
        for keys in (*(arm.keys for arm in space.arms), *(r.keys for r in space.ranges))
    ]
    if BASELINE_METHOD in methods:
        return space
    rates = dict.fromkeys(arm.keys["learning_rate"] for arm in space.arms if "learning_rate" in arm.keys) or [rate]
    added = [{"method": BASELINE_METHOD, "learning_rate": each} for each in rates]
    every = [*added, *(arm.keys for arm in space.arms)]
    numbered = tuple(SearchArm(number, keys) for number, keys in enumerate(every, 1))
    return SearchSpace(**{**vars(space), "arms": numbered})


def space_values(space: SearchSpace) -> dict[str, Any]:
    """A space as a space file's keys and values, every arm of a grid by itself."""
    fixed = [_as_one_point(arm.keys) for arm in space.arms]
    drawn = [
        {**_as_one_point(each.keys), **{key: vars(axis) for key, axis in each.axes.items()}, DRAWS_KEY: each.draws}
        for each in space.ranges
    ]
    rest = {name: getattr(space, name) for name in SpaceFile.model_fields if name != "arms"}
    return {"arms": [*fixed, *drawn], **{name: value for name, value in rest.items() if value is not None}}


def default_space(candidates: Sequence[str], rate: float) -> dict[str, Any]:
    """A space file's content from `inspect`'s candidate targets, each at rates around the configuration's own."""
    arms = [_as_one_point(yaml.safe_load(line)) for line in candidates]
    return {"arms": [{**arm, "learning_rate": [_rounded(rate * by) for by in (0.5, 1, 3)]} for arm in arms]}


def _as_one_point(keys: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's keys as a space file has them, where a list is a grid."""
    return {key: [value] if isinstance(value, list) else value for key, value in keys.items()}


def _rounded(number: float) -> float:
    return float(f"{number:.3g}")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return printable(setting_words(value) if isinstance(value, Mapping) else str(value), 40)
