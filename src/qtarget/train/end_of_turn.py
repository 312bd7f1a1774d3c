"""Whether the token that ends an answer in the rows is one at which generation stops: else the model talks on."""

import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qtarget.data import Asker
from qtarget.outcomes import UnusableRow
from qtarget.target.types import IGNORED

ROWS_LOOKED_AT = 10_000
STREAM_ROWS_LOOKED_AT = 16
READ = ("labels", "seq_lengths")


class EndCheck(NamedTuple):
    """What is known of the rows whose ends are checked.

    Attributes:
        name: of the data set, for errors.
        max_length: tokens at which rows are cut, or None; a row of this length may have lost its end.
        is_refused: whether rows without an end are refused; else a warning is given.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    max_length: int | None
    asker: Asker
    is_refused: bool


def end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens at which a trained model stops: those of its generation configuration, and the tokenizer's end token,
    which training adds to them."""
    config = getattr(model, "generation_config", None)
    given = None if config is None else config.eos_token_id
    ends: list[Any] = [*(given if isinstance(given, list) else [given]), tokenizer.eos_token_id]
    return {int(end) for end in ends if end is not None}


def check_ends(rows: Any, ends: Collection[int], check: EndCheck) -> None:
    """Look at the last learned token of each row, blanks aside; one that is an end token is enough.

    Args:
        rows: prepared: `input_ids`, `labels`, and `seq_lengths` where several documents are packed into one.

    Raises:
        ValueError: no row that is whole ends with an end token, and `check` refuses that; the message has the line to
            write.
    """
    last: Counter[int] = Counter()
    for labels in _documents(rows):
        if check.max_length is not None and len(labels) >= check.max_length:
            continue
        token = _last_token(labels, ends, check.tokenizer)
        if token in ends:
            return
        if token is not None:
            last[token] += 1
    if not last:
        return
    if check.is_refused:
        raise ValueError(_words(last, ends, check))
    warnings.warn(_words(last, ends, check), stacklevel=2)


def _documents(rows: Any) -> Iterator[np.ndarray]:
    """The labels of each document, of the first rows."""
    for row in _first_numbers(rows) if isinstance(rows, Dataset) else _first_of_stream(rows):
        yield from _documents_of(row)


def _first_numbers(rows: Dataset) -> Iterator[Any]:
    numbers = rows.select_columns([name for name in READ if name in rows.column_names]).with_format("numpy")
    return islice(iter(numbers), ROWS_LOOKED_AT)


def _first_of_stream(rows: Any) -> Iterator[Any]:
    """The first rows, up to one that is refused: training says so when it comes there."""
    with suppress(UnusableRow):
        yield from islice(rows, STREAM_ROWS_LOOKED_AT)


def _documents_of(row: Mapping[str, Any]) -> Iterator[np.ndarray]:
    labels, lengths = np.asarray(row.get("labels", ())), row.get("seq_lengths")
    for start, stop in pairwise(np.cumsum([0, *([len(labels)] if lengths is None else lengths)])):
        yield labels[start:stop]


def _last_token(labels: np.ndarray, ends: Collection[int], tokenizer: PreTrainedTokenizerBase) -> int | None:
    for token in labels[:0:-1].tolist():  # the first token follows nothing, so it is not learned
        if token != IGNORED and (token in ends or str(tokenizer.decode([token])).strip()):
            return token
    return None


def _words(last: Counter[int], ends: Collection[int], check: EndCheck) -> str:
    token, count = last.most_common(1)[0]
    text = str(check.tokenizer.convert_ids_to_tokens(token))
    stops = " or ".join(sorted(repr(check.tokenizer.convert_ids_to_tokens(end)) for end in ends)) or "nowhere"
    is_sign = token in check.tokenizer.added_tokens_decoder and 2 * count > last.total()
    shown = text if token in check.tokenizer.added_tokens_decoder else str(check.tokenizer.decode([token]))
    remedy = (
        f"Write {check.asker.line('eos_token', text)}: the model then stops there, and its saved generation "
        "configuration says so."
        if is_sign
        else "Let each answer end with such a token: write it at the end of the assistant's turn in the chat template "
        f"({check.asker.line('chat_template_path', 'template.jinja')}), or at the end of each text."
    )
    return (
        f"No row of the {check.name} data set teaches the model to stop: the last token that is learned is {shown!r} "
        f"in {count:,} of {last.total():,} rows, and generation stops at {stops}. {remedy}"
    )
