"""Conversations made tokens, with labels on what is learned of them and weights on the tokens that rows weigh."""

import warnings
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from operator import itemgetter
from typing import Any

from datasets import Features, IterableDataset, List, Value
from transformers import PreTrainedTokenizerBase

from qtarget.data.bad_rows.faults import RowFault
from qtarget.data.bad_rows.sift import CountedOnce, RowPolicy, good_rows
from qtarget.data.chat.chat_template import ChatTemplate, Stretch, rendering_lock
from qtarget.data.chat.conversation import Conversation
from qtarget.data.chat.message_search import MessageSearch
from qtarget.data.columns import AnyDataset, column_names
from qtarget.data.learned.learned_turns import Learn, learned_stretches
from qtarget.data.teacher_prompts.teacher_ids import TEACHER_PROMPT
from qtarget.data.weights.spans import Span, span_weights
from qtarget.data.weights.token_weight import SPANS, WEIGHT, conversation_spans
from qtarget.target.types import IGNORED

CHAT_COLUMNS = ("prompt", "completion", "messages", "tools", "chat_template_kwargs", SPANS)
"""Columns that are gone once conversations are tokens, unless a teacher's prompt is still to be read beside them."""
FAULT = "fault"
Offsets = Sequence[tuple[int, int]]
"""The characters of each token."""


@dataclass(frozen=True)
class RowRendering:
    """How conversations become text and tokens.

    Attributes:
        template: the chat template in the place of the tokenizer's own, or None.
        unspanned: weight of tokens that no span of `weight_spans` touches.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str | None = None
    unspanned: float = 1.0


def is_conversation(row: Mapping[str, Any]) -> bool:
    """Whether a row holds messages, as `messages` or as a `completion` that is a list of them."""
    return "input_ids" not in row and any(isinstance(row.get(name), list) for name in ("messages", "completion"))


def learned_rows(
    dataset: AnyDataset, learn: Learn, rendering: RowRendering, policy: RowPolicy, dropped: Counter[str]
) -> Any:
    """Conversations as `input_ids` and `labels`, with `token_weight` where rows have `weight_spans`.

    Each conversation is rendered whole and tokenised once, as TRL does it. A token is learned where any of its
    characters is.

    Args:
        dropped: where rows that are left out are counted, by reason; those of a stream as they come.

    Raises:
        UnusableRow: naming the first row that cannot be learned, where `policy` refuses them.
    """
    make = _LearnedBatch(rendering, learn, replace(policy, places=None), dropped)
    return _mapped(dataset, make, policy, f"Tokenizing {policy.name} dataset", tokens=True)


def found_rows(
    dataset: AnyDataset, learn: Learn, rendering: RowRendering, policy: RowPolicy, dropped: Counter[str]
) -> Any:
    """Conversations as they are, after a check that the chat template takes each of them and shows its messages.

    Args:
        learn: which turns must be whole: in others a template may drop what the assistant thought.

    Raises:
        UnusableRow: as `learned_rows`.
    """
    make = _FoundBatch(rendering, learn, replace(policy, places=None), dropped)
    return _mapped(dataset, make, policy, f"Looking for messages of {policy.name} dataset", tokens=False)


def _mapped(dataset: AnyDataset, make: Any, policy: RowPolicy, title: str, tokens: bool) -> Any:
    names = column_names(dataset)
    if isinstance(dataset, IterableDataset):
        gone = [name for name in _gone(names) if name in names] if tokens else None
        return dataset.map(make.of_stream, batched=True, with_indices=True, remove_columns=gone)
    features = _with_tokens(dataset.features) if tokens else {}
    made = dataset.map(
        make,
        batched=True,
        remove_columns=[name for name in names if name not in features],
        features=Features({**features, FAULT: Value("string")}),
        num_proc=policy.num_proc,
        desc=title,
    )
    good, counts = good_rows(made.data.column(FAULT).combine_chunks(), policy)
    make.counts.update(counts)
    made = made.remove_columns(FAULT) if tokens else dataset
    return made if good is None else made.select(good)


def _gone(columns: Collection[str]) -> Sequence[str]:
    return (SPANS,) if TEACHER_PROMPT in columns else CHAT_COLUMNS


def _with_tokens(features: Mapping[str, Any]) -> dict[str, Any]:
    """The types of columns once conversations are tokens."""
    kept = {name: feature for name, feature in features.items() if name not in _gone(features)}
    weight = {WEIGHT: List(Value("float64"))} if SPANS in features else {}
    return {**kept, "input_ids": List(Value("int64")), "labels": List(Value("int64")), **weight}


class RowBatch:
    """What is asked of a batch of conversations: what of them is learned, and what becomes of rows with a fault."""

    def __init__(self, rendering: RowRendering, learn: Learn, policy: RowPolicy, counts: Counter[str]) -> None:
        self.rendering, self.policy, self.counts = rendering, policy, counts
        self.learn: Learn = learn
        self.once = CountedOnce(counts)


class _LearnedBatch(RowBatch):
    """Turns a batch of conversations into tokens; a row with a fault has none, and says what is wrong with it."""

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        rows, search = rows_of_batch(batch), message_search(self.rendering, self.policy)
        drawn = [self._drawn(row, search) for row in rows]
        texts = [one[0] for one in drawn if not isinstance(one, RowFault)]
        tokens = iter(text_tokens(texts, self.rendering.tokenizer))
        out: dict[str, list[Any]] = {"input_ids": [], "labels": [], FAULT: []}
        weighs = SPANS in batch
        if weighs:
            out[WEIGHT] = []
        for one in drawn:
            ids, offsets = ([], []) if isinstance(one, RowFault) else next(tokens)
            out["input_ids"].append(ids)
            out["labels"].append([] if isinstance(one, RowFault) else self._labels(ids, offsets, *one[:2]))
            out[FAULT].append(one.as_text() if isinstance(one, RowFault) else None)
            if weighs:
                spans = [] if isinstance(one, RowFault) else one[2]
                out[WEIGHT].append(span_weights(offsets, spans, self.rendering.unspanned))
        return out

    def of_stream(self, batch: Mapping[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        """The same of a stream's batch, without the rows that have a fault."""
        rows = {name: values for name, values in batch.items() if name not in _gone(batch)}
        return without_faults({**rows, **self(batch)}, indices, self.policy, self.once)

    def _labels(self, ids: list[int], offsets: Offsets, text: str, stretches: list[Stretch]) -> list[int]:
        """The ids where a stretch has a character of the token, and −100 elsewhere."""
        labels = [IGNORED] * len(ids)
        for stretch in stretches:
            if self.rendering.tokenizer.is_fast:
                first, stop = _tokens_of(stretch, offsets, text)
            else:
                first, stop = _tokens_by_prefixes(stretch, ids, text, self.rendering.tokenizer)
            labels[first:stop] = ids[first:stop]
        return labels

    def _drawn(self, row: dict[str, Any], search: MessageSearch) -> tuple[str, list[Stretch], list[Span]] | RowFault:
        talk = Conversation.of(row)
        try:
            text, stretches = learned_stretches(talk, search, self.learn)
            return text, stretches, _moved_spans(row, talk, search.template)
        except RowFault as fault:
            return fault


class _FoundBatch(RowBatch):
    """Looks for the messages of a batch of conversations in their renderings."""

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        search = message_search(self.rendering, self.policy)
        return {FAULT: [self._fault(row, search) for row in rows_of_batch(batch)]}

    def of_stream(self, batch: Mapping[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        """The rows of a stream's batch without those that have a fault."""
        return without_faults({**batch, **self(batch)}, indices, self.policy, self.once)

    def _fault(self, row: dict[str, Any], search: MessageSearch) -> str | None:
        talk = Conversation.of(row)
        whole = range(talk.first, len(talk.messages)) if self.learn == "all" else talk.turns
        try:
            if talk.first:  # TRL renders the prompt by itself too
                search.template.text(talk.until(talk.first), asks=True)
            _check_no_wishes(talk, whole, self.policy)
            search.check(talk, search.template.text(talk), whole)
        except RowFault as fault:
            return fault.as_text()
        return None


def _check_no_wishes(talk: Conversation, learned: Collection[int], policy: RowPolicy) -> None:
    """Refuse messages that say of themselves another thing than TRL's labels, which do not ask them."""
    if wishes := sorted((talk.unlearned & set(learned)) | (talk.asked - set(learned))):
        raise RowFault(
            "message that says whether it is learned",
            talk.place(wishes[0]),
            "says whether it is learned, and TRL's own masks do not read that",
            f"Write {policy.asker.line('learn', 'assistant')}, which does.",
        )


def message_search(rendering: RowRendering, policy: RowPolicy) -> MessageSearch:
    """Looks for messages in what the chat template makes of them."""
    return MessageSearch(ChatTemplate(rendering.tokenizer, rendering.template, policy.asker))


def rows_of_batch(batch: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The rows of a batch of columns."""
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def without_faults(
    batch: dict[str, list[Any]], indices: list[int], policy: RowPolicy, once: CountedOnce
) -> dict[str, list[Any]]:
    """A stream's batch without the rows of which the column `FAULT` tells one, and without that column.

    Raises:
        UnusableRow: the first of them, where `policy` refuses such rows.
    """
    faults = {at: RowFault.of_text(text) for at, text in enumerate(batch.pop(FAULT)) if text is not None}
    if faults and policy.bad_rows == "refuse":
        first = min(faults)
        raise policy.error(indices[first], faults[first], {faults[first].reason: 1})
    for at, fault in faults.items():
        once.look(indices[at], fault.reason)
    return {name: [value for at, value in enumerate(values) if at not in faults] for name, values in batch.items()}


def _moved_spans(row: Mapping[str, Any], talk: Conversation, template: ChatTemplate) -> list[Span]:
    """The row's weights on stretches of its messages, in characters of the rendered text."""
    spans = row.get(SPANS)
    if not spans:
        return []
    try:
        return conversation_spans(talk, spans, template, "spans")[1]
    except ValueError as error:
        words = str(error).removeprefix("spans: ").removesuffix(".")
        raise RowFault("weights that cannot be placed", SPANS, f"cannot be placed: {words}") from error


def text_tokens(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], Offsets]]:
    """Ids and offsets of some texts, tokenised as chat templates' texts are: no special token is added. Tokenizers
    written in Python know no offsets."""
    if not texts:
        return []
    with rendering_lock():
        if not tokenizer.is_fast:
            return [(list(tokenizer(text, add_special_tokens=False)["input_ids"]), []) for text in texts]  # pyright: ignore
        made = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False)
    return list(zip(made["input_ids"], made["offset_mapping"], strict=True))  # pyright: ignore


def _tokens_of(stretch: Stretch, offsets: Offsets, text: str) -> tuple[int, int]:
    """The first token that has a character of the stretch, and the first behind it that has none."""
    start, end = stretch
    first = bisect_right(offsets, start, key=itemgetter(1))
    stop = bisect_left(offsets, end, key=itemgetter(0))
    if first < stop and offsets[first][0] < start:
        _warn_of_straddling(text[offsets[first][0] : offsets[first][1]], text[offsets[first][0] : start])
    return first, stop


def _tokens_by_prefixes(
    stretch: Stretch, ids: list[int], text: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, int]:
    """The same for a tokenizer that knows no offsets: by the tokens of the text before each edge."""
    heads = [list(tokenizer(text[:edge], add_special_tokens=False)["input_ids"]) for edge in stretch]  # pyright: ignore
    shared = [
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(head, ids, strict=False))) for head in heads
    ]
    if shared[0] < len(heads[0]):
        _warn_of_straddling(str(tokenizer.decode(ids[shared[0]])), str(tokenizer.decode(heads[0][shared[0] :])))
    return shared[0], shared[1] + (shared[1] < len(heads[1]))


def _warn_of_straddling(token: str, seen: str) -> None:
    warnings.warn(
        f"The token {token!r} begins before an answer does, and is learned whole; a model that is asked sees {seen!r} "
        "there. End the header of the chat template where a token ends.",
        stacklevel=2,
    )
