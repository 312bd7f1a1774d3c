"""Every key a configuration may hold: those of `TargetSFTConfig`, of `trl.ModelConfig`, and a run's own."""

from dataclasses import fields
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, create_model
from trl import ModelConfig  # pyright: ignore[reportPrivateImportUsage]

from qtarget.train import MixtureStopping, TargetSFTConfig

TRL_NAMES = {"model_name_or_path": "model", "dataset_name": "train_dataset"}
"""Keys of TRL's own scripts, and our names for the same."""

RowNames = str | dict[str, Any] | list[str | dict[str, Any]]
"""A name of rows, a list of files, or sets with their `path`, `share`, `split`, `config` and `columns`."""

RUN_KEYS: dict[str, tuple[Any, Any]] = {
    "model": (str, ...),
    "train_dataset": (RowNames, ...),
    "eval_dataset": (RowNames | None, None),
    "streaming": (bool, False),
    "mixture_stopping": (MixtureStopping | None, None),
    "dataset_config": (str | None, None),
    "dataset_train_split": (str, "train"),
    "dataset_test_split": (str, "test"),
    "prompt_format": (str | None, None),
    "train_rows": (Annotated[int | None, Field(gt=0)], None),
    "train_rows_seed": (int | None, None),
    "longer_rows": (Literal["cut", "drop"], "cut"),
    "resume_from_checkpoint": (bool | str | None, None),
    "sample": (dict[str, Any] | None, None),
    "rounds": (int | None, None),
    "rounds_from": (Literal["base", "last"] | None, None),
    "rounds_launch": (str | None, None),
    "cache_sampled": (bool, False),
    "cache_bytes_per_token": (int | None, None),
    "cache_missing_mass": (float | None, None),
    "cache_min_k": (Annotated[int | None, Field(gt=0)], None),
    "cache_max_k": (Annotated[int | None, Field(gt=0)], None),
    "cache_dtype": (Literal["float16", "float32"], "float16"),
    "cache_batch_tokens": (PositiveInt, 8192),
    "cache_shard_tokens": (PositiveInt, 65536),
}
"""Keys that neither trainer nor model has: type and default (`...`: it must be given). `resume_from_checkpoint: true`
means the newest checkpoint. Keys that begin with `cache_` are read by `qtarget teacher cache`; they are accepted by
`qtarget train` too, so that one file serves both."""


def init_hints(config: type) -> dict[str, Any]:
    """Name and type of every field that a dataclass takes when it is made."""
    hints = get_type_hints(config)
    return {f.name: hints[f.name] for f in fields(config) if f.init}


@cache
def trainer_keys() -> dict[str, Any]:
    """The keys of `TargetSFTConfig`, which are TRL's and ours, each with its type."""
    return init_hints(TargetSFTConfig)


@cache
def model_keys() -> dict[str, Any]:
    """TRL's model and adapter options, each with its type; the model's name is our `model`."""
    return {name: hint for name, hint in init_hints(ModelConfig).items() if name not in TRL_NAMES}


@cache
def all_keys() -> dict[str, Any]:
    """Every key of a configuration, with its type."""
    return {**trainer_keys(), **model_keys(), **{name: hint for name, (hint, _) in RUN_KEYS.items()}}


@cache
def schema() -> type[BaseModel]:
    """The pydantic model that checks names and types. A key that is not given stays unset, so that the default of the
    trainer's or TRL's class holds."""
    optional = {name: (_accept_text(hint), None) for name, hint in all_keys().items()}
    return create_model(
        "Configuration",
        __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()),
        **{**optional, **RUN_KEYS},
    )


def _accept_text(hint: Any) -> Any:
    """A type that takes a single text for a list of texts, as in `lora_target_modules: all-linear`."""
    if hint not in (list[str], list[str] | None):
        return hint
    return Annotated[hint, BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
