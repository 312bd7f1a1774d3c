"""What the user wrote, checked key by key, as a `Job`."""

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from trl import ModelConfig  # pyright: ignore[reportPrivateImportUsage]

import qtarget as qt
from qtarget.hyperparameters import hyperparameters, suggestion
from qtarget.job.flags import Words
from qtarget.job.machine import machine_choices
from qtarget.job.paths import looks_local, not_found
from qtarget.job.schema import OWN, TRL_NAMES, all_keys, model_keys, schema, trainer_keys
from qtarget.job.yaml_file import YamlFile, parse_scalar, read_yaml
from qtarget.train import TargetSFTConfig

DEFAULT_METHOD = "target-sft"
ADAPTER_KEYS = ("load_in_4bit", "load_in_8bit", "use_dora", "use_rslora")


class Source(NamedTuple):
    """Where rows come from. names: files, or one directory or hub name, of which `split` is taken."""

    names: tuple[str, ...]
    config: str | None
    split: str


@dataclass(frozen=True)
class Job:
    """A checked run.

    Attributes:
        given: every key the user wrote, under the names used here, with what the machine decided.
        note: what was chosen in the user's place, in a sentence.
    """

    model: str
    train: Source
    evaluation: Source | None
    args: TargetSFTConfig
    model_args: ModelConfig
    given: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def method(self) -> qt.Method:
        return self.args.build_method()

    @property
    def output(self) -> Path:
        return Path(str(self.args.output_dir))


@dataclass(frozen=True)
class Written:
    """Keys and values, and where each was written."""

    values: dict[str, Any]
    places: dict[str, str]

    def place(self, key: str) -> str:
        return self.places.get(key, "the configuration")


def read_job(words: Words) -> Job:
    """The run that a configuration file and the flags over it describe.

    Raises:
        ValueError: anything wrong with it that shows before models and data are opened.
    """
    file = YamlFile({}, {}) if words.config is None else read_yaml(words.config)
    return checked_job(written(file, words))


def written(file: YamlFile, words: Words) -> Written:
    """Flags over the file, each key under the name used here."""
    values, places = dict(file.values), {key: f"{words.config}, line {line}" for key, line in file.lines.items()}
    values, places = _renamed(values, places)
    flags = {key: _flag_value(key, texts) for key, texts in words.flags.items()}
    flags, flag_places = _renamed(flags, {key: f"--{key}" for key in flags})
    return _with_hyperparameters(Written({**values, **flags}, {**places, **flag_places}), from_flags=set(flags))


def _renamed(values: Mapping[str, Any], places: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    for theirs, ours in TRL_NAMES.items():
        if theirs in values and ours in values:
            raise ValueError(f"{places[theirs]}: `{theirs}` and `{ours}` say the same; keep one.")
    names = {key: TRL_NAMES.get(key, key) for key in values}
    return {names[key]: value for key, value in values.items()}, {names[key]: place for key, place in places.items()}


def _flag_value(key: str, texts: list[str]) -> Any:
    """The value of a flag: text where the key takes nothing else, YAML otherwise, True for a bare switch."""
    if not texts:
        return True
    is_text = all_keys().get(TRL_NAMES.get(key, key)) in (str, str | None)
    values = [text if is_text and text != "null" else parse_scalar(text) for text in texts]
    return values[0] if len(values) == 1 else values


def _with_hyperparameters(given: Written, from_flags: set[str]) -> Written:
    """The method's hyperparameters moved into `method_kwargs`; what is nobody's key is refused."""
    name = given.values.get("method", DEFAULT_METHOD)
    if name not in qt.METHODS:
        raise ValueError(f"{given.place('method')}: no method {name!r}; {suggestion(str(name), qt.METHODS)}")
    own = {h.name for h in hyperparameters(qt.METHODS[name])}
    loose = {key: given.values[key] for key in given.values if key in own}
    kwargs = given.values.get("method_kwargs") or {}
    both = [key for key in loose if key in kwargs and key not in from_flags] if isinstance(kwargs, dict) else []
    if both:
        raise ValueError(f"{given.place(both[0])}: `{both[0]}` stands in `method_kwargs` too; keep one.")
    _check_names(given, name, own)
    values = {key: value for key, value in given.values.items() if key in all_keys()}
    if loose and isinstance(kwargs, dict):
        values["method_kwargs"] = {**kwargs, **loose}
    return Written(values, given.places)


def _check_names(given: Written, method: str, own: set[str]) -> None:
    for key in given.values:
        if key in own or key in all_keys():
            continue
        owners = [name for name, factory in qt.METHODS.items() if key in {h.name for h in hyperparameters(factory)}]
        if owners and given.values[key] is None:  # as in `--method dft --eta null`, over a file that has `eta`
            continue
        if owners:
            raise ValueError(
                f'{given.place(key)}: method "{method}" has no hyperparameter `{key}` (it belongs to '
                f"{', '.join(owners)}); remove that line, or write `--{key} null`."
            )
        near = difflib.get_close_matches(key, [*own, *all_keys(), *TRL_NAMES], n=1)
        hint = (
            f"did you mean `{near[0]}`?" if near else "keys are those of trl.SFTConfig and of `qtarget train --help`."
        )
        raise ValueError(f"{given.place(key)}: unknown key `{key}`; {hint}")


def checked_job(given: Written) -> Job:
    """Names and types checked, the trainer's configuration built, and the sources looked for."""
    try:
        values = schema()(**given.values).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise ValueError(_in_words(error, given)) from error
    choices = machine_choices(values)
    trainer = {key: value for key, value in {**values, **choices.keys}.items() if key in trainer_keys()}
    _check_adapter(values, given)
    job = Job(
        model=_existing_model(values["model"], "model"),
        train=_source(values, "train_dataset", "dataset_train_split"),
        evaluation=_evaluation(values),
        args=_trainer_config(trainer),
        model_args=ModelConfig(**{key: value for key, value in values.items() if key in model_keys()}),
        given={**given.values, **choices.keys},
        note=choices.note,
    )
    return job


def _trainer_config(values: dict[str, Any]) -> TargetSFTConfig:
    values = {**values, "teacher": _each_model(values.get("teacher"), "teacher")}
    if values.get("reference") not in (None, "initial"):
        values["reference"] = _existing_model(values["reference"], "reference")
    with warnings.catch_warnings():
        if "gradient_checkpointing" not in values:  # TRL's own default, which transformers renames
            warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated")
        return TargetSFTConfig(**values)


def _each_model(names: Any, role: str) -> Any:
    if isinstance(names, list):
        return [_existing_model(name, role) for name in names]
    return None if names is None else _existing_model(names, role)


def _existing_model(name: str, role: str) -> str:
    """A model's directory as an absolute path, or a name for the hub."""
    path = Path(name).expanduser()
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return str(path.absolute())
    if path.is_dir():
        raise ValueError(
            f"`{role}: {name}` is a directory without config.json, so it holds no model; name the directory that "
            "`save_pretrained` wrote."
        )
    if path.exists() or looks_local(name):
        raise ValueError(f"`{role}: {name}`: " + not_found(path, "the model"))
    return name


def _source(values: Mapping[str, Any], key: str, split: str) -> Source:
    names = values[key] if isinstance(values[key], list) else [values[key]]
    return Source(tuple(names), values.get("dataset_config"), values.get(split, OWN[split][1]))


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


def _check_adapter(values: Mapping[str, Any], given: Written) -> None:
    """Options of an adapter that nobody asked for would be passed over in silence."""
    adapter = [key for key in values if (key.startswith("lora_") or key in ADAPTER_KEYS) and values[key]]
    if adapter and not values.get("use_peft"):
        raise ValueError(
            f"{given.place(adapter[0])}: `{adapter[0]}` is an option of an adapter, and none is asked for; "
            "write `use_peft: true`."
        )


def _in_words(error: ValidationError, given: Written) -> str:
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
