"""Prepares a user's rows for training: the door, then TRL tokenises and labels them, and per-token weights stay with
their tokens."""

from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset

from qtarget.data import (
    WEIGHT,
    RowCounts,
    attach_token_weight,
    carries_weight,
    column_names,
    learned_tokens,
    pack_rows,
    row_labels,
    truncate_rows,
)
from qtarget.outcomes import UnusableRow
from qtarget.train.learn_rows import conversations_learned
from qtarget.train.row_door import RowDoor
from qtarget.train.target_sft_config import TargetSFTConfig
from qtarget.train.trl_private import Preparation, Prepare, without_cutting

PER_TOKEN_COLUMNS = ("input_ids", "labels", WEIGHT)


class PreparedRows(NamedTuple):
    """A data set ready to train on, and how many of its rows are; None for one that was prepared before."""

    rows: Any
    counts: RowCounts | None


def prepared_rows(
    dataset: Any, prepare: Prepare, args: TargetSFTConfig, packing: bool, request: Preparation, door: RowDoor
) -> PreparedRows:
    """A data set's rows checked, tokenised, labelled and truncated or packed.

    Every row goes through the door; TRL tokenises and labels; the cutting is done here, on all per-token columns alike.

    Raises:
        UnusableRow: a row that cannot be trained on, or none that can.
    """
    if "seq_lengths" in column_names(dataset):  # packed already, as when `evaluate` is handed a prepared set
        return PreparedRows(dataset, None)
    opened = door.open_set(dataset, request.name)
    dropped = Counter[str]() if opened is None else opened.dropped
    rows = dataset if opened is None else opened.rows
    rows = conversations_learned(rows, args, request, door.policy(request.name), dropped)
    whole = _weighed(prepare(rows, without_cutting(args), False), args, request)
    given = len(dataset) if isinstance(dataset, Dataset) else None
    form, given = ("", given) if opened is None else (opened.form.sentence(), opened.given)
    counts = RowCounts(form, given, dropped)
    with args.main_process_first(desc="cutting rows"):
        if isinstance(whole, Dataset):
            return _cut_and_counted(whole, args, packing, request, door, counts)
        return PreparedRows(_shuffled(_cut(whole, args, packing), args), counts)


def _weighed(whole: Any, args: TargetSFTConfig, request: Preparation) -> Any:
    if not carries_weight(whole):
        return whole
    with args.main_process_first(desc="weighing tokens"):
        return attach_token_weight(
            whole,
            request.tokenizer,
            request.name,
            text_field=args.dataset_text_field,
            unspanned=args.unspanned_weight,
            chat_template=request.chat_template,
            **_processes(whole, args),
        )


def _cut_and_counted(
    whole: Dataset, args: TargetSFTConfig, packing: bool, request: Preparation, door: RowDoor, counts: RowCounts
) -> PreparedRows:
    """Rows of which a label is left, cut to `max_length` where they are longer, and packed where that is asked for."""
    is_split = packing and args.packing_strategy != "bfd"  # what is too long goes on in another sequence
    limit, mode = None if is_split else args.max_length, "keep_start" if packing else args.truncation_mode
    labels = row_labels(whole, limit, mode)
    counts = replace(
        counts,
        unlearned=int((~labels.has_label).sum()),
        masked=int((labels.has_label & ~labels.keeps_label).sum()),
        cut=int((labels.keeps_label & (labels.lengths > (limit or np.inf))).sum()),
        rows=int(labels.keeps_label.sum()),
    )
    if not counts.rows:
        raise UnusableRow(_nothing_left(counts, args, request, door))
    if counts.rows < len(whole):
        whole = whole.select(np.flatnonzero(labels.keeps_label))
    rows = _shuffled(_cut(whole, args, packing) if packing or counts.cut else whole, args)
    tokens, learned, longest = learned_tokens(rows)
    if not learned:
        raise UnusableRow(_nothing_left(counts, args, request, door))
    return PreparedRows(rows, replace(counts, sequences=len(rows), tokens=tokens, learned=learned, longest=longest))


def _nothing_left(counts: RowCounts, args: TargetSFTConfig, request: Preparation, door: RowDoor) -> str:
    if counts.masked:
        longer = door.asker.line("max_length", 4 * (args.max_length or 1024))
        return (
            f"The {request.name} data set has no label left: of {counts.masked:,} rows `max_length` ({args.max_length} "
            f"tokens) cuts off every one, so there is nothing to learn. Write {longer}, or rows with shorter prompts."
        )
    return (
        f"The {request.name} data set has no label ({counts.unlearned:,} rows without one), so there is no loss to "
        "compute. Look at the `labels` or mask columns, `completion_only_loss` and `assistant_only_loss`."
    )


def _cut(rows: Any, args: TargetSFTConfig, packing: bool) -> Any:
    names = column_names(rows)
    columns = [name for name in PER_TOKEN_COLUMNS if name in names]
    if packing:
        seed = args.seed if args.shuffle_dataset else None
        return pack_rows(
            rows, args.max_length, args.packing_strategy, columns, shuffle_seed=seed, **_processes(rows, args)
        )
    if args.max_length is None:
        return rows
    return truncate_rows(rows, args.max_length, args.truncation_mode, columns, **_processes(rows, args))


def _shuffled(rows: Any, args: TargetSFTConfig) -> Any:
    return rows.shuffle(seed=args.seed) if args.shuffle_dataset else rows


def _processes(rows: Any, args: TargetSFTConfig) -> dict[str, Any]:
    return {"num_proc": args.dataset_num_proc} if isinstance(rows, Dataset) else {}
