"""Rows on their way to batches: checks, per-token weights, truncation, packing, collation.

TRL tokenises, truncates and packs, but only `input_ids` and `labels`. This room does the same to the other columns that
have a value per token: weights, and what a teacher says.

    asker        who set up a run, and so the language in which errors say what to write
    json_lines   files of JSON rows, with errors that name the line
    columns      what a data set must hold
    token_ids    token ids that the model has no embedding for
    weights      the column `token_weight`, given or made from `weight_spans`
    spans        weights on stretches of characters, turned into weights on tokens
    packing      truncation and packing of all per-token columns
    collate      batches
"""

from qtarget.data.asker import Asker
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
    "Asker",
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
