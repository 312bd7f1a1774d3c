"""`qtarget schema`: the JSON Schema of a configuration file, by which editors complete keys and mark wrong ones.

It is made from the classes of the installed libraries, so it knows the keys that this installation takes.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

import qtarget as qt
from qtarget.job.config.choices import NEVER_EMPTY, names_of_key
from qtarget.job.config.key_descriptions import key_descriptions
from qtarget.job.config.keys import TRL_NAMES, all_keys
from qtarget.job.config.ranges import NUMBER_RANGES, SAMPLE_RANGES, NumberRange
from qtarget.job.config.sample_options import SampleOptions
from qtarget.job.config.user_input import DEFAULT_METHOD
from qtarget.target.hyperparameters import RAMP_ALONG, RAMP_SHAPES, Count, Domain, OneOf, hyperparameters

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The edition of JSON Schema that editors of YAML read."""
SCHEMA_LINE = "# yaml-language-server: $schema={}"
"""The line at a configuration's head that tells an editor where its schema is."""
TITLE = "qtarget configuration"
NULL = {"type": "null"}
"""What unsets a key."""


def configuration_schema() -> dict[str, Any]:
    """The schema: every key with its type, its range or names, its default and what it means; no other key is taken."""
    definitions: dict[str, Any] = {}
    keys = {key: _property(key, hint, definitions) for key, hint in all_keys().items()}
    keys["method"] = {**keys["method"], "enum": list(qt.METHODS)}
    theirs = {key: {**keys[ours], "description": f"TRL's name of `{ours}`."} for key, ours in TRL_NAMES.items()}
    knobs = _hyperparameters()
    either = [{"anyOf": [{"required": [ours]}, {"required": [key]}]} for key, ours in TRL_NAMES.items()]
    return {
        "$schema": DIALECT,
        "title": TITLE,
        "type": "object",
        "properties": {**knobs, **keys, **theirs},
        "additionalProperties": False,
        "allOf": [*either, *(_of_method(name, knobs) for name in qt.METHODS)],
        "definitions": definitions,
    }


def _property(key: str, hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    described = key_descriptions()[key]
    found = _sample_type(definitions) if key == "sample" else _type(hint, definitions)
    if key in NUMBER_RANGES:
        found = _within(found, NUMBER_RANGES[key])
    if names := names_of_key(key):
        found = {"anyOf": [{"enum": names}, {"type": "null"}]} if _takes_null(hint) else {"enum": names}
    if key in NEVER_EMPTY:
        found = _never_empty(found)
    default = {} if described.default is None else {"default": described.default}
    text = {"description": described.text} if described.text else {}
    return {**text, **default, **found}


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type, as pydantic states it; of one that JSON does not have, that it may be anything."""
    try:
        found = TypeAdapter(_with_texts(hint)).json_schema(ref_template="#/definitions/{model}")
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError):
        return {}
    definitions |= found.pop("$defs", {})
    return found


def _sample_type(definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of the section `sample`, whose own keys have ranges too."""
    found = _type(SampleOptions | None, definitions)
    section = definitions[SampleOptions.__name__]
    ranged = {key: _within(section["properties"][key], allowed) for key, allowed in SAMPLE_RANGES.items()}
    definitions[SampleOptions.__name__] = section | {
        "properties": section["properties"] | ranged,
        "additionalProperties": False,
    }
    return found


def _with_texts(hint: Any) -> Any:
    """A type that takes a single text for a list of texts too, as a configuration does."""
    parts = get_args(hint) if get_origin(hint) in (Union, type(int | str)) else (hint,)
    return Union[(hint, str)] if list[str] in parts else hint  # noqa: UP007


def _takes_null(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _within(found: dict[str, Any], allowed: NumberRange) -> dict[str, Any]:
    """The schema of a number with its range; null stays what it was."""
    range_ = {"exclusiveMinimum" if allowed.above else "minimum": allowed.least}
    if allowed.most < float("inf"):
        range_["exclusiveMaximum" if allowed.below else "maximum"] = allowed.most
    parts = [part for part in found.get("anyOf", [found]) if part.get("type") != "string"]
    ranged = [{**part, **range_} if part.get("type") in ("number", "integer") else part for part in parts]
    also = [{"enum": list(allowed.also)}] if allowed.also else []
    whole = [*ranged, *also]
    return whole[0] if len(whole) == 1 else {"anyOf": whole}


def _never_empty(found: dict[str, Any]) -> dict[str, Any]:
    parts = found.get("anyOf", [found])
    filled = [{**part, "minLength": 1} if part.get("type") == "string" else part for part in parts]
    return {"anyOf": filled} if "anyOf" in found else filled[0]


def _hyperparameters() -> dict[str, Any]:
    """The hyperparameters of all methods, which may stand at the top level of a configuration; of a name that several
    have, whatever one of them takes. What the method of a file takes says `_of_method`."""
    meanings: dict[str, dict[str, list[str]]] = {}
    kinds: dict[str, list[dict[str, Any]]] = {}
    for method, factory in qt.METHODS.items():
        for each in hyperparameters(factory):
            meanings.setdefault(each.name, {}).setdefault(each.domain.about, []).append(method)
            kind = _domain(each.domain)
            if kind not in kinds.setdefault(each.name, []):
                kinds[each.name].append(kind)
    return {name: {"description": _in_words(meanings[name]), "anyOf": [*kinds[name], NULL]} for name in meanings}


def _in_words(meanings: Mapping[str, Sequence[str]]) -> str:
    """A description of a hyperparameter from what it means, and to which methods."""
    return "; ".join(f"{about} (of {', '.join(methods)})" for about, methods in meanings.items())


def _of_method(name: str, every: Collection[str]) -> dict[str, Any]:
    """What a file with a method takes: its hyperparameters within its own bounds, and no others.

    Args:
        every: names of all methods' hyperparameters.
    """
    own = {each.name: each.domain for each in hyperparameters(qt.METHODS[name])}
    knobs = {each: {"description": own[each].about, "anyOf": [_domain(own[each]), NULL]} for each in own}
    knobs |= {each: NULL for each in every if each not in own}
    inside = {"properties": {each: _domain(own[each]) for each in own}, "additionalProperties": False}
    chosen: dict[str, Any] = {"properties": {"method": {"const": name}}}
    chosen |= {} if name == DEFAULT_METHOD else {"required": ["method"]}
    return {"if": chosen, "then": {"properties": {**knobs, "method_kwargs": inside}}}


def _domain(domain: Domain) -> dict[str, Any]:
    if isinstance(domain, OneOf):
        names: dict[str, Any] = {"enum": list(domain.choices)}
        return {"anyOf": [names, {"type": "number", "exclusiveMinimum": 0}]} if domain.or_number else names
    if isinstance(domain, Count):
        return {"type": "integer", "minimum": domain.low}
    low = "exclusiveMinimum" if domain.open_low else "minimum"
    number: dict[str, Any] = {"type": "number", low: domain.low, "maximum": domain.high}
    one = {"anyOf": [number, {"enum": list(RAMP_ALONG)}, _schedule(number)]} if domain.changes else number
    return one if domain.total is None else {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def _schedule(number: dict[str, Any]) -> dict[str, Any]:
    """A number that changes from one end to the other."""
    end = {"anyOf": [number, {"enum": list(RAMP_ALONG)}]}
    share = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    named = {
        "from": end,
        "to": end,
        "shape": {"enum": list(RAMP_SHAPES)},
        "along": {"enum": list(RAMP_ALONG)},
        "until": share,
    }
    return {"type": "object", "properties": named, "required": ["from", "to"], "additionalProperties": False}
