"""A user's rows on their way to batches: checks, labels, per-token weights, truncation, packing, collation.

Rows go through these rooms, from the first to the last:

    forms/       any form of rows, each row checked and turned into the columns that are tokenised
    chat/        what a chat template makes of a conversation
    learned/     what of a conversation is learned: its tokens, with labels
    teacher_prompts/  what a teacher reads in the place of a row's prompt
    weights/     weights of single tokens, given or made from stretches of characters
    batches/     rows of tokens: counted, checked against the model, cut, packed, laid out as batches

and what all of them use:

    bad_rows/    what is wrong with a row, and what becomes of it
    user_files/  files that a user wrote: rows in any format, YAML, paths that are not there
    json_lines   files of JSON rows, with errors that name the line
    columns      names of columns
    asker        who set up a run, and so the language in which errors say what to write

TRL tokenises, truncates and packs, but only `input_ids` and `labels`. This room does the same to the other columns that
have a value per token: weights, and what a teacher says.
"""

from qtarget.data.asker import Asker
from qtarget.data.bad_rows.faults import RowFault
from qtarget.data.bad_rows.row_places import FilesInfo
from qtarget.data.bad_rows.sift import RowLook, RowPolicy, sift, sift_stream
from qtarget.data.batches.collate import EVIDENCE, PerTokenCollator, positions, sequence_ids
from qtarget.data.batches.packing import pack_rows, truncate_rows
from qtarget.data.batches.positions import check_positions, check_teacher_positions
from qtarget.data.batches.row_counts import RowCounts, gives_another_prompt, learned_tokens, row_labels
from qtarget.data.batches.teacher_batch import TEACHER_BATCH, TeacherView, teacher_batch, teacher_view
from qtarget.data.batches.token_ids import checked_ids
from qtarget.data.chat.chat_style import ChatStyle, chat_style
from qtarget.data.columns import column_names
from qtarget.data.forms.open_rows import OpenRows, open_rows
from qtarget.data.forms.row_form import RowForm
from qtarget.data.learned.labels import RowRendering, found_rows, is_conversation, learned_rows
from qtarget.data.learned.learned_turns import LEARN
from qtarget.data.learned.teacher_texts import attach_teacher_ids
from qtarget.data.teacher_prompts.teacher_ids import (
    TEACHER_IDS,
    TEACHER_PARTS,
    TEACHER_PROMPT,
    as_the_student,
    in_place,
)
from qtarget.data.weights.spans import message_spans, span_weights
from qtarget.data.weights.token_weight import SPANS, WEIGHT, attach_token_weight, carries_weight

__all__ = [
    "EVIDENCE",
    "LEARN",
    "SPANS",
    "TEACHER_BATCH",
    "TEACHER_IDS",
    "TEACHER_PARTS",
    "TEACHER_PROMPT",
    "WEIGHT",
    "Asker",
    "ChatStyle",
    "FilesInfo",
    "OpenRows",
    "PerTokenCollator",
    "RowCounts",
    "RowFault",
    "RowForm",
    "RowLook",
    "RowPolicy",
    "RowRendering",
    "TeacherView",
    "as_the_student",
    "attach_teacher_ids",
    "attach_token_weight",
    "carries_weight",
    "chat_style",
    "check_positions",
    "check_teacher_positions",
    "checked_ids",
    "column_names",
    "found_rows",
    "gives_another_prompt",
    "in_place",
    "is_conversation",
    "learned_rows",
    "learned_tokens",
    "message_spans",
    "open_rows",
    "pack_rows",
    "positions",
    "row_labels",
    "sequence_ids",
    "sift",
    "sift_stream",
    "span_weights",
    "teacher_batch",
    "teacher_view",
    "truncate_rows",
]
