"""Weights on stretches of characters (spans), turned into weights on tokens."""

import re
from collections.abc import Callable, Sequence
from typing import Any

NONE_BELOW_ZERO = (
    "Rows hold no weights below 0: a token to avoid is marked in the loss call, in a loop of your own "
    '(qtarget.method("unlikelihood"))'
)
"""What to say to a row with a negative weight."""
Span = tuple[float, float, float]
"""`[start, end, weight]`: characters `start` up to, but not including, `end` weigh `weight`."""


def span_weights(offsets: Sequence[tuple[int, int]], spans: Sequence[Span], unspanned: float = 1.0) -> list[float]:
    """One weight per token: that of the span which covers most of its characters.

    Args:
        offsets: each token's `(start, end)` in characters of the text; `(0, 0)` for tokens made of none.
        spans: in characters of the same text.
        unspanned: weight of tokens that no span touches.
    """
    return [_weight(start, end, spans, unspanned) for start, end in offsets]


def _weight(start: int, end: int, spans: Sequence[Span], unspanned: float) -> float:
    touching = [(min(end, s[1]) - max(start, s[0]), float(s[2])) for s in spans]
    overlap, weight = max(touching, default=(0, unspanned), key=lambda pair: pair[0])
    return weight if overlap > 0 else float(unspanned)


def check_spans(spans: Sequence[Span], length: int, where: str) -> None:
    """Refuse a span that is not `0 <= start < end <= length` with a finite weight of zero or more."""
    for span in spans:
        if not (len(span) == 3 and 0 <= span[0] < span[1] <= length and 0 <= span[2] < float("inf")):
            raise ValueError(
                f"{where}: span {list(span)} is not [start, end, weight] with 0 <= start < end <= {length} "
                "(characters) and weight >= 0, as in `[0, 12, 2.0]`."
                f"{f' {NONE_BELOW_ZERO}.' if len(span) == 3 and span[2] < 0 else ''}"
            )


def message_spans(
    messages: Sequence[dict[str, Any]],
    spans: Sequence[Sequence[Span]],
    render: Callable[[Sequence[dict[str, Any]]], str],
    where: str,
) -> tuple[str, list[Span]]:
    """The rendered conversation, and the messages' spans moved into its characters.

    Args:
        messages: the conversation.
        spans: for each message, spans in characters of its `content`.
        render: the chat template, messages to text.
        where: names the row in errors.

    Contents are found by rendering the conversation a second time with each one replaced by a marker, and the
    result is checked against the real rendering: a template that rewrites what messages say is refused, never
    guessed.
    """
    if len(spans) != len(messages):
        raise ValueError(
            f"{where}: {len(spans)} lists of spans for {len(messages)} messages; write one list for each "
            "message, empty where nothing is weighted, as in `[[], [[0, 12, 2.0]]]`."
        )
    for message, of_message in zip(messages, spans, strict=True):
        check_spans(of_message, len(message["content"]) if of_message else 0, where)
    text = render(messages)
    starts = _content_starts(messages, spans, render, text, where)
    moved = [
        (start + span[0], start + span[1], span[2])
        for start, of_message in zip(starts, filter(None, spans), strict=True)
        for span in of_message
    ]
    return text, moved


def _content_starts(
    messages: Sequence[dict[str, Any]],
    spans: Sequence[Sequence[Span]],
    render: Callable[[Sequence[dict[str, Any]]], str],
    text: str,
    where: str,
) -> list[int]:
    """Where each message that has spans begins in `text`."""
    marked = [
        {**message, "content": f"\ue000{index}\ue001"} if of_message else message
        for index, (message, of_message) in enumerate(zip(messages, spans, strict=True))
    ]
    between = re.split("\ue000\\d+\ue001", render(marked))
    contents = [message["content"] for message, of_message in zip(messages, spans, strict=True) if of_message]
    starts, rebuilt = [], between[0]
    for content, after in zip(contents, between[1:], strict=False):
        shown = content if text.startswith(rebuilt + content + after) else content.strip()
        starts.append(len(rebuilt) - (len(content) - len(content.lstrip()) if shown != content else 0))
        rebuilt += shown + after
    if rebuilt != text or len(starts) != len(contents):
        raise ValueError(
            f"{where}: the chat template changes what its messages say, so their characters cannot be found "
            "in the rendered text. Give weights per token instead: tokenise the rows yourself and add a "
            "`token_weight` column beside `input_ids`."
        )
    return starts
