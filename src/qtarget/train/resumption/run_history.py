"""Which steps of a run were run as what: a run that is resumed with changes is no longer one run all through."""

import itertools
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from qtarget.data import Asker
from qtarget.target.hyperparameter_words import setting_words
from qtarget.train.resumption.code_of_run import CODE_PART, NOT_COMPARED

KEPT_BY_CHECKPOINTS = frozenset(
    {
        "learning_rate",
        "weight_decay",
        "optim",
        "optim_args",
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "optimizer",
        "optimizer_settings",
        "lr_scheduler",
        "adapter",
        "dtypes",
        "sharding",
    }
)
"""What the states in a checkpoint decide: another value would have no effect on a run that goes on from it."""
_MEASURING = ("reduce_lr_on_plateau", "greedy")
_OF_SCHEDULE = frozenset({"lr_scheduler_type", "lr_scheduler_kwargs"})
"""Schedules that follow a measure, whose whole state, also how they were made, stands in a checkpoint."""
_SAMPLED = re.compile(r"((a model|an adapter), )?[0-9a-f]{64}", re.ASCII)
"""What earlier versions wrote of weights: sha256 over a sample of them, which no other digest can be held against."""
_UNLOOKED = "which is not looked into"
"""How earlier versions ended what they wrote of a teacher of the user's own, known by its class."""
_PYTHON = re.compile(r"Python ([0-9.]+), sha256 [0-9a-f]{64}", re.ASCII)
"""A digest of code, which another version of Python compiles to other bytes."""
_WEIGHT_KEYS = {"weights": "model", "teachers": "teacher", "reference": "reference"}
"""Parts of an identity that are weights, and the keys that name them."""
_CONFIG_PARTS = ("model_config", "teacher_configs", "reference_config")
"""Parts of an identity that stand in a model's config.json."""
_FORMAT = "model_init_kwargs.use_safetensors"
"""Decides no weight; earlier versions wrote it of models on the hub."""
_OF_RESULTS = frozenset(
    {
        "load_best_model_at_end",
        "greater_is_better",
        "metric_for_best_model",
        "evaluation_rows",
        "bf16_full_eval",
        "generation_config",
    }
)
_OF_RESULTS_PREFIXES = ("eval_", "per_device_eval_")
"""Parts that decide which weights become the result, and how it is evaluated, and no step."""
_LINES = 6
"""Differences that are listed of one part; two models of different families differ in some thirty fields."""
_SOURCE_CONFIGS = ("teacher_configs", "reference_config")
_DIGEST, _SHOWN = 64, 12
"""Characters of a sha256, and of those shown."""


class Difference(NamedTuple):
    """A part of a run's identity that differs. before, now: its values; None where there was none."""

    name: str
    before: Any
    now: Any

    @property
    def part(self) -> str:
        """The part of the identity that it is in: "versions" of "versions.torch"."""
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.name}: {_short(self.before)} then, {_short(self.now)} now"


@dataclass(frozen=True)
class RunPart:
    """Steps that were run as the same run.

    Attributes:
        after: the step behind which it begins, 0 for the first.
        identity: `run_identity` of it.
    """

    after: int
    identity: Mapping[str, Any]


def parts_of_history(facts: Mapping[str, Any]) -> list[RunPart]:
    """The history that the manifest of a checkpoint tells; empty where it tells none."""
    return [RunPart(int(each["after"]), dict(each["identity"])) for each in facts.get("history", [])]


def history_sentences(history: Sequence[RunPart], steps: int) -> list[str]:
    """What changed in a run, a sentence for each part behind the first; none for one that is one run all through."""
    history = history_until(history, steps)
    ends = [*(each.after for each in history[2:]), steps]
    pairs = zip(history, history[1:], ends, strict=False)
    return [
        *(_unknown_sentence(min(first.after, steps)) for first in history[:1] if first.after),
        *(_part_sentence(before, now, end) for before, now, end in pairs),
    ]


def history_until(history: Sequence[RunPart], steps: int) -> list[RunPart]:
    """The parts of a history that the first steps of a run are of."""
    return [part for place, part in enumerate(history) if not place or part.after < steps]


def later_sentences(history: Sequence[RunPart], steps: int) -> list[str]:
    """What changed in a run behind the steps that its weights are of, a sentence for each part."""
    return [
        f"Behind step {now.after} the run went on with {_changes(before, now)}: later than these weights."
        for before, now in itertools.pairwise(history)
        if now.after >= steps
    ]


def _unknown_sentence(last: int) -> str:
    return (
        f"Steps 1 to {last} are of a checkpoint without a manifest: what they were run as is not known. The "
        "learning rate and the optimizer are those that its states hold, and not those of the configuration below."
    )


def _part_sentence(before: RunPart, now: RunPart, end: int) -> str:
    return f"Steps {now.after + 1} to {end} were run with {_changes(before, now)}."


def _changes(before: RunPart, now: RunPart) -> str:
    return ", ".join(
        f"{each.name} {_short(each.now)} (before: {_short(each.before)})"
        for each in differences(before.identity, now.identity)
    )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """The parts in which two identities differ, the insides of mappings (`versions.torch`) each for itself.

    A part that one of them lacks is one that its version of the libraries does not know: no difference. Nor is the
    configuration of a source that has none, a cache or a server: that the source is another is said already.
    """
    found = _differences({name: before[name] for name in now if name in before}, now)
    found = [each for each in found if not _is_of_another_source(each)]
    if any(each.part in ("method", "hyperparameters", "formula") for each in found):  # they say it better
        found = [each for each in found if each.name != f"{CODE_PART}.method"]
    if any(each.part in ("method", "hyperparameters") for each in found):
        found = [each for each in found if each.name != "formula"]
    if any(each.part in ("bf16", "fp16") for each in found):
        found = [each for each in found if each.name != "mixed_precision"]
    return sorted(found, key=lambda each: each.name)


def _is_of_another_source(each: Difference) -> bool:
    kinds = {type(each.before), type(each.now)}
    return each.part in _SOURCE_CONFIGS and type(None) in kinds and dict in kinds


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    found = []
    for name in before if not prefix else {**before, **now}:
        first, second = before.get(name), now.get(name)
        if _is_sample((prefix + name).partition(".")[0], first) or prefix + name in (_FORMAT, NOT_COMPARED):
            continue
        if _is_of_other_python(first, second):
            continue
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            found += _differences(first, second, f"{prefix}{name}.")
        elif first != second:
            found.append(Difference(prefix + name, first, second))
    return found


def _is_sample(part: str, value: Any) -> bool:
    """Whether a part of an identity is of a version that looked at a sample of the weights."""
    if part not in _WEIGHT_KEYS or not isinstance(value, str):
        return False
    return _SAMPLED.fullmatch(value) is not None or value.endswith(_UNLOOKED)


def _is_of_other_python(first: Any, second: Any) -> bool:
    if not isinstance(first, str) or not isinstance(second, str):
        return False
    before, now = _PYTHON.fullmatch(first), _PYTHON.fullmatch(second)
    return before is not None and now is not None and before[1] != now[1]


def unknown_then(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The parts of an identity that were not written so that they can be compared, and why.

    An earlier version of ours did not write them, or wrote a sample; or another version of Python compiled the code.
    """
    written = [
        name
        for name in (*_WEIGHT_KEYS, *_CONFIG_PARTS, "tokenizer_config", "mixed_precision", CODE_PART)
        if now.get(name)
    ]
    unwritten = [name for name in written if name not in before or _has_sample(name, before[name])]
    pairs = [(each, now.get(CODE_PART, {}).get(place)) for place, each in before.get(CODE_PART, {}).items()]
    return [
        *(f"{name} (an earlier version wrote the checkpoint)" for name in unwritten),
        *(
            [f"{CODE_PART} (another version of Python compiled it)"]
            if any(_is_of_other_python(*pair) for pair in pairs)
            else []
        ),
    ]


def _has_sample(part: str, value: Any) -> bool:
    values = value.values() if isinstance(value, Mapping) else [value]
    return any(_is_sample(part, each) for each in values)


class ResumeRequest(NamedTuple):
    """What a run that is to go on says of itself.

    Attributes:
        checkpoint: where it is to go on from.
        allowed: names of parts of the identity that may differ.
        keys: the names that are keys of a configuration and part of the identity.
        settings: all keys of a configuration.
        asker: in whose language errors say what to write.
    """

    checkpoint: Path
    allowed: Collection[str]
    keys: Collection[str]
    settings: Collection[str]
    asker: Asker


def check_same_run(before: Mapping[str, Any], now: Mapping[str, Any], request: ResumeRequest) -> list[Difference]:
    """Refuse to go on from a checkpoint as another run than the one that wrote it.

    Returns:
        What differs and is allowed to.

    Raises:
        ValueError: lists what differs, with the line to write for each.
    """
    changed, fixed = differences(before, now), _without_effect(before)
    _refuse_unknown(request, {*_names(before), *_names(now)})
    if vain := [name for name in request.allowed if name in fixed]:
        raise ValueError(
            f"`resume_changed` names {', '.join(vain)}, which the states in a checkpoint decide: another value would "
            "have no effect. To train on from its weights in another way, begin a new run with "
            f"{_key_line('model', str(request.checkpoint), request)}."
        )
    refused = [
        each for each in changed if not {each.name, each.part, _key_of(each.name, request)} & set(request.allowed)
    ]
    if refused:
        raise ValueError(_refusal(refused, fixed, request))
    return changed


def changes_without_steps(history: Sequence[RunPart]) -> list[Difference]:
    """What the last part of a history changes that has a meaning for steps alone, where it has none."""
    changed = differences(history[-2].identity, history[-1].identity) if len(history) > 1 else []
    return [each for each in changed if each.part not in _OF_RESULTS and not each.part.startswith(_OF_RESULTS_PREFIXES)]


def _names(identity: Mapping[str, Any]) -> Iterator[str]:
    """Names of the parts of an identity, and of what is in them."""
    for name, value in identity.items():
        yield name
        yield from (f"{name}.{inner}" for inner in (value if isinstance(value, Mapping) else ()))


def _refuse_unknown(request: ResumeRequest, parts: Collection[str]) -> None:
    known = {*parts, *request.settings, *(key for name in parts if (key := _key_of(name, request)))}
    for name in request.allowed:
        if name not in known:
            near = get_close_matches(name, sorted(known), n=1)
            raise ValueError(
                f"`resume_changed` names {name}, which is no key of a configuration and no part of a run"
                + (f"; did you mean {near[0]}?" if near else ".")
            )


def _without_effect(identity: Mapping[str, Any]) -> frozenset[str]:
    """Parts that a change of would change nothing: the first weights too, unless an adapter stands on them."""
    of_schedule = _OF_SCHEDULE if identity.get("lr_scheduler_type") in _MEASURING else frozenset()
    return KEPT_BY_CHECKPOINTS | of_schedule | (frozenset() if identity.get("adapter") else {"weights"})


def _refusal(refused: list[Difference], fixed: frozenset[str], request: ResumeRequest) -> str:
    lines = [f"{request.checkpoint} is of another run, and this one would not be its continuation:"]
    for part in dict.fromkeys(each.part for each in refused):
        of_part = [each for each in refused if each.part == part]
        lines += [f"  {each}{_remedy(each, request)}" for each in of_part[:_LINES]]
        lines += [f"  {part}: {len(of_part) - _LINES} more fields"] if len(of_part) > _LINES else []
    if decided := sorted({each.part for each in refused} & fixed):
        lines.append(f"The checkpoint decides {', '.join(decided)}: another value would have no effect.")
    if free := sorted({each.part for each in refused} - fixed):
        lines.append(
            f"If the change is meant, write {_key_line('resume_changed', free, request)}: card and manifest then say "
            "which steps were run as what. Else begin anew in another `output_dir`."
        )
    else:
        lines.append("Or begin a new run in another `output_dir`.")
    return "\n".join(lines)


def _remedy(each: Difference, request: ResumeRequest) -> str:
    """The line that undoes a change, where one line does."""
    if each.part == "versions":
        return f"; `pip install {each.name.partition('.')[2]}=={each.before}`"
    if each.name == "ranks":
        start = f"`torchrun --nproc_per_node {each.before}` or `accelerate launch --num_processes {each.before}`"
        return f"; start as many processes as then, with {start}"
    if each.name == "mixed_precision":
        return f"; start it as then, with ACCELERATE_MIXED_PRECISION={each.before} in the environment"
    if each.part in _CONFIG_PARTS:
        return _config_remedy(each)
    if each.part == "tokenizer_config":
        return "; give the files of the tokenizer as they were then"
    if each.part == "generation_config":
        return "; give the model's generation_config.json as it was then"
    if each.part in _WEIGHT_KEYS:
        return f"; give as `{_WEIGHT_KEYS[each.part]}` what was given then"
    key = _key_of(each.name, request)
    return "" if key is None else f"; write {_key_line(key, each.before, request)}"


def _config_remedy(each: Difference) -> str:
    """What to write into a model's config.json; nothing for one that is there on one side alone."""
    path = each.name.split(".")[2 if each.part == "teacher_configs" else 1 :]
    if not path:
        return ""
    whose = {"model_config": "the model's", "reference_config": "the reference's"}.get(each.part, "the teacher's")
    file, field = ("config.json", ".".join(path))
    if path[0] == "adapters":
        file, field = "adapter_config.json", ".".join(path[2:])
    if each.before is None:
        return f"; remove {json.dumps(field)} from {whose} {file}"
    return f"; write {json.dumps(field)}: {json.dumps(each.before)} into {whose} {file}"


def _key_of(name: str, request: ResumeRequest) -> str | None:
    """The key of a configuration that sets a part of an identity."""
    is_command_line = request.asker is Asker.COMMAND_LINE
    match name.split("."):
        case ["hyperparameters", hyperparameter] if is_command_line:
            return hyperparameter
        case ["adapter", "r"] if is_command_line:
            return "lora_r"
        case ["adapter", setting] if is_command_line and setting.startswith(("lora_", "use_")):
            return setting
        case [key] if key in request.keys or key == "method":
            return key
    return None


def _key_line(key: str, value: Any, request: ResumeRequest) -> str:
    if key == "model" and request.asker is Asker.PYTHON:
        return f"`model={value!r}`"
    return request.asker.line(key, value)


def _short(value: Any) -> str:
    words = (setting_words(value) if isinstance(value, Mapping) else str(value)).split(" ")
    return " ".join(word[:_SHOWN] if len(word) == _DIGEST else word for word in words)
