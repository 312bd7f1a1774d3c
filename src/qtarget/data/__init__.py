"""Rows on their way to batches: checks, per-token weights, truncation, packing, collation.

TRL tokenises; it then truncates and packs `input_ids` and `labels` alone. The per-token weights that ride along are
carried by this room.
"""

from qtarget.data.collate import EVIDENCE, PerTokenCollator, sequence_ids
from qtarget.data.columns import (
    check_columns,
    check_supervision,
    checked_completions,
    column_names,
)
from qtarget.data.packing import pack_rows, truncate_rows
from qtarget.data.spans import message_spans, span_weights
from qtarget.data.token_ids import check_ids
from qtarget.data.weights import SPANS, WEIGHT, attach_token_weight, carries_weight

__all__ = [
    "EVIDENCE",
    "SPANS",
    "WEIGHT",
    "PerTokenCollator",
    "attach_token_weight",
    "carries_weight",
    "check_columns",
    "check_ids",
    "check_supervision",
    "checked_completions",
    "column_names",
    "message_spans",
    "pack_rows",
    "sequence_ids",
    "span_weights",
    "truncate_rows",
]
