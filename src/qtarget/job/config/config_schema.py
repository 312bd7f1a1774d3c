"""`qtarget schema`: the JSON Schema of a configuration file, by which editors complete keys and mark wrong ones.

It is made from the classes of the installed libraries, so it knows the keys that this installation takes.
"""

from typing import Any, Union, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

import qtarget as qt
from qtarget.job.config.choices import NEVER_EMPTY, names_of_key
from qtarget.job.config.key_descriptions import key_descriptions
from qtarget.job.config.keys import TRL_NAMES, all_keys
from qtarget.job.config.ranges import NUMBER_RANGES
from qtarget.target.hyperparameters import RAMP_ALONG, RAMP_SHAPES, Count, Domain, OneOf, hyperparameters

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The edition of JSON Schema that editors of YAML read."""
SCHEMA_LINE = "# yaml-language-server: $schema={}"
"""The line at a configuration's head that tells an editor where its schema is."""
TITLE = "qtarget configuration"


def configuration_schema() -> dict[str, Any]:
    """The schema: every key with its type, its range or names, its default and what it means; no other key is taken."""
    definitions: dict[str, Any] = {}
    keys = {key: _property(key, hint, definitions) for key, hint in all_keys().items()}
    keys["method"] = {**keys["method"], "enum": list(qt.METHODS)}
    theirs = {key: {**keys[ours], "description": f"TRL's name of `{ours}`."} for key, ours in TRL_NAMES.items()}
    either = [{"anyOf": [{"required": [ours]}, {"required": [key]}]} for key, ours in TRL_NAMES.items()]
    return {
        "$schema": DIALECT,
        "title": TITLE,
        "type": "object",
        "properties": {**_hyperparameters(), **keys, **theirs},
        "additionalProperties": False,
        "allOf": either,
        "definitions": definitions,
    }


def _property(key: str, hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    described = key_descriptions()[key]
    found = _type(hint, definitions)
    if key in NUMBER_RANGES:
        found = _within(found, key)
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


def _with_texts(hint: Any) -> Any:
    """A type that takes a single text for a list of texts too, as a configuration does."""
    parts = get_args(hint) if get_origin(hint) in (Union, type(int | str)) else (hint,)
    return Union[(hint, str)] if list[str] in parts else hint  # noqa: UP007


def _takes_null(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _within(found: dict[str, Any], key: str) -> dict[str, Any]:
    """The schema of a number with its range; null stays what it was."""
    allowed = NUMBER_RANGES[key]
    low, high = ("exclusiveMinimum", "exclusiveMaximum") if allowed.open_ else ("minimum", "maximum")
    range_ = {low: allowed.least} | ({high: allowed.most} if allowed.most < float("inf") else {})
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
    """The hyperparameters of all methods, which may stand at the top level of a configuration."""
    owners: dict[str, list[str]] = {}
    kinds: dict[str, list[dict[str, Any]]] = {}
    about: dict[str, str] = {}
    for method, factory in qt.METHODS.items():
        for each in hyperparameters(factory):
            owners.setdefault(each.name, []).append(method)
            about.setdefault(each.name, each.domain.about)
            kind = _domain(each.domain)
            if kind not in kinds.setdefault(each.name, []):
                kinds[each.name].append(kind)
    return {
        name: {
            "description": f"{about[name]} (of {', '.join(owners[name])})",
            "anyOf": [*kinds[name], {"type": "null"}],
        }
        for name in owners
    }


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
