"""What the teacher reads of rows with a `teacher_prompt`, rendered and tokenised as the rows themselves are."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from datasets import Features, IterableDataset, List, Value

from qtarget.data.bad_rows.faults import RowFault
from qtarget.data.bad_rows.sift import CountedOnce, RowPolicy, good_rows
from qtarget.data.chat.conversation import Conversation
from qtarget.data.chat.message_search import MessageSearch
from qtarget.data.columns import AnyDataset, column_names
from qtarget.data.learned.labels import (
    CHAT_COLUMNS,
    FAULT,
    RowRendering,
    message_search,
    rows_of_batch,
    text_tokens,
    without_faults,
)
from qtarget.data.teacher_prompts.teacher_ids import TEACHER_IDS, TEACHER_PROMPT, in_place


def attach_teacher_ids(
    dataset: AnyDataset, rendering: RowRendering, policy: RowPolicy, dropped: Counter[str], column: str = TEACHER_PROMPT
) -> AnyDataset:
    """Give tokenised rows (their `prompt`, `completion` and `teacher_prompt` still beside them) the column
    `teacher_ids`, and take those columns away.

    Args:
        dataset: rows with `input_ids` and `labels`.
        rendering: as the rows were rendered.
        column: of the user's rows, for errors.
        dropped: where rows that are left out are counted, by reason; those of a stream as they come.

    Raises:
        UnusableRow: the completion's tokens are other ones behind the teacher's prompt, or the template refuses it,
            where `policy` refuses such rows.
    """
    make = _TeacherBatch(rendering, replace(policy, places=None), dropped, column)
    gone = [name for name in CHAT_COLUMNS if name in column_names(dataset)]
    if isinstance(dataset, IterableDataset):
        return dataset.map(make.of_stream, batched=True, with_indices=True, remove_columns=gone)
    kept = {name: feature for name, feature in dataset.features.items() if name not in gone}
    made = dataset.map(
        make,
        batched=True,
        remove_columns=gone,
        features=Features({**kept, TEACHER_IDS: List(List(Value("int64"))), FAULT: Value("string")}),
        num_proc=policy.num_proc,
        desc=f"Tokenizing {policy.name} dataset for the teacher",
    )
    good, counts = good_rows(made.data.column(FAULT).combine_chunks(), policy)
    dropped.update(counts)
    made = made.remove_columns(FAULT)
    return made if good is None else made.select(good)


class _TeacherBatch:
    """Tokenises the teacher's prompts of a batch; a row with a fault has no tokens, and says what is wrong with it."""

    def __init__(self, rendering: RowRendering, policy: RowPolicy, counts: Counter[str], column: str) -> None:
        self.rendering, self.policy, self.column = rendering, policy, column
        self.once = CountedOnce(counts)

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        search = message_search(self.rendering, self.policy)
        out: dict[str, list[Any]] = {TEACHER_IDS: [], FAULT: []}
        for row in rows_of_batch(batch):
            made: list[list[int]] | RowFault
            try:
                made = in_place(row["input_ids"], row["labels"], self._read(row, search), self.column)
            except RowFault as fault:
                made = fault
            out[TEACHER_IDS].append([] if isinstance(made, RowFault) else made)
            out[FAULT].append(made.as_text() if isinstance(made, RowFault) else None)
        return out

    def of_stream(self, batch: Mapping[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        """The same of a stream's batch, without the rows that have a fault."""
        rows = {name: values for name, values in batch.items() if name not in CHAT_COLUMNS}
        return without_faults({**rows, **self(batch)}, indices, self.policy, self.once)

    def _read(self, row: Mapping[str, Any], search: MessageSearch) -> list[int]:
        """The tokens of the teacher's prompt and the row's completion."""
        tokenizer, asked = self.rendering.tokenizer, row[TEACHER_PROMPT]
        if isinstance(asked, str):
            return list(tokenizer(asked + row["completion"])["input_ids"])  # pyright: ignore[reportArgumentType]
        talk = Conversation.of({**row, "prompt": asked})
        text = search.template.text(talk)
        search.check(talk, text, talk.turns)
        return text_tokens([text], tokenizer)[0][0]
