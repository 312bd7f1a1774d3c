"""`qtarget schema`: it takes what `qtarget validate` takes, and refuses a key that nobody knows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from job.command import run as command

import qtarget as qt
from qtarget.data.user_files.yaml_file import CoreLoader
from qtarget.job.config.config_schema import configuration_schema
from qtarget.job.config.keys import all_keys
from qtarget.recipes.launch import arm_values
from qtarget.recipes.recipe_files import recipe, recipe_names
from qtarget.recipes.resolve import trained_arms, without_sources
from qtarget.target.hyperparameters import Count, Within, hyperparameters

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
KINDS: dict[str, Any] = {"string": str, "boolean": bool, "null": type(None), "object": dict, "array": list}


def faults(value: Any, schema: dict[str, Any], whole: dict[str, Any], at: str = "") -> list[str]:
    """What a value breaks of a schema, for as much of JSON Schema as ours has; more in one is an error here."""
    known = {"$schema", "title", "description", "default", "definitions", "$ref", "anyOf", "allOf", "type", "enum",
             "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "minItems", "items",
             "properties", "required", "additionalProperties", "if", "then"}  # fmt: skip
    assert schema.keys() <= known, schema.keys() - known
    if "$ref" in schema:
        return faults(value, whole["definitions"][schema["$ref"].rpartition("/")[2]], whole, at)
    found: list[str] = []
    if "anyOf" in schema and all(faults(value, each, whole, at) for each in schema["anyOf"]):
        found.append(f"{at}: {value!r} is none of {schema['anyOf']}")
    for each in schema.get("allOf", ()):
        found += faults(value, each, whole, at)
    if "if" in schema and not faults(value, schema["if"], whole, at):
        found += faults(value, schema["then"], whole, at)
    if "type" in schema and not _is_of(value, schema["type"]):
        return [*found, f"{at}: {value!r} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: {value!r} is none of {schema['enum']}")
    if "const" in schema and value != schema["const"]:
        found.append(f"{at}: {value!r} is not {schema['const']!r}")
    found += [f"{at}: {value!r} is out of range" for name, holds in RANGES.items()
              if name in schema and isinstance(value, int | float) and not holds(value, schema[name])]  # fmt: skip
    found += [f"{at}: {value!r} is too short" for name in ("minLength", "minItems")
              if name in schema and len(value) < schema[name]]  # fmt: skip
    if isinstance(value, list) and "items" in schema:
        found += [fault for each in value for fault in faults(each, schema["items"], whole, at)]
    if isinstance(value, dict):
        found += [f"{at}: no {name}" for name in schema.get("required", ()) if name not in value]
        for key, each in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties", True))
            found += [f"{at}.{key}: unknown"] if inner is False else []
            found += faults(each, inner, whole, f"{at}.{key}") if isinstance(inner, dict) else []
    return found


RANGES = {
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
}


def _is_of(value: Any, kind: str | list[str]) -> bool:
    if isinstance(kind, list):
        return any(_is_of(value, each) for each in kind)
    if kind in ("number", "integer"):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and (kind == "number" or float(value).is_integer())
    return isinstance(value, KINDS[kind])


def broken(value: dict[str, Any]) -> list[str]:
    schema = configuration_schema()
    try:
        from jsonschema import Draft7Validator  # pyright: ignore[reportMissingModuleSource]
    except ImportError:
        return faults(value, schema, schema)
    Draft7Validator.check_schema(schema)
    return [error.message for error in Draft7Validator(schema).iter_errors(value)]


def examples() -> dict[str, dict[str, Any]]:
    """Every whole configuration in the pages and of the recipes' arms."""
    found = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            value = yaml.load(block, CoreLoader)  # noqa: S506  (a safe loader, with YAML 1.2's scalars)
            if isinstance(value, dict) and {"model", "train_dataset"} <= value.keys():
                found[f"{page.name} {number}"] = value
    for name in recipe_names():
        for arm in trained_arms(recipe(name)):
            found[f"{name} {arm}"] = without_sources(arm_values(recipe(name), arm, Path("out")))
    return found


def test_examples_are_valid():
    every = examples()
    assert len(every) > 40
    assert {name: found for name, value in every.items() if (found := broken(value))} == {}


RUN = {"model": "m", "train_dataset": "rows.jsonl"}


@pytest.mark.parametrize(
    "more",
    [
        {"learning_rte": 1e-5},
        {"learning_rate": "fast"},
        {"learning_rate": -1},
        {"learning_rate": 0},
        {"num_train_epochs": 0},
        {"max_length": 0},
        {"method": "sfft"},
        {"learn": 3},
        {"bad_rows": "ignore"},
        {"dtype": "float31"},
        {"model": ""},
        {"eta": 3},
        {"eta": {"from": 0.2}},
        {"eta": {"from": 0.2, "to": 1.2}},
        {"eta": {"from": 0.2, "to": 0.8, "shape": "steps"}},
        {"eta": "agrement"},
        {"teacher_temperature": {"from": 1, "to": 2}},
        {"method": "jsd", "beta": 5},
        {"method": "jsd", "method_kwargs": {"beta": 5}},
        {"method": "gem", "beta": 0},
        {"method": "sed-sft", "threshold": 20},
        {"method": "jsd", "eta": 0.5},
        {"beta": 0.5},
        {"method_kwargs": {"beta": 0.5}},
        {"save_steps": 0},
        {"longer_rows": "keep"},
        {"lr_scheduler_type": "cosin"},
        {"sample": {"k": 0}},
        {"sample": {"top_p": 0}},
        {"sample": {"kep": "right"}},
    ],
)
def test_what_validate_refuses_is_refused(more):
    assert broken({**RUN, **more})


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"learning_rate": 1e-5, "eta": 0.3, "method": "target-sft", "teacher": ["a", "b"]},
        {"max_length": None, "max_steps": -1, "save_steps": 0.25, "warmup_steps": 0.03},
        {"lora_target_modules": "all-linear", "use_peft": True, "dtype": "bfloat16"},
        {"lora_target_modules": ["q_proj", "v_proj"], "report_to": "none"},
        {"train_dataset": [{"path": "a.jsonl", "share": 0.7}, {"path": ["b.jsonl"], "share": 0.3}]},
        {"resume_from_checkpoint": True, "eval_strategy": "no", "columns": {"prompt": "q"}},
        {"eta": {"from": 0.2, "to": "teacher_p_y", "along": "position", "until": 0.5}, "trust": "p_y"},
        {"eta": [{"from": 0.2, "to": 0.4}, 0.3], "schedule_steps": 100},
        {"method_kwargs": {"eta": 0.5}, "reference": "initial", "resume_changed": ["max_steps"]},
        {"method": "jsd", "beta": 0, "eta": None},
        {"method": "symmetric-ce", "beta": 50},
        {"method": "eaft", "normalizer": None},
        {"sample": {"k": 8, "temperature": 0.7, "top_p": 1, "keep": "right", "limit": None}},
    ],
)
def test_what_validate_takes_is_taken(more):
    assert broken({**RUN, **more}) == []


def test_a_model_and_rows_must_be_there_under_one_name_or_the_other():
    assert broken({"model": "m"})
    assert broken({"train_dataset": "rows.jsonl"})
    assert broken({"model_name_or_path": "m", "dataset_name": "d"}) == []


def test_every_key_and_hyperparameter_stands_in_it():
    properties = configuration_schema()["properties"]
    parameters = {each.name for factory in qt.METHODS.values() for each in hyperparameters(factory)}
    assert all_keys().keys() | parameters <= properties.keys()
    assert properties["learning_rate"]["description"]
    assert properties["eta"]["description"].endswith("(of target-sft)")
    assert properties["learn"]["default"] == "assistant"


NUMBER_KNOBS = [
    (name, each)
    for name, factory in qt.METHODS.items()
    for each in hyperparameters(factory)
    if isinstance(each.domain, Within | Count)
]


@pytest.mark.parametrize(("method", "knob"), NUMBER_KNOBS, ids=lambda each: getattr(each, "name", each))
def test_a_number_has_the_bounds_and_the_words_of_its_own_method(method, knob):
    """A name such as `beta` is a knob of five methods, and another one in each."""
    bounds, schema = knob.domain, configuration_schema()
    outside = [bounds.low - 1, *([bounds.high + 1] if isinstance(bounds, Within) else [])]
    for value in outside:
        for given in ({knob.name: value}, {"method_kwargs": {knob.name: value}}):
            assert faults({**RUN, "method": method, **given}, schema, schema), (value, given)
        with pytest.raises(ValueError, match="out of range"):
            qt.method(method, **{knob.name: value})
    default = list(knob.default) if isinstance(knob.default, tuple) else knob.default
    assert not faults({**RUN, "method": method, knob.name: default}, schema, schema)
    assert f"{knob.domain.about} (of " in schema["properties"][knob.name]["description"]
    chosen = [each for each in schema["allOf"] if "if" in each]
    own = next(each["then"] for each in chosen if each["if"]["properties"]["method"]["const"] == method)
    assert own["properties"][knob.name]["description"] == knob.domain.about


def test_it_is_printed_or_written(tmp_path, capsys):
    printed = json.loads(command(capsys, "schema").out)
    file = tmp_path / "schema.json"
    said = command(capsys, "schema", "--out", str(file))
    assert (said.code, json.loads(file.read_text(encoding="utf-8"))) == (0, printed)
    assert f"# yaml-language-server: $schema={file}" in said.out
    assert command(capsys, "schema", "--out", str(file / "x.json")).code == 2
