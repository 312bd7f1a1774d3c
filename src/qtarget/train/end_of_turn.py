"""Whether the token that ends an answer in the rows is one at which generation stops: else the model talks on."""

import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qtarget.data import Asker, OpenRows, is_conversation
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
        takes_end_token: as `takes_end_token` says of the rows.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    max_length: int | None
    asker: Asker
    is_refused: bool
    takes_end_token: bool = False


def end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens at which a trained model stops: those of its generation configuration, and the tokenizer's end token,
    which training adds to them."""
    config = getattr(model, "generation_config", None)
    given = None if config is None else config.eos_token_id
    ends: list[Any] = [*(given if isinstance(given, list) else [given]), tokenizer.eos_token_id]
    return {int(end) for end in ends if end is not None}


def takes_end_token(opened: OpenRows | None) -> bool:
    """Whether rows are ended with the tokenizer's end token when they are tokenised, as texts are: conversations end as
    the chat template says, and token ids as they come."""
    if opened is None or opened.form.becomes in ("tokens", "messages"):
        return False
    return not is_conversation(next(_first_of_stream(opened.rows), {}))


def check_ends(sets: Sequence[tuple[Any, EndCheck]], ends: Collection[int]) -> None:
    """Look at the last learned token of each row, blanks aside; of each set, one that is an end token is enough.

    Args:
        sets: prepared rows (`input_ids`, `labels`, and `seq_lengths` where several documents are packed into one), and
            what is known of them; several where they are a mixture.

    Raises:
        ValueError: no row of a set that is whole ends with an end token, and its `EndCheck` refuses that; the message
            has the line to write.
    """
    looked = [each for rows, check in sets if (each := _look(rows, ends, check)) is not None]
    endless = [each for each in looked if not each.stops]
    apart = [each for each in endless if each.is_sign and any(_contradicts(each, other) for other in looked)]
    said = [(each.check.is_refused, _words(each, ends)) for each in endless if each not in apart]
    if apart:
        said.insert(0, (any(each.check.is_refused for each in apart), _mixture_words(looked, apart, ends)))
    for is_refused, words in said:
        if is_refused:
            raise ValueError(words)
        warnings.warn(words, stacklevel=2)


def end_token_to_write(sets: Sequence[tuple[Any, EndCheck]], ends: Collection[int]) -> str | None:
    """The `eos_token` that a run needs: the one token, no word, that rows end with and generation does not stop at.

    Args:
        sets: as for `check_ends`.

    Returns:
        None where generation stops already, or where no one token is right.
    """
    looked = [each for rows, check in sets if (each := _look(rows, ends, check)) is not None]
    signs = {each.token: each for each in looked if not each.stops and each.is_sign}
    if len(signs) != 1:
        return None
    ((token, end),) = signs.items()
    if any(_contradicts(end, other) for other in looked):
        return None
    return str(end.check.tokenizer.convert_ids_to_tokens(token))


class _End(NamedTuple):
    """How the rows of a set end.

    Attributes:
        token: an end token, where a row has one; else the last one of most rows.
        count: of the rows that were looked at, those with this end.
        total: of the rows that were looked at.
        stops: whether generation stops there.
    """

    check: EndCheck
    token: int
    count: int
    total: int
    stops: bool = False

    @property
    def is_sign(self) -> bool:
        """Whether most rows end with one token that is no word."""
        return self.token in self.check.tokenizer.added_tokens_decoder and 2 * self.count > self.total

    @property
    def shown(self) -> str:
        return _shown(self.token, self.check.tokenizer)


def _look(rows: Any, ends: Collection[int], check: EndCheck) -> _End | None:
    """How whole rows end; None where there is none."""
    last: Counter[int] = Counter()
    for labels in _documents(rows):
        if check.max_length is not None and len(labels) >= check.max_length:
            continue
        token = _last_token(labels, ends, check.tokenizer)
        if token is None:
            continue
        if token in ends:
            return _End(check, token, 1, 1, True)
        last[token] += 1
    return _End(check, *last.most_common(1)[0], last.total()) if last else None


def _contradicts(one: _End, other: _End) -> bool:
    """Whether rows that `other` is of would end with another token still, were `one`'s the tokenizer's end token."""
    return (other.stops or other.is_sign) and other.token != one.token and not other.check.takes_end_token


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


def _shown(token: int, tokenizer: PreTrainedTokenizerBase) -> str:
    is_added = token in tokenizer.added_tokens_decoder
    return repr(str(tokenizer.convert_ids_to_tokens(token) if is_added else tokenizer.decode([token])))


def _stops(ends: Collection[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return " or ".join(sorted(repr(tokenizer.convert_ids_to_tokens(end)) for end in ends)) or "nowhere"


def _mixture_words(looked: Sequence[_End], apart: Sequence[_End], ends: Collection[int]) -> str:
    """What to say of a mixture whose sets end with several tokens, for which no one `eos_token` is right."""
    check = apart[0].check
    each_set = ", ".join(f"{each.check.name} with {each.shown}" for each in looked)
    names = " and ".join(each.check.name for each in apart)
    kept = [each.token for each in looked if each.stops]
    token = min(kept, key=lambda end: (-kept.count(end), end)) if kept else min(ends, default=None)
    end = "the end token" if token is None else f"{_shown(token, check.tokenizer)} (token {token})"
    return (
        f"The sets of the mixture end differently: {each_set}; generation stops at {_stops(ends, check.tokenizer)}, so "
        f"{names} {'does' if len(apart) == 1 else 'do'} not teach the model to stop. End the rows there with {end}: "
        "texts and token ids in the rows, conversations in the chat template "
        f"({check.asker.line('chat_template_path', 'template.jinja')}). Leave `eos_token` as it is: it is one "
        "token for all sets."
    )


def _words(end: _End, ends: Collection[int]) -> str:
    check = end.check
    remedy = (
        f"Write {check.asker.line('eos_token', str(check.tokenizer.convert_ids_to_tokens(end.token)))}: the model then "
        "stops there, and its saved generation configuration says so."
        if end.is_sign
        else "Let each answer end with such a token: write it at the end of the assistant's turn in the chat template "
        f"({check.asker.line('chat_template_path', 'template.jinja')}), or at the end of each text."
    )
    return (
        f"No row of the {check.name} data set teaches the model to stop: the last token that is learned is {end.shown} "
        f"in {end.count:,} of {end.total:,} rows, and generation stops at {_stops(ends, check.tokenizer)}. {remedy}"
    )
