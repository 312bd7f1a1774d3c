"""Prepares a user's rows for training: TRL tokenises and labels them, and per-token weights stay with their tokens."""

from typing import Any

from datasets import Dataset

from qtarget.data import (
    WEIGHT,
    attach_token_weight,
    carries_weight,
    check_columns,
    check_supervision,
    checked_completions,
    column_names,
    pack_rows,
    truncate_rows,
)
from qtarget.train.target_sft_config import TargetSFTConfig
from qtarget.train.trl_private import Preparation, Prepare, without_cutting

PER_TOKEN_COLUMNS = ("input_ids", "labels", WEIGHT)


def prepared_rows(dataset: Any, prepare: Prepare, args: TargetSFTConfig, packing: bool, request: Preparation) -> Any:
    """A data set's rows checked, tokenised, labelled and truncated or packed.

    Rows without weights are TRL's own work. With weights, TRL tokenises and labels, and the cutting is done
    here on all per-token columns alike.
    """
    if "seq_lengths" in column_names(dataset):  # packed already, as when `evaluate` is handed a prepared set
        return dataset
    if not request.has_formatter:
        check_columns(dataset, request.name, args.dataset_text_field)
    dataset = checked_completions(dataset, request.name)
    if carries_weight(dataset):
        rows = _weighted(prepare(dataset, without_cutting(args), False), args, packing, request)
    else:
        rows = prepare(dataset, args, packing)
    check_supervision(rows, request.name)
    return rows


def _weighted(whole: Any, args: TargetSFTConfig, packing: bool, request: Preparation) -> Any:
    map_kwargs = {"num_proc": args.dataset_num_proc} if isinstance(whole, Dataset) else {}
    seed = args.seed if args.shuffle_dataset else None
    with args.main_process_first(desc="weighing tokens"):
        rows = attach_token_weight(
            whole,
            request.tokenizer,
            request.name,
            text_field=args.dataset_text_field,
            unspanned=args.unspanned_weight,
            chat_template=request.chat_template,
            **map_kwargs,
        )
        if packing:
            rows = pack_rows(
                rows, args.max_length, args.packing_strategy, PER_TOKEN_COLUMNS, shuffle_seed=seed, **map_kwargs
            )
        elif args.max_length is not None:
            rows = truncate_rows(rows, args.max_length, args.truncation_mode, PER_TOKEN_COLUMNS, **map_kwargs)
    return rows if seed is None else rows.shuffle(seed=seed)
