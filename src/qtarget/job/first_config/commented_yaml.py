"""The text of a first configuration: every key with its reason above it."""

from collections.abc import Mapping
from typing import Any

import yaml

from qtarget.console import spelled_out
from qtarget.job.config.config_schema import SCHEMA_LINE
from qtarget.job.config.key_descriptions import key_descriptions
from qtarget.job.config.keys import all_keys
from qtarget.job.first_config.key_choices import KeyChoice, Sections, millions
from qtarget.job.first_config.run_facts import RunFacts

COMMENT_WIDTH = 96
"""Characters of a line of comments."""
NOT_WRITTEN = ("hub_token", "method_kwargs")


def commented_yaml(given: Mapping[str, Any], sections: Sections, facts: RunFacts, schema: str, path: str) -> str:
    """The file. What the user gave stands as it was given; beside what is chosen, under a heading of its own.

    Args:
        given: the user's keys.  schema: the file that an editor finds the schema in.  path: of this file.
    """
    chosen = {each.key for settings in sections.values() for each in settings}
    others = [_as_given(key, value) for key, value in _flat(given).items() if key not in chosen]
    parts = {**sections, **({"As given": others} if others else {})}
    lines = [SCHEMA_LINE.format(schema), *_head(facts, path)]
    for heading, settings in parts.items():
        lines += ["", f"# {heading}", *(line for each in settings for line in _setting(each, given))]
    return "\n".join(lines) + "\n"


def _flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """The user's keys, the method's hyperparameters among them, without secrets and without what is unset."""
    values = {**given, **(given.get("method_kwargs") or {})}
    return {key: value for key, value in values.items() if key not in NOT_WRITTEN and value is not None}


def _as_given(key: str, value: Any) -> KeyChoice:
    text = key_descriptions()[key].text if key in all_keys() else "a hyperparameter of the method"
    return KeyChoice(key, value, text.partition(". ")[0].rstrip(".") or "as given")


def _head(facts: RunFacts, path: str) -> list[str]:
    model, positions = facts.model, facts.model.positions
    room = f", {positions:,} positions" if positions else ""
    template = "a chat template" if model.has_template else "no chat template"
    free = f"{facts.free / 2**30:.1f} GiB free" if facts.free is not None else "memory not known"
    return [
        f"# Written by `qtarget init`. `qtarget validate {path}` checks it, `qtarget train {path}` runs it.",
        f"#   model    {millions(model.parameters)} parameters, {template}{room}, ends at {' or '.join(model.ends)}",
        f"#   rows     {spelled_out(facts.counts.form or ', '.join(facts.becomes))}",
        f"#   machine  {facts.device}, {free}",
    ]


def _setting(setting: KeyChoice, given: Mapping[str, Any]) -> list[str]:
    value = _flat(given).get(setting.key, setting.value)
    is_own = setting.key in _flat(given) and value != setting.value
    reason = _as_given(setting.key, value).reason if is_own else setting.reason
    sign = "# " if setting.is_off and not is_own else ""
    return [*_wrapped(spelled_out(reason)), sign + yaml_line(setting.key, value)]


def _wrapped(reason: str) -> list[str]:
    words, lines = reason.split(" "), [""]
    for word in words:
        if len(lines[-1]) + len(word) > COMMENT_WIDTH:
            lines.append("")
        lines[-1] += f" {word}"
    return [f"#{line}" for line in lines]


def yaml_line(key: str, value: Any) -> str:
    """`key: value` as YAML 1.2 reads it back; numbers as people write them."""
    if isinstance(value, float):
        return f"{key}: {value:g}"
    text = yaml.safe_dump(value, allow_unicode=True, sort_keys=False, default_flow_style=True, width=10**6)
    return f"{key}: {text.strip().removesuffix('...').strip()}"
