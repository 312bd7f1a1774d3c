"""A checked run: a `Job`, made from what the user wrote."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError
from trl import ModelConfig  # pyright: ignore[reportPrivateImportUsage]

import qtarget as qt
from qtarget.evaluate.prompts import PROMPTS
from qtarget.job.config.flags import Words
from qtarget.job.config.keys import RUN_KEYS, model_keys, schema, trainer_keys
from qtarget.job.config.machine import machine_choices
from qtarget.job.config.paths import looks_local, not_found
from qtarget.job.config.user_input import UserInput, user_input
from qtarget.job.config.yaml_file import YamlFile, read_yaml
from qtarget.target.hyperparameters import suggestion
from qtarget.teacher import SourceKind, SourceName
from qtarget.train import TargetSFTConfig

LAYOUT_KEYS = ("prompt_column", "completion_column", "prompt_format", "train_rows", "train_rows_seed", "longer_rows")
ADAPTER_KEYS = ("load_in_4bit", "load_in_8bit", "use_dora", "use_rslora")


class Source(NamedTuple):
    """Where rows come from. names: files, or one directory or hub name, of which `split` is taken."""

    names: tuple[str, ...]
    config: str | None
    split: str


@dataclass(frozen=True)
class Layout:
    """Which columns are prompt and completion, how a prompt is asked, and which rows are taken.

    Attributes:
        prompt: a name in `evaluate.prompts`: rows become token ids, the prompt's being those of evaluation. None leaves
            rendering to TRL.
        take: so many training rows: the first of them, or drawn with `seed`.
        drop_longer: rows over `max_length` are left out before any is taken, instead of cut.
    """

    prompt_column: str
    completion_column: str
    prompt: str | None
    take: int | None
    seed: int | None
    drop_longer: bool


@dataclass(frozen=True)
class CacheOptions:
    """How `qtarget teacher cache` writes.

    Attributes:
        sampled: keep draws in the place of the likeliest tokens.
        bytes_per_token: the budget that the number of tokens kept follows from; None for `teacher_top_k`.
        dtype: of the log-probabilities on disk.
        batch_tokens: tokens, padding included, that go through the model at once.
        shard_tokens: tokens asked about, after which a shard is closed.
    """

    sampled: bool
    bytes_per_token: int | None
    dtype: Literal["float16", "float32"]
    batch_tokens: int
    shard_tokens: int


@dataclass(frozen=True)
class Job:
    """A checked run.

    Attributes:
        layout: None where rows are used as they come.
        cache: for `qtarget teacher cache`.
        given: every key the user wrote, under the names used here, with what the machine decided.
        note: what was chosen in the user's place, in a sentence.
    """

    model: str
    train: Source
    evaluation: Source | None
    layout: Layout | None
    args: TargetSFTConfig
    model_args: ModelConfig
    cache: CacheOptions
    given: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def method(self) -> qt.Method:
        return self.args.build_method()

    @property
    def output(self) -> Path:
        return Path(str(self.args.output_dir))


def read_job(words: Words) -> Job:
    """The run that a configuration file and the flags over it describe.

    Raises:
        ValueError: anything wrong with it that shows before models and data are opened.
    """
    file = YamlFile({}, {}) if words.config is None else read_yaml(words.config)
    return checked_job(user_input(file, words))


def checked_job(given: UserInput) -> Job:
    """Names and types checked, the trainer's configuration built, and the sources looked for."""
    try:
        values = schema()(**given.values).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise ValueError(_in_words(error, given)) from error
    choices = machine_choices(values)
    trainer = {key: value for key, value in {**values, **choices.keys}.items() if key in trainer_keys()}
    _check_adapter(values, given)
    _check_objective(values, given)
    return Job(
        model=_existing_model(values["model"], "model"),
        train=_source(values, "train_dataset", "dataset_train_split"),
        evaluation=_evaluation(values),
        layout=_layout(values),
        args=_trainer_config(trainer),
        model_args=ModelConfig(**{key: value for key, value in values.items() if key in model_keys()}),
        cache=_cache_options(values),
        given={**given.values, **choices.keys},
        note=choices.note,
    )


def _trainer_config(values: dict[str, Any]) -> TargetSFTConfig:
    values = {**values, "teacher": _each(values.get("teacher"), "teacher", _existing_model)}
    if values.get("reference") not in (None, "initial"):
        values["reference"] = _existing_model(values["reference"], "reference")
    for key in ("teacher_cache", "reference_cache"):
        values[key] = _each(values.get(key), key, _absolute)
    with warnings.catch_warnings():
        if "gradient_checkpointing" not in values:  # TRL's own default, which transformers renames
            warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated")
        return TargetSFTConfig(**values)


def _cache_options(values: Mapping[str, Any]) -> CacheOptions:
    names = [f.name for f in fields(CacheOptions)]
    return CacheOptions(**{name: values.get(f"cache_{name}", RUN_KEYS[f"cache_{name}"][1]) for name in names})


def _each(names: Any, role: str, checked: Callable[[str, str], str]) -> Any:
    if isinstance(names, list):
        return [checked(name, role) for name in names]
    return None if names is None else checked(names, role)


def _absolute(name: str, role: str) -> str:
    return str(Path(name).expanduser().absolute())


def _existing_model(name: str, role: str) -> str:
    """A model's directory as an absolute path, a name for the hub, or the address of one that is served."""
    kind = SourceName.parse(name).kind
    if kind is SourceKind.SERVER:
        return _address(name, role)
    path = Path(name).expanduser()
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return str(path.absolute())
    if kind is SourceKind.CACHE and role != "model":
        raise ValueError(f"`{role}: {name}` is a teacher cache, and no model; write `{role}_cache: {name}`.")
    if path.is_dir():
        raise ValueError(
            f"`{role}: {name}` is a directory without config.json, so it holds no model; name the directory that "
            "`save_pretrained` wrote."
        )
    if path.exists() or looks_local(name):
        raise ValueError(f"`{role}: {name}`: " + not_found(path, "the model"))
    return name


def _address(name: str, role: str) -> str:
    if role == "model":
        raise ValueError(
            f"`model: {name}` is the address of a server, and the model is trained here; name its directory or hub "
            "name, as in `model: Qwen/Qwen2.5-1.5B`."
        )
    return name


def _source(values: Mapping[str, Any], key: str, split: str) -> Source:
    names = values[key] if isinstance(values[key], list) else [values[key]]
    return Source(tuple(names), values.get("dataset_config"), values.get(split, RUN_KEYS[split][1]))


def _evaluation(values: Mapping[str, Any]) -> Source | None:
    """The rows to evaluate on: `eval_dataset`, or as in TRL's scripts the test split of the training data."""
    if values.get("eval_dataset") is not None:
        return _source(values, "eval_dataset", "dataset_test_split")
    strategy = values.get("eval_strategy", "no")
    if getattr(strategy, "value", strategy) == "no":
        return None
    if any(Path(name).is_file() for name in _source(values, "train_dataset", "dataset_train_split").names):
        raise ValueError(
            f"`eval_strategy: {getattr(strategy, 'value', strategy)}` asks to evaluate, and there is nothing to "
            "evaluate on; write `eval_dataset: path/to/rows.jsonl`."
        )
    return _source(values, "train_dataset", "dataset_test_split")


def _layout(values: Mapping[str, Any]) -> Layout | None:
    if all(values.get(key) in (None, "cut") for key in LAYOUT_KEYS):
        return None
    prompt, dropping = values.get("prompt_format"), values.get("longer_rows") == "drop"
    if prompt is not None and prompt not in PROMPTS:
        raise ValueError(f"`prompt_format: {prompt}` is no prompt; {suggestion(prompt, PROMPTS)}")
    if dropping and (prompt is None or values.get("max_length", 1) is None):
        raise ValueError(
            "`longer_rows: drop` leaves out rows over `max_length` tokens, so it needs that and a `prompt_format`; "
            "write `prompt_format: qwen-boxed`."
        )
    if values.get("train_rows_seed") is not None and values.get("train_rows") is None:
        raise ValueError(
            "`train_rows_seed` draws `train_rows` of the rows, and that is not given; add `train_rows: 1000`."
        )
    return Layout(
        values.get("prompt_column") or "prompt",
        values.get("completion_column") or "completion",
        prompt,
        values.get("train_rows"),
        values.get("train_rows_seed"),
        dropping,
    )


def _check_adapter(values: Mapping[str, Any], given: UserInput) -> None:
    """Options of an adapter that nobody asked for would be passed over in silence."""
    adapter = [key for key in values if (key.startswith("lora_") or key in ADAPTER_KEYS) and values[key]]
    if adapter and not values.get("use_peft"):
        raise ValueError(
            f"{given.place(adapter[0])}: `{adapter[0]}` is an option of an adapter, and none is asked for; "
            "write `use_peft: true`."
        )


def _check_objective(values: Mapping[str, Any], given: UserInput) -> None:
    """TRL's default loss, written down, is a second objective too; the trainer cannot tell it from a default."""
    if values.get("loss_type") == "nll":
        raise ValueError(
            f"{given.place('loss_type')}: `loss_type: nll` is set beside `method`. Remove that line; "
            "`method: sft` says the same."
        )


def _in_words(error: ValidationError, given: UserInput) -> str:
    """The first thing that pydantic found, with the line to write."""
    first = error.errors()[0]
    key = str(first["loc"][0])
    if first["type"] == "missing":
        example = {"model": "path/or/hub-name", "train_dataset": "rows.jsonl"}[key]
        return f"the configuration says no `{key}`; write `{key}: {example}`."
    wanted = " or ".join(dict.fromkeys(e["msg"] for e in error.errors() if e["loc"][0] == key))
    return f"{given.place(key)}: `{key}: {given.values[key]!r}` will not do: {wanted}. {_example(key)}"


def _example(key: str) -> str:
    defaults = {f.name: f.default for owner in (TargetSFTConfig, ModelConfig) for f in fields(owner)}
    default = defaults.get(key, MISSING)
    shown = getattr(default, "value", default)
    return "" if default is MISSING or default is None else f"For example `{key}: {str(shown).lower()}`."
