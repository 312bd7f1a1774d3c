"""All effects of an evaluation run, as `effects.json` holds them: from its answers, its base and reference text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from qtarget.data.json_lines import read_json
from qtarget.evaluate.effects.answers import Effects, effects_of
from qtarget.evaluate.effects.calibration import Calibration, calibration
from qtarget.evaluate.effects.forgetting import Forgetting, forgetting
from qtarget.evaluate.effects.logprobs import TokenRow, token_row
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.evaluate.nouns import Answers
from qtarget.models.same_tokens import check_same_tokens

MAX_PROMPTS, NEW_TOKENS = 200, 256
"""The base's own text, for forgetting: at most so many prompts, spread over the tasks, and new tokens for each."""


@dataclass(frozen=True)
class RunEffects:
    """The effects of a run. `dataclasses.asdict` of it is plain JSON.

    Attributes:
        answers: the effects that its answers show, by task.
        base: the model that forgetting was measured against, as the user gave it.
        reference_rows: the file that calibration was measured on.
    """

    answers: dict[str, Effects]
    forgetting: Forgetting | None = None
    base: str | None = None
    calibration: Calibration | None = None
    reference_rows: str | None = None


def measure_effects(
    answers: Sequence[Answers],
    model: HuggingFace | None,
    prompts: Sequence[Sequence[int]] = (),
    base: str | None = None,
    reference_rows: Path | None = None,
) -> RunEffects:
    """Measure the effects of a run.

    Args:
        model: the model that answered; needed where `base` or `reference_rows` are given.
        prompts: ids of the prompts that the base continues.
    """
    moved = calibrated = None
    if base is not None and model is not None:
        moved = _forgetting(model, base, prompts)
    if reference_rows is not None and model is not None:
        rows = read_reference(reference_rows, model.tokenizer)
        calibrated = calibration(model.network, rows, batch_size=model.batch_size)
    by_task = {task.task.name: effects_of(task) for task in answers}
    return RunEffects(by_task, moved, base, calibrated, None if reference_rows is None else str(reference_rows))


def _forgetting(model: HuggingFace, base: str, prompts: Sequence[Sequence[int]]) -> Forgetting:
    other = HuggingFace(
        base,
        dtype=model.dtype,
        device=model.device,
        batch_size=model.batch_size,
        trust_remote_code=model.trust_remote_code,
        allow_pickled_weights=model.allow_pickled_weights,
    )
    check_same_tokens(model.tokenizer, other.tokenizer, "base")
    return forgetting(
        model.network,
        other.network,
        model.tokenizer,
        evenly(prompts, MAX_PROMPTS),
        max_new_tokens=NEW_TOKENS,
        batch_size=model.batch_size,
    )


def evenly(prompts: Sequence[Sequence[int]], most: int) -> list[Sequence[int]]:
    """At most `most` of the prompts, spread evenly over all."""
    if len(prompts) <= most:
        return list(prompts)
    return [prompts[place * len(prompts) // most] for place in range(most)]


def read_reference(path: Path, tokenizer: PreTrainedTokenizerBase) -> list[TokenRow]:
    """Rows of ``prompt`` and ``completion``, or of ``messages`` that the assistant ends, as training sees them."""
    return [_row(row, number, path, tokenizer) for number, row in enumerate(read_json(path), 1)]


def _row(row: Any, number: int, path: Path, tokenizer: PreTrainedTokenizerBase) -> TokenRow:
    if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str):
        return token_row(tokenizer, row["prompt"], row["completion"])
    messages: Any = row.get("messages")
    if not messages or not tokenizer.chat_template:
        raise ValueError(
            f"{path}, row {number}: a reference row has the texts `prompt` and `completion`, or `messages` for a model "
            f"with a chat template, and this has {sorted(row)}; write rows in one of the two forms."
        )
    chat: dict[str, Any] = {"tokenize": True, "return_dict": False}
    before: Any = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, **chat)
    whole: Any = tokenizer.apply_chat_template(messages, **chat)
    return TokenRow(tuple(whole), len(before))
