"""What a first configuration says for each key, and why: rules of thumb, each a function of what was found."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import qtarget as qt
from qtarget.job.first_config.run_facts import RunFacts
from qtarget.job.method_pages import entry

_GIB = 2**30
SHARE_OF_FREE = 0.8
"""Of the memory that is free, what a run is let take."""
BYTES_FULL, BYTES_FROZEN = 16, 4
"""Bytes for each weight: in float32 with gradient and two moments of Adam; in float32 alone, beneath an adapter."""
TOKENS_AT_ONCE = {"cuda": 8192, "cpu": 2048}
"""Tokens that go through the model in one pass."""
STEPS_WANTED = 50
"""Optimizer steps below which a run learns little: batches are made smaller before there are fewer."""
MOST_ROWS_A_STEP = 32
TEACHER_KEYS = {
    "teacher": "what the model learns from beside the rows; it has the model's own tokens",
    "teacher_cache": "what the teacher said about the rows, on disk",
}


class KeyChoice(NamedTuple):
    """A key of the file, its value, and why it has that value: a line of a comment.

    Attributes:
        is_off: the line is written as a comment, for the user to take the sign away.
    """

    key: str
    value: Any
    reason: str
    is_off: bool = False


Sections = dict[str, list[KeyChoice]]
"""Settings under the headings that they stand under."""


def chosen_settings(given: Mapping[str, Any], facts: RunFacts) -> Sections:
    """The settings of a first run.

    Args:
        given: keys that the user named, which stay as they are; a few of them decide others.
    """
    adapter = _adapter(given, facts)
    length = _length(given, facts)
    batch = _batch(given, facts, int(length.value or facts.lengths.longest))
    return {
        "What is trained, on what": [*_sources(given, facts), *_rows(facts), length],
        "The objective": [*_objective(given)],
        "How": [*adapter, *batch, *_duration(given, facts), *_rate(facts, adapter), *_precision(facts)],
        "What is kept, and measured": [*_saves(given), *_evaluation(given, facts)],
    }


def _sources(given: Mapping[str, Any], facts: RunFacts) -> Iterator[KeyChoice]:
    model = facts.model
    layers = f", {model.layers} layers" if model.layers else ""
    yield KeyChoice("model", given["model"], f"{model.architecture}: {millions(model.parameters)} parameters{layers}")
    yield KeyChoice("train_dataset", given["train_dataset"], facts.counts.sentence())


def _rows(facts: RunFacts) -> Iterator[KeyChoice]:
    if {"messages", "prompt and completion"} & set(facts.becomes):
        yield KeyChoice(
            "learn", "assistant", "the model learns its own turns, and not the questions; `all` is every token"
        )
    if facts.eos_token is not None:
        ends = " or ".join(facts.model.ends) or "no token"
        yield KeyChoice(
            "eos_token", facts.eos_token, f"answers in the rows end with it, and generation would stop at {ends} only"
        )


def _length(given: Mapping[str, Any], facts: RunFacts) -> KeyChoice:
    lengths, positions = facts.lengths, facts.model.positions
    longest = 8 * math.ceil(lengths.longest / 8)
    of_rows = f"half of the rows have at most {lengths.half:,} tokens, 95 % at most {lengths.most:,}"
    whole = "of the first rows, the longest has" if facts.sampled else "the longest has"
    if positions is not None and longest > positions:
        is_cut = lengths.longest > positions
        end = "longer ones are cut" if is_cut else "none is cut"
        return KeyChoice(
            "max_length", positions, f"{of_rows}, {whole} {lengths.longest:,}; the model's positions, {end}"
        )
    return KeyChoice("max_length", longest, f"{of_rows}, {whole} {lengths.longest:,}: none is cut")


def _objective(given: Mapping[str, Any]) -> Iterator[KeyChoice]:
    has_teacher = any(given.get(key) for key in ("teacher", "teacher_cache"))
    name = str(given.get("method") or ("target-sft" if has_teacher else "sft"))
    why = (
        "the rows' answers as far as the model finds them likely, the teacher's word for the rest"
        if name == "target-sft"
        else "the usual objective, which others are compared with; `qtarget methods` lists them, and with a `teacher` "
        "target-sft is the one to try"
        if name == "sft"
        else entry(name).summary.rstrip(".")
    )
    yield KeyChoice("method", name, why)
    for key, what in TEACHER_KEYS.items():
        if given.get(key) is not None:
            yield KeyChoice(key, given[key], what)
    kwargs = given.get("method_kwargs") or {}
    for parameter in entry(name).parameters if name in qt.METHODS else ():
        if parameter.default is not None and parameter.name not in kwargs:
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            yield KeyChoice(parameter.name, default, f"{parameter.meaning}; the default")


def _adapter(given: Mapping[str, Any], facts: RunFacts) -> list[KeyChoice]:
    """LoRA where a full fine-tune does not fit, or where the user asks for it."""
    need, free = _bytes_needed(facts, BYTES_FULL), facts.free
    is_small = free is not None and need > SHARE_OF_FREE * free
    if not given.get("use_peft", is_small):
        return []
    there = f"{(free or 0) / _GIB:.1f} GiB are free"
    fits = f"{need / _GIB:.1f} GiB for all weights, gradients and Adam's moments, and {there}"
    why = (
        "as given: an adapter is trained"
        if "use_peft" in given
        else f"an adapter is trained, as a full run takes {fits}"
    )
    settings = [KeyChoice("use_peft", True, why)]
    if facts.device == "cuda" or _bytes_needed(facts, BYTES_FROZEN) > SHARE_OF_FREE * (free or math.inf):
        settings.append(
            KeyChoice("dtype", "bfloat16", "the frozen weights take two bytes each; the adapter has its own")
        )
    return [
        *settings,
        KeyChoice("lora_r", 16, "rank of the adapter: more holds more, and takes more memory"),
        KeyChoice("lora_alpha", 32, "twice the rank, as is usual"),
        KeyChoice("lora_target_modules", "all-linear", "every linear layer but the output layer"),
    ]


def _bytes_needed(facts: RunFacts, of_a_weight: int) -> int:
    return of_a_weight * facts.model.parameters + facts.teacher_bytes


def _batch(given: Mapping[str, Any], facts: RunFacts, length: int) -> list[KeyChoice]:
    rows = facts.counts.rows or 1
    wanted = max(1, min(MOST_ROWS_A_STEP, rows * _epochs(rows) // STEPS_WANTED))
    wanted = 2 ** int(math.log2(wanted))
    budget = TOKENS_AT_ONCE[facts.device]
    at_once = given.get("per_device_train_batch_size")
    if not isinstance(at_once, int):
        at_once = min(wanted, 2 ** int(math.log2(max(1, budget // length))))
    steps = max(1, wanted // at_once)
    return [
        KeyChoice(
            "per_device_train_batch_size", at_once, f"rows at once: about {budget:,} tokens; fewer take less memory"
        ),
        KeyChoice(
            "gradient_accumulation_steps", steps, f"batches a step: {at_once * steps} rows are learned from in each"
        ),
    ]


def _epochs(rows: int) -> int:
    return 3 if rows < 2_000 else 2 if rows < 20_000 else 1


def _duration(given: Mapping[str, Any], facts: RunFacts) -> Iterator[KeyChoice]:
    if "max_steps" not in given:
        epochs = _epochs(facts.counts.rows or 1)
        yield KeyChoice("num_train_epochs", epochs, "how often each row is seen: more for few rows, fewer for many")


def _rate(facts: RunFacts, adapter: list[KeyChoice]) -> list[KeyChoice]:
    parameters = facts.model.parameters
    if adapter:
        rate, why = 2e-4, "usual for adapters, some ten times that of a full run"
    else:
        rate = 5e-5 if parameters < 3e8 else 2e-5 if parameters < 1e9 else 1e-5
        why = (
            f"usual for all weights of a model of {millions(parameters)}; a third and three times of it are worth a try"
        )
    return [
        KeyChoice("learning_rate", rate, why),
        KeyChoice("lr_scheduler_type", "cosine", "falls to 0 at the end, where single rows would show most"),
        KeyChoice("warmup_steps", 0.03, "below 1 a share of all steps: the first ones are small"),
    ]


def _precision(facts: RunFacts) -> Iterator[KeyChoice]:
    from qtarget.job.config.machine import machine_choices

    choices = machine_choices({}).keys
    if facts.device == "cpu":
        yield KeyChoice("bf16", False, "float32, as no GPU is used; `true` is faster on processors that have bf16")
    elif choices.get("fp16"):
        yield KeyChoice("fp16", True, "this GPU has no bf16")
    else:
        yield KeyChoice("bf16", True, "mixed precision, which this GPU has; weights stay in float32")


def checkpointing(need: int, free: int | None) -> KeyChoice:
    """Whether activations are computed a second time rather than kept.

    Args:
        need: bytes of a run that keeps them.  free: bytes that are free; None where nothing says so.
    """
    there = "nothing says how much is free" if free is None else f"{free / _GIB:.1f} GiB are free"
    is_needed = free is None or need > SHARE_OF_FREE * free
    size = f"a run takes {need / _GIB:.1f} GiB without it, and {there}"
    why = "saves memory for a third more time" if is_needed else "`true` would save memory, for a third more time"
    return KeyChoice("gradient_checkpointing", is_needed, f"{why}: {size}")


def _saves(given: Mapping[str, Any]) -> list[KeyChoice]:
    return [
        KeyChoice("output_dir", given["output_dir"], "model, card and checkpoints; nothing is overwritten"),
        KeyChoice(
            "save_steps", 0.25, "below 1 a share of all steps: four checkpoints, each of which a run can go on from"
        ),
        KeyChoice("save_total_limit", 2, "older ones are deleted"),
        KeyChoice("logging_steps", 10, "steps between two lines of figures"),
        KeyChoice("seed", 42, "of the order of rows and of dropout: the same seed gives the same run"),
    ]


def _evaluation(given: Mapping[str, Any], facts: RunFacts) -> list[KeyChoice]:
    steps = [
        KeyChoice(
            "eval_strategy", "steps", "measures loss and nll on rows that are not trained on, while training runs"
        ),
        KeyChoice("eval_steps", 0.25, "as often as a checkpoint is written"),
    ]
    if given.get("eval_dataset") is not None:
        return [KeyChoice("eval_dataset", given["eval_dataset"], "rows that are not trained on"), *steps]
    if facts.held_out is not None:
        return [KeyChoice("dataset_test_split", facts.held_out, "a split of the data that is not trained on"), *steps]
    why = "write rows that are not trained on to a file of their own, and take the # away: is the model still learning?"
    return [KeyChoice("eval_dataset", "held_out.jsonl", why, True), *(each._replace(is_off=True) for each in steps)]


def millions(count: int) -> str:
    """A number of weights in words: "135 M", "1.5 B"."""
    if count >= 10**9:
        return f"{count / 10**9:.1f} B"
    return f"{count / 10**6:.0f} M" if count >= 10**7 else f"{count / 10**6:.2g} M"
