"""Prepares a user's rows for training: the door, then TRL tokenises and labels them, and per-token weights stay with
their tokens."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset

from qtarget.console import spelled_out
from qtarget.data import (
    TEACHER_IDS,
    TEACHER_PROMPT,
    WEIGHT,
    RowCounts,
    RowRendering,
    attach_teacher_ids,
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
from qtarget.train.mixture_epoch import check_epoch
from qtarget.train.row_door import RowDoor
from qtarget.train.row_mixture import RowMixture, RowSet
from qtarget.train.target_sft_config import TargetSFTConfig
from qtarget.train.trl_preparation import Preparation, Prepare, without_cutting

PER_TOKEN_COLUMNS = ("input_ids", "labels", WEIGHT, TEACHER_IDS)


@dataclass(frozen=True)
class PreparedRows:
    """A data set ready to train on.

    Attributes:
        rows: what is trained on.
        counts: how many of its rows are; None for one that was prepared before.
        sets: of a mixture, its sets by name before they were mixed.
        finished: mixes them, and cuts, packs and shuffles what comes of it.
    """

    rows: Any
    counts: RowCounts | None
    sets: Mapping[str, Any] = field(default_factory=dict)
    finished: Callable[[list[Any]], Any] = field(default=lambda sets: sets[0])


class RowPreparation(NamedTuple):
    """How a run prepares rows.

    Attributes:
        prepare: TRL's way to tokenise and label rows.
        packing: whether rows are packed.
    """

    prepare: Prepare
    args: TargetSFTConfig
    packing: bool
    request: Preparation
    door: RowDoor

    @property
    def is_split(self) -> bool:
        """Whether what is too long goes on in another sequence, instead of being cut."""
        return self.packing and self.args.packing_strategy != "bfd"


def prepared_rows(dataset: Any, how: RowPreparation) -> PreparedRows:
    """A data set's rows checked, tokenised, labelled and truncated or packed.

    Every row goes through the door; TRL tokenises and labels; the cutting is done here, on all per-token columns alike.
    Of a mixture each set is prepared for itself.

    Raises:
        UnusableRow: a row that cannot be trained on, or none that can.
    """
    mixture = how.door.mixture_of(dataset)
    if mixture is not None:
        return _prepared_mixture(mixture, how)
    if "seq_lengths" in column_names(dataset):  # packed already, as when `evaluate` is handed a prepared set
        return PreparedRows(dataset, None)
    whole, counts = _labelled(dataset, how, None)
    with how.args.main_process_first(desc="cutting rows"):
        is_cut = how.packing or counts.cut or not isinstance(whole, Dataset)
        rows = _shuffled(_cut(whole, how.args, how.packing) if is_cut else whole, how.args)
        return PreparedRows(rows, _with_tokens(counts, rows, counts.rows, how))


def _prepared_mixture(mixture: RowMixture, how: RowPreparation) -> PreparedRows:
    _check_masks_of_streams(mixture, how)
    names = mixture.names(how.request.name)
    of_sets = [how._replace(request=how.request._replace(name=name)) for name in names]
    made = [_part(one, of_set) for one, of_set in zip(mixture.sets, of_sets, strict=True)]
    parts = [rows for rows, _ in made]
    check_epoch(mixture, parts, how.request.name, how.door.asker)

    def finished(parts: list[Any]) -> Any:
        joined = mixture.joined(parts)
        return _shuffled(_cut(joined, how.args, True) if how.packing else joined, how.args)

    with how.args.main_process_first(desc="mixing rows"):
        shares, rows = mixture.shares(parts), finished(parts)
        sets = {name: replace(one[1], share=share) for name, one, share in zip(names, made, shares, strict=True)}
        in_epoch = len(mixture.joined(parts)) if isinstance(rows, Dataset) else None
        counts = _with_tokens(RowCounts.of_sets(sets), rows, in_epoch, how)
    return PreparedRows(rows, counts, dict(zip(names, parts, strict=True)), finished)


def _check_masks_of_streams(mixture: RowMixture, how: RowPreparation) -> None:
    """Refuse TRL's own masks of the assistant's turns where streams are mixed: `datasets` reads them in threads, and
    the templates that make these masks cannot be in two at once."""
    streams = any(not isinstance(each.rows, Dataset) for each in mixture.sets)
    if streams and how.args.learn is None and how.args.assistant_only_loss:
        line, instead = how.door.asker.line("assistant_only_loss", True), how.door.asker.line("learn", "assistant")
        raise ValueError(f"{line} cannot mask the streams of a mixture; write {instead} in its place.")


def _part(one: RowSet, how: RowPreparation) -> tuple[Any, RowCounts]:
    """A set of a mixture, its rows cut to `max_length` where they are not to go on in another sequence."""
    if "seq_lengths" in column_names(one.rows):
        raise ValueError(
            f"The {how.request.name} data set is packed already (it has `seq_lengths`), and a mixture mixes rows; give "
            "it as it was before."
        )
    whole, counts = _labelled(one.rows, how, one)
    with how.args.main_process_first(desc="cutting rows"):
        args = how.args
        if how.packing:  # which always keeps the start
            args = copy.copy(how.args)
            args.truncation_mode, args.max_length = "keep_start", None if how.is_split else how.args.max_length
        rows = _cut(whole, args, False) if counts.cut or not isinstance(whole, Dataset) else whole
        return rows, _with_tokens(counts, rows, counts.rows, how)


def _with_tokens(counts: RowCounts, rows: Any, count: int | None, how: RowPreparation) -> RowCounts:
    """The counts of a finite set, with the tokens of its rows."""
    if not isinstance(rows, Dataset):
        return counts
    tokens, learned, longest = learned_tokens(rows)
    if not learned:
        raise UnusableRow(_nothing_left(counts, how))
    return replace(counts, rows=count, sequences=len(rows), tokens=tokens, learned=learned, longest=longest)


def _labelled(dataset: Any, how: RowPreparation, of: RowSet | None) -> tuple[Any, RowCounts]:
    """A set's rows behind the door, whole, with `input_ids` and `labels`; of a finite one those of which a label is
    left once they are cut."""
    args, request, door = how.args, how.request, how.door
    opened = door.open_set(dataset, request.name, of)
    dropped = Counter[str]() if opened is None else opened.dropped
    rows = dataset if opened is None else opened.rows
    policy = replace(door.policy(request.name), places=None if opened is None else opened.places)
    rows = conversations_learned(rows, args, request, policy, dropped)
    whole = _weighed(how.prepare(rows, without_cutting(args), False), args, request)
    if TEACHER_PROMPT in column_names(whole):
        column = TEACHER_PROMPT if opened is None else opened.form.teacher_column
        _check_prompt_unlearned(args, request, column)
        rendering = RowRendering(request.tokenizer, request.chat_template)
        with args.main_process_first(desc="tokenizing the teacher's prompts"):
            whole = attach_teacher_ids(whole, rendering, policy, dropped, column)
    given = len(dataset) if isinstance(dataset, Dataset) else None
    form, given = ("", given) if opened is None else (opened.form.sentence(), opened.given)
    if isinstance(whole, Dataset):
        return _with_labels(whole, RowCounts(form, given, dropped), how)
    is_elsewhere = args.dataloader_num_workers > 0 and args.bad_rows == "skip"
    return whole, RowCounts(form, given, {} if is_elsewhere else dropped, is_uncounted=is_elsewhere)


def _check_prompt_unlearned(args: TargetSFTConfig, request: Preparation, column: str) -> None:
    """Refuse to learn the prompts of rows of which the teacher reads other ones."""
    if args.learn == "all" or args.completion_only_loss is False:
        said = ("learn", "all") if args.learn == "all" else ("completion_only_loss", False)
        raise ValueError(
            f"{request.asker.line(*said)} learns the prompt of each row too, and of the {request.name} data set "
            f"`{spelled_out(column)}` gives the teacher another one: it can score the completion alone. Write "
            f"{request.asker.line('learn', 'assistant')}."
        )


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


def _with_labels(whole: Dataset, counts: RowCounts, how: RowPreparation) -> tuple[Dataset, RowCounts]:
    """Rows of which a label is left once they are cut to `max_length`, and how many are not."""
    limit = None if how.is_split else how.args.max_length
    labels = row_labels(whole, limit, "keep_start" if how.packing else how.args.truncation_mode)
    counts = replace(
        counts,
        unlearned=int((~labels.has_label).sum()),
        masked=int((labels.has_label & ~labels.keeps_label).sum()),
        cut=int((labels.keeps_label & (labels.lengths > (limit or np.inf))).sum()),
        rows=int(labels.keeps_label.sum()),
    )
    if not counts.rows:
        raise UnusableRow(_nothing_left(counts, how))
    return (whole if counts.rows == len(whole) else whole.select(np.flatnonzero(labels.keeps_label))), counts


def _nothing_left(counts: RowCounts, how: RowPreparation) -> str:
    args, request = how.args, how.request
    if counts.masked:
        longer = how.door.asker.line("max_length", 4 * (args.max_length or 1024))
        return (
            f"The {request.name} data set has no label left: of {counts.masked:,} rows `max_length` ({args.max_length} "
            f"tokens) cuts off every one, so there is nothing to learn. Write {longer}, or rows with shorter prompts."
        )
    if not counts.unlearned:
        return (
            f"The {request.name} data set has no label but on the first token of its rows, which nothing stands before "
            "that it could be predicted from. Look at the rows' token ids: a tokenizer that does not know their words "
            "may leave the end token alone."
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
