"""Per-token weights of rows: the column `token_weight`, given or made from `weight_spans`."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl.data_utils import is_conversational

from qtarget.data.bad_rows.faults import RowFault
from qtarget.data.chat.chat_template import ChatTemplate
from qtarget.data.chat.conversation import Conversation
from qtarget.data.columns import AnyDataset, column_names
from qtarget.data.weights.spans import NONE_BELOW_ZERO, Span, check_spans, message_spans, span_weights

WEIGHT = "token_weight"
"""Column of one weight per token, zero or more, as long as `input_ids` (pre-tokenised rows)."""
SPANS = "weight_spans"
"""Column of spans `[start, end, weight]`.

In characters of the completion (prompt-completion rows) or of the text (plain text). For conversations, one
list of spans for each message of `messages`, or of the completion's messages, in characters of its `content`.
"""


def conversation_spans(
    talk: Conversation, spans: Sequence[Sequence[Span] | None], template: ChatTemplate, where: str
) -> tuple[str, list[Span]]:
    """A conversation as its template writes it, and its spans in characters of that text.

    Args:
        spans: for each message that may be learned, in characters of its `content`; None for none.
        where: names the row in errors.

    Raises:
        ValueError: as `message_spans`.  RowFault: the template refuses the conversation.
    """
    by_message = [*([] for _ in range(talk.first)), *(list(of_message or []) for of_message in spans)]

    def render(messages: Sequence[dict[str, Any]]) -> str:
        return template.text(replace(talk, messages=list(messages)))

    return message_spans(talk.messages, by_message, render, where)


def carries_weight(dataset: AnyDataset) -> bool:
    """Whether rows carry weights of their tokens, or spans to make them from."""
    return bool({WEIGHT, SPANS} & set(column_names(dataset)))


def attach_token_weight(
    dataset: AnyDataset,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    *,
    text_field: str = "text",
    unspanned: float = 1.0,
    chat_template: str | None = None,
    **map_kwargs: Any,
) -> AnyDataset:
    """Give tokenised rows (their text columns still beside them) a checked `token_weight` column.

    Args:
        dataset: rows with `input_ids` and either `token_weight` or `weight_spans`.
        tokenizer: the one the rows were tokenised with; spans need a fast one, which knows its offsets.
        name: of the data set, for errors.
        text_field: column of plain text.
        unspanned: weight of tokens that no span touches.
        chat_template: the template the rows were rendered with, where it is not the tokenizer's own.

    Raises:
        ValueError: naming the row, for weights that are not one finite number >= 0 per token, or spans
            outside their text.
    """
    if WEIGHT in column_names(dataset):
        return dataset.map(_checked_weight, with_indices=True, fn_kwargs={"name": name}, **map_kwargs)
    if not tokenizer.is_fast:
        raise ValueError(
            f"`{SPANS}` needs a fast tokenizer, which knows where its tokens lie in the text; "
            f"{type(tokenizer).__name__} is not one. Tokenise the rows yourself and give `{WEIGHT}` beside "
            "`input_ids`."
        )
    kwargs = {
        "tokenizer": tokenizer,
        "name": name,
        "text_field": text_field,
        "unspanned": unspanned,
        "chat_template": chat_template,
    }
    return dataset.map(_weight_from_spans, with_indices=True, fn_kwargs=kwargs, **map_kwargs)


def _checked_weight(row: dict[str, Any], index: int, name: str) -> dict[str, list[float]]:
    weights = [float(weight) for weight in row[WEIGHT]]
    if len(weights) != len(row["input_ids"]):
        raise ValueError(
            f"Row {index + 1} of the {name} data set has {len(weights)} values in `{WEIGHT}` for "
            f"{len(row['input_ids'])} tokens in `input_ids`; write one for each token "
            "(text rows take `weight_spans` instead)."
        )
    wrong = [weight for weight in weights if not (weight >= 0 and math.isfinite(weight))]
    if wrong:
        raise ValueError(
            f"Row {index + 1} of the {name} data set has {wrong[0]} in `{WEIGHT}`; weights are finite numbers >= 0."
            f"{f' {NONE_BELOW_ZERO}.' if wrong[0] < 0 else ''}"
        )
    return {WEIGHT: weights}


def _weight_from_spans(
    row: dict[str, Any],
    index: int,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    text_field: str,
    unspanned: float,
    chat_template: str | None,
) -> dict[str, list[float]]:
    where = f"Row {index + 1} of the {name} data set"
    text, spans, is_chat = _rendered(row, tokenizer, text_field, chat_template, where)
    tokens = tokenizer(text, add_special_tokens=not is_chat, return_offsets_mapping=True)
    if list(tokens["input_ids"]) != list(row["input_ids"]):
        raise ValueError(
            f"{where}: its text does not tokenise to its `input_ids`, so `{SPANS}` cannot be placed. Give "
            f"`{WEIGHT}` beside `input_ids` instead."
        )
    return {WEIGHT: span_weights(tokens["offset_mapping"], spans, unspanned)}


def _rendered(
    row: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    text_field: str,
    chat_template: str | None,
    where: str,
) -> tuple[str, list, bool]:
    """The row's whole text, its spans in that text's characters, and whether a chat template made it."""
    spans = row[SPANS] or []
    if is_conversational(row):
        try:
            template = ChatTemplate(tokenizer, chat_template)
            return *conversation_spans(Conversation.of(row), spans, template, where), True
        except RowFault as fault:
            raise ValueError(f"{where}: `{fault.field}` {fault.found}. {fault.remedy}") from fault
    prompt, body = (row["prompt"], row["completion"]) if "completion" in row else ("", row[text_field])
    check_spans(spans, len(body), where)
    moved = [(start + len(prompt), end + len(prompt), weight) for start, end, weight in spans]
    return prompt + body, moved, False
