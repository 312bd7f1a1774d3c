"""From a configuration, as a file or flags gave it, to a checked `Job`."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from trl import ModelConfig  # pyright: ignore[reportPrivateImportUsage]

from qtarget.console import shortened
from qtarget.data import Asker
from qtarget.data.user_files.paths import NO_MODEL, looks_local, not_found
from qtarget.data.user_files.yaml_file import YamlFile, read_yaml
from qtarget.evaluate.prompts import PROMPTS
from qtarget.job.config.checked_job import CacheOptions, Job, Layout
from qtarget.job.config.choices import choice_complaints
from qtarget.job.config.data_sources import evaluation_source, training_source
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.key_descriptions import OWN_DEFAULTS
from qtarget.job.config.keys import RUN_KEYS, model_keys, schema, trainer_keys
from qtarget.job.config.learn import learn_keys
from qtarget.job.config.machine import machine_choices
from qtarget.job.config.ranges import range_complaints
from qtarget.job.config.sample_options import check_rounds, round_options, sample_complaints, sample_options
from qtarget.job.config.secrets_given import HELD_BACK
from qtarget.job.config.user_input import UserInput, user_input
from qtarget.models.gguf_file import checkpoint_folder
from qtarget.target.hyperparameters import HyperparameterError, KeyValue, suggestion
from qtarget.teacher import SourceKind, SourceName
from qtarget.teacher.cache import ByMass
from qtarget.train import TargetSFTConfig

LAYOUT_KEYS = ("prompt_format", "train_rows", "train_rows_seed", "longer_rows")
ADAPTER_KEYS = ("load_in_4bit", "load_in_8bit", "use_dora", "use_rslora")


def read_job(arguments: RunArguments) -> Job:
    """The run that a configuration file describes, with the flags that override it.

    Raises:
        ValueError: the configuration is wrong, as far as that shows before models and rows are opened.
    """
    file = YamlFile({}, {}) if arguments.config is None else read_yaml(arguments.config)
    return check_job(user_input(file, arguments))


def job_of(values: dict[str, Any]) -> Job:
    """The `Job` that keys and values describe, as `qtarget train` would read them. Nothing is downloaded.

    Raises:
        ValueError: a key or value that `qtarget train` refuses.
    """
    return check_job(user_input(YamlFile(values, {}), RunArguments(None, {})))


def check_job(given: UserInput) -> Job:
    """Check names, types and combinations of keys, and that local models exist; build the trainer's configuration.

    Raises:
        ValueError: what is wrong, where it was written, and what to write instead.
    """
    values = _typed(given)
    choices = machine_choices(values)
    trainer = {key: value for key, value in {**values, **choices.keys}.items() if key in trainer_keys()}
    trainer = {**trainer, **learn_keys(values)}
    _check_adapter(values, given)
    _check_objective(values, given)
    check_rounds(values)
    return Job(
        model=_existing_model(values["model"], "model"),
        train=training_source(values),
        evaluation=evaluation_source(values),
        layout=_layout(values),
        args=_trainer_config(trainer, given),
        model_args=ModelConfig(**{key: value for key, value in values.items() if key in model_keys()}),
        cache=_cache_options(values, given),
        given={**given.values, **choices.keys},
        note=choices.note,
        streaming=bool(values.get("streaming")),
        mixture_stopping=values.get("mixture_stopping") or "first_exhausted",
        sampling=sample_options(values),
        rounds=round_options(values),
    )


def _typed(given: UserInput) -> dict[str, Any]:
    """The values in the types of their keys; ValueError with everything that is wrong with names, types and ranges."""
    complaints = list(given.complaints)
    wrong = [*range_complaints(given.values), *choice_complaints(given.values), *sample_complaints(given.values)]
    complaints += [f"{given.place(key)}: {sentence}" for key, sentence in wrong]
    try:
        values = schema()(**given.values).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise ValueError("\n".join([*complaints, *_descriptions(error, given, {key for key, _ in wrong})])) from error
    if complaints:
        raise ValueError("\n".join(complaints))
    return values


def _trainer_config(values: dict[str, Any], given: UserInput) -> TargetSFTConfig:
    values = {**values, "teacher": _each(values.get("teacher"), "teacher", _existing_model)}
    if values.get("reference") not in (None, "initial"):
        values["reference"] = _existing_model(values["reference"], "reference")
    for key in ("teacher_cache", "reference_cache"):
        values[key] = _each(values.get(key), key, _absolute)
    with warnings.catch_warnings():
        if "gradient_checkpointing" not in values:  # TRL's own default, which transformers renames
            warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated")
        try:
            return TargetSFTConfig(**values)
        except HyperparameterError as error:
            names = [part.name for part in error.parts if isinstance(part, KeyValue)]
            place = given.place(next((name for name in names if name in given.places), "method_kwargs"))
            raise ValueError(f"{place}: {error.told(Asker.COMMAND_LINE.setting)}.") from error


def _cache_options(values: Mapping[str, Any], given: UserInput) -> CacheOptions:
    names = [f.name for f in fields(CacheOptions) if f.name != "by_mass"]
    plain: dict[str, Any] = {name: values.get(f"cache_{name}", RUN_KEYS[f"cache_{name}"][1]) for name in names}
    return CacheOptions(by_mass=_by_mass(values, given), **plain)


def _by_mass(values: Mapping[str, Any], given: UserInput) -> ByMass | None:
    """The rule by which a cache keeps tokens of a distribution, if any.

    Raises:
        ValueError: another rule is given beside it, or its bounds without it or crossed.
    """
    bounds = {name: values[f"cache_{name}"] for name in ("min_k", "max_k") if values.get(f"cache_{name}") is not None}
    missing = values.get("cache_missing_mass")
    if missing is None:
        for name in bounds:
            raise ValueError(
                f"{given.place(f'cache_{name}')}: `cache_{name}` bounds how many tokens `cache_missing_mass` keeps, "
                "and that is not given; write `cache_missing_mass: 0.01`, or `teacher_top_k: 64` for as many at each."
            )
        return None
    for key in ("teacher_top_k", "cache_bytes_per_token", "cache_sampled"):
        if key in given.values and values.get(key):
            raise ValueError(
                f"{given.place(key)}: `{key}` and `cache_missing_mass` each say what is kept of a distribution; remove "
                "one of the two lines (of the likeliest, at most so many are kept by `cache_max_k`)."
            )
    try:
        return ByMass(missing, **bounds)
    except ValueError as error:
        raise ValueError(f"{given.place('cache_missing_mass')}: {error}") from error


def _each(names: Any, key: str, check: Callable[[str, str], str]) -> Any:
    """`check(name, key)` of one name or of each in a list."""
    if isinstance(names, list):
        return [check(name, key) for name in names]
    return None if names is None else check(names, key)


def _absolute(name: str, key: str) -> str:
    return str(Path(name).expanduser().absolute())


def _existing_model(name: str, key: str) -> str:
    """The absolute path of a model's directory; a name on the hub, or the address of a server, as it is."""
    kind = SourceName.parse(name).kind
    if kind is SourceKind.SERVER:
        return _address(name, key)
    if kind is SourceKind.SELF and key != "model":
        return _the_student(name, key)
    path = Path(checkpoint_folder(name)).expanduser()
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return str(path.absolute())
    if kind is SourceKind.CACHE and key != "model":
        raise ValueError(f"`{key}: {name}` is a teacher cache, and no model; write `{key}_cache: {name}`.")
    if path.is_dir():
        raise ValueError(f"`{key}: {name}` {NO_MODEL}")
    if path.exists() or looks_local(name):
        raise ValueError(f"`{key}: {name}`: " + not_found(path, "the model"))
    return name


def _address(name: str, key: str) -> str:
    """The address of a server that answers for a teacher or a reference."""
    if key == "model":
        raise ValueError(
            f"`model: {name}` is the address of a server, and the model is trained here; name its directory or hub "
            "name, as in `model: Qwen/Qwen2.5-1.5B`."
        )
    return name


def _the_student(name: str, key: str) -> str:
    """What names the student itself, which a teacher may be."""
    if key != "teacher":
        raise ValueError(f"`{key}: {name}` is the student itself, which a teacher may be; write `{key}: initial`.")
    return name


def _layout(values: Mapping[str, Any]) -> Layout | None:
    if all(values.get(key) in (None, "cut") for key in LAYOUT_KEYS):
        return None
    prompt, dropping = values.get("prompt_format"), values.get("longer_rows") == "drop"
    if prompt is not None and prompt not in PROMPTS:
        raise ValueError(f"`prompt_format: {prompt}` is not the name of a prompt; {suggestion(prompt, PROMPTS)}")
    if dropping and (prompt is None or values.get("max_length", 1) is None):
        line = "prompt_format: qwen-boxed" if prompt is None else "max_length: 4096"
        raise ValueError(
            "`longer_rows: drop` leaves out rows over `max_length` tokens, so it needs that and a `prompt_format`; "
            f"write `{line}`."
        )
    if values.get("train_rows_seed") is not None and values.get("train_rows") is None:
        raise ValueError(
            "`train_rows_seed` draws `train_rows` of the rows, and that is not given; add `train_rows: 1000`."
        )
    return Layout(prompt, values.get("train_rows"), values.get("train_rows_seed"), dropping)


def _check_adapter(values: Mapping[str, Any], given: UserInput) -> None:
    """Refuse options of a LoRA adapter without `use_peft: true`: TRL would ignore them silently."""
    adapter = [key for key in values if (key.startswith("lora_") or key in ADAPTER_KEYS) and values[key]]
    if adapter and not values.get("use_peft"):
        raise ValueError(
            f"{given.place(adapter[0])}: `{adapter[0]}` is an option of an adapter, and none is asked for; "
            "write `use_peft: true`."
        )


def _check_objective(values: Mapping[str, Any], given: UserInput) -> None:
    """Refuse `loss_type: nll` here: it names a second objective, and once parsed it looks like TRL's default."""
    if values.get("loss_type") == "nll":
        raise ValueError(
            f"{given.place('loss_type')}: `loss_type: nll` is set beside `method`. Remove that line; "
            "`method: sft` says the same."
        )


def _descriptions(error: ValidationError, given: UserInput, said: set[str]) -> Iterator[str]:
    """pydantic's complaints in our words, a line for each key that nothing was `said` of, with the line to write."""
    for key in dict.fromkeys(str(each["loc"][0]) for each in error.errors()):
        mine = [each for each in error.errors() if each["loc"][0] == key]
        if mine[0]["type"] == "missing":
            example = {"model": "path/or/hub-name", "train_dataset": "rows.jsonl"}[key]
            yield f"the configuration gives no `{key}`; write `{key}: {example}`."
        elif key not in said:
            reasons = " or ".join(dict.fromkeys(map(_reason, mine)))
            shown = "…" if key in HELD_BACK else shortened(repr(given.values[key]))
            yield f"{given.place(key)}: `{key}: {shown}` is not accepted: {reasons}. {_example(key, given.values[key])}"


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "a text"}
"""What pydantic's kinds of a value are called; its own sentence stands for those that are not here."""


def _reason(complaint: Any) -> str:
    """What a key takes, of one of pydantic's complaints."""
    if complaint["type"] == "literal_error":
        return f"it is {complaint['ctx']['expected']}"
    kind = (
        _KINDS.get(complaint["type"].partition("_")[0]) if complaint["type"].endswith(("_parsing", "_type")) else None
    )
    return complaint["msg"] if kind is None else f"it is {kind}"


def _near(key: str, value: Any) -> str | None:
    """The choice that was meant, where a key of the command line's own has a few."""
    choices = [each for part in (RUN_KEYS[key][0], *get_args(RUN_KEYS[key][0])) for each in get_args(part)]
    words = [each for each in choices if isinstance(each, str)]
    return next(iter(get_close_matches(str(value), words, 1)), None)


_OWN_EXAMPLES = {"rounds": 2, **OWN_DEFAULTS}


def _example(key: str, value: Any) -> str:
    if key in RUN_KEYS and (near := _near(key, value)):
        return f"Did you mean `{key}: {near}`?"
    if isinstance(value, Mapping) and {"from", "to"} <= value.keys():
        return "It takes no schedule; what does is said by `qtarget methods NAME` of each method."
    if value == "auto":
        return "Leave the line out: what the machine can do is found out."
    defaults = {f.name: f.default for owner in (TargetSFTConfig, ModelConfig) for f in fields(owner)}
    default = defaults.get(key, _OWN_EXAMPLES.get(key, MISSING))
    shown = getattr(default, "value", default)
    return "" if default is MISSING or default is None else f"For example `{key}: {str(shown).lower()}`."
