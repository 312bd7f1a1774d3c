"""Rows on their way to batches: checks, per-token weights, truncation, packing, collation.

TRL tokenises, truncates and packs, but only `input_ids` and `labels`. This room does the same to the other columns that
have a value per token: weights, and what a teacher says.

    asker        who set up a run, and so the language in which errors say what to write
    json_lines   files of JSON rows, with errors that name the line
    forms        which form rows have: messages, ShareGPT, Alpaca, …
    column_mapping  the key `columns`, a user's own word on that
    read_row     a row of any form, checked and turned into the columns that are tokenised
    turns        conversations, turn by turn
    turn_training  a message's own word on whether it is learned
    chat_style   what a chat template does with unusual turns
    token_rows   rows of token ids, checked
    sift         every row looked at: bad ones are refused, or left out and counted
    faults       what is wrong with a row, in words
    positions    rows that are longer than the model has positions
    row_counts   how many rows and tokens are trained on, and what became of the others
    open_rows    the door through which all rows go
    columns      names of columns
    token_ids    token ids that the model has no embedding for
    conversation a row's conversation, and its text as the chat template writes it
    message_search  whether that text shows every message
    learned_turns   which of its characters are learned
    learned      conversations as tokens, with labels
    weights      the column `token_weight`, given or made from `weight_spans`
    spans        weights on stretches of characters, turned into weights on tokens
    packing      truncation and packing of all per-token columns
    collate      batches
"""

from qtarget.data.asker import Asker
from qtarget.data.chat_style import chat_style
from qtarget.data.collate import EVIDENCE, PerTokenCollator, sequence_ids
from qtarget.data.columns import column_names
from qtarget.data.faults import RowFault
from qtarget.data.forms import RowForm
from qtarget.data.learned import RowRendering, found_rows, is_conversation, learned_rows
from qtarget.data.learned_turns import LEARN
from qtarget.data.open_rows import OpenRows, open_rows
from qtarget.data.packing import pack_rows, truncate_rows
from qtarget.data.positions import check_positions
from qtarget.data.rendering_check import RenderingCheck
from qtarget.data.row_counts import RowCounts, learned_tokens, row_labels
from qtarget.data.sift import RowLook, RowPolicy, sift, sift_stream
from qtarget.data.spans import message_spans, span_weights
from qtarget.data.token_ids import checked_ids
from qtarget.data.turns import ChatStyle
from qtarget.data.weights import SPANS, WEIGHT, attach_token_weight, carries_weight

__all__ = [
    "EVIDENCE",
    "LEARN",
    "SPANS",
    "WEIGHT",
    "Asker",
    "ChatStyle",
    "OpenRows",
    "PerTokenCollator",
    "RenderingCheck",
    "RowCounts",
    "RowFault",
    "RowForm",
    "RowLook",
    "RowPolicy",
    "RowRendering",
    "attach_token_weight",
    "carries_weight",
    "chat_style",
    "check_positions",
    "checked_ids",
    "column_names",
    "found_rows",
    "is_conversation",
    "learned_rows",
    "learned_tokens",
    "message_spans",
    "open_rows",
    "pack_rows",
    "row_labels",
    "sequence_ids",
    "sift",
    "sift_stream",
    "span_weights",
    "truncate_rows",
]
